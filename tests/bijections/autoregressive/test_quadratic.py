"""Quadratic autoregressive maps: the formula, written out, and what they are for."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from pushforward.bijections import QuadraticAutoregressive
from pushforward.testing import check_bijection, randomize

KEY = jr.key(0)


@pytest.mark.parametrize("dim", [1, 2, 5])
@pytest.mark.parametrize("x64", [True, False])
def test_conformance(dim, x64):
    with jax.enable_x64(x64):
        check_bijection(QuadraticAutoregressive(dim), key=KEY)


def test_the_formula():
    b = randomize(QuadraticAutoregressive(4), KEY, 0.3)
    u = np.asarray(jr.normal(jr.key(1), (4,)))
    z = u * (1 + (u / 6) ** 4) ** -0.25
    x, log_det = np.zeros(4), 0.0
    for i in range(4):
        log_scale, shift = 0.0, 0.0
        for j in range(i):
            log_scale += b.log_scale_linear[i - 1, j] * z[j]
            shift += b.linear[i - 1, j] * z[j]
            shift += sum(b.quadratic[i - 1, j, k] * (z[j] * z[k] - (j == k)) for k in range(i))
        log_scale = 12 * np.tanh(log_scale / 12)
        x[i], log_det = np.exp(log_scale) * u[i] + shift, log_det + log_scale
    found = b.forward_and_log_det(u)
    np.testing.assert_allclose(found[0], x, rtol=1e-12)
    np.testing.assert_allclose(found[1], log_det, rtol=1e-12)


def test_it_is_the_identity_at_first_and_has_no_parameters_too_many():
    u = jnp.array([3.0, -200.0, 1e30])
    np.testing.assert_array_equal(QuadraticAutoregressive(3).forward(u), u)
    assert QuadraticAutoregressive(1).quadratic.size == 0


def test_a_funnel_and_a_banana_are_such_maps():
    b = QuadraticAutoregressive(3)
    where = lambda b: (b.log_scale_linear, b.quadratic)  # noqa: E731
    slopes, curvatures = jnp.zeros((2, 2)).at[0, 0].set(0.5), jnp.zeros((2, 2, 2)).at[1, 0, 0].set(0.3)
    b = eqx.tree_at(where, b, (slopes, curvatures))
    x = b.forward(jnp.array([1.0, 2.0, -1.0]))
    np.testing.assert_allclose(x, [1.0, 2 * np.exp(0.5), -1.0], rtol=1e-3)
    np.testing.assert_allclose(b.forward(jnp.array([2.0, 0.0, 0.0]))[2], 0.9, rtol=1e-2)


def test_draws_far_out_stay_finite_in_both_directions():
    b = randomize(QuadraticAutoregressive(5), KEY, 1.0)
    u = jnp.array([[1e5, -1e20, 1e3, 0.0, 30.0]])
    x, log_det = b.batched.forward_and_log_det(u)
    assert np.isfinite(x).all() and np.isfinite(log_det).all()
    assert np.isfinite(b.batched.inverse_and_log_det(u)[0]).all()


def test_bad_dimension():
    with pytest.raises((TypeError, ValueError), match="dim"):
        QuadraticAutoregressive(0)
