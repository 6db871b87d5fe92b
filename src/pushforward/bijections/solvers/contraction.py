"""Fixed points of contractions, by accelerated iteration."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from pushforward.bijections.solvers import ROUNDINGS
from pushforward.bijections.solvers.implicit import fixed_point

# The number of past steps that Anderson acceleration combines.
MEMORY = 5


def solve_contraction(
    fn: Callable[[Array, Any], Array], start: Float[Array, " dim"], args: Any, rate: float
) -> Float[Array, " dim"]:
    r"""Solve $y = f(y)$ where $f$ is Lipschitz with a constant of at most `rate` < 1.

    Banach's iteration with Anderson acceleration. An accelerated point is accepted only if it reduces the residual
    $f(y) - y$ by the factor `rate`, as a plain step always does. So two evaluations make at least the progress of one
    plain step. The error is at most the residual / (1 - rate). The result is NaN if the residual stays above the square
    root of machine epsilon times (1 - rate), or above a few times machine epsilon if that is larger. Gradients are
    implicit, by the same iteration.

    Args:
        fn: the map `fn(y, args)`.
        start: the initial guess.
        args: a pytree that `fn` depends on; gradients flow to it.
        rate: the bound on the Lipschitz constant in the Euclidean norm.

    References:
        Behrmann et al., Invertible Residual Networks (2019), algorithm 1. https://arxiv.org/abs/1811.00995
        Walker and Ni, Anderson Acceleration for Fixed-Point Iterations (2011), SIAM J. Numer. Anal. 49.
    """

    def solve(args, start):
        return _accelerated(lambda y: fn(y, args), start, rate)

    def solve_linear(product, b):
        # In units of b, because squares of very small numbers underflow.
        size = jnp.max(jnp.abs(b))
        size = jnp.where(size == 0, 1, size)
        unit = b / size
        return size * _accelerated(lambda v: unit + product(v), unit, rate)

    return fixed_point(fn, start, args, solve=solve, solve_linear=solve_linear)


def _accelerated(fn: Callable[[Array], Array], start: Array, rate: float) -> Array:
    """The fixed point of a contraction, up to rounding relative to its size plus 1."""
    eps = float(jnp.finfo(start.dtype).eps)
    most = 20 + math.ceil(2 * math.log(eps) / math.log(rate))

    def size(y):
        return 1 + jnp.max(jnp.abs(y))

    def unfinished(state):
        y, r, *_, moving, count = state
        return moving & (jnp.max(jnp.abs(r)) > ROUNDINGS * eps * size(y)) & (count < most)

    def iterate(state):
        y, r, steps, changes, accelerate, _, count = state
        # Least squares fit of the residual by its past changes; the ridge makes the solution unique.
        gram = changes @ changes.T
        ridge = eps * jnp.trace(gram) + jnp.finfo(r.dtype).tiny
        weights = jnp.linalg.solve(gram + ridge * jnp.eye(MEMORY, dtype=r.dtype), changes @ r)
        new = y + r - jnp.where(accelerate, weights @ (steps + changes), 0)
        new_r = fn(new) - new
        old_length, length = jnp.linalg.norm(r), jnp.linalg.norm(new_r)
        good = length <= jnp.where(accelerate, rate, 1.0) * old_length
        # A plain step that does not reduce the residual has reached the limit of rounding.
        moving = accelerate | (length < old_length)
        steps = jnp.where(good, jnp.concatenate([steps[1:], (new - y)[None]]), 0)
        changes = jnp.where(good, jnp.concatenate([changes[1:], (new_r - r)[None]]), 0)
        return jnp.where(good, new, y), jnp.where(good, new_r, r), steps, changes, good, moving, count + 1

    history = jnp.zeros((MEMORY, start.size), start.dtype)
    state = (start, fn(start) - start, history, history, jnp.array(False), jnp.array(True), jnp.array(0))
    y, r, *_ = jax.lax.while_loop(unfinished, iterate, state)
    # Near rate 1 the second term is below the target of the iteration.
    enough = max(ROUNDINGS * eps, eps**0.5 * (1 - rate))
    return jnp.where(jnp.max(jnp.abs(r)) <= enough * size(y), y, jnp.nan)
