"""The report of a density: verdict, scores, plots of rows and draws, and the learning curve.

`evaluation` is any object with the attributes of `pushforward.density.Evaluation`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pushforward.reports import charts
from pushforward.reports.blocks import Chart, Parameters, Section, Table, Text
from pushforward.reports.figures import Columns
from pushforward.reports.page import page
from pushforward.reports.posterior import settings, training
from pushforward.reports.summary import HEAD, Facts, Summary, summarize
from pushforward.reports.verdicts import of_density, unevaluated_density
from pushforward.training.history import History

CALIBRATION = (
    "For each column: the fraction of the rows below the density's u-quantile, minus u. All columns of a correct "
    "density stay inside the gray band in 95 % of the cases or more; a line above it means that values are smaller "
    "than the density says."
)
LEARNING = (
    "The log-likelihood of the validation rows, from which training takes no gradients. The best density is kept."
)


def compare(data: Columns, draws: Columns, caption: str) -> Summary:
    """The means, standard deviations and quantiles of each column of rows and of draws.

    Args:
        data: rows that the density was not trained on, as columns by name.
        draws: draws of the density, as columns by name.
        caption: the caption of the table.
    """
    both = {f"{name}, {of}": columns[name] for name in data for of, columns in (("data", data), ("draws", draws))}
    return summarize(both, [caption])


def scores_table(scores: Mapping[str, Any]) -> Table:
    """The mean log-likelihood of each density.

    Args:
        scores: objects with a `mean` and a `standard_error`, by the name of the density.
    """
    rows = [(name, f"{score.mean:.4f}", f"{score.standard_error:.4f}") for name, score in scores.items()]
    return Table(rows, ("", "nats per row", "standard error"))


def density_page(
    title: str,
    summary: Facts,
    evaluation: Any,
    history: History,
    warnings: Sequence[str] = (),
    provenance: Mapping[str, Any] | None = None,
    command: str = "",
    draws: Columns | None = None,
) -> str:
    """The HTML page of a density.

    Args:
        title: the title, as plain text.
        summary: the summary of the fit.
        evaluation: an evaluation on rows that the density was not trained on; None if there is none.
        history: the history of the fit.
        warnings: paragraphs that are emphasized.
        provenance: facts on the call, the key and the versions, by name.
        command: the command that repeats the fit, which replaces the call.
        draws: draws of the density, for a page without an evaluation.
    """
    cautions = [Text(text, warning=True) for text in warnings]
    in_terminal = bool(command)
    if evaluation is not None:
        verdict = of_density(evaluation, warnings, in_terminal=in_terminal)
        sections = _evaluated(evaluation, cautions)
    else:
        verdict = unevaluated_density(in_terminal=in_terminal)
        sections = [Section("Warnings", cautions), *([] if draws is None else [_plots("Draws", draws)])]
    sections += [
        training(history, "validation (nats per row)", text=LEARNING),
        settings({**summary, **(provenance or {})}, command),
    ]
    return page(title, "Density", verdict, [section for section in sections if section.blocks])


def _evaluated(evaluation: Any, cautions: Sequence[Text]) -> list[Section]:
    heading = f"Log-likelihood of {evaluation.num_rows:,} {evaluation.rows_label}"
    return [
        Section(heading, [*cautions, scores_table(evaluation.scores), *map(Text, evaluation.remarks)]),
        _plots("Data and draws", evaluation.draws, evaluation.data),
        Section("Calibration", [Chart("rows below each quantile", charts.calibration(evaluation.pit), CALIBRATION)]),
    ]


def _plots(heading: str, draws: Columns, data: Columns | None = None) -> Section:
    table = Table(summarize(draws).all_cells, HEAD, "of draws of the density")
    return Section(heading, [Parameters(table, charts.draws(draws, data), shown=4)])
