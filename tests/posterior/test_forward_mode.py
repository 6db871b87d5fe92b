import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import pushforward as pf
from pushforward.posterior.curvature import hessian, hessian_products
from pushforward.posterior.forward_mode import ForwardMode, needs_forward_mode


def root(y):
    """The square root of y, by Newton's method until it converges."""

    def step(state):
        x, _ = state
        new = 0.5 * (x + y / x)
        return new, jnp.abs(new - x)

    return jax.lax.while_loop(lambda state: state[1] > 1e-12, step, (y, jnp.array(1.0)))[0]


def by_while_loop(u):
    return -0.5 * jnp.sum(u**2) - root(1 + u[0] ** 2)


def by_closed_form(u):
    return -0.5 * jnp.sum(u**2) - jnp.sqrt(1 + u[0] ** 2)


def by_fori_loop(u):
    return -0.5 * jnp.sum(u**2) + jax.lax.fori_loop(0, jnp.array(u[0] > 0, int) + 2, lambda i, x: x * u[1], u[0])


def with_errors(u):
    return by_while_loop(eqx.error_if(u, u[0] > 3, "too large"))


@pytest.mark.parametrize("fn", [by_while_loop, by_fori_loop, with_errors])
def test_loops_of_unknown_length_are_found(fn):
    assert needs_forward_mode(fn, jnp.zeros(2))
    assert pf.Target(fn, jnp.zeros(2)).is_forward_mode


def test_other_functions_are_not():
    assert not needs_forward_mode(by_closed_form, jnp.zeros(2))
    assert not needs_forward_mode(lambda u: jax.lax.fori_loop(0, 3, lambda i, x: x * u[1], u[0]), jnp.zeros(2))
    callback = lambda u: jax.pure_callback(np.sum, jax.ShapeDtypeStruct((), u.dtype), u)  # noqa: E731
    assert not needs_forward_mode(callback, jnp.zeros(2))


def test_gradients_and_hessians():
    points = jr.normal(jr.key(0), (3, 2))
    fn = ForwardMode(by_while_loop)
    values, gradients = jax.vmap(jax.value_and_grad(fn))(points)
    expected = jax.vmap(jax.value_and_grad(by_closed_form))(points)
    np.testing.assert_allclose(values, expected[0], rtol=1e-10)
    np.testing.assert_allclose(gradients, expected[1], rtol=1e-8)
    at = hessian(hessian_products(fn, points[0]), 2)
    np.testing.assert_allclose(at(points[0]), jax.hessian(by_closed_form)(points[0]), atol=1e-4)


def test_errors_count_as_zero_density():
    value, gradient = jax.value_and_grad(pf.Target(with_errors, jnp.zeros(2)))(jnp.array([4.0, 0.0]))
    assert value == -jnp.inf and jnp.isnan(gradient).all()


def test_a_fit_with_a_while_loop():
    target = pf.Target(by_while_loop, jnp.zeros(2))
    posterior = pf.fit_posterior(target, key=jr.key(0), budget=200_000)
    assert posterior.diagnostics.verdict in ("good", "reweight")
    x = jnp.linspace(-10.0, 10.0, 2001)
    density = jnp.exp(jax.vmap(by_closed_form)(jnp.stack([x, jnp.zeros_like(x)], 1)))
    evidence = jnp.log(density.sum() * (x[1] - x[0]) * jnp.sqrt(2 * jnp.pi))
    assert abs(posterior.diagnostics.log_evidence - evidence) < 0.01
