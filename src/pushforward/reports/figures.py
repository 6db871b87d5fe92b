"""The common parts of all figures: their creation, the range of the data, and their embedding in pages."""

import base64
import io
from typing import Any

import numpy as np
from jaxtyping import Float

MAX_PAIRS = 6  # the largest number of columns of a matrix of scatter plots


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


def as_data_url(figure: Any) -> str:
    """The figure as a PNG image inside a URL, for the `src` of an image on a page that needs no other file.

    Args:
        figure: a Matplotlib figure.
    """
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
