"""How noisy gradients are."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, PRNGKeyArray, PyTree


def spread_and_size(gradient: Callable[[PRNGKeyArray], PyTree], num_draws: int) -> tuple[Array, Array]:
    """The standard deviation of a random gradient, and the size of its mean."""

    def one(key):
        return jnp.concatenate([g.ravel() for g in jax.tree.leaves(gradient(key))])

    draws = jax.lax.map(one, jr.split(jr.key(0), num_draws))
    spread = jnp.sum(draws.var(0, ddof=1))
    # The square of an average is too large by its variance.
    size = jnp.sum(draws.mean(0) ** 2) - spread / num_draws
    return jnp.sqrt(spread), jnp.sqrt(jnp.maximum(size, 0))
