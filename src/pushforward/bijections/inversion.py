"""Numerical inverses, with implicit gradients. Tolerances are in units of the dtype's rounding.

What does not converge is NaN: nothing here gives a wrong value in silence.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

# Sweeps end when no coordinate moves by more than this many roundings.
ROUNDINGS = 4
# Damped Newton steps allowed; about 10 are usual.
NEWTON_STEPS = 500
# How many differences of past points Anderson acceleration combines.
MEMORY = 5

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


def invert_newton(fn: Callable[[Array, Any], Array], x: Float[Array, " m"], args: Any) -> Float[Array, " m"]:
    r"""Solve $f(u) = x$ for a vector of few coordinates, $f$ a diffeomorphism with $|f(u)| \to \infty$ as
    $|u| \to \infty$.

    Newton's method with dense Jacobians from $u = x$; a step is halved until it shortens the residual. As the
    Jacobian is nowhere singular, the residual has no minimum but the root, so this converges from everywhere. It ends
    when no step shortens the residual any more, and gives NaN if that is above the root of the dtype's rounding.
    Gradients are implicit.

    Args:
        fn: the map `fn(u, args)`.
        x: the value to reach.
        args: a pytree that `fn` depends on; gradients flow to it.

    References:
        Dennis and Schnabel, Numerical Methods for Unconstrained Optimization and Nonlinear Equations (1983), chapter 6.
    """

    @eqx.filter_custom_jvp
    def solve(x, args):
        return _newton(lambda u: fn(u, args) - x, x)

    @solve.def_jvp
    def solve_jvp(primals, tangents):
        u = solve(*primals)
        _, moved = eqx.filter_jvp(lambda x, args: fn(u, args) - x, primals, tangents)
        return u, -jnp.linalg.solve(jax.jacfwd(fn)(u, primals[1]), moved)

    return solve(x, args)


def _newton(residual: Callable[[Array], Array], start: Array) -> Array:
    eps = float(jnp.finfo(start.dtype).eps)

    def small(u, step):
        return jnp.all(jnp.abs(step) <= 0.5 * ROUNDINGS * eps * (jnp.abs(u) + eps**0.5))

    def shorter(u, step, r):
        """Halve the step until the residual is shorter by a share of what the linear model promises."""

        def too_long(state):
            size, new_r = state
            return ~(jnp.linalg.norm(new_r) < (1 - 1e-4 * size) * jnp.linalg.norm(r)) & (size > eps) & ~small(u, step)

        def halve(state):
            size = state[0] / 2
            return size, residual(u + size * step)

        return jax.lax.while_loop(too_long, halve, (jnp.ones((), u.dtype), residual(u + step)))

    def iterate(state):
        u, r, _, count = state
        step = -jnp.linalg.solve(jax.jacfwd(residual)(u), r)
        size, new_r = shorter(u, step, r)
        better = jnp.linalg.norm(new_r) < jnp.linalg.norm(r)
        moving = better & ~small(u, step)
        return jnp.where(better, u + size * step, u), jnp.where(better, new_r, r), moving, count + 1

    def unfinished(state):
        return state[2] & (state[3] < NEWTON_STEPS)

    u, r, _, _ = jax.lax.while_loop(unfinished, iterate, (start, residual(start), jnp.array(True), jnp.array(0)))
    return jnp.where(jnp.max(jnp.abs(r)) <= eps**0.5 * (1 + jnp.max(jnp.abs(start))), u, jnp.nan)


# Scalars.

# Enough for any bracket that a factor of four has found: half of the steps at least halve it.
MAX_STEPS = 200


def invert_monotone(
    fn: Callable[[Numbers, Any], Numbers],
    x: Numbers,
    args: Any,
    *,
    lower: float | None = None,
    upper: float | None = None,
) -> Numbers:
    r"""Solve $f(y) = x$, where $f$ is an increasing, differentiable function of one number.

    A bracket is widened until it holds the root; then Newton steps inside it, or halvings where those would converge
    slowly, go on until it is as narrow as rounding allows. So the result is right to rounding wherever $f$ is, whatever
    its shape. Gradients are implicit: $\mathrm dy = (\mathrm dx - \partial_\theta f\,\mathrm d\theta) / f'(y)$.

    Args:
        fn: the function `fn(y, args)`; given an array, it must act on each number by itself.
        x: the value to reach, or an array of such.
        args: a pytree that `fn` depends on; gradients flow to it.
        lower: where to look, if known: $f$(lower) <= x. By default a bracket is searched for, from y = x.
        upper: likewise x <= $f$(upper).

    Returns:
        $y$; NaN where no root is found, or where $f$ is not finite on the way.

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


def _find_bracket(residual: Callable[[Numbers], Numbers], start: Numbers) -> tuple[Numbers, Numbers, Numbers]:
    """Two numbers between which an increasing residual changes sign, by growing steps away from the start, and whether
    there are such.
    """

    def end(y):
        """The values travel with the ends: computed twice, a value near 0 may have two signs."""
        return jnp.stack([y, residual(y)])

    def short(low, high):
        # Not so for NaN and infinite numbers: then there is no bracket.
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
    """The root of an increasing residual between two numbers; NaN where residuals are not finite."""

    def wide(y, lower, upper):
        return upper - lower > 2 * _rounding(y)

    def narrow(state):
        y, value, slope, lower, upper, step, step_before, _ = state
        lower, upper = jnp.where(value <= 0, y, lower), jnp.where(value >= 0, y, upper)
        # On a plateau that rounding made, all points are roots, and the slope may be 0.
        newton = jnp.where(value == 0, 0, -value / slope)
        best = y + newton
        # No shorter than rounding, or the far side of the bracket would never come near.
        newton = jnp.where(newton < 0, -1, 1) * jnp.maximum(jnp.abs(newton), _rounding(y))
        # Written so that NaN counts as outside.
        good = (lower < y + newton) & (y + newton < upper) & (jnp.abs(newton) <= jnp.abs(step_before) / 2)
        new = jnp.where(good, y + newton, lower + (upper - lower) / 2)
        return new, *_value_and_slope(residual, new), lower, upper, new - y, step, best

    def advance(state_and_count):
        """Narrow the brackets of those numbers that need it."""
        state, count = state_and_count
        moving = wide(state[0], *state[3:5])
        return tuple(jnp.where(moving, a, b) for a, b in zip(narrow(state), state, strict=True)), count + 1

    y, width = jnp.clip(start, lower, upper), upper - lower
    # The values travel with the state here too.
    (y, _, _, lower, upper, *_, best), _ = jax.lax.while_loop(
        lambda s: jnp.any(wide(s[0][0], *s[0][3:5])) & (s[1] < MAX_STEPS),
        advance,
        ((y, *_value_and_slope(residual, y), lower, upper, width, width, y), jnp.array(0)),
    )
    return jnp.where(wide(y, lower, upper), jnp.nan, jnp.clip(best, lower, upper))


def solve_contraction(
    fn: Callable[[Array, Any], Array], start: Float[Array, " dim"], args: Any, rate: float
) -> Float[Array, " dim"]:
    r"""Solve $y = f(y)$ where $f$ is Lipschitz with a constant of at most `rate` < 1.

    Banach's iteration with Anderson acceleration: an accelerated point is taken only if it shortens the residual
    $f(y) - y$ by `rate`, as the plain step does for certain, so the convergence is at least that of Banach in two
    evaluations. The error of any point is at most its residual / (1 - rate); it gives NaN if the residual cannot be
    brought below the root of the dtype's rounding times (1 - rate), or a few roundings where that is less. Gradients
    are implicit, by the same iteration.

    Args:
        fn: the map `fn(y, args)`.
        start: the first guess.
        args: a pytree that `fn` depends on; gradients flow to it.
        rate: the bound of the Lipschitz constant, in the Euclidean norm.

    References:
        Behrmann et al., Invertible Residual Networks (2019), algorithm 1. https://arxiv.org/abs/1811.00995
        Walker and Ni, Anderson Acceleration for Fixed-Point Iterations (2011), SIAM J. Numer. Anal. 49.
    """

    @eqx.filter_custom_jvp
    def solve(args, start):
        return _accelerated(lambda y: fn(y, args), start, rate)

    @solve.def_jvp
    def solve_jvp(primals, tangents):
        (args, start), (args_tangent, _) = primals, tangents
        y = solve(args, start)
        _, tangent = eqx.filter_jvp(lambda args: fn(y, args), (args,), (args_tangent,))
        _, push = jax.linearize(lambda y: fn(y, args), y)
        return y, solve_contraction_linear(push, tangent, rate)

    return solve(args, start)


def solve_contraction_linear(
    product: Callable[[Array], Array], vector: Float[Array, " dim"], rate: float
) -> Float[Array, " dim"]:
    """Solve $v = b + A v$ for a linear map with a norm of at most `rate` < 1, given as `product`."""
    transpose = jax.linear_transpose(product, vector)

    def neumann(product, b):
        # In units of b, for squares of what is very small would be 0.
        size = jnp.max(jnp.abs(b))
        size = jnp.where(size == 0, 1, size)
        unit = b / size
        return size * _accelerated(lambda v: unit + product(v), unit, rate)

    return jax.lax.custom_linear_solve(
        lambda v: v - product(v),
        vector,
        solve=lambda _, b: neumann(product, b),
        transpose_solve=lambda _, b: neumann(lambda v: transpose(v)[0], b),
    )


def _accelerated(fn: Callable[[Array], Array], start: Array, rate: float) -> Array:
    """The fixed point of a contraction to rounding, relative to its size plus 1."""
    eps = float(jnp.finfo(start.dtype).eps)
    most = 20 + math.ceil(2 * math.log(eps) / math.log(rate))

    def size(y):
        return 1 + jnp.max(jnp.abs(y))

    def unfinished(state):
        y, r, *_, moving, count = state
        return moving & (jnp.max(jnp.abs(r)) > ROUNDINGS * eps * size(y)) & (count < most)

    def iterate(state):
        y, r, steps, changes, accelerate, _, count = state
        # The combination of past changes of the residual that is nearest to it; the ridge keeps it defined.
        gram = changes @ changes.T
        ridge = eps * jnp.trace(gram) + jnp.finfo(r.dtype).tiny
        weights = jnp.linalg.solve(gram + ridge * jnp.eye(MEMORY, dtype=r.dtype), changes @ r)
        new = y + r - jnp.where(accelerate, weights @ (steps + changes), 0)
        new_r = fn(new) - new
        old_length, length = jnp.linalg.norm(r), jnp.linalg.norm(new_r)
        good = length <= jnp.where(accelerate, rate, 1.0) * old_length
        # A plain step that does not help has met the limit of rounding.
        moving = accelerate | (length < old_length)
        steps = jnp.where(good, jnp.concatenate([steps[1:], (new - y)[None]]), 0)
        changes = jnp.where(good, jnp.concatenate([changes[1:], (new_r - r)[None]]), 0)
        return jnp.where(good, new, y), jnp.where(good, new_r, r), steps, changes, good, moving, count + 1

    history = jnp.zeros((MEMORY, start.size), start.dtype)
    state = (start, fn(start) - start, history, history, jnp.array(False), jnp.array(True), jnp.array(0))
    y, r, *_ = jax.lax.while_loop(unfinished, iterate, state)
    # Near rate 1 the second is less than the iteration aims at.
    enough = max(ROUNDINGS * eps, eps**0.5 * (1 - rate))
    return jnp.where(jnp.max(jnp.abs(r)) <= enough * size(y), y, jnp.nan)
