"""Derivatives of fixed points by the implicit function theorem."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array

LinearMap = Callable[[Array], Array]


def fixed_point(
    fn: Callable[[Array, Any], Array],
    start: Array,
    args: Any,
    *,
    solve: Callable[[Any, Array], Array],
    solve_linear: Callable[[LinearMap, Array], Array],
) -> Array:
    r"""The solution of $y = f(y, \theta)$, whose derivatives do not pass through the iterations.

    The derivative solves $\dot y = \partial_\theta f\,\dot\theta + \partial_y f\,\dot y$, a linear fixed point.

    Args:
        fn: the map `fn(y, args)`.
        start: the initial guess.
        args: a pytree that `fn` depends on; gradients flow to it.
        solve: `solve(args, start)`, the solution.
        solve_linear: `solve_linear(A, b)`, the solution of $v = b + A v$ for a linear map `A`.
    """

    @eqx.filter_custom_jvp
    def solved(args, start):
        return solve(args, start)

    @solved.def_jvp
    def solved_jvp(primals, tangents):
        (args, start), (args_tangent, _) = primals, tangents
        y = solved(args, start)
        _, tangent = eqx.filter_jvp(lambda args: fn(y, args), (args,), (args_tangent,))
        _, push = jax.linearize(lambda y: fn(y, args), y)
        pull = jax.linear_transpose(push, y)
        return y, jax.lax.custom_linear_solve(
            lambda v: v - push(v),
            tangent,
            solve=lambda _, b: solve_linear(push, b),
            transpose_solve=lambda _, b: solve_linear(lambda v: pull(v)[0], b),
        )

    return solved(args, start)
