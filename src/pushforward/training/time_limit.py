"""A limit of the wall-clock time of a training, and which steps and stages it leaves time for."""

import math
import time
from collections.abc import Callable
from typing import Any

import jax

# The steps that are timed before a stage, apart from its compilation.
TIMED_STEPS = 8


class TimeLimit:
    """A limit of the time of a training.

    Results under a limit depend on the machine, because it decides how many steps there are. Without a limit nothing is
    measured.

    Args:
        seconds: the limit, None for no limit.
        elapsed: the seconds so far.
    """

    def __init__(self, seconds: float | None, elapsed: Callable[[], float]):
        self.seconds, self.elapsed = seconds, elapsed
        self.per_step = self.per_evaluation = 0.0
        # Whether a stage was not begun, because it could not be finished.
        self.left_out = False
        # Whether a round had to be shortened, and whether training ended with it.
        self.shortened = self.cut = False

    @property
    def remaining(self) -> float:
        """The seconds that are left."""
        return math.inf if self.seconds is None else self.seconds - self.elapsed()

    @property
    def is_up(self) -> bool:
        """Whether there is no time for another step and its evaluation, or for the next stage."""
        return self.left_out or self.cut or self.remaining <= self.per_step + self.per_evaluation

    def measure(self, advance: Callable[[int], Any]) -> None:
        """Time some steps of a stage.

        Args:
            advance: takes a number of steps, then evaluates; it is compiled already.
        """
        if self.seconds is not None:
            self.per_evaluation = _seconds(lambda: advance(0))
            self.per_step = max(0.0, _seconds(lambda: advance(TIMED_STEPS)) - self.per_evaluation) / TIMED_STEPS

    def require(self, steps: int, evaluations: int) -> None:
        """The stage is left out if there is no time for this number of steps and evaluations.

        Args:
            steps: the number of steps.
            evaluations: the number of evaluations.
        """
        if self.remaining < steps * self.per_step + evaluations * self.per_evaluation:
            self.left_out = True

    def affordable(self, steps: int, evaluate_every: int | None = None) -> int:
        """The number of the next steps that there is time for, at least one.

        Args:
            steps: the number of steps without a limit.
            evaluate_every: the number of steps between evaluations; None for one evaluation after the last step.
        """
        time_for_steps = self.remaining - self.per_evaluation
        per_step = self.per_step + (0.0 if evaluate_every is None else self.per_evaluation / evaluate_every)
        if time_for_steps >= steps * per_step:
            return steps
        return max(1, int(time_for_steps / per_step)) if per_step > 0 else 1


def _seconds(call: Callable[[], Any]) -> float:
    began = time.monotonic()
    jax.block_until_ready(call())
    return time.monotonic() - began
