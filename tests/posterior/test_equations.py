import jax
import jax.numpy as jnp
import pytest

from pushforward.posterior.equations import bind, evaluate


def fn(u):
    return jax.lax.cond(u[0] > 0, jnp.sin, jnp.cos, u[1]) + jax.jit(lambda v: 2 * v)(u).sum(), jnp.array([1.0, 2.0]) * u


@pytest.mark.parametrize("u", [[1.0, 0.3], [-1.0, 0.3]])
def test_equations_give_the_results_of_the_function(u):
    u = jnp.array(u)
    closed = jax.make_jaxpr(fn)(u)
    for found, expected in zip(evaluate(closed.jaxpr, closed.consts, [u], bind), fn(u), strict=True):
        assert jnp.array_equal(found, expected)


def test_other_results_of_an_equation():
    def results_of(equation, values):
        return [values[0] - values[1]] if equation.primitive.name == "add" else bind(equation, values)

    closed = jax.make_jaxpr(lambda u, v: 3 * (u + v))(5.0, 2.0)
    assert evaluate(closed.jaxpr, closed.consts, [5.0, 2.0], results_of) == [9.0]
