"""A fit from beginning to end: stages of training with one history, progress, callback, checkpoint and Ctrl-C."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import PRNGKeyArray

from pushforward.training.callbacks import Callback, Progress
from pushforward.training.checkpoint import Checkpoint, FinishedStage, FitState, Reason
from pushforward.training.compilation import one_blas_thread
from pushforward.training.data import AbstractBatches
from pushforward.training.devices import gather, on_mesh, place
from pushforward.training.history import Evaluation, History
from pushforward.training.interruption import Interruption, deferred_interrupts
from pushforward.training.objectives import AbstractObjective
from pushforward.training.processes import in_any, of_first, spans_processes, writes_files
from pushforward.training.progress import progress_bar
from pushforward.training.rounds import Round, Rounds
from pushforward.training.stopping import EarlyStopping
from pushforward.training.time_limit import TimeLimit
from pushforward.training.trainer import Chunk, State, Trained, Trainer, buffer_size, partition, raveled
from pushforward.user_warnings import InterruptedFit, warn

M = TypeVar("M")
# What a step of another method reports: the loss of the model before it, the losses of its batches, and this model.
Took = Callable[[float, np.ndarray, M], float]

# A quick compilation takes as many arrays of parameters as one vector.
MANY_ARRAYS = 16


def _format_loss(loss: float) -> str:
    return f"loss {loss:.4g}"


class Run:
    """One fit; use it as a context manager.

    Args:
        name: the name of the fit, for the progress bar.
        total: the largest number of steps of all stages.
        progress: whether to show a progress bar.
        callback: called after each evaluation with a `Progress`; the fit stops if it returns True.
        checkpoint: the file to write the state to, and to resume from if it exists.
        mesh: the devices that share the draws or rows of each step; None for one device.
        seconds: the largest number of seconds from the beginning of the fit to the end of the training; None for no
            limit. A stage other than the first is not begun if some timed steps show that it cannot be finished.
        format_loss: formats a loss for the progress bar.
    """

    def __init__(
        self,
        name: str,
        total: int,
        checkpoint: Checkpoint,
        *,
        progress: bool = False,
        callback: Callback | None = None,
        mesh: Mesh | None = None,
        seconds: float | None = None,
        format_loss: Callable[[float], str] = _format_loss,
    ):
        self.name, self.total, self.progress, self.callback = name, total, progress, callback
        self.checkpoint, self.mesh, self.format_loss = checkpoint, mesh, format_loss
        self.interruption, self._requests = Interruption(), 0
        before = checkpoint.state
        self._finished, self._current, self.stopped = [*before.finished], before.current, before.stopped
        self._writes = True  # not during a stage that cannot be resumed
        self._num_restored = len(before.finished) + (before.current is not None)
        self._losses, self._evaluations = [before.history.losses], [*before.history.evaluations]
        self._began = time.monotonic() - before.seconds
        self.limit = TimeLimit(seconds, lambda: self.seconds)
        # The number of steps and of stages so far, including stages that the checkpoint already contained.
        self.steps = self._stages = 0
        # The record of the last stage. It is added to `_finished` when the next stage begins.
        self._last_stage: FinishedStage | None = None
        self._stack = ExitStack()

    def __enter__(self) -> "Run":
        self._stack.enter_context(one_blas_thread())
        show = self.progress and writes_files(self.mesh)
        self.show = self._stack.enter_context(progress_bar(self.name, self.total, show=show))
        self.interruption = self._stack.enter_context(deferred_interrupts())
        return self

    def __exit__(self, *error: Any) -> None:
        with self._stack:
            self._write()

    @property
    def history(self) -> History:
        """What happened so far."""
        return History(np.concatenate(self._losses), tuple(self._evaluations))

    @property
    def seconds(self) -> float:
        """The time since the fit began, without the time between being killed and being resumed."""
        return time.monotonic() - self._began

    @property
    def interrupted(self) -> bool:
        """Whether the user has pressed Ctrl-C; of several processes, in any of them before the last evaluation."""
        return (self._requests if spans_processes(self.mesh) else self.interruption.count) > 0

    @property
    def ended(self) -> bool:
        """Whether there is no further training, because of Ctrl-C, the callback or the time limit.

        It is False until a resumed fit has reached its last stage: what was computed before must be the same again.
        """
        return self._stages >= self._num_restored and (self.interrupted or self.stopped or self.limit.is_up)

    def train(
        self,
        stage: str,
        model: M,
        objective: AbstractObjective,
        key: PRNGKeyArray,
        *,
        optimizer: optax.GradientTransformation,
        steps: int,
        evaluate_every: int,
        batches: AbstractBatches | None = None,
        rounds: Rounds | None = None,
        stopping: EarlyStopping | None = None,
        to_result: Callable[[M], Any] = lambda model: model,
        quick_compilation: bool = False,
    ) -> Trained[M]:
        """Train a model until its steps are used up, its loss reaches a plateau, or the user stops it.

        Args:
            stage: its name, for history and progress.
            model: where to start.
            objective: what to minimize.
            key: for all randomness of the stage.
            optimizer: any Optax optimizer.
            steps: the largest number of steps.
            evaluate_every: steps between evaluations.
            batches: the source of batches, by default the objective's own.
            rounds: parts of the training with learning rates that decay; the optimizer must contain `cosine_decay`. The
                last round is shortened to the steps, and to the time, that are left.
            stopping: when a plateau is reached; by default never.
            to_result: converts the best model to the model that the fit returns; the callback receives it.
            quick_compilation: compile with few optimizations: the compilation is faster, each step is slower.
        """
        parameters, static = partition(model)
        many = quick_compilation and len(jax.tree.leaves(parameters)) >= MANY_ARRAYS
        parameters, unravel = raveled(parameters) if many else (parameters, None)
        trainer = Trainer(objective, optimizer, static, unravel)
        compiled = Trainer.advance_quick_compilation if quick_compilation else Trainer.advance
        batches = (objective.batches if batches is None else batches).on(self.mesh)
        done = self._begin_stage()
        if done is not None:
            best = self.checkpoint.restore(parameters, done.best)
            return Trained(trainer.model(best), done.loss, done.best_step, done.reason)
        if self.ended and (self._last_stage is not None or self._current is None):
            return Trained(model, float("inf"), 0, "stopped")
        self._keep_last_stage()
        before = self.steps
        first = self._finished[-1].evaluations if self._finished else 0
        state = trainer.init(parameters, key)

        def call_back(state):
            result = lambda: to_result(trainer.model(gather(state.best, self.mesh)))  # noqa: E731
            self._call_back(float(state.best_loss), result)

        # No step: the given model may be the best.
        given = batches.at(0)
        # Together, because data that the objective and the batches share are copied once.
        placed, source = place((trainer, given), self.mesh)

        def advance(state, source, stop):
            with on_mesh(self.mesh):
                arguments = place((state, jnp.array(stop)), self.mesh)
                return compiled(placed, arguments[0], source, arguments[1], buffer_size(evaluate_every))

        state, chunk = advance(state, source, 0)
        if self._current is None:
            self._record(stage, before, 0, state, chunk)
            if steps == 0:
                call_back(state)
        else:
            self.checkpoint.check_loss(self._evaluations[first].loss, float(chunk.loss))
            state = self.checkpoint.restore(state, self._current)
        self.limit.measure(lambda num: advance(state, source, int(state.step) + num))
        if self._finished and rounds is not None:
            self.limit.require(rounds.rounds[0].steps, rounds.rounds[0].steps // evaluate_every)
        if rounds is not None and int(state.round_stop) == 0 < steps:
            state = self._begin_round(trainer, state, 0, rounds.rounds[0], steps, evaluate_every)
        while True:
            records, index = self._evaluations[first:], int(state.round_index)
            start, end = int(state.step), steps if rounds is None else int(state.round_stop)
            reason = self._reason(start >= steps)
            if reason is None and stopping is not None and stopping([record.loss for record in records]):
                reason = "plateau"
            if reason is None and rounds is not None and start >= end:
                best = trainer.model(gather(state.best, self.mesh))
                if rounds.are_over(records, index, best):
                    reason = "plateau"
                    # What a round gains that was too short says nothing about a whole one.
                    if self.limit.shortened and not rounds.is_enough(records, index, best):
                        self.limit.cut, reason = True, "stopped"
                else:
                    following = rounds.next(records, index)
                    state = self._begin_round(trainer, state, index + 1, following, steps, evaluate_every)
                    end = int(state.round_stop)
            if reason is not None:
                break
            stop = start + self.limit.affordable(min(evaluate_every, end - start))
            new_source = batches.at(start) if start > 0 else given
            if new_source is not given:
                given, source = new_source, place(new_source, self.mesh)
            state, chunk = advance(state, source, stop)
            self._record(stage, before, stop - start, state, chunk)
            call_back(state)
            if self.checkpoint.due:
                self._write()
        losses = [record.loss for record in records]
        best_step = records[int(np.nanargmin(losses))].step - before if np.isfinite(losses).any() else 0
        self.steps += int(state.step)
        self._last_stage = FinishedStage(
            jax.tree.leaves(state.best),
            float(state.best_loss),
            best_step,
            int(state.step),
            len(self._evaluations),
            reason,
        )
        return Trained(trainer.model(gather(state.best, self.mesh)), float(state.best_loss), best_step, reason)

    def train_by(
        self,
        stage: str,
        model: M,
        method: Callable[[Took[M]], M],
        *,
        to_result: Callable[[M], Any] = lambda model: model,
    ) -> Trained[M]:
        """Train a model by a method that has steps of its own, each of which counts as several.

        A stage that Ctrl-C or the time limit ends is not kept in the checkpoint: a resumed fit begins it again.

        Args:
            stage: its name, for history and progress.
            model: where to start.
            method: returns the best model. It calls the function that it is given after each of its steps, with the
                loss of the model before the step, the losses of the step's batches, each of which is a step of the
                history, and this model; the result is the loss, the same in all processes. It should end if the fit
                has `ended`.
            to_result: as in `train`.
        """
        parameters, static = partition(model)
        done = self._begin_stage()
        if done is not None:
            best = eqx.combine(self.checkpoint.restore(parameters, done.best), static)
            return Trained(best, done.loss, done.best_step, done.reason)
        self._keep_last_stage()
        self._write()
        self._writes, before = False, self.steps
        best = Trained(model, float("inf"), 0, "reached")

        def took(loss: float, losses: np.ndarray, model: M) -> float:
            nonlocal best
            loss = of_first(loss, self.mesh)
            if loss < best.loss:
                best = Trained(model, loss, self.steps - before, "reached")
            self.steps += losses.size
            self._add(stage, self.steps, loss, losses, best.loss)
            self._call_back(best.loss, lambda: to_result(best.model))
            return loss

        model = of_first(method(took), self.mesh)
        result = Trained(model, best.loss, best.best_step, "stopped" if self.ended else "reached")
        # A fit that its callback has ended stays as it is.
        if self.stopped or not self.ended:
            self._writes, leaves = True, jax.tree.leaves(partition(model)[0])
            numbers = result.loss, result.best_step, self.steps - before, len(self._evaluations), result.reason
            self._finished.append(FinishedStage(leaves, *numbers))
        return result

    def _begin_stage(self) -> FinishedStage | None:
        """Begin the next stage; the result is its record if the checkpoint has it."""
        index = self._stages
        self._stages += 1
        if index >= len(self._finished):
            return None
        self.steps += self._finished[index].steps
        return self._finished[index]

    def _keep_last_stage(self) -> None:
        if self._last_stage is not None:
            self._finished.append(self._last_stage)
            self._current = self._last_stage = None

    def _begin_round(
        self, trainer: Trainer, state: State, index: int, new: Round, steps: int, evaluate_every: int
    ) -> State:
        """The state at the beginning of a round, which is shortened to the steps and to the time that are left."""
        whole = min(new.steps, steps - int(state.step))
        num = self.limit.affordable(whole, evaluate_every)
        self.limit.shortened = num < whole
        return trainer.begin_round(state, index, new.rate, num)

    def _reason(self, used_up: bool) -> Reason | None:
        if self.ended:
            return "stopped"
        return "steps" if used_up else None

    def _record(self, stage: str, before: int, taken: int, state: State, chunk: Chunk) -> None:
        self._current = jax.tree.leaves(state)
        means = {name: float(value) for name, value in chunk.means.items()}
        norm = means.pop("gradient_norm")
        metrics = means | {name: float(value) for name, value in chunk.metrics.items()}
        losses, best_loss = np.asarray(chunk.losses)[:taken], float(state.best_loss)
        index = int(state.round_index)
        self._add(stage, before + int(state.step), float(chunk.loss), losses, best_loss, index, norm, metrics)

    def _add(
        self,
        stage: str,
        step: int,
        loss: float,
        losses: np.ndarray,
        best_loss: float,
        rate_index: int = 0,
        gradient_norm: float = float("nan"),
        metrics: dict[str, float] | None = None,
    ) -> None:
        """Add an evaluation, and the steps since the last one, to the history and to the progress bar."""
        finite = losses[np.isfinite(losses)]
        mean = float(finite.mean()) if finite.size else float("nan")
        skipped = losses.size - finite.size
        self._losses.append(losses)
        self._evaluations.append(
            Evaluation(stage, rate_index, step, self.seconds, loss, mean, gradient_norm, skipped, metrics or {})
        )
        self._requests = in_any(self.interruption.count, self.mesh)
        self.show(step, f"{stage}: {self.format_loss(loss)}, best {self.format_loss(best_loss)}")

    def _call_back(self, best_loss: float, best_result: Callable[[], Any]) -> None:
        if self.callback is None:
            return
        newest = self._evaluations[-1]
        model = best_result()
        progress = Progress(newest.stage, newest.step, newest.loss, best_loss, newest.seconds, newest.metrics, model)
        try:
            self.stopped = bool(self.callback(progress))
        except KeyboardInterrupt:
            self.interruption.request()
        self.stopped = bool(in_any(self.stopped, self.mesh))

    def _write(self) -> None:
        if self.checkpoint.path is not None and self._writes:
            state = FitState(tuple(self._finished), self._current, self.history, self.seconds, self.stopped)
            self.checkpoint.write(state)

    def conclude(self, loss: float) -> None:
        """Raise if no evaluation was finite, and warn of skipped steps and of an interruption.

        Raises:
            FloatingPointError: if the lowest loss is not finite.
        """
        history = self.history
        num_steps = len(history.losses)
        # Without any evaluation, the user stopped the fit before it began.
        if self._evaluations and not np.isfinite(loss):
            raise FloatingPointError(
                f"no estimate of the loss was finite in {num_steps} steps; check the objective at typical draws of "
                "the model, lower the learning rate, or start nearer to the solution."
            )
        if history.skipped:
            warn(f"{history.skipped} of {num_steps} steps were skipped: their loss or gradient was not finite.")
        self.warn_if_interrupted()

    def warn_if_interrupted(self) -> None:
        """Warn if the user has pressed Ctrl-C."""
        if self.interrupted:
            num_steps = len(self.history.losses)
            text = f"the fit was interrupted after {num_steps:,} steps; the result is the best model so far."
            warn(text, InterruptedFit)
