"""What the user's callback receives after each evaluation of a fit."""

from collections.abc import Callable
from typing import Any, NamedTuple


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
