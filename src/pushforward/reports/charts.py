"""The numbers of interactive charts: histograms, draws, curves, as plain data that the page's script draws."""

import base64
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from pushforward.reports.calibration import MAX_SHOWN, band_width
from pushforward.reports.figures import Columns, learning_range, typical_range
from pushforward.training.history import History

# Histograms of few values have fewer bins: as many as three times the cube root of their number.
BINS = 60
# Scatter plots show at most MAX_POINTS draws; of many scalars fewer, so that a page has at most MAX_NUMBERS of them.
MAX_POINTS, MIN_POINTS, MAX_NUMBERS = 1000, 200, 400_000
# What the histograms and the scatter plots show, without data and with data.
LEGENDS = (
    (
        "Histograms of the draws.",
        "The numbers are correlations. Clouds that are curved or shaped like a funnel are hard for any method.",
    ),
    (
        "Draws are bars, the data an orange line.",
        "Draws are below the diagonal, the data above it: both should look alike, mirrored.",
    ),
)


def draws(columns: Columns, data: Columns | None = None) -> dict[str, Any]:
    """What the plots of parameters show: a histogram of all draws of each scalar, and some draws for scatter plots.

    Args:
        columns: the draws, as columns by name.
        data: the same columns of the rows that the draws are compared with.
    """
    names = list(columns)
    shown = [("draws", columns)] if data is None else [("draws", columns), ("data", data)]
    spans = [typical_range(np.concatenate([each[name] for _, each in shown])) for name in names]
    points = min(MAX_POINTS, max(MIN_POINTS, MAX_NUMBERS // len(names)))
    bins = min(BINS, *(math.ceil(3 * len(each[names[0]]) ** (1 / 3)) for _, each in shown))
    return {
        "names": names,
        "range": [_finite(span) for span in spans],
        "quantiles": [_interval(columns[name]) for name in names],
        "series": [_series(label, each, spans, points, bins) for label, each in shown],
        "legend": dict(zip(("alone", "pairs"), LEGENDS[data is not None], strict=True)),
    }


def _interval(values: Float[np.ndarray, " n"]) -> dict[str, float | None]:
    if not np.isfinite(values).all():
        return dict.fromkeys(("mean", "low", "high"))
    low, high = np.quantile(values, (0.05, 0.95))
    return {"mean": float(values.mean()), "low": float(low), "high": float(high)}


def _series(label: str, columns: Columns, spans: list[tuple[float, float]], points: int, bins: int) -> dict[str, Any]:
    size = len(next(iter(columns.values())))
    # Spread over all draws, because equal draws may follow each other.
    rows = np.linspace(0, size - 1, min(points, size)).round().astype(int)
    finite = [np.where(np.isfinite(values), values, np.nan) for values in columns.values()]
    centers = [float(np.nanmedian(values)) if np.isfinite(values).any() else 0.0 for values in finite]
    offsets = np.array([values[rows] - center for values, center in zip(finite, centers, strict=True)], np.float32)
    return {
        "label": label,
        "rows": len(rows),
        "total": size,
        "center": centers,
        "values": base64.b64encode(offsets.astype("<f4").tobytes()).decode(),
        "counts": [
            np.histogram(values[np.isfinite(values)], bins, span)[0].tolist()
            for values, span in zip(finite, spans, strict=True)
        ],
    }


def training(history: History, label: str, log_evidence: float = math.nan) -> dict[str, Any]:
    """Minus the loss at each evaluation against the steps of training.

    Args:
        history: the history of the training.
        label: the label of the axis of minus the loss.
        log_evidence: the log evidence in nats, for a line; NaN or infinite if it is unknown.
    """
    records = [record for record in history.evaluations if np.isfinite(record.loss)]
    traces = []
    for number, stage in enumerate(dict.fromkeys(record.stage for record in records)):
        mine = [record for record in records if record.stage == stage]
        traces.append(
            {
                "type": "scatter", "mode": "lines+markers", "name": stage, "color": number % 2,
                "x": [record.step for record in mine], "y": [-float(record.loss) for record in mine],
            }
        )  # fmt: skip
    if math.isfinite(log_evidence) and records:
        ends = [records[0].step, max(records[-1].step, records[0].step + 1)]
        line = {"type": "scatter", "mode": "lines", "name": "log evidence", "color": 3, "x": ends}
        traces.append(line | {"y": [log_evidence] * 2, "line": {"dash": "dash"}})
    y: dict[str, Any] = {"title": {"text": label}}
    if records:
        y["range"] = list(learning_range([-float(record.loss) for record in records], log_evidence))
    return {"traces": traces, "x": {"title": {"text": "steps of training"}, "rangemode": "tozero"}, "y": y}


def weights(weights: Float[np.ndarray, " draws"]) -> dict[str, Any]:
    """A histogram of the importance weights relative to their mean, with logarithmic axes.

    Args:
        weights: the weights, not negative, up to a constant factor.
    """
    relative = weights / weights.mean()
    exponents = np.log10(relative[relative > 0])
    low, high = float(exponents.min()), float(exponents.max())
    low, high = min(max(low, high - 12), -0.5), max(high, 0.5)
    counts, edges = np.histogram(exponents, BINS, (low, high))
    steps = (1, 2, 5) if high - low < 3 else (1,)
    ticks = [step * 10.0**k for k in range(math.floor(low), math.ceil(high) + 1) for step in steps]
    x = {
        "title": {"text": "weight of a draw, relative to the average"}, "range": [low, high],
        "tickvals": np.log10(ticks).tolist(), "ticktext": [f"{tick:g}" for tick in ticks],
    }  # fmt: skip
    centers = (edges[1:] + edges[:-1]) / 2
    bars = {
        "type": "bar", "name": "draws", "color": 0, "x": centers.tolist(), "y": counts.tolist(),
        "width": (high - low) / BINS, "text": [f"{10**center:.3g}" for center in centers], "textposition": "none",
        "hovertemplate": "weight about %{text}: %{y} draws<extra></extra>",
    }  # fmt: skip
    y = {"title": {"text": "draws"}, "type": "log", "dtick": 1, "range": [-0.3, math.log10(counts.max()) + 0.3]}
    return {"traces": [bars], "x": x, "y": y}


def calibration(pit: Mapping[str, Float[np.ndarray, " _"]]) -> dict[str, Any]:
    """The distribution function of each column of values in (0, 1), minus the uniform one, with their common band.

    Args:
        pit: the probability integral transforms of test rows, by the name of the column.
    """
    level = np.linspace(0, 1, 201)
    traces = []
    for number, (name, values) in enumerate(list(pit.items())[:MAX_SHOWN]):
        fraction = np.searchsorted(np.sort(values), level, side="right") / len(values)
        y = np.round(fraction - level, 5).tolist()
        traces.append(
            {"type": "scatter", "mode": "lines", "name": name, "color": number % 2, "x": level.tolist(), "y": y}
        )
        traces[-1]["line"] = {"dash": ("solid", "dash", "dot", "dashdot")[number // 2 % 4]}
    band = band_width(len(next(iter(pit.values()))), len(pit))
    height = max(0.1, 3 * band)
    shape = {"type": "rect", "xref": "paper", "yref": "y", "x0": 0, "x1": 1, "y0": -band, "y1": band, "layer": "below"}
    y = {"title": {"text": "fraction of rows below, minus u"}, "range": [-height, height]}
    return {"traces": traces, "shapes": [shape], "x": {"title": {"text": "u"}}, "y": y}


def _finite(span: tuple[float, float]) -> list[float]:
    return [float(end) for end in span]
