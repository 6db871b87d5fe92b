"""Rounds: parts of a training in which the learning rate decays to zero, and when another round is no use."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from pushforward.training.history import Evaluation


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
    whether a longer round is worth its time.

    Args:
        rounds: the rounds, in turn.
        enough: whether the best model at the end of a round, whose index it is given too, is good enough to end with.
    """

    rounds: Sequence[Round]
    enough: Callable[[Any, int], bool] = lambda model, index: False

    def are_over(self, records: Sequence[Evaluation], index: int, model: Any) -> bool:
        """Whether no other round follows.

        Args:
            records: the evaluations so far, the first of them before the first step.
            index: the index of the round that has ended.
            model: the best model.
        """
        if index + 1 >= len(self.rounds):
            return True
        losses = np.nan_to_num([record.loss for record in records], nan=np.inf, posinf=np.inf)
        num = 1 + sum(record.rate_index < index for record in records[1:])
        before, last = losses[:num].min(), losses[num:].min()
        gained = last < before - self.rounds[index + 1].min_gain if np.isfinite(before) else np.isfinite(last)
        return not gained or self.enough(model, index)
