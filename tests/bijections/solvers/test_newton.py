"""Newton's method reports failure, and its solutions have two derivatives."""

import jax
import jax.numpy as jnp
import numpy as np

from pushforward.bijections.solvers.newton import invert_newton


def test_newton_reports_failure_and_differentiates_twice():
    def bounded(a, _):
        return jnp.tanh(a)

    assert np.isnan(invert_newton(bounded, jnp.array([0.5, 2.0]), None)).all()

    def cubic(a, m):
        return m @ a + a**3

    m = jnp.array([[2.0, 1.0], [-1.0, 1.0]])
    x = jnp.array([3.0, -4.0])
    a = invert_newton(cubic, x, m)
    np.testing.assert_allclose(cubic(a, m), x, atol=1e-14)
    hessian = jax.jit(jax.hessian(lambda x: invert_newton(cubic, x, m)[0]))(x)
    gradient = jax.jit(jax.grad(lambda x: invert_newton(cubic, x, m)[0]))
    step = jnp.array([1e-5, 0.0])
    np.testing.assert_allclose(hessian[0], (gradient(x + step) - gradient(x - step)) / 2e-5, atol=1e-8)
