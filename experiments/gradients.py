"""The noise of stochastic gradients."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, PRNGKeyArray, PyTree


def noise_and_signal(gradient: Callable[[PRNGKeyArray], PyTree], num_draws: int) -> tuple[Array, Array]:
    """The standard deviation of a random gradient, and the norm of its mean."""

    def one(key):
        return jnp.concatenate([g.ravel() for g in jax.tree.leaves(gradient(key))])

    draws = jax.lax.map(one, jr.split(jr.key(0), num_draws))
    variance = jnp.sum(draws.var(0, ddof=1))
    # The squared norm of an average is biased upwards by the variance of the average.
    squared = jnp.sum(draws.mean(0) ** 2) - variance / num_draws
    return jnp.sqrt(variance), jnp.sqrt(jnp.maximum(squared, 0))
