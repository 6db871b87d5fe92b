"""Parts of optimizers: clipping by the running norm, averaged parameters, and a learning rate that decays in rounds."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

AVERAGED_STEPS = 100


class RunningNorm(NamedTuple):
    """The running mean of the logarithm of the gradient's norm, and how many steps are in it."""

    log_norm: Array
    count: Array


def clip_by_running_norm(factor: float) -> optax.GradientTransformation:
    """Clip the gradient's norm to `factor` times the geometric mean of the norms so far.

    One draw from the far tail must not ruin a fit.

    Args:
        factor: the largest norm, as a multiple of the running mean.
    """

    def init(params):
        return RunningNorm(jnp.zeros(()), jnp.zeros(()))

    def update(updates, state, params=None):
        norm = optax.tree.norm(updates)
        # A gradient of zero says nothing about the typical norm.
        log_norm = jnp.where(norm > 0, jnp.log(jnp.where(norm > 0, norm, 1.0)), state.log_norm)
        log_limit = jnp.where(state.count > 0, state.log_norm + math.log(factor), jnp.inf)
        shorter = jnp.exp(jnp.minimum(log_limit - log_norm, 0.0))
        updates = jax.tree.map(lambda g: g * shorter.astype(g.dtype), updates)
        weight = jnp.maximum(1 / (state.count + 1), 0.02)
        new = state.log_norm + weight * (jnp.minimum(log_norm, log_limit) - state.log_norm)
        return updates, RunningNorm(new, state.count + (norm > 0))

    return optax.GradientTransformation(init, update)


class Averaged(NamedTuple):
    """The inner optimizer's state, the running mean of the parameters, and the number of steps in it."""

    inner: Any
    mean: PyTree
    count: Array


def averaged(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """Keep a running mean of the parameters over the last hundred steps or so, in the optimizer's state.

    At a constant learning rate the parameters fluctuate around the optimum. Their mean is as near to it as the
    parameters at a far smaller rate. The trainer evaluates and returns the mean.

    Args:
        optimizer: any Optax optimizer.

    References:
        Polyak and Juditsky, Acceleration of Stochastic Approximation by Averaging (1992).
        https://doi.org/10.1137/0330046
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


def averaged_parameters(parameters: PyTree, optimizer_state: Any) -> PyTree:
    """The running mean of the parameters if the optimizer keeps one, else the parameters themselves."""
    return optimizer_state.mean if isinstance(optimizer_state, Averaged) else parameters


class CosineDecay(NamedTuple):
    """The first learning rate of a round, its number of steps, and how many of them were taken."""

    rate: Array
    steps: Array
    count: Array


def cosine_decay() -> optax.GradientTransformation:
    """Multiply by minus a learning rate that decays to zero along half a cosine, in a round that `restarted` begins.

    References:
        Loshchilov and Hutter, SGDR: Stochastic Gradient Descent with Warm Restarts (2017), equation 5.
        https://arxiv.org/abs/1608.03983
    """

    def init(params):
        return CosineDecay(jnp.zeros(()), jnp.ones(()), jnp.zeros(()))

    def update(updates, state, params=None):
        rate = state.rate * (1 + jnp.cos(jnp.pi * jnp.minimum(state.count / state.steps, 1.0))) / 2
        updates = jax.tree.map(lambda u: -rate.astype(u.dtype) * u, updates)
        return updates, state._replace(count=state.count + 1)

    return optax.GradientTransformation(init, update)


def restarted(optimizer_state: Any, parameters: PyTree, rate: float, steps: int) -> Any:
    """The optimizer's state at the beginning of a round, with the running mean begun again at these parameters.

    The optimizer must contain `cosine_decay`.

    Args:
        optimizer_state: the state before.
        parameters: where the round begins.
        rate: the first learning rate of the round.
        steps: the number of steps of the round.
    """
    if isinstance(optimizer_state, Averaged):
        inner = restarted(optimizer_state.inner, parameters, rate, steps)
        return Averaged(inner, parameters, jnp.zeros_like(optimizer_state.count))
    if isinstance(optimizer_state, CosineDecay):
        return CosineDecay(*(jnp.full_like(optimizer_state.rate, value) for value in (rate, steps, 0)))
    if type(optimizer_state) is tuple:
        return tuple(restarted(part, parameters, rate, steps) for part in optimizer_state)
    return optimizer_state
