"""Slopes of activations."""

import functools

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import pushforward as pf


def test_bounds_of_slopes_are_checked_inside_compiled_programs():
    def log_prob(key, bound):
        return pf.flows.planar(2, key=key, activation=lambda x: jnp.tanh(x), max_slope=bound).log_prob(jnp.ones(2))

    assert np.isfinite(jax.jit(functools.partial(log_prob, bound=1.0))(jr.key(0)))
    with pytest.raises(ValueError, match="max_slope=0.5"):
        jax.jit(functools.partial(log_prob, bound=0.5))(jr.key(0))
