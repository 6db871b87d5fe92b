"""Early stopping: when has a training reached a plateau?"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from pushforward.arguments import FROM_ZERO, check_fields


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
