"""What happened in a training: the loss of every step, and a record of every evaluation."""

import math
from typing import Any, NamedTuple

import equinox as eqx
import numpy as np
from jaxtyping import Float


class Evaluation(NamedTuple):
    """The state of a training when it was evaluated.

    Attributes:
        stage: the name of the training, where a fit consists of several.
        rate_index: the index of the round of the stage; each begins with its own learning rate.
        step: the steps of all stages so far.
        seconds: the time since the fit began.
        loss: a fresh estimate of the loss, in nats.
        training_loss: the mean loss of the steps since the last evaluation, without skipped ones; NaN without steps.
        gradient_norm: the mean norm of their gradients.
        skipped: the number of these steps that were skipped, because loss or gradient was not finite.
        metrics: further numbers that the objective returns.
    """

    stage: str
    rate_index: int
    step: int
    seconds: float
    loss: float
    training_loss: float
    gradient_norm: float
    skipped: int
    metrics: dict[str, float]

    @staticmethod
    def upgraded_fields(fields: dict[str, Any]) -> dict[str, Any]:
        """The fields of a record of version 0.1.0, which had the ELBO and counted gradients, 256 per step."""
        if "elbo" not in fields:
            return fields
        stage, steps, seconds = fields["stage"], fields["evaluations"] // 256, fields["seconds"]
        return Evaluation(stage, 0, steps, seconds, -fields["elbo"], math.nan, math.nan, 0, {})._asdict()


class History(eqx.Module):
    """The history of a fit.

    Attributes:
        losses: the loss of every step, NaN where the step was skipped.
        evaluations: a record of every evaluation, the first of most stages before their first step.
    """

    losses: Float[np.ndarray, " steps"]
    evaluations: tuple[Evaluation, ...]

    @property
    def skipped(self) -> int:
        """The number of skipped steps."""
        return int(np.isnan(self.losses).sum())

    def stage(self, name: str) -> tuple[Evaluation, ...]:
        """The records of the stage with this name."""
        return tuple(record for record in self.evaluations if record.stage == name)

    def series(self, name: str) -> Float[np.ndarray, " evaluations"]:
        """One number of every evaluation: a field of `Evaluation` or a metric, NaN where a record does not have it."""
        fields = set(Evaluation._fields) - {"stage", "metrics"}
        known = fields.union(*(record.metrics for record in self.evaluations))
        if name not in known:
            raise KeyError(f"the history has no series {name!r}; it has {', '.join(sorted(known))}.")
        values = (getattr(r, name) if name in fields else r.metrics.get(name, np.nan) for r in self.evaluations)
        return np.array([*values], float)
