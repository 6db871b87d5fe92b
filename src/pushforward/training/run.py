"""A fit from beginning to end: stages of training with one history, progress, callback, checkpoint and Ctrl-C."""

import dataclasses
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import PRNGKeyArray, PyTree

from pushforward.training.checkpoint import Checkpoint, FinishedStage, FitState, Reason
from pushforward.training.compilation import one_blas_thread
from pushforward.training.data import AbstractBatches
from pushforward.training.devices import gather, on_mesh, place
from pushforward.training.history import Evaluation, History
from pushforward.training.interruption import Interruption, deferred_interrupts
from pushforward.training.objectives import AbstractObjective
from pushforward.training.processes import in_any, spans_processes, writes_files
from pushforward.training.progress import progress_bar
from pushforward.training.rounds import Round, Rounds
from pushforward.training.stopping import EarlyStopping
from pushforward.training.time_limit import TimeLimit
from pushforward.training.trainer import Chunk, State, Trainer, buffer_size, partition, raveled
from pushforward.user_warnings import InterruptedFit, warn

M = TypeVar("M")

# A quick compilation takes as many arrays of parameters as one vector.
MANY_ARRAYS = 16


class Progress(NamedTuple):
    """What a callback is given after each evaluation.

    Attributes:
        stage: the name of the stage of the fit.
        step: the steps of all stages so far.
        loss: the newest estimate of the loss, in nats; for `fit_posterior` and `fit_vae` it is minus the ELBO.
        best_loss: the lowest estimate of this stage.
        seconds: the time since the fit began.
        metrics: further numbers of the evaluation.
        model: the best model so far, as the fit would return it.
    """

    stage: str
    step: int
    loss: float
    best_loss: float
    seconds: float
    metrics: dict[str, float]
    model: Any

    def __repr__(self) -> str:
        """Without the model, whose arrays would fill thousands of lines."""
        shown = (f"{name}={value!r}" for name, value in self._asdict().items() if name != "model")
        return f"Progress({', '.join(shown)})"


Callback = Callable[[Progress], bool | None]


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
        stage_index = self._stages
        self._stages += 1
        if stage_index < len(self._finished):
            done = self._finished[stage_index]
            best = self.checkpoint.restore(parameters, done.best)
            self.steps += done.steps
            return Trained(trainer.model(best), done.loss, done.best_step, done.reason)
        if self.ended and (self._last_stage is not None or self._current is None):
            return Trained(model, float("inf"), 0, "stopped")
        if self._last_stage is not None:
            self._finished.append(self._last_stage)
            self._current = None
        before = self.steps
        first = self._finished[-1].evaluations if self._finished else 0
        state = trainer.init(parameters, key)

        def best_result(best):
            return to_result(trainer.model(gather(best, self.mesh)))

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
                self._call_back(state, best_result)
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
            self._call_back(state, best_result)
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
        losses = np.asarray(chunk.losses)[:taken]
        finite = losses[np.isfinite(losses)]
        means = {name: float(value) for name, value in chunk.means.items()}
        step, loss = before + int(state.step), float(chunk.loss)
        self._losses.append(losses)
        self._evaluations.append(
            Evaluation(
                stage=stage,
                rate_index=int(state.round_index),
                step=step,
                seconds=self.seconds,
                loss=loss,
                training_loss=float(finite.mean()) if finite.size else float("nan"),
                gradient_norm=means.pop("gradient_norm"),
                skipped=losses.size - finite.size,
                metrics=means | {name: float(value) for name, value in chunk.metrics.items()},
            )
        )
        self._current = jax.tree.leaves(state)
        self._requests = in_any(self.interruption.count, self.mesh)
        self.show(step, f"{stage}: {self.format_loss(loss)}, best {self.format_loss(float(state.best_loss))}")

    def _call_back(self, state: State, best_result: Callable[[PyTree], Any]) -> None:
        if self.callback is None:
            return
        newest = self._evaluations[-1]
        best_loss, model = float(state.best_loss), best_result(state.best)
        progress = Progress(newest.stage, newest.step, newest.loss, best_loss, newest.seconds, newest.metrics, model)
        try:
            self.stopped = bool(self.callback(progress))
        except KeyboardInterrupt:
            self.interruption.request()
        self.stopped = bool(in_any(self.stopped, self.mesh))

    def _write(self) -> None:
        if self.checkpoint.path is not None:
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
