"""Factors of covariances, from Hessians of any scale."""

import jax
import jax.numpy as jnp
import numpy as np

from pushforward.posterior.curvature import has_forward_mode, hessian, inverse_factor, lower_factor


def test_inverse_factor_of_scales_that_differ_much():
    scales = np.array([1e-6, 1.0, 1e6])
    correlation = np.array([[1.0, 0.5, 0.2], [0.5, 1.0, -0.3], [0.2, -0.3, 1.0]])
    precision = np.linalg.inv(correlation) / np.outer(scales, scales)
    factor = np.asarray(inverse_factor(jnp.asarray(precision)))
    np.testing.assert_allclose(factor @ factor.T / np.outer(scales, scales), correlation, rtol=1e-8)
    assert np.all(np.triu(factor, 1) == 0) and np.all(np.diag(factor) > 0)


def test_negative_curvature_counts_by_its_size():
    np.testing.assert_allclose(inverse_factor(jnp.diag(jnp.array([4.0, -1.0]))), np.diag([0.5, 1.0]))


def test_lower_factor():
    root = np.random.default_rng(0).normal(size=(4, 4))
    np.testing.assert_allclose(lower_factor(jnp.asarray(root)), np.linalg.cholesky(root @ root.T), rtol=1e-10)


@jax.custom_vjp
def quartic(x):
    return jnp.sum(x**4)


quartic.defvjp(lambda x: (quartic(x), x), lambda x, g: (4 * g * x**3,))


def test_hessian_of_a_density_without_forward_mode():
    u = jnp.array([1.0, -2.0])
    assert has_forward_mode(jnp.sum, u) and not has_forward_mode(quartic, u)
    np.testing.assert_allclose(hessian(quartic, u)(u), np.diag([12.0, 48.0]))


def test_a_large_hessian_is_computed_in_parts():
    target = lambda x: jnp.sum(x[:-1] * x[1:]) - jnp.sum(x**4)  # noqa: E731
    u = jnp.linspace(-1.0, 1.0, 301)
    np.testing.assert_allclose(hessian(target, u)(u), jax.hessian(target)(u), rtol=1e-12, atol=1e-12)
