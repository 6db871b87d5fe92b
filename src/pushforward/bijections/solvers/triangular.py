"""Fixed points of maps in which each coordinate depends only on those before it."""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from pushforward.bijections.solvers import ROUNDINGS

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

    Parallel (Jacobi) sweeps: after $k$ of them the first $k$ coordinates are exact, so `dim` sweeps always suffice;
    they end earlier when nothing moves any more. Where one coordinate of f costs far less than all, they may be solved
    in turn instead, each once. Gradients are implicit, by sweeps in any case.

    Args:
        fn: the map `fn(y, args)`.
        start: the first guess.
        args: a pytree that `fn` depends on; gradients flow to it.
        in_turn: the order, and `fn_i(y, args, i)`, one coordinate of the map.

    References:
        Song et al., Accelerating Feedforward Computation via Parallel Nonlinear Equation Solving (2021).
        https://arxiv.org/abs/2002.03629
    """
    # Coordinates that still wait for others may overflow meanwhile, and 0 x inf would spoil those that do not. So what
    # is beyond the root of the largest number counts as 0 for the others.
    huge = float(jnp.finfo(start.dtype).max) ** 0.5

    def tame(y):
        return jnp.where(jnp.abs(y) < huge, y, 0)

    @eqx.filter_custom_jvp
    def solve(args, start):
        if in_turn is None:
            return _sweep(lambda y: fn(tame(y), args), start)
        order, fn_i = in_turn
        return jax.lax.scan(lambda y, i: (y.at[i].set(fn_i(tame(y), args, i)), None), start, jnp.array(order))[0]

    @solve.def_jvp
    def solve_jvp(primals, tangents):
        (args, start), (args_tangent, _) = primals, tangents
        y = solve(args, start)
        _, tangent = eqx.filter_jvp(lambda args: fn(y, args), (args,), (args_tangent,))
        _, push = jax.linearize(lambda y: fn(y, args), y)
        pull = jax.linear_transpose(push, y)
        return y, jax.lax.custom_linear_solve(
            lambda v: v - push(v),
            tangent,
            solve=lambda _, b: solve_nilpotent(push, b),
            transpose_solve=lambda _, b: solve_nilpotent(lambda v: pull(v)[0], b),
        )

    return solve(args, jax.lax.stop_gradient(start))


def solve_nilpotent(product: Callable[[Vector], Vector], vector: Vector) -> Vector:
    """Solve $v = b + N v$ for a nilpotent $N$, given as `product`, by its Neumann series of at most `dim` terms."""
    # Right to the size of b, event by event: gradients are as small as their weights.
    return _sweep(lambda v: vector + product(v), vector, jnp.max(jnp.abs(vector), axis=0))


def _sweep(fn: Callable[[Vector], Vector], start: Vector, unit: Numbers | float = 1.0) -> Vector:
    """Repeat y <- f(y) until nothing moves, at most dim times: then a strictly triangular f has reached its end.

    That is until no coordinate moves by more than a few roundings of its size plus `unit`.
    """
    tolerance = ROUNDINGS * jnp.finfo(start.dtype).eps

    def moving(state):
        y, last, sweeps = state
        # Written so that NaN counts as moving.
        return (sweeps < start.shape[0]) & ~jnp.all(jnp.abs(y - last) <= tolerance * (unit + jnp.abs(y)))

    def sweep(state):
        y, _, sweeps = state
        return fn(y), y, sweeps + 1

    return jax.lax.while_loop(moving, sweep, (start, jnp.full_like(start, jnp.inf), jnp.array(0)))[0]
