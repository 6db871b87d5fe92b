"""Conditions that are rescaled."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import pushforward as pf
from pushforward import bijections as bj
from pushforward.testing import check_bijection


def test_rescaled_condition():
    coupling = bj.Coupling(bj.Affine(), 3, hidden=(4,), cond_dim=2, key=jr.key(0))
    rescaled = bj.RescaledCondition(coupling, jnp.array([1.0, -2.0]), jnp.array([3.0, 0.5]))
    check_bijection(rescaled, key=jr.key(0), scales=(1.0,))
    moved = pf.testing.randomize(rescaled, jr.key(1), 1.0)
    u, c = jnp.array([0.3, 1.0, -2.0]), jnp.array([4.0, 0.1])
    np.testing.assert_allclose(moved.forward(u, c), moved.bijection.forward(u, jnp.array([1.0, 4.2])), rtol=1e-12)
    near = bj.RescaledCondition(moved.bijection, *moved.moments.value, arsinh=[False, True])
    check_bijection(near, key=jr.key(0), scales=(1.0,))
    at = jnp.array([1.0, jnp.arcsinh(4.2)])
    np.testing.assert_allclose(near.forward(u, c), moved.bijection.forward(u, at), rtol=1e-12)
    with pytest.raises(ValueError, match="condition's shape"):
        bj.RescaledCondition(coupling, jnp.zeros(3), jnp.ones(3))
