r"""Natural-gradient steps towards the Gaussian with the highest ELBO.

Let $q = N(b, L L^T)$ be the present Gaussian, and $g$ and $H$ the means under $q$ of the gradient and the Hessian of
the log-density, in the coordinates $w$ of $u = L w + b$. A natural-gradient step of length $\rho$ changes the precision
from $I$ to $P = (1 - \rho) I - \rho H$, and moves the mean by $\rho P^{-1} g$. If the target is Gaussian, one step of
length 1 ends at it.

Newton's method climbs to a mode, whose mass may be small: in the neck of a funnel the density is high and the volume
tiny. Averages over $q$ measure mass, so these steps do not end in the neck. Like Newton's method, they do not depend on
the scales of coordinates. Far from the optimum a step may be much too long, so along each principal axis of $P$ the
scale changes by a factor of at most 2, and the mean by at most one standard deviation. Near it, where these limits do
not matter, a Cholesky factor of $P$ is enough, and saves the time for the axes.

References:
    Opper and Archambeau, The Variational Gaussian Approximation Revisited (2009): gradients as means of derivatives.
    Khan and Rue, The Bayesian Learning Rule (2023), section 3: the natural-gradient step.
    https://arxiv.org/abs/2107.04562
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Float, Int, PRNGKeyArray

from pushforward.posterior.curvature import LogDensity, hessian, hessian_products, lower_factor

STEP_LENGTH = 0.5
MAX_FACTOR = 2.0
# The largest mean square of a coordinate's move, in standard deviations, that is made without the principal axes.
MAX_MEAN_SQUARE = 0.1
# The steps end if the present draws promise a smaller gain of the ELBO, in nats: the target is Gaussian.
MIN_GAIN = 1e-12


class _State(NamedTuple):
    step: Int[Array, ""]
    loc: Float[Array, " dim"]
    factor: Float[Array, "dim dim"]
    gain: Float[Array, ""]


def natural_gradient_steps(
    target: LogDensity,
    loc: Float[Array, " dim"],
    factor: Float[Array, "dim dim"],
    key: PRNGKeyArray,
    num_steps: int | Int[Array, ""],
    num_constant: int | Int[Array, ""],
    num_pairs: int,
) -> tuple[Float[Array, " dim"], Float[Array, "dim dim"]]:
    """The mean and the lower triangular factor of the covariance after some steps.

    A draw at which the gradient or the Hessian is not finite is left out of the means.

    Args:
        target: the log-density.
        loc: the mean at the start.
        factor: a lower triangular factor of the covariance at the start.
        key: for the draws.
        num_steps: the largest number of steps.
        num_constant: the number of steps of constant length. Later steps become shorter, which averages the noise of
            the draws out.
        num_pairs: the number of antithetic pairs of draws of each step.
    """
    dim, dtype = loc.size, loc.dtype
    hessian_at, identity = hessian(hessian_products(target, loc), dim), jnp.eye(dim, dtype=dtype)

    def one_draw(sums, u):
        gradient, curvature = jax.grad(target)(u), hessian_at(u)
        usable = jnp.isfinite(gradient).all() & jnp.isfinite(curvature).all()
        terms = (jnp.where(usable, term, 0) for term in (gradient, curvature, 1.0))
        return tuple(total + term for total, term in zip(sums, terms, strict=True)), None

    def step(state: _State) -> _State:
        i, loc, factor, _ = state
        length = STEP_LENGTH / (1 + STEP_LENGTH * jnp.maximum(0, i - num_constant))
        half = jr.normal(jr.fold_in(key, i), (num_pairs, dim), dtype)
        draws = loc + jnp.concatenate([half, -half]) @ factor.T
        zeros = jnp.zeros(dim, dtype), jnp.zeros((dim, dim), dtype), jnp.zeros((), dtype)
        (gradient, curvature, count), _ = jax.lax.scan(one_draw, zeros, draws)
        gradient = factor.T @ (gradient / count)
        curvature = -factor.T @ (curvature / count) @ factor
        precision = (1 - length) * identity + 0.5 * length * (curvature + curvature.T)
        move, root, small = _short_step(precision, length * gradient)
        move, root = jax.lax.cond(small, lambda: (move, root), lambda: _limited_step(precision, length * gradient))
        gain = 0.5 * jnp.sum(gradient**2) + 0.25 * jnp.sum((curvature - identity) ** 2)
        return _State(i + 1, loc + factor @ move, jnp.tril(factor @ root), gain)

    start = _State(jnp.array(0), loc, factor, jnp.array(math.inf, dtype))
    state = jax.lax.while_loop(lambda state: (state.step < num_steps) & ~(state.gain < MIN_GAIN), step, start)
    return state.loc, state.factor


def _short_step(precision: Array, gradient: Array) -> tuple[Array, Array, Array]:
    """The move $P^{-1} g$, the lower triangular root of $P^{-1}$, and whether they are within the limits."""
    identity = jnp.eye(len(precision), dtype=precision.dtype)
    bounds = precision - MAX_FACTOR**-2 * identity, MAX_FACTOR**2 * identity - precision
    within = jnp.array([jnp.isfinite(jnp.linalg.cholesky(bound)).all() for bound in bounds]).all()
    # P = U U^T with an upper triangular U, so the root U^-T is lower triangular.
    upper = jnp.linalg.cholesky(precision[::-1, ::-1])[::-1, ::-1]
    root = solve_triangular(upper, identity).T
    move = root @ (root.T @ gradient)
    return move, root, within & (jnp.mean(move**2) < MAX_MEAN_SQUARE)


def _limited_step(precision: Array, gradient: Array) -> tuple[Array, Array]:
    """The move and the lower triangular root of $P^{-1}$, limited along the principal axes of $P$."""
    values, axes = jnp.linalg.eigh(precision)
    values = jnp.clip(values, MAX_FACTOR**-2, MAX_FACTOR**2)
    return axes @ jnp.clip(axes.T @ gradient / values, -1, 1), lower_factor(axes * jax.lax.rsqrt(values))
