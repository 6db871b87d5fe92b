"""Whether numbers are uniform, as calibrated densities and posteriors make them: a test and a picture."""

import math
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from pushforward.reports.figures import new_figure

MOST_SHOWN = 20
# The Kolmogorov-Smirnov statistic of so many uniform numbers, times the root of their number, is below this 95 times
# in 100.
KOLMOGOROV = 1.358


def plot_calibration(transforms: Mapping[str, Float[np.ndarray, " n"]], of: str = "rows"):
    """How far each column of numbers in (0, 1) is from uniform: the share below each number, less that number.

    Columns of uniform numbers stay inside the grey band 95 times in 100.

    Args:
        transforms: probability integral transforms of held-out rows, or ranks of true values, as `Ranks.transforms`
            gives them.
        of: what the numbers are of.
    """
    figure = new_figure(figsize=(7, 4))
    axes = figure.subplots()
    level = np.linspace(0, 1, 201)
    shown, lines = list(transforms)[:MOST_SHOWN], []
    for name in shown:
        numbers = transforms[name]
        share = np.searchsorted(np.sort(numbers), level, side="right") / len(numbers)
        lines += axes.plot(level, share - level, linewidth=1)
    band = KOLMOGOROV / math.sqrt(len(next(iter(transforms.values()))))
    axes.axhspan(-band, band, color="lightgrey", zorder=0)
    axes.set(
        xlabel="u", ylabel=f"share of {of} below u, less u", title="calibration",
        ylim=(-max(0.1, 3 * band), max(0.1, 3 * band)),
    )  # fmt: skip
    # Given lines and names, Matplotlib leaves out none, not even names that begin with an underscore.
    for text in axes.legend(lines, shown, fontsize="small", ncols=3).get_texts():
        text.set_parse_math(False)
    return figure


def within_band(numbers: Float[np.ndarray, " n"]) -> bool:
    """Whether these numbers pass for uniform ones."""
    ranked = np.sort(numbers)
    place = np.arange(1, len(numbers) + 1) / len(numbers)
    distance = max((place - ranked).max(), (ranked - place + 1 / len(numbers)).max())
    return bool(distance < KOLMOGOROV / math.sqrt(len(numbers)))
