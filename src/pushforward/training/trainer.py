"""The one loop that trains everything: a compiled chunk of steps, an evaluation, and so on until a rule says stop."""

import dataclasses
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from pushforward.arguments import in_words
from pushforward.bijections.arrays import trainable
from pushforward.training.checkpoint import Reason
from pushforward.training.compilation import jit_low_concurrency, jit_quick_compilation
from pushforward.training.data import AbstractBatches
from pushforward.training.devices import replicate, spread
from pushforward.training.objectives import AbstractObjective
from pushforward.training.optimizers import averaged_parameters, restarted

M = TypeVar("M")

# The sizes of arrays are part of a compiled program, so chunks of other lengths share one buffer.
MIN_BUFFER_SIZE = 4096


def update_where(
    finite: Bool[Array, ""],
    optimizer: optax.GradientTransformation,
    gradient: PyTree,
    parameters: PyTree,
    optimizer_state: Any,
) -> tuple[PyTree, Any]:
    """Parameters and the optimizer's state after a step; unchanged if the step is not finite."""

    def update(parameters, optimizer_state):
        updates, optimizer_state = optimizer.update(gradient, optimizer_state, parameters)
        return optax.apply_updates(parameters, updates), optimizer_state

    return jax.lax.cond(finite, update, lambda *unchanged: unchanged, parameters, optimizer_state)


@dataclasses.dataclass(frozen=True)
class Trained(Generic[M]):
    """The result of a stage.

    Attributes:
        model: the one with the lowest loss of all evaluations.
        loss: that loss.
        best_step: the step of this stage that it was reached at.
        reason: why the stage ended: its "steps" were used up, the loss reached a "plateau" at the last learning rate,
            the result was good before any step ("reached"), or the user "stopped" it.
    """

    model: M
    loss: float
    best_step: int
    reason: Reason


class State(eqx.Module):
    """The whole state of a training. It can be saved, and a resumed training gives bitwise identical results.

    Attributes:
        parameters: the trainable arrays of the model.
        optimizer_state: the optimizer's.
        best: the parameters with the lowest loss of all evaluations.
        best_loss: that loss.
        step: the number of steps taken.
        round_index: the index of the current round, if the training has rounds.
        round_stop: the step that it ends before.
        key: the key of the training; every step derives its own from it.
    """

    parameters: PyTree
    optimizer_state: Any
    best: PyTree
    best_loss: Float[Array, ""]
    step: Int[Array, ""]
    round_index: Int[Array, ""]
    round_stop: Int[Array, ""]
    key: PRNGKeyArray


class Chunk(eqx.Module):
    """What a chunk of steps reports.

    Attributes:
        losses: the losses of the steps, at the beginning of a longer array; NaN for skipped steps.
        loss: the loss of the evaluation after the last step.
        means: the means of the gradient norm and of the objective's metrics over the steps that were not skipped.
        metrics: the metrics of the evaluation.
    """

    losses: Float[Array, " buffer"]
    loss: Float[Array, ""]
    means: dict[str, Float[Array, ""]]
    metrics: dict[str, Float[Array, ""]]


class Trainer(eqx.Module):
    """The compiled part of a training.

    Args:
        objective: what is minimized.
        optimizer: any Optax optimizer.
        static: the part of the model that is not trained.
        unravel: if the parameters are one vector, the function that gives their arrays.
    """

    objective: AbstractObjective
    optimizer: optax.GradientTransformation = eqx.field(static=True)
    static: PyTree
    unravel: Callable[[Array], PyTree] | None = eqx.field(static=True, default=None)

    def init(self, parameters: PyTree, key: PRNGKeyArray) -> State:
        """The state before the first step."""
        best_loss = jnp.array(jnp.inf, jnp.result_type(float))
        zero = jnp.array(0)
        return State(parameters, self.optimizer.init(parameters), parameters, best_loss, zero, zero, zero, key)

    def model(self, parameters: PyTree) -> PyTree:
        """The model with these parameters."""
        arrays = parameters if self.unravel is None else _unraveled(self.unravel, parameters)
        return eqx.combine(arrays, self.static)

    def begin_round(self, state: State, index: int, rate: float, steps: int) -> State:
        """Go on from the best parameters, at a learning rate that decays to zero in a number of steps."""
        optimizer_state = restarted(state.optimizer_state, state.best, rate, steps)
        parts = lambda s: (s.parameters, s.optimizer_state, s.round_index, s.round_stop)  # noqa: E731
        after = state.best, optimizer_state, jnp.full_like(state.round_index, index), state.step + steps
        return eqx.tree_at(parts, state, after)

    def run(
        self, state: State, batches: AbstractBatches, stop: Int[Array, ""], buffer: int = MIN_BUFFER_SIZE
    ) -> tuple[State, Chunk]:
        """Train until step number `stop`, then evaluate.

        A step whose loss or gradient is not finite is skipped: it changes nothing. After a chunk in which every step
        was skipped, training goes on from the best parameters.

        Args:
            state: where to start.
            batches: the source of batches.
            stop: the step to stop before.
            buffer: the size of the array of losses, at least the number of steps.
        """
        training_key, evaluation_key = jr.split(state.key)
        batch_key = jr.fold_in(training_key, 2**31 - 1)
        dtype, name = state.best_loss.dtype, type(self.objective).__name__

        def value(parameters, batch, key, step):
            loss, metrics = with_metrics(self.objective.loss(self.model(parameters), batch, key, step), f"{name}.loss")
            if set(metrics) != set(self.objective.metrics):
                raise ValueError(
                    f"{name}.loss must return the metrics that {name}.metrics names, {sorted(self.objective.metrics)}, "
                    f"but returns {sorted(metrics)}."
                )
            return loss, metrics

        def take_step(step, carry):
            parameters, optimizer_state, order, losses, sums = carry
            order, batch = batches.next(order, batch_key, step)
            batch = spread(batch)
            key = jr.fold_in(training_key, step)
            (loss, metrics), gradient = jax.value_and_grad(value, has_aux=True)(parameters, batch, key, step)
            norm = optax.tree.norm(gradient)
            finite = jnp.isfinite(loss) & jnp.isfinite(norm)
            parameters, optimizer_state = update_where(finite, self.optimizer, gradient, parameters, optimizer_state)
            losses = losses.at[step - state.step].set(jnp.where(finite, loss, jnp.nan))
            found = {"gradient_norm": norm, **metrics, "count": 1.0}
            sums = {name: sums[name] + jnp.where(finite, found[name], 0.0).astype(dtype) for name in sums}
            return parameters, optimizer_state, order, losses, sums

        zeros = {name: jnp.zeros((), dtype) for name in ("gradient_norm", *self.objective.metrics, "count")}
        start = state.parameters, state.optimizer_state, batches.begin(batch_key, state.step)
        parameters, optimizer_state, _, losses, sums = jax.lax.fori_loop(
            state.step, stop, take_step, (*start, jnp.full(buffer, jnp.nan, dtype), zeros)
        )
        count = sums.pop("count")
        # The same key for every evaluation: two evaluations differ by their parameters, not by their draws.
        candidate = averaged_parameters(parameters, optimizer_state)
        loss, metrics = with_metrics(self.objective.evaluate(self.model(candidate), evaluation_key), f"{name}.evaluate")
        loss = loss.astype(dtype)
        better = loss < state.best_loss
        best = jax.tree.map(lambda new, old: jnp.where(better, new, old), candidate, state.best)
        lost = (count == 0) & (stop > state.step)
        parameters = jax.tree.map(lambda new, old: jnp.where(lost, old, new), parameters, best)
        best_loss = jnp.where(better, loss, state.best_loss)
        after = State(
            parameters, optimizer_state, best, best_loss, stop, state.round_index, state.round_stop, state.key
        )
        chunk = Chunk(losses, loss, {name: total / count for name, total in sums.items()}, metrics)
        return replicate((after, chunk))

    advance = jit_low_concurrency(run)
    # Compiled with few optimizations, for fits of hundreds or thousands of steps.
    advance_quick_compilation = jit_quick_compilation(run, level=1)


def with_metrics(value: Any, method: str) -> tuple[Array, dict[str, Array]]:
    """The loss and the metrics of what a method of an objective returned.

    Raises:
        ValueError: if they are not scalars.
    """
    loss, metrics = value if isinstance(value, tuple) else (value, {})
    for name, number in {"the loss": loss, **metrics}.items():
        if jnp.shape(number):
            raise ValueError(f"{method} must return scalars, but {name} has shape {jnp.shape(number)}.")
    return jnp.asarray(loss), jax.tree.map(jnp.asarray, metrics)


def partition(model: Any) -> tuple[PyTree, PyTree]:
    """The trainable parameters of a model, and the rest of it.

    Raises:
        ValueError: if there are no trainable parameters.
    """
    parameters, static = eqx.partition(model, trainable(model))
    if not jax.tree.leaves(parameters):
        raise ValueError(f"model must have trainable arrays, but is {in_words(model)} without them.")
    return parameters, static


@jit_quick_compilation
def raveled(parameters: PyTree) -> tuple[Array, Callable[[Array], PyTree]]:
    """The parameters as one vector, and the function that gives their arrays.

    The update of one vector is compiled once; of dozens of arrays, their updates are a third of the compilation.

    Args:
        parameters: as `partition` returns them.
    """
    return ravel_pytree(parameters)


@jit_quick_compilation
def _unraveled(unravel: Callable[[Array], PyTree], vector: Array) -> PyTree:
    return unravel(vector)


def buffer_size(steps: int) -> int:
    """The size of an array for the losses of a chunk: the same for most chunks, a power of two for longer ones."""
    return max(MIN_BUFFER_SIZE, 1 << (steps - 1).bit_length())
