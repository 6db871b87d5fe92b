r"""Natural-gradient steps to the Gaussian with the highest ELBO.

Let $q = N(b, L L^T)$ be the present Gaussian, and $g$ and $H$ the means under $q$ of the gradient and the Hessian of
the log-density, in the coordinates $w$ of $u = L w + b$. A natural-gradient step of length $\rho$ changes the precision
from $I$ to $P = (1 - \rho) I - \rho H$, and moves the mean by $\rho P^{-1} g$. If the target is Gaussian, one step of
length 1 ends at it.

Newton's method climbs to a mode, whose mass may be small: in the neck of a funnel the density is high and the volume
tiny. Averages over $q$ measure mass, so these steps do not end in the neck. Like Newton's method, they do not depend on
the scales of coordinates. Far from the optimum a step may be much too long, so along each principal axis of $P$ the
scale changes by a factor of at most 2, and the mean by at most one standard deviation.

References:
    Opper and Archambeau, The Variational Gaussian Approximation Revisited (2009): gradients as means of derivatives.
    Khan and Rue, The Bayesian Learning Rule (2023), section 3: the natural-gradient step.
    https://arxiv.org/abs/2107.04562
"""

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, PRNGKeyArray

from pushforward.posterior.curvature import LogDensity, hessian, lower_factor

# Antithetic pairs of draws in each step.
NUM_PAIRS = 8
STEP_LENGTH = 0.5
MAX_FACTOR = 2.0


def natural_gradient_steps(
    target: LogDensity,
    loc: Float[Array, " dim"],
    factor: Float[Array, "dim dim"],
    key: PRNGKeyArray,
    num_steps: int | Int[Array, ""],
    num_constant: int | Int[Array, ""],
) -> tuple[Float[Array, " dim"], Float[Array, "dim dim"]]:
    """The mean and the lower triangular factor of the covariance after some steps.

    A draw at which the gradient or the Hessian is not finite is left out of the means.

    Args:
        target: the log-density.
        loc: the mean at the start.
        factor: a lower triangular factor of the covariance at the start.
        key: for the draws.
        num_steps: the number of steps.
        num_constant: the number of steps of constant length. Later steps become shorter, which averages the noise of
            the draws out.
    """
    dim, dtype = loc.size, loc.dtype
    hessian_at = hessian(target, loc)

    def one_draw(sums, u):
        gradient, curvature = jax.grad(target)(u), hessian_at(u)
        usable = jnp.isfinite(gradient).all() & jnp.isfinite(curvature).all()
        terms = (jnp.where(usable, term, 0) for term in (gradient, curvature, 1.0))
        return tuple(total + term for total, term in zip(sums, terms, strict=True)), None

    def step(i, state):
        loc, factor = state
        length = STEP_LENGTH / (1 + STEP_LENGTH * jnp.maximum(0, i - num_constant))
        half = jr.normal(jr.fold_in(key, i), (NUM_PAIRS, dim), dtype)
        draws = loc + jnp.concatenate([half, -half]) @ factor.T
        zeros = jnp.zeros(dim, dtype), jnp.zeros((dim, dim), dtype), jnp.zeros((), dtype)
        (gradient, curvature, count), _ = jax.lax.scan(one_draw, zeros, draws)
        values, axes = jnp.linalg.eigh(-factor.T @ (curvature / count) @ factor)
        precision = jnp.clip(1 + length * (values - 1), MAX_FACTOR**-2, MAX_FACTOR**2)
        move = jnp.clip(length * (axes.T @ (factor.T @ (gradient / count))) / precision, -1, 1)
        return loc + factor @ (axes @ move), lower_factor(factor @ axes * jax.lax.rsqrt(precision))

    return jax.lax.fori_loop(0, num_steps, step, (loc, factor))
