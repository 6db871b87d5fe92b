"""Factors of covariances, from Hessians of any scale."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.special import betainc, exp1, expn, gammaincc

from pushforward.posterior.curvature import check_gradient, hessian, hessian_products, inverse_factor, lower_factor


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


def hessian_at(target, u):
    return np.asarray(hessian(hessian_products(target, u), u.size)(u))


def test_hessian_of_a_density_without_forward_mode():
    np.testing.assert_allclose(hessian_at(quartic, jnp.array([1.0, -2.0])), np.diag([12.0, 48.0]))


def host(x):
    """The same density, outside of JAX: it has a gradient, but nothing knows the derivative of that."""

    def call(fn, shape, x):
        return jax.pure_callback(fn, jax.ShapeDtypeStruct(shape, x.dtype), x, vmap_method="expand_dims")

    @jax.custom_vjp
    def value(x):
        return call(lambda x: np.sum(np.asarray(x) ** 4, -1), (), x)

    value.defvjp(lambda x: (value(x), x), lambda x, g: (g * call(lambda x: 4 * np.asarray(x) ** 3, x.shape, x),))
    return value(x)


def censored(x):
    """Incomplete gamma functions have one derivative by their shape."""
    return jnp.log(gammaincc(jnp.exp(x[0]), jnp.exp(x[1])))


@pytest.mark.parametrize(
    ("dtype", "scale", "error"),
    [(jnp.float32, 1.0, 1e-3), (jnp.float64, 1.0, 1e-6), (jnp.float64, 1e-2, 1e-3), (jnp.float64, 1e4, 1e-6)],
)
def test_hessian_by_differences_of_gradients(dtype, scale, error):
    u = jnp.array([1.0, -2.0], dtype)
    found = hessian_at(lambda x: host(x / scale), scale * u) * scale**2
    np.testing.assert_allclose(found, np.diag([12.0, 48.0]), rtol=error, atol=40 * error)


def integrals(x):
    """JAX traces the second derivative of exponential integrals, but does not compile it."""
    return jnp.log(exp1(jnp.exp(x[0]))) + jnp.log(expn(2, jnp.exp(x[0] + x[1])))


@pytest.mark.parametrize("target", [censored, integrals])
def test_hessian_of_a_function_with_one_derivative(target):
    u, step = jnp.array([0.3, 0.8]), 1e-5
    gradient = jax.grad(target)
    columns = [(gradient(u + step * v) - gradient(u - step * v)) / (2 * step) for v in np.eye(2)]
    np.testing.assert_allclose(hessian_at(target, u), np.stack(columns), rtol=1e-6)
    np.testing.assert_allclose(jax.jit(lambda u: hessian(hessian_products(target, u), 2)(u))(u), hessian_at(target, u))


def test_derivatives_are_exact_where_the_density_has_traced_constants():
    def inside(scale):
        loop = lambda x: jax.lax.fori_loop(0, 3, lambda _, y: jax.jit(jnp.sin)(scale * y), x)  # noqa: E731
        target = lambda x: jnp.sum(loop(x))  # noqa: E731
        return hessian(hessian_products(target, jnp.ones(2)), 2)(jnp.ones(2)) - jax.hessian(target)(jnp.ones(2))

    np.testing.assert_allclose(jax.jit(inside)(0.7), 0, atol=1e-14)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (lambda x: jax.pure_callback(np.sum, jax.ShapeDtypeStruct((), x.dtype), x), "many points at a time.*vmap_meth"),
        (
            lambda x: jax.pure_callback(np.sum, jax.ShapeDtypeStruct((), x.dtype), x, vmap_method="sequential"),
            "differentiated.*Pure callbacks do not support JVP",
        ),
        (lambda x: jnp.log(betainc(jnp.exp(x[0]), 2.0, 0.3)), "differentiated.*Betainc"),
    ],
)
def test_a_density_without_a_gradient_is_refused(target, message):
    check_gradient(host, jnp.ones(2))
    with pytest.raises(ValueError, match=message):
        check_gradient(target, jnp.ones(2))


def test_a_large_hessian_is_computed_in_parts():
    target = lambda x: jnp.sum(x[:-1] * x[1:]) - jnp.sum(x**4)  # noqa: E731
    u = jnp.linspace(-1.0, 1.0, 301)
    np.testing.assert_allclose(hessian_at(target, u), jax.hessian(target)(u), rtol=1e-12, atol=1e-12)
