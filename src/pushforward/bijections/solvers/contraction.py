"""Fixed points of contractions, by accelerated iteration."""

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from pushforward.bijections.solvers import ROUNDINGS

# How many differences of past points Anderson acceleration combines.
MEMORY = 5


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
