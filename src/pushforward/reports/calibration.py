"""Calibration: whether numbers are uniform, as probability integral transforms and ranks of a correct density are."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from pushforward.reports.figures import new_figure

MAX_SHOWN = 20
# The significance level of the Kolmogorov-Smirnov tests of all columns together.
LEVEL = 0.05


def plot_calibration(pit: Mapping[str, Float[np.ndarray, " _"]], of: str = "rows"):
    """A figure of the empirical distribution function of each column of values in (0, 1), minus the uniform one.

    The gray band is the Kolmogorov-Smirnov band of all columns together: if all are uniform, all stay inside it with a
    probability of at least 95 %.

    Args:
        pit: the probability integral transforms of test rows, or ranks of true values, as `Ranks.pit` returns them, by
            the name of the column.
        of: the word for the rows in the label of the axis, such as "data sets".
    """
    figure = new_figure(figsize=(7, 4))
    axes = figure.subplots()
    level = np.linspace(0, 1, 201)
    shown, lines = list(pit)[:MAX_SHOWN], []
    for name in shown:
        values = pit[name]
        fraction = np.searchsorted(np.sort(values), level, side="right") / len(values)
        lines += axes.plot(level, fraction - level, linewidth=1)
    band = band_width(len(next(iter(pit.values()))), len(pit))
    axes.axhspan(-band, band, color="lightgray", zorder=0)
    axes.set(
        xlabel="u", ylabel=f"fraction of {of} below u, minus u", title="calibration",
        ylim=(-max(0.1, 3 * band), max(0.1, 3 * band)),
    )  # fmt: skip
    # With explicit lines and names, Matplotlib shows every name, also those that begin with an underscore.
    for text in axes.legend(lines, shown, fontsize="small", ncols=3).get_texts():
        text.set_parse_math(False)
    return figure


def band_width(size: int, num_columns: int = 1) -> float:
    """Half the width of the Kolmogorov-Smirnov band: the critical value of the test at the 5 % level.

    Bonferroni's correction divides the level by the number of columns, so that one or more columns of a correct density
    leave the band in at most 5 % of the cases.

    Args:
        size: the size of the sample of each column.
        num_columns: the number of columns.
    """
    from scipy.stats import kstwo  # only here: it takes long to import

    return float(kstwo.isf(LEVEL / num_columns, size))


def outside_band(pit: Mapping[str, Float[np.ndarray, " _"]]) -> list[str]:
    """The names of the columns that leave the band of all columns: Kolmogorov-Smirnov tests for uniform distributions.

    Args:
        pit: the values of each column, in (0, 1), by its name.
    """
    from scipy.stats import kstest

    return [name for name, values in pit.items() if not kstest(values, "uniform").pvalue > LEVEL / len(pit)]
