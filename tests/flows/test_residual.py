"""Recipes of residual layers."""

import jax
import jax.numpy as jnp
import jax.random as jr

import pushforward as pf


def test_recipes_take_slopes_of_other_activations():
    for recipe in (pf.flows.planar, pf.flows.sylvester, pf.flows.residual):
        flow = recipe(2, num_layers=1, activation=jax.nn.elu, max_slope=1.0, key=jr.key(0))
        assert jnp.isfinite(flow.log_prob(jnp.ones(2)))
