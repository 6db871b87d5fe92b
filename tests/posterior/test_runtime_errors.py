import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pushforward.posterior.runtime_errors import can_raise, zero_at_errors


def checked(x):
    """x, but an error if it is above 3."""
    return eqx.error_if(x, x > 3, "too large")


def plain(x):
    return -0.5 * checked(x[0]) ** 2


def in_scan(x):
    def step(total, row):
        total = checked(total)
        return total + x[0] / 4, row * total

    total, rows = jax.lax.scan(step, x[0], jnp.ones(2))
    return jnp.sum(rows) - total**2


def in_cond(x):
    return jax.lax.cond(x[0] > 0, lambda: checked(x[0]), lambda: 2 * x[0])


def in_fori_loop(x):
    return jax.lax.fori_loop(0, 2, lambda i, total: checked(total) + x[0] / 4, x[0])


def rematerialized(x):
    return jax.checkpoint(plain)(x)


def compiled(x):
    return jax.jit(plain)(x)


def without_a_real_value(x):
    """An error that no value of the density depends on."""
    count = eqx.error_if(jnp.arange(2), x[0] > 3, "too large")
    return -0.5 * x[0] ** 2 + 0.0 * count[0]


@jax.custom_vjp
def with_own_gradient(x):
    return plain(x)


def forward(x):
    return plain(x), x


def backward(x, cotangent):
    return (-checked(x) * cotangent,)


with_own_gradient.defvjp(forward, backward)


@pytest.mark.parametrize(
    "fn",
    [
        plain,
        in_scan,
        in_cond,
        in_fori_loop,
        rematerialized,
        compiled,
        without_a_real_value,
        with_own_gradient,
    ],  # fmt: skip
)
def test_a_point_that_raises_has_density_zero_and_the_others_are_unchanged(fn):
    points = jnp.array([[1.0], [4.0], [-2.0], [0.5]])
    good = jnp.array([0, 2, 3])
    assert can_raise(fn, points[0])
    with pytest.raises((RuntimeError, jax.errors.JaxRuntimeError), match="too large"):
        jax.block_until_ready(jax.vmap(fn)(points))
    density = lambda u: zero_at_errors(u, eqx.Partial(fn))  # noqa: E731
    values, gradients = jax.jit(jax.vmap(jax.value_and_grad(density)))(points)
    np.testing.assert_allclose(jax.vmap(density)(points), values)
    np.testing.assert_allclose(values[good], jax.vmap(fn)(points[good]))
    np.testing.assert_allclose(gradients[good], jax.vmap(jax.grad(fn))(points[good]))
    assert values[1] == -jnp.inf and jnp.isnan(gradients[1]).all()


def test_second_derivatives():
    density = lambda u: zero_at_errors(u, eqx.Partial(lambda x: checked(x[0]) ** 3 * x[1]))  # noqa: E731
    np.testing.assert_allclose(jax.jacfwd(jax.grad(density))(jnp.array([1.0, 2.0])), [[12.0, 3.0], [3.0, 0.0]])


@pytest.mark.parametrize("adjoint", [diffrax.DirectAdjoint(), diffrax.BacksolveAdjoint()])
def test_a_solver_that_needs_too_many_steps(adjoint):
    def log_density(x):
        term = diffrax.ODETerm(lambda t, y, rate: -rate * y)
        controller = diffrax.PIDController(rtol=1e-4, atol=1e-4)
        solution = diffrax.diffeqsolve(
            term, diffrax.Tsit5(), 0.0, 1.0, 0.1, x[0], jnp.exp(x[1]), max_steps=32, adjoint=adjoint,
            stepsize_controller=controller,
        )  # fmt: skip
        assert solution.ys is not None
        return -(solution.ys[-1] ** 2)

    assert can_raise(log_density, jnp.zeros(2))
    points = jnp.array([[1.0, 0.0], [1.0, 6.0]])
    density = lambda u: zero_at_errors(u, eqx.Partial(log_density))  # noqa: E731
    values, gradients = jax.jit(jax.vmap(jax.value_and_grad(density)))(points)
    np.testing.assert_allclose(values, [-np.exp(-2.0), -np.inf], rtol=1e-3)
    np.testing.assert_allclose(gradients[0], [-2 * np.exp(-2.0), 2 * np.exp(-2.0)], rtol=1e-2)


def test_a_function_without_errors():
    assert not can_raise(lambda x: jnp.sum(x**2), jnp.ones(2))
    assert not can_raise(lambda x: jax.lax.cond(x[0] > 0, jnp.sum, jnp.max, x), jnp.ones(2))


def test_errors_inside_of_shard_map_stay():
    mesh = jax.make_mesh((1,), ("devices",))
    shared_out = jax.shard_map(plain, mesh=mesh, in_specs=jax.P(), out_specs=jax.P())
    assert zero_at_errors(jnp.array([1.0]), eqx.Partial(shared_out)) == -0.5
