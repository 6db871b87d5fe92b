"""Gradients of solutions by the implicit function theorem."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import pushforward as pf
from products import first
from pushforward.testing import randomize


@pytest.mark.parametrize(("make", "options"), first((pf.flows.iaf, {}), (pf.flows.residual, {"fast": "density"})))
def test_gradients_are_right_to_the_size_of_their_weights(make, options):
    """For terms with weights 1e-8 and 1e-25, the square of which is 0 in single precision."""
    with jax.enable_x64(False):
        flow = make(4, num_layers=1, hidden=(8,), key=jr.key(0), **options)
        flow = randomize(flow, jr.key(1), 1.0)
        x = jr.normal(jr.key(2), (5, 4))
        method = flow.log_prob if make is pf.flows.iaf else lambda u: jax.vmap(flow.bijection.inverse)(u).sum(-1)

        @eqx.filter_jit
        def gradient(weight):
            return jax.grad(lambda x: weight * method(x).sum())(x)

        expected = gradient(1.0)
        for weight in (1e-8, 1e-25):
            scale = jnp.abs(expected).max()
            np.testing.assert_allclose(gradient(weight) / weight, expected, atol=2e-5 * scale, rtol=1e-4)
