"""The draws of its diagnostics that a posterior stores, with their weights."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from pushforward.posterior.verdict.pareto import pareto_smooth

# The stored draws have at most this number of entries, so that files stay small.
POOL_SIZE = 2_000_000
MIN_POOL = 10_000


def stored(
    draws: Float[np.ndarray, "draws dim"], log_weights: Float[np.ndarray, " draws"]
) -> tuple[Float[Array, "pool dim"], Float[Array, " pool"]]:
    """The first draws, and their Pareto-smoothed weights, which sum to 1.

    Args:
        draws: draws of a fit, in unconstrained coordinates; may be empty.
        log_weights: log p - log q of the draws. If none is finite, the weights are equal.
    """
    num = min(len(draws), max(MIN_POOL, POOL_SIZE // draws.shape[1]))
    weights = np.ones(num)
    if np.isfinite(log_weights).any():
        smoothed = pareto_smooth(np.where(np.isfinite(log_weights), log_weights, -np.inf))[0][:num]
        weights = np.exp(smoothed - smoothed.max()) if np.isfinite(smoothed).any() else weights
    return jnp.asarray(draws[:num]), jnp.asarray(weights / max(weights.sum(), 1.0), draws.dtype)


def rows_at(weights: Float[Array, " pool"], levels: Float[Array, " n"]) -> Int[Array, " n"]:
    """The rows of the stored draws at levels of their cumulative weights, for systematic resampling.

    Args:
        weights: the weights of the stored draws.
        levels: numbers between 0 and 1.

    Raises:
        ValueError: if no draws are stored.
    """
    if not len(weights):
        raise ValueError(
            "the fit was interrupted before its diagnostics were computed, so it has no importance weights; use "
            "sample(key), whose quality is unknown, or fit again."
        )
    cumulative = jnp.cumsum(weights)
    return jnp.searchsorted(cumulative / cumulative[-1], levels)
