"""Where is a log-density only rounding noise?

Far out, terms of a log-density may be so large that their differences have no correct digit. The density seems high
there at random points, which is no evidence.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

# Points that differ by this number of spacings of floating-point numbers must have nearly the same log-density.
NUM_SPACINGS = 4
MAX_DIFFERENCE = 1.0
# In units of the difference: errors of rounding are up to a hundred times the difference of two points nearby.
PENALTY = 100.0


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


def _is_overflow(value: Float[Array, ""]) -> Array:
    """Whether a log-density is NaN or +inf; -inf is a boundary."""
    return jnp.isnan(value) | (value == jnp.inf)


def _at_neighbors(log_density: Callable, u: Array) -> Array:
    """The log-density at a point and at another that hardly differs."""
    step = NUM_SPACINGS * jnp.finfo(u.dtype).eps
    # As one batch: factorizations of the two might otherwise run at the same time, see `jit_low_concurrency`.
    return jax.vmap(log_density)(jnp.stack([u, u + step * (1 + jnp.abs(u))]))
