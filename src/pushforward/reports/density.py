"""The report of a density: scores, plots of rows and draws, and the learning curve.

`evaluation` is any object with the attributes of `pushforward.density.Evaluation`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pushforward.reports import page
from pushforward.reports.calibration import plot_calibration
from pushforward.reports.figures import Columns, plot_learning, plot_pairs
from pushforward.reports.summary import Facts, Summary, summarize
from pushforward.training.history import History


def compare(data: Columns, draws: Columns, caption: str) -> Summary:
    """The means, standard deviations and quantiles of each column of rows and of draws.

    Args:
        data: rows that the density was not trained on, as columns by name.
        draws: draws of the density, as columns by name.
        caption: the caption of the table.
    """
    both = {f"{name}, {of}": columns[name] for name in data for of, columns in (("data", data), ("draws", draws))}
    return summarize(both, caption)


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
        page.picture("Data and draws", plot_pairs(evaluation.draws, evaluation.data)),
        page.picture("Calibration", plot_calibration(evaluation.pit)),
        page.picture("Learning", plot_learning(history, "validation (nats per row)")),
    ]
    return page.page(title, parts)
