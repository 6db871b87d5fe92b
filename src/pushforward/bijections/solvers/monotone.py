"""Inverses of increasing scalar functions by a safeguarded Newton method."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from pushforward.bijections.solvers import ROUNDINGS

# Enough for any bracket that growth by factors of four has found: at least half of the steps halve it.
MAX_STEPS = 200


Numbers = Float[Array, " *batch"]


def invert_monotone(
    fn: Callable[[Numbers, Any], Numbers],
    x: Numbers,
    args: Any,
    *,
    lower: float | None = None,
    upper: float | None = None,
) -> Numbers:
    r"""Solve $f(y) = x$, where $f$ is an increasing, differentiable scalar function.

    First a bracket is widened until it contains the root. Then Newton steps inside it, or bisection where Newton would
    converge slowly, narrow it until rounding stops them. So for any shape of $f$, the result is as accurate as $f$.
    Gradients are implicit: $\mathrm dy = (\mathrm dx - \partial_\theta f\,\mathrm d\theta) / f'(y)$.

    Args:
        fn: the function `fn(y, args)`; it must act elementwise on arrays.
        x: the value of $f$, or an array of values.
        args: a pytree that `fn` depends on; gradients flow to it.
        lower: the lower end of a bracket, with $f$(lower) <= x. If an end is missing, a bracket is searched from y = x.
        upper: the upper end of the bracket, with x <= $f$(upper).

    Returns:
        $y$; NaN where no root is found, or where $f$ is not finite during the search.

    References:
        Press et al., Numerical Recipes (2007), section 9.4, `rtsafe`.
    """

    @eqx.filter_custom_jvp
    def solve(args, x):
        def residual(y):
            return fn(y, args) - x

        if lower is None or upper is None:
            low, high, found = _find_bracket(residual, x)
        else:
            low, high = jnp.full_like(x, lower), jnp.full_like(x, upper)
            slack = ROUNDINGS * _rounding(x)
            found = (residual(low) <= slack) & (residual(high) >= -slack)
        return jnp.where(found, _safeguarded_newton(residual, x, low, high), jnp.nan)

    @solve.def_jvp
    def solve_jvp(primals, tangents):
        y = solve(*primals)
        _, moved = eqx.filter_jvp(lambda args, x: fn(y, args) - x, primals, tangents)
        return y, -moved / _value_and_slope(lambda y: fn(y, primals[0]), y)[1]

    return solve(args, x)


def _value_and_slope(fn: Callable[[Numbers], Numbers], y: Numbers) -> tuple[Numbers, Numbers]:
    return jax.jvp(fn, (y,), (jnp.ones_like(y),))


def _rounding(y: Numbers) -> Numbers:
    return jnp.finfo(y.dtype).eps * (1 + jnp.abs(y))


def _find_bracket(
    residual: Callable[[Numbers], Numbers], start: Numbers
) -> tuple[Numbers, Numbers, Bool[Array, "*batch"]]:
    """Two numbers between which an increasing residual changes sign, found by growing steps from the start, and whether
    the search succeeded.
    """

    def end(y):
        """An end and its residual, kept together: a residual near 0 could change its sign if computed again."""
        return jnp.stack([y, residual(y)])

    def short(low, high):
        # False for NaN and infinite numbers: then there is no bracket.
        return (low[1] > 0) & jnp.isfinite(low[0]), (high[1] < 0) & jnp.isfinite(high[0])

    def widen(ends):
        low, high = ends
        down, up = short(low, high)
        new = end(start + 4 * (jnp.where(down, low[0], high[0]) - start))
        # An end on the wrong side of the root becomes the other end.
        return jnp.where(down, new, jnp.where(up, high, low)), jnp.where(up, new, jnp.where(down, low, high))

    size = 1 + jnp.abs(start)
    low, high = jax.lax.while_loop(
        lambda ends: jnp.any(jnp.logical_or(*short(*ends))), widen, (end(start - size), end(start + size))
    )
    return low[0], high[0], (low[1] <= 0) & (high[1] >= 0)


def _safeguarded_newton(residual: Callable[[Numbers], Numbers], start: Numbers, lower: Numbers, upper: Numbers):
    """The root of an increasing residual in a bracket; NaN where residuals are not finite."""

    def wide(y, lower, upper):
        return upper - lower > 2 * _rounding(y)

    def narrow(state):
        y, value, slope, lower, upper, step, step_before, _ = state
        lower, upper = jnp.where(value <= 0, y, lower), jnp.where(value >= 0, y, upper)
        # On a plateau caused by rounding, all points are roots, and the slope may be 0.
        newton = jnp.where(value == 0, 0, -value / slope)
        best = y + newton
        # Steps are not shorter than rounding, because otherwise the far end of the bracket would not move.
        newton = jnp.where(newton < 0, -1, 1) * jnp.maximum(jnp.abs(newton), _rounding(y))
        # Written so that NaN counts as outside.
        good = (lower < y + newton) & (y + newton < upper) & (jnp.abs(newton) <= jnp.abs(step_before) / 2)
        new = jnp.where(good, y + newton, lower + (upper - lower) / 2)
        return new, *_value_and_slope(residual, new), lower, upper, new - y, step, best

    def advance(state_and_count):
        """Narrow the brackets that are still wide."""
        state, count = state_and_count
        moving = wide(state[0], *state[3:5])
        return tuple(jnp.where(moving, a, b) for a, b in zip(narrow(state), state, strict=True)), count + 1

    y, width = jnp.clip(start, lower, upper), upper - lower
    # The state contains the residuals here too.
    (y, _, _, lower, upper, *_, best), _ = jax.lax.while_loop(
        lambda s: jnp.any(wide(s[0][0], *s[0][3:5])) & (s[1] < MAX_STEPS),
        advance,
        ((y, *_value_and_slope(residual, y), lower, upper, width, width, y), jnp.array(0)),
    )
    return jnp.where(wide(y, lower, upper), jnp.nan, jnp.clip(best, lower, upper))
