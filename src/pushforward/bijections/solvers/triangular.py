"""Fixed points of maps in which each coordinate depends only on those before it."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from pushforward.bijections.solvers import ROUNDINGS
from pushforward.bijections.solvers.implicit import fixed_point

Vector = Float[Array, " dim *batch"]
Numbers = Float[Array, " *batch"]


def solve_triangular_fixed_point(
    fn: Callable[[Vector, Any], Vector],
    start: Vector,
    args: Any,
    *,
    in_turn: tuple[Sequence[int], Callable[[Vector, Any, Array], Numbers]] | None = None,
) -> Vector:
    """Solve $y = f(y)$ where $f_i$ depends on $y_j$ only for $j$ before $i$ in some order.

    Jacobi iterations: after $k$ iterations the first $k$ coordinates are exact, so `dim` iterations always suffice;
    they end earlier if the iteration has converged. If one coordinate of f costs far less than all, the coordinates can
    be solved one after the other instead. Gradients are implicit and always use Jacobi iterations.

    Args:
        fn: the map `fn(y, args)`.
        start: the initial guess.
        args: a pytree that `fn` depends on; gradients flow to it.
        in_turn: if coordinates are solved one after the other: the order, and `fn_i(y, args, i)`, coordinate i of $f$.

    References:
        Song et al., Accelerating Feedforward Computation via Parallel Nonlinear Equation Solving (2021).
        https://arxiv.org/abs/2002.03629
    """
    # Coordinates that are not final yet may overflow, and 0 times infinity would make others NaN. So numbers above the
    # square root of the largest one are replaced by 0 as inputs.
    huge = float(jnp.finfo(start.dtype).max) ** 0.5

    def tame(y):
        return jnp.where(jnp.abs(y) < huge, y, 0)

    def solve(args, start):
        if in_turn is None:
            return _iterate(lambda y: fn(tame(y), args), start)
        order, fn_i = in_turn
        return jax.lax.scan(lambda y, i: (y.at[i].set(fn_i(tame(y), args, i)), None), start, jnp.array(order))[0]

    return fixed_point(fn, jax.lax.stop_gradient(start), args, solve=solve, solve_linear=solve_nilpotent)


def solve_nilpotent(product: Callable[[Vector], Vector], vector: Vector) -> Vector:
    """Solve $v = b + N v$ for a nilpotent $N$, given as `product`, by its Neumann series of at most `dim` terms."""
    # The tolerance is relative to the size of b in each event, because gradients may be very small.
    return _iterate(lambda v: vector + product(v), vector, jnp.max(jnp.abs(vector), axis=0))


def _iterate(fn: Callable[[Vector], Vector], start: Vector, unit: Numbers | float = 1.0) -> Vector:
    """Repeat y <- f(y) until convergence, at most dim times, after which a strictly triangular f is at its fixed point.

    Convergence: no coordinate changes by more than a few times machine epsilon, relative to its size plus `unit`.
    """
    tolerance = ROUNDINGS * jnp.finfo(start.dtype).eps

    def moving(state):
        y, last, count = state
        # Written so that NaN counts as moving.
        return (count < start.shape[0]) & ~jnp.all(jnp.abs(y - last) <= tolerance * (unit + jnp.abs(y)))

    def step(state):
        y, _, count = state
        return fn(y), y, count + 1

    return jax.lax.while_loop(moving, step, (start, jnp.full_like(start, jnp.inf), jnp.array(0)))[0]
