"""Small systems of equations by a damped Newton method."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from pushforward.bijections.solvers import ROUNDINGS

# The maximum number of damped Newton steps; about 10 are usual.
NEWTON_STEPS = 500


def invert_newton(fn: Callable[[Array, Any], Array], x: Float[Array, " m"], args: Any) -> Float[Array, " m"]:
    r"""Solve $f(u) = x$ in few dimensions, where $f$ is a diffeomorphism with $|f(u)| \to \infty$ as
    $|u| \to \infty$.

    Newton's method with dense Jacobians, from $u = x$; a step is halved until it reduces the residual. The Jacobian is
    nowhere singular, so the residual has no local minimum except the root, and the method converges from any start. It
    ends when no step reduces the residual further. The result is NaN if the residual is then above the square root of
    machine epsilon, relative to the size of $x$ plus 1. Gradients are implicit.

    Args:
        fn: the map `fn(u, args)`.
        x: the value of $f$.
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
        """Halve the step until it achieves a fraction of the residual's reduction that the linear model predicts."""

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
