"""Rounds: parts of a training in which the learning rate decays to zero, and when another round is no use."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from pushforward.training.history import Evaluation
from pushforward.training.stopping import RATE_AFTER_DIVERGENCE

# The rise of the loss in a round whose rate was too high, in nats.
RISE = 0.1


class Round(NamedTuple):
    """A number of steps, the learning rate of the first of them, which decays to zero along them, and a condition.

    Attributes:
        steps: the number of steps.
        rate: the learning rate of the first step.
        min_gain: the round follows only if the one before has lowered the loss by more than this, in nats.
    """

    steps: int
    rate: float
    min_gain: float = 0.0


@dataclasses.dataclass(frozen=True)
class Rounds:
    """Rounds of training, each from the best parameters so far.

    At the end of a round its result is known as well as that number of steps allows, which is the moment to decide
    whether a longer round is worth its time. If the parameters are worse at its end than at its beginning, its rate was
    too high, and those of all later rounds are lower.

    Args:
        rounds: the rounds, in turn.
        enough: whether the best model at the end of a round, whose index and gain (nats) it is given too, is good
            enough to end with.
    """

    rounds: Sequence[Round]
    enough: Callable[[Any, int, float], bool] = lambda model, index, gain: False

    def are_over(self, records: Sequence[Evaluation], index: int, model: Any) -> bool:
        """Whether no other round follows.

        Args:
            records: the evaluations so far, the first of them before the first step.
            index: the index of the round that has ended.
            model: the best model.
        """
        if index + 1 >= len(self.rounds):
            return True
        return not self._gain(records, index) > self.rounds[index + 1].min_gain or self.is_enough(records, index, model)

    def is_enough(self, records: Sequence[Evaluation], index: int, model: Any) -> bool:
        """Whether the best model is good enough to end with.

        Args:
            records: the evaluations so far.
            index: the index of the round that has ended.
            model: the best model.
        """
        return self.enough(model, index, self._gain(records, index))

    def next(self, records: Sequence[Evaluation], index: int) -> Round:
        """The round that follows.

        Args:
            records: the evaluations so far.
            index: the index of the round that has ended.
        """
        following = self.rounds[index + 1]
        num_diverged = sum(self._has_diverged(records, i) for i in range(index + 1))
        return following._replace(rate=following.rate * RATE_AFTER_DIVERGENCE**num_diverged)

    def _has_diverged(self, records: Sequence[Evaluation], index: int) -> bool:
        before, losses = _losses(records, index)
        return bool(np.isfinite(before) and losses.size and losses[-1] > before + RISE)

    def _gain(self, records: Sequence[Evaluation], index: int) -> float:
        """How much a round has lowered the smallest loss.

        It is infinite if the round gave the first finite loss, or had too high a rate: it does not say what more steps
        would gain.
        """
        if self._has_diverged(records, index):
            return np.inf
        before, losses = _losses(records, index)
        last = losses.min(initial=np.inf)
        return float(before - last) if np.isfinite(last) else -np.inf


def _losses(records: Sequence[Evaluation], index: int) -> tuple[float, Float[np.ndarray, " evaluations"]]:
    """The smallest loss before a round, and the losses of its evaluations; infinite if NaN."""
    losses = np.nan_to_num([record.loss for record in records], nan=np.inf, posinf=np.inf)
    rounds = np.array([-1, *(record.rate_index for record in records[1:])])
    return losses[rounds < index].min(), losses[rounds == index]
