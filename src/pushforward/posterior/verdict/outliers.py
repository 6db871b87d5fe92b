"""Draws whose weights stand out: are they at the edge of a mode that the fit does not have?

A narrow mode inside of a broad one attracts no path of the search, and few draws of the fit come near it. But the
weight of such a draw is larger than all others, and log p - log q rises from there to the mode, also where log p falls.
A mode that is farther away than the search has looked is seen by draws of the tails of the fit.
"""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from pushforward.flow import Flow
from pushforward.posterior.rounding import cautious_log_density
from pushforward.posterior.search.candidates import Candidate
from pushforward.posterior.search.gaussians import candidates_from
from pushforward.posterior.target import Target, finite_or_zero
from pushforward.training.compilation import jit_quick_compilation

# A log-weight stands out if it is farther above the median than this quantile is, by this factor, and by more than
# rounding.
QUANTILE, FACTOR, MIN_SPACINGS = 0.999, 10.0, 1e4
MAX_POINTS = 24
# Steps along the gradient, in standard deviations of the base; all lengths are evaluated at once.
NUM_STEPS = 8
STEP_LENGTHS = 2.0 ** np.arange(1, -20, -1)


def outlying_modes(
    target: Target,
    flow: Flow,
    draws: Float[np.ndarray, "draws dim"],
    log_weights: Float[np.ndarray, " draws"],
    lacking: Float[np.ndarray, "points dim"] | None,
    key: PRNGKeyArray,
) -> list[Candidate]:
    """The modes near the draws whose weights stand out, and near points that the fit lacks; none if there are none.

    Args:
        target: the target of the fit.
        flow: the fit, in unconstrained coordinates.
        draws: draws of the fit, in unconstrained coordinates.
        log_weights: log p - log q of the draws.
        lacking: points in places of much evidence that the fit lacks.
        key: for further draws.
    """
    found, points = [], draws[outliers(log_weights)]
    if len(points):
        # Of one size, so that all fits of a target share one program.
        climbed = np.asarray(_climb(target, flow, jnp.asarray(np.resize(points, (MAX_POINTS, target.dim)))))
        found += candidates_from(target, climbed[: len(points)], key)
    if lacking is not None and len(lacking):
        found += candidates_from(target, lacking, jr.fold_in(key, 0))
    return found


def outliers(log_weights: Float[np.ndarray, " draws"]) -> np.ndarray:
    """The indices of the draws whose weights stand out, the largest weight first; at most MAX_POINTS.

    Args:
        log_weights: the log-weights.
    """
    usable = np.flatnonzero(np.isfinite(log_weights))
    if not usable.size:
        return usable
    finite = log_weights[usable]
    median, high = np.quantile(finite, (0.5, QUANTILE), method="lower")
    rounding = MIN_SPACINGS * np.spacing(np.abs(finite).max())
    largest = np.argsort(-finite, kind="stable")[:MAX_POINTS]
    return usable[largest[finite[largest] - median > FACTOR * (high - median) + rounding]]


@jit_quick_compilation
def _climb(target: Target, flow: Flow, u: Float[Array, "points dim"]) -> Float[Array, "points dim"]:
    """Points from which log p - log q rises no further along its gradient in the space of the base, if it is finite."""

    def log_ratio(z):
        u, log_det = flow.bijection.forward_and_log_det(z)
        return target(u) + log_det - flow.base_distribution.log_prob(z)

    def log_weight(z):
        return finite_or_zero(cautious_log_density(log_ratio, z))

    def step(z, _):
        gradient = jax.grad(log_ratio)(z)
        direction = gradient / jnp.linalg.norm(gradient)
        ends = z + jnp.asarray(STEP_LENGTHS, z.dtype)[:, None] * direction
        values = jax.vmap(log_weight)(ends)
        best = jnp.argmax(values)
        return jnp.where(values[best] > log_weight(z), ends[best], z), None

    def climb(z):
        return jax.lax.scan(step, z, None, length=NUM_STEPS)[0]

    z = flow.bijection.batched.inverse(u)
    end = flow.bijection.batched.forward(jax.lax.map(climb, z))
    return jnp.where(jnp.isfinite(end).all(1, keepdims=True), end, u)
