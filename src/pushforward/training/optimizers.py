"""Gradients that no single draw can throw off."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array


class RunningNorm(NamedTuple):
    """The running mean of the logarithm of the gradient's norm, and how many steps are in it."""

    log_norm: Array
    count: Array


def clip_by_running_norm(factor: float) -> optax.GradientTransformation:
    """Shorten a gradient to `factor` times the typical norm so far: one draw from the far tail must not ruin a fit."""

    def init(params):
        return RunningNorm(jnp.zeros(()), jnp.zeros(()))

    def update(updates, state, params=None):
        norm = optax.tree.norm(updates)
        # A gradient of zero says nothing of the typical norm.
        log_norm = jnp.where(norm > 0, jnp.log(jnp.where(norm > 0, norm, 1.0)), state.log_norm)
        log_limit = jnp.where(state.count > 0, state.log_norm + math.log(factor), jnp.inf)
        shorter = jnp.exp(jnp.minimum(log_limit - log_norm, 0.0))
        updates = jax.tree.map(lambda g: g * shorter.astype(g.dtype), updates)
        weight = jnp.maximum(1 / (state.count + 1), 0.02)
        new = state.log_norm + weight * (jnp.minimum(log_norm, log_limit) - state.log_norm)
        return updates, RunningNorm(new, state.count + (norm > 0))

    return optax.GradientTransformation(init, update)
