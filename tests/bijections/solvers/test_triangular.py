"""Triangular systems against sequential and dense solves, with their gradients."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from pushforward import bijections as bj
from pushforward.bijections.solvers.triangular import solve_nilpotent, solve_triangular_fixed_point
from pushforward.testing import randomize


def contract(y, args):
    """Each coordinate depends on those before it."""
    matrix, offset = args
    below = jnp.tril(matrix, -1) @ jnp.sin(y)
    return below + offset.reshape(offset.shape + (1,) * (y.ndim - 1))


def sequential(fn, dim, args):
    """The solution by one coordinate at a time; each is exact once those before it are."""
    y = jnp.zeros(dim)
    for i in range(dim):
        y = y.at[i].set(fn(y, args)[i])
    return y


def problem(dim, strength, seed=0):
    keys = jr.split(jr.key(seed))
    return strength * jr.normal(keys[0], (dim, dim)), jr.normal(keys[1], (dim,))


@pytest.mark.parametrize(("dim", "strength"), [(1, 1.0), (2, 1.0), (8, 0.3), (30, 1.0)])
def test_sweeps_equal_the_sequential_solve(dim, strength):
    args = problem(dim, strength)
    y = solve_triangular_fixed_point(contract, jnp.zeros(dim), args)
    np.testing.assert_allclose(y, sequential(contract, dim, args), rtol=1e-9, atol=1e-9)


def test_float32():
    with jax.enable_x64(False):
        args = problem(8, 1.0)
        y = solve_triangular_fixed_point(contract, jnp.zeros(8), args)
        assert y.dtype == jnp.float32
        np.testing.assert_allclose(y, sequential(contract, 8, args), rtol=1e-4, atol=1e-4)


def test_any_start_gives_the_same_solution_and_gets_no_gradient():
    args = problem(6, 1.0)
    starts = jnp.stack([jnp.zeros(6), jnp.full(6, 1e3), jnp.full(6, jnp.nan)])
    y = jax.vmap(lambda start: solve_triangular_fixed_point(contract, start, args))(starts)
    np.testing.assert_allclose(y, jnp.broadcast_to(y[0], y.shape), rtol=1e-9)
    gradient = jax.grad(lambda start: solve_triangular_fixed_point(contract, start, args).sum())(starts[0])
    np.testing.assert_array_equal(gradient, np.zeros(6))


def test_batch_on_last_axis():
    args = problem(6, 1.0)
    shifts = jr.normal(jr.key(1), (6, 4))

    def fn(y, args):
        return contract(y, args[:2]) + args[2]

    batch = solve_triangular_fixed_point(fn, jnp.zeros((6, 4)), (*args, shifts))
    for n in range(4):
        one = solve_triangular_fixed_point(contract, jnp.zeros(6), (args[0], args[1] + shifts[:, n]))
        np.testing.assert_allclose(batch[:, n], one, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("seed", [0, 1])
def test_gradients_against_finite_differences(seed):
    args, direction = problem(6, 1.0, seed), problem(6, 1.0, seed + 10)
    weights = jr.normal(jr.key(seed + 20), (6,))

    def solve(args):
        return solve_triangular_fixed_point(contract, jnp.zeros(6), args)

    def along(t):
        return solve(jax.tree.map(lambda a, d: a + t * d, args, direction))

    step = 1e-4
    # Fourth-order central differences.
    expected = (8 * (along(step) - along(-step)) - (along(2 * step) - along(-2 * step))) / (12 * step)
    _, tangent = jax.jvp(solve, (args,), (direction,))
    np.testing.assert_allclose(tangent, expected, rtol=1e-7, atol=1e-7)

    gradient = jax.grad(lambda args: weights @ solve(args))(args)
    by_gradient = sum(jnp.vdot(g, d) for g, d in zip(gradient, direction, strict=True))
    np.testing.assert_allclose(by_gradient, weights @ expected, rtol=1e-7)


def test_gradients_of_gradients():
    args = problem(4, 0.5)

    def loss(offset):
        return jnp.sum(solve_triangular_fixed_point(contract, jnp.zeros(4), (args[0], offset)) ** 2)

    def sequential_loss(offset):
        return jnp.sum(sequential(contract, 4, (args[0], offset)) ** 2)

    hessian = jax.jit(jax.jacfwd(jax.grad(loss)))(args[1])
    np.testing.assert_allclose(hessian, jax.jit(jax.hessian(sequential_loss))(args[1]), rtol=1e-8, atol=1e-10)


def squares(y, args):
    """Each coordinate depends on the square of the one before: sweeps may overflow though the solution does not."""
    return args - jnp.concatenate([jnp.zeros(1, y.dtype), 30 * y[:-1] ** 2])


@pytest.mark.parametrize("x64", [True, False], ids=["float64", "float32"])
def test_iterates_may_overflow_meanwhile(x64):
    with jax.enable_x64(x64):
        dim = 30
        solution = jr.uniform(jr.key(0), (dim,), minval=-0.1, maxval=0.1)
        offset = solution - squares(solution, jnp.zeros(dim))
        iterate, worst = jnp.full(dim, 10.0), 0.0
        for _ in range(dim - 1):
            iterate = squares(iterate, offset)
            worst = jnp.maximum(worst, jnp.abs(iterate).max())
        assert not jnp.isfinite(worst)
        y = solve_triangular_fixed_point(squares, jnp.full(dim, 10.0), offset)
        # Each coordinate multiplies the error of the previous one by 60 |y| < 6.
        np.testing.assert_allclose(y[:8], solution[:8], atol=1e-8 if x64 else 1e-3)
        assert jnp.isfinite(y).all()


def sequential_inverse(bijection, x):
    """The inverse of an affine autoregressive layer, one coordinate at a time."""
    u = jnp.zeros_like(x)
    for i in range(x.size):
        scale = jax.jvp(bijection.forward, (u,), (jnp.zeros_like(x).at[i].set(1.0),))[1][i]
        u = u.at[i].set((x[i] - bijection.forward(u)[i]) / scale)
    return u


def test_strongly_coupled_autoregressive_inverse():
    bijection = bj.MaskedAutoregressive(bj.Affine(), 30, hidden=(32, 32), key=jr.key(0))
    bijection = randomize(bijection, jr.key(1), 3.0)
    x = bijection.forward(jr.normal(jr.key(2), (30,)))
    u = eqx.filter_jit(bijection.inverse)(x)
    np.testing.assert_allclose(u, eqx.filter_jit(sequential_inverse)(bijection, x), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(bijection.forward(u), x, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dim", [1, 5, 30])
@pytest.mark.parametrize("upper", [False, True], ids=["lower", "upper"])
def test_nilpotent_against_dense_solve(dim, upper):
    matrix, vector = problem(dim, 1.0)
    matrix = jnp.triu(matrix, 1) if upper else jnp.tril(matrix, -1)
    v = solve_nilpotent(lambda v: matrix @ v, vector)
    np.testing.assert_allclose(v - matrix @ v, vector, rtol=1e-9, atol=1e-9 * jnp.abs(v).max())
    expected = np.linalg.solve(np.eye(dim) - matrix, vector)
    np.testing.assert_allclose(v, expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())
