"""Training: one compiled program that runs many steps a call, so that progress shows and costs nothing."""

import functools
import math
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from pushforward.flow import trainable
from pushforward.training.objectives import AbstractObjective
from pushforward.training.progress import progress_bar

M = TypeVar("M")

SHORTEST_BUFFER = 4096


def update_where(
    finite: Bool[Array, ""],
    optimizer: optax.GradientTransformation,
    gradient: PyTree,
    parameters: PyTree,
    optimizer_state: Any,
) -> tuple[PyTree, Any]:
    """Parameters and the optimiser's state after a step; as they were if the step is not finite."""

    def update(parameters, optimizer_state):
        updates, optimizer_state = optimizer.update(gradient, optimizer_state, parameters)
        return optax.apply_updates(parameters, updates), optimizer_state

    return jax.lax.cond(finite, update, lambda *unchanged: unchanged, parameters, optimizer_state)


class State(eqx.Module):
    """Where a training stands, all of it: it can be saved, and continued to the bit."""

    parameters: PyTree
    optimizer_state: Any
    best: PyTree
    best_loss: Float[Array, ""]
    step: Int[Array, ""]
    key: PRNGKeyArray


class Trainer(eqx.Module):
    """A training that goes on by as many steps as asked for.

    Args:
        objective: what is minimised.
        optimizer: any Optax optimiser.
        static: the part of the model that is not trained.
    """

    objective: AbstractObjective
    optimizer: optax.GradientTransformation = eqx.field(static=True)
    static: PyTree

    def init(self, parameters: PyTree, key: PRNGKeyArray) -> State:
        """The state before the first step."""
        best_loss = jnp.array(jnp.inf, jnp.result_type(float))
        return State(parameters, self.optimizer.init(parameters), parameters, best_loss, jnp.array(0), key)

    def model(self, parameters: PyTree) -> PyTree:
        """The model with these parameters."""
        return eqx.combine(parameters, self.static)

    def run(self, state: State, losses: Float[Array, " steps"], stop: Int[Array, ""]):
        """Train until step number `stop`, then compare a fresh estimate of the loss with the best so far.

        `advance` is this, compiled.

        Args:
            state: where to start.
            losses: filled with the losses of the steps; begun again at its front when it is full.
            stop: the step to stop before.

        Returns:
            The new state, losses, and the fresh estimate. A step whose loss or gradient is not finite changes nothing
            and leaves NaN as its loss.
        """
        training_key, evaluation_key = jr.split(state.key)

        def step(index, carry):
            parameters, optimizer_state, losses = carry
            key = jr.fold_in(training_key, index)
            loss, gradient = jax.value_and_grad(lambda p: self.objective.loss(self.model(p), key))(parameters)
            finite = jnp.isfinite(loss) & jnp.isfinite(optax.tree.norm(gradient, squared=True))
            parameters, optimizer_state = update_where(finite, self.optimizer, gradient, parameters, optimizer_state)
            return parameters, optimizer_state, losses.at[index % losses.size].set(jnp.where(finite, loss, jnp.nan))

        parameters, optimizer_state, losses = jax.lax.fori_loop(
            state.step, stop, step, (state.parameters, state.optimizer_state, losses)
        )
        # One key for all evaluations: two stages differ by their parameters, not by their draws.
        fresh = self.objective.evaluate(self.model(parameters), evaluation_key).astype(state.best_loss.dtype)
        better = fresh < state.best_loss
        best = jax.tree.map(lambda new, old: jnp.where(better, new, old), parameters, state.best)
        best_loss = jnp.where(better, fresh, state.best_loss)
        return State(parameters, optimizer_state, best, best_loss, stop, state.key), losses, fresh

    advance = eqx.filter_jit(run)


@functools.lru_cache
def _default_optimizer(steps: int) -> optax.GradientTransformation:
    """One object for equal arguments, so that equal trainings compile once."""
    return optax.adam(optax.cosine_decay_schedule(1e-3, steps))


def train(
    model: M,
    objective: AbstractObjective,
    key: PRNGKeyArray,
    *,
    steps: int = 1000,
    optimizer: optax.GradientTransformation | None = None,
    progress: bool = False,
    num_evaluations: int = 20,
    callback: Callable[[int, float], bool | None] | None = None,
    refresh: Callable[[AbstractObjective, int], AbstractObjective] | None = None,
) -> tuple[M, Float[np.ndarray, " steps"]]:
    """Minimise an objective.

    All steps run in one compiled program, in `num_evaluations` equal chunks; after each, a fresh estimate of the loss
    decides whether the parameters are the best so far. Those are returned.

    Args:
        model: the flow, or what else the objective takes. Its inexact arrays are trained, but not those of a NumPyro
            distribution (use `Learnable`).
        objective: what to minimise, `ReverseKL` or `ForwardKL`.
        key: for all randomness.
        steps: how many.
        optimizer: any Optax optimiser, by default Adam at 1e-3 with a cosine decay.
        progress: whether to show a bar.
        num_evaluations: how often to compare with the best so far.
        callback: called after each chunk with the number of steps done and the fresh loss; training ends if it returns
            True.
        refresh: called before each chunk but the first with the objective and the number of steps done; returns the
            objective to go on with, which differs in nothing but the values of its arrays: other data. The best is
            that of all, each judged by the `evaluate` of its own objective.

    Returns:
        The best model, which may be the one given, and the loss of each step that was taken, NaN where it was skipped
        because its loss or gradient was not finite (a warning says how many).

    Raises:
        FloatingPointError: if no fresh estimate of the loss was finite.
    """
    if steps < 1 or num_evaluations < 1:
        raise ValueError(f"train needs one or more steps and evaluations, got {steps} and {num_evaluations}.")
    if optimizer is None:
        optimizer = _default_optimizer(steps)
    parameters, static = eqx.partition(model, trainable(model))
    if not jax.tree.leaves(parameters):
        raise ValueError(f"{type(model).__name__} has no trainable arrays.")
    trainer = Trainer(objective, optimizer, static)
    state = trainer.init(parameters, key)
    # A buffer whose size hardly depends on the number of steps: sizes are part of the compiled program.
    losses = jnp.full(max(SHORTEST_BUFFER, 1 << (steps - 1).bit_length()), jnp.nan)
    state, losses, _ = trainer.advance(state, losses, jnp.array(0))  # no step: what is given may be the best
    chunk = math.ceil(steps / num_evaluations)
    with progress_bar("training", steps, show=progress) as advance:
        for stop in range(chunk, steps + chunk, chunk):
            if refresh is not None and stop > chunk:
                trainer = Trainer(refresh(trainer.objective, stop - chunk), optimizer, static)
            stop = min(stop, steps)
            state, losses, fresh = trainer.advance(state, losses, jnp.array(stop))
            fresh = float(fresh)
            advance(stop, f"loss {fresh:.4g}")
            if callback is not None and callback(stop, fresh):
                break
    losses = np.asarray(losses)[:stop]
    if not np.isfinite(state.best_loss):
        raise FloatingPointError(
            f"no estimate of the loss was finite in {len(losses)} steps; check the target at typical draws of the "
            "model, or start nearer to it."
        )
    if skipped := int(np.isnan(losses).sum()):
        warnings.warn(
            f"{skipped} of {len(losses)} steps were skipped: their loss or gradient was not finite.", stacklevel=2
        )
    return trainer.model(state.best), losses
