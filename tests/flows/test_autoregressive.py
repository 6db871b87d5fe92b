"""Recipes of coupling and autoregressive layers."""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import pushforward as pf

recipes = pytest.mark.parametrize("recipe", ["realnvp", "nsf", "maf", "iaf"])


@recipes
def test_recipes_begin_as_permutations(recipe):
    flow = getattr(pf.flows, recipe)(dim=4, key=jr.key(0), hidden=(8,), num_layers=3)
    u = jr.normal(jr.key(1), (4,))
    x, log_det = eqx.filter_jit(flow.bijection.forward_and_log_det)(u)
    np.testing.assert_allclose(jnp.sort(x), jnp.sort(u), atol=1e-13)
    np.testing.assert_allclose(log_det, 0.0, atol=1e-13)
    np.testing.assert_allclose(flow.base.log_prob(x) - log_det, flow.base.log_prob(u), atol=1e-12)


@recipes
def test_recipes_need_a_dimension_and_a_layer(recipe):
    with pytest.raises(ValueError, match="dim must be a whole number .* is 0"):
        getattr(pf.flows, recipe)(0, key=jr.key(0))
    with pytest.raises(ValueError, match="num_layers must be a whole number .* is 0"):
        getattr(pf.flows, recipe)(2, key=jr.key(0), num_layers=0)
