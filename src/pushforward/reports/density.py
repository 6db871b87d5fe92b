"""The report of a density: scores, plots of rows and draws, and the learning curve.

`evaluation` is any object with the attributes of `pushforward.density.Evaluation`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from pushforward.reports import page
from pushforward.reports.calibration import plot_calibration
from pushforward.reports.figures import MAX_PAIRS, new_figure, typical_range
from pushforward.reports.summary import Facts
from pushforward.training.history import History

# Columns by name. All columns of a table have the same length.
Columns = Mapping[str, Float[np.ndarray, " _"]]
MAX_SHOWN = 20
NUM_POINTS = 3000


def plot_learning(history: History):
    """A figure of the log-likelihood of the validation rows against the steps of training.

    Args:
        history: the history of the fit.
    """
    figure = new_figure(figsize=(7, 3.5))
    axes = figure.subplots()
    steps, losses = history.series("step"), history.series("loss")
    axes.plot(steps, -losses, marker=".")
    finite = np.isfinite(losses)
    if finite.any():
        steps, losses = steps[finite], losses[finite]
        axes.axvline(steps[np.argmin(losses)], color="black", linewidth=0.8, linestyle="--", label="best")
        # The first points may be far below: the interesting part is the end.
        low, high = np.quantile(-losses, 0.1), (-losses).max()
        margin = max(0.1 * (high - low), 1e-3)
        axes.set_ylim(low - margin, high + margin)
        axes.legend()
    axes.set(xlabel="steps", ylabel="validation (nats per row)", title="learning curve")
    return figure


def plot_pairs(data: Columns, draws: Columns):
    """A figure of histograms, and of scatter plots of rows above the diagonal and of draws below it.

    Args:
        data: rows that the density was not trained on, as columns by name.
        draws: draws of the density, as columns by name.
    """
    names = list(data)[:MAX_PAIRS]
    figure = new_figure(figsize=(2 * len(names) + 1, 2 * len(names) + 1))
    grid = figure.subplots(len(names), len(names), squeeze=False)
    for row, below in enumerate(names):
        for column, left in enumerate(names):
            axes = grid[row, column]
            span = typical_range(data[left])
            if row == column:
                for columns, color in ((data, "black"), (draws, "tab:orange")):
                    axes.hist(columns[left], bins=60, range=span, density=True, histtype="step", color=color)
                axes.set_yticks([])
            else:
                columns, color = (data, "black") if column > row else (draws, "tab:orange")
                axes.plot(columns[left][:NUM_POINTS], columns[below][:NUM_POINTS], ",", color=color)
                axes.set(xlim=span, ylim=typical_range(data[below]))
            if row == len(names) - 1:
                axes.set_xlabel(left, parse_math=False)
            if column == 0:
                axes.set_ylabel(below, parse_math=False)
    figure.suptitle("data (black, above) and draws (orange, below)")
    return figure


def columns_table(data: Columns, draws: Columns, title: str) -> Any:
    """A table of means, standard deviations and quantiles of rows and of draws.

    Args:
        data: rows that the density was not trained on, as columns by name.
        draws: draws of the density, as columns by name.
        title: the title of the table.
    """
    from rich.table import Table
    from rich.text import Text

    # Text, because names may have brackets, which Rich would take for its markup.
    table = Table(title=Text(title))
    for head in ("", "", "mean", "sd", "5%", "median", "95%"):
        table.add_column(head, justify="right" if head else "left")
    for name in list(data)[:MAX_SHOWN]:
        for label, values in ((name, data[name]), ("", draws[name])):
            numbers = (values.mean(), values.std(), *np.quantile(values, (0.05, 0.5, 0.95)))
            table.add_row(Text(label), "data" if label else "draws", *(f"{number:.4g}" for number in numbers))
    return table


def scores_table(scores: Mapping[str, Any]) -> str:
    """An HTML table of the mean log-likelihood of each density.

    Args:
        scores: objects with a `mean` and a `standard_error`, by the name of the density.
    """
    rows = [(name, f"{score.mean:.4f}", f"{score.standard_error:.4f}") for name, score in scores.items()]
    return page.table(rows, ("", "nats per row", "standard error"))


def density_page(title: str, summary: Facts, evaluation: Any, history: History, warnings: Sequence[str] = ()) -> str:
    """The HTML page of a density.

    Args:
        title: the title, as plain text.
        summary: the summary of the fit.
        evaluation: an evaluation on rows that the density was not trained on.
        history: the history of the fit.
        warnings: paragraphs that are emphasized.
    """
    parts = [
        summary._repr_html_(),
        *(page.paragraph(text, warning=True) for text in warnings),
        page.heading(f"Log-likelihood of {evaluation.num_rows:,} {evaluation.rows_label}"),
        scores_table(evaluation.scores),
        *map(page.paragraph, evaluation.remarks),
        page.picture("Data and draws", plot_pairs(evaluation.data, evaluation.draws)),
        page.picture("Calibration", plot_calibration(evaluation.pit)),
        page.picture("Learning", plot_learning(history)),
    ]
    return page.page(title, parts)
