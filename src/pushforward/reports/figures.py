"""The common parts of all figures: their creation, the range of the data, and their embedding in pages."""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from pushforward.training.history import History

# Columns by name. All columns of a table have the same length.
Columns = Mapping[str, Float[np.ndarray, " _"]]
# The largest number of columns of a matrix of scatter plots, and of points in each of them.
MAX_PAIRS, MAX_POINTS = 6, 4000


def new_figure(*args: Any, **kwargs: Any) -> Any:
    """A Matplotlib figure that pyplot does not manage, so that it needs no screen and is freed when it is dropped.

    Args:
        *args: the positional arguments of `matplotlib.figure.Figure`.
        **kwargs: the keyword arguments of `matplotlib.figure.Figure`.
    """
    from matplotlib.figure import Figure

    return Figure(*args, layout="constrained", **kwargs)


def typical_range(values: Float[np.ndarray, " n"]) -> tuple[float, float]:
    """The range of nearly all values, so that a few values far out do not hide the others in a plot.

    Args:
        values: the values; NaN and infinite values are ignored.
    """
    finite = values[np.isfinite(values)]
    if not finite.size:
        return -0.5, 0.5
    low, high = map(float, np.quantile(finite, (0.002, 0.998)))
    constant = high - low <= 1e-9 * max(1.0, abs(low), abs(high))
    return (low - 0.5, high + 0.5) if constant else (low, high)


def plot_pairs(draws: Columns, data: Columns | None = None) -> Any:
    """Histograms of the first columns on the diagonal, and scatter plots of their pairs below it.

    Args:
        draws: the draws, as columns by name.
        data: the same columns of the rows that the draws are compared with, which are plotted above the diagonal.
    """
    shown = [(draws, "steelblue")] if data is None else [(data, "black"), (draws, "tab:orange")]
    names = list(draws)[:MAX_PAIRS]
    spans = {name: typical_range(shown[0][0][name]) for name in names}
    figure = new_figure(figsize=(2 * len(names) + 1, 2 * len(names) + 1))
    grid = figure.subplots(len(names), len(names), squeeze=False)
    for row, below in enumerate(names):
        for column, left in enumerate(names):
            axes = grid[row, column]
            if row == column:
                filled = "step" if len(shown) > 1 else "bar"
                for columns, color in shown:
                    axes.hist(columns[left], bins=60, range=spans[left], density=True, histtype=filled, color=color)
                axes.set_yticks([])
            elif column > row and data is None:
                axes.set_visible(False)
            else:
                columns, color = shown[0] if column > row else shown[-1]
                axes.plot(columns[left][:MAX_POINTS], columns[below][:MAX_POINTS], ",", color=color)
                axes.set(xlim=spans[left], ylim=spans[below])
            if row == len(names) - 1:
                axes.set_xlabel(left, parse_math=False)
            if column == 0:
                axes.set_ylabel(below, parse_math=False)
    if data is not None:
        figure.suptitle("data (black, above) and draws (orange, below)")
    return figure


def learning_range(values: Sequence[float], log_evidence: float) -> tuple[float, float]:
    """The range of a learning curve, with a margin and with the log evidence inside.

    Args:
        values: minus the losses, one or more.
        log_evidence: the log evidence; NaN or infinite if it is unknown.
    """
    # The first points may be far below: the interesting part is the end.
    ends = [float(np.quantile(values, 0.1)), float(max(values))]
    ends += [log_evidence] if math.isfinite(log_evidence) else []
    margin = max(0.1 * (max(ends) - min(ends)), 1e-3)
    return min(ends) - margin, max(ends) + margin


def plot_learning(history: History, label: str, log_evidence: float = math.nan) -> Any:
    """Minus the loss at each evaluation against the steps of training, with the log evidence or the best step.

    Args:
        history: the history of the training.
        label: the label of the axis of minus the loss.
        log_evidence: the log evidence in nats; NaN or infinite if it is unknown.
    """
    figure = new_figure(figsize=(7, 4))
    axes = figure.subplots()
    records = [record for record in history.evaluations if np.isfinite(record.loss)]
    for stage in dict.fromkeys(record.stage for record in records):
        points = [(record.step, -record.loss) for record in records if record.stage == stage]
        axes.plot(*zip(*points, strict=True), marker=".", label=stage)
    known = math.isfinite(log_evidence)
    if known:
        axes.axhline(log_evidence, color="black", linewidth=0.8, linestyle="--", label="log evidence")
    if records:
        best = min(records, key=lambda record: record.loss)
        if not known:
            axes.axvline(best.step, color="black", linewidth=0.8, linestyle="--", label="best")
        axes.set_ylim(*learning_range([-record.loss for record in records], log_evidence))
    axes.set(xlabel="steps", ylabel=label)
    if axes.lines:
        axes.legend()
    return figure


def as_data_url(figure: Any) -> str:
    """The figure as a PNG image inside a URL, for the `src` of an image on a page that needs no other file.

    Args:
        figure: a Matplotlib figure.
    """
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
