"""Where is a log-density only rounding noise?

Far out, terms of a log-density may be so large that their differences have no correct digit. The density seems high
there at random points, which is no evidence. A neighboring point, which is evaluated with each point, shows most of it.
But it is the same at some neighbors by chance, and farther out the density can be smooth and wrong. Where much depends
on a high density, as on a mode that a fit misses, random rounding of all operations decides.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from pushforward.posterior.stochastic_arithmetic import spread_of_runs
from pushforward.training.compilation import in_batches_of, jit_quick_compilation

# Points that differ by this number of spacings of floating-point numbers must have nearly the same log-density.
NUM_SPACINGS = 4
MAX_DIFFERENCE = 1.0
# In units of the difference: errors of rounding are up to a hundred times the difference of two points nearby.
PENALTY = 100.0
# The number of points whose operations are rounded at random at a time. If there is no noise among the first of them,
# there is none.
AT_ONCE = 64
# If this fraction of typical points is noise too, noise is no reason to ignore others.
MAX_TYPICAL = 0.1


def smooth_log_density(log_density: Callable[[Array], Float[Array, ""]], u: Float[Array, " dim"]) -> Float[Array, ""]:
    """The log-density, or NaN where it is +inf, or at a neighboring point NaN, +inf or different by more than one nat.

    Args:
        log_density: the log-density.
        u: the point.
    """
    value, neighbor = _at_neighbors(log_density, u)
    noise = (jnp.abs(value - neighbor) > MAX_DIFFERENCE) | (value == jnp.inf)
    return jnp.where(noise | _is_overflow(neighbor), jnp.nan, value)


def cautious_log_density(log_density: Callable[[Array], Float[Array, ""]], u: Float[Array, " dim"]) -> Float[Array, ""]:
    """The log-density, reduced in proportion to its noise where that exceeds one nat, so that noise is not climbed.

    It is NaN where it is NaN or +inf at a neighboring point.

    Args:
        log_density: the log-density.
        u: the point.
    """
    value, neighbor = _at_neighbors(log_density, u)
    excess = jnp.maximum(jnp.abs(value - neighbor) - MAX_DIFFERENCE, 0.0)
    value = jnp.where(jnp.isfinite(excess), value - PENALTY * excess, value)
    return jnp.where(_is_overflow(neighbor), jnp.nan, value)


def is_noise(
    log_density: Callable[[Array], Float[Array, ""]],
    u: Float[np.ndarray, "points dim"],
    typical: Float[np.ndarray, "draws dim"],
) -> Bool[np.ndarray, " points"]:
    """Whether random rounding of all operations changes the log-density by more than one nat, at each of some points.

    Args:
        log_density: the log-density, a pytree.
        u: the points, the most important ones first: if none of the first 64 is noise, none is.
        typical: draws of a fit, of which some are examined. If they are noise too, no point is.
    """

    def examine(points):
        return in_batches_of(functools.partial(_changed_by_rounding, log_density), points, AT_ONCE) > 0

    if not len(u):
        return np.zeros(0, bool)
    first, rest = examine(u[:AT_ONCE]), u[AT_ONCE:]
    if not first.any() or (len(typical) and examine(typical[:AT_ONCE]).mean() > MAX_TYPICAL):
        return np.zeros(len(u), bool)
    return np.concatenate([first, examine(rest)]) if len(rest) else first


@functools.partial(jit_quick_compilation, level=1)
def _changed_by_rounding(log_density: Callable, u: Float[Array, "points dim"]) -> Bool[Array, " points"]:
    return jax.vmap(lambda one: spread_of_runs(log_density, one))(u) > MAX_DIFFERENCE


def _is_overflow(value: Float[Array, ""]) -> Array:
    """Whether a log-density is NaN or +inf; -inf is a boundary."""
    return jnp.isnan(value) | (value == jnp.inf)


def _at_neighbors(log_density: Callable, u: Array) -> Array:
    """The log-density at a point and at another that hardly differs."""
    step = NUM_SPACINGS * jnp.finfo(u.dtype).eps
    # As one batch: factorizations of the two might otherwise run at the same time, see `jit_low_concurrency`.
    return jax.vmap(log_density)(jnp.stack([u, u + step * (1 + jnp.abs(u))]))
