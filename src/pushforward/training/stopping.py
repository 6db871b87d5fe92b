"""Early stopping: when has a training reached a plateau, and when has it diverged?"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from pushforward.arguments import FROM_ZERO, check_fields
from pushforward.training.history import Evaluation

# A smaller rise of the loss, in nats, is no divergence: the losses of batches are noisy.
RISE = 1.0
# By what the learning rate is multiplied after a training that has diverged.
RATE_AFTER_DIVERGENCE = 0.25


@dataclasses.dataclass(frozen=True)
class EarlyStopping:
    """Stop unless the last `patience` evaluations have lowered the lowest loss by more than `patience * min_delta`.

    It is a function of the losses alone, so a resumed training stops where an uninterrupted one would.

    Args:
        patience: the number of last evaluations that are compared with those before.
        min_delta: the smallest decrease of the loss per evaluation that counts as an improvement, in nats.
        start: the number of evaluations at the beginning that are ignored, for example during a warm-up.
    """

    patience: int
    min_delta: float = 0.0
    start: int = 0

    def __post_init__(self):
        check_fields(self, start=FROM_ZERO)

    def __call__(self, losses: Sequence[float] | Float[np.ndarray, " evaluations"]) -> bool:
        """Whether to stop after these losses; a loss that is NaN counts as infinite."""
        if len(losses) <= max(self.patience, self.start + self.patience - 1):
            return False
        found = np.nan_to_num(np.asarray(losses, float), nan=np.inf, posinf=np.inf, neginf=-np.inf)
        before, last = found[: -self.patience].min(), found[-self.patience :].min()
        if not np.isfinite(before):
            return not last < before
        return not before - last > self.min_delta * self.patience


def has_diverged(evaluations: Sequence[Evaluation]) -> bool:
    """Whether the median loss of the steps after the best evaluation is higher than that of the initial parameters.

    The loss of the steps rises if the learning rate is too high. It does not if the model only overfits.

    Args:
        evaluations: those of one stage, the first before its first step.
    """
    losses = np.nan_to_num([record.loss for record in evaluations], nan=np.inf, posinf=np.inf)
    after = [record.training_loss for record in evaluations[int(losses.argmin()) + 1 :]]
    return len(after) > 0 and bool(np.median(np.nan_to_num(after, nan=np.inf, posinf=np.inf)) > losses[0] + RISE)
