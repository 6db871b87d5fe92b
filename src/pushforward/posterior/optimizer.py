"""The optimiser of posteriors: Adam that no single draw can throw off, and whose parameters are averaged."""

from functools import cache
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from pushforward.training.optimizers import clip_by_running_norm
from pushforward.training.trainer import State

AVERAGED_STEPS = 100


@cache
def adam() -> optax.GradientTransformation:
    """One optimiser for all fits, so that targets of one structure compile once; its rate is part of its state."""
    return averaged(
        optax.chain(
            clip_by_running_norm(10.0), optax.inject_hyperparams(optax.adam)(learning_rate=1e-3, b1=0.9, b2=0.99)
        )
    )


class Averaged(NamedTuple):
    """The inner optimiser's state, the running mean of the parameters, and how many steps are in it."""

    inner: Any
    mean: PyTree
    count: Array


def averaged(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """Keep the mean of the parameters over the last hundred steps or so, in the optimiser's state.

    At a constant rate the parameters dance around the optimum; their mean is as near to it as those of a far smaller
    rate (Polyak and Juditsky, 1992).
    """

    def init(params):
        return Averaged(optimizer.init(params), params, jnp.zeros(()))

    def update(updates, state, params: Any = None):
        updates, inner = optimizer.update(updates, state.inner, params)
        weight = jnp.maximum(1 / (state.count + 1), 1 / AVERAGED_STEPS)
        new = optax.apply_updates(params, updates)
        mean = jax.tree.map(lambda m, p: m + weight.astype(p.dtype) * (p - m), state.mean, new)
        return updates, Averaged(inner, mean, state.count + 1)

    return optax.GradientTransformation(init, update)


def restarted(state: State, rate: float, parameters: PyTree) -> State:
    """The state of a training that goes on from some parameters at another rate, its average begun again."""
    clip, inner = state.optimizer_state.inner
    rates = {"learning_rate": jnp.full_like(inner.hyperparams["learning_rate"], rate)}
    inner = inner._replace(hyperparams=inner.hyperparams | rates)
    return eqx.tree_at(
        lambda s: (s.parameters, s.optimizer_state),
        state,
        (parameters, Averaged((clip, inner), parameters, jnp.zeros(()))),
    )
