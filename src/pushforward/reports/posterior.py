"""The report of a posterior: its verdict in words, tables, and interactive plots of its draws and of the training."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from pushforward.reports import charts
from pushforward.reports.blocks import Chart, Code, Parameters, Section, Table, Text, Verdict
from pushforward.reports.figures import Columns, new_figure, typical_range
from pushforward.reports.page import page
from pushforward.reports.summary import HEAD, Summary
from pushforward.training.history import History

MAX_MARGINALS = 40
# The thresholds of the verdict, with which a test compares these.
HARMLESS_KHAT, HARMLESS_ESS_FRACTION = 0.7, 0.9
TRAINING = (
    "The ELBO is a lower bound of the log evidence. A fit is finished when it has stopped rising; the distance to the "
    "dashed line is what the fit still lacks."
)
# What the names in a call are.
NAMES = " (target, x and other names are the arguments that you passed)"


def diagnostics_rows(diagnostics: Any) -> list[tuple[str, str]]:
    """The names and values of the diagnostics, for a table.

    Args:
        diagnostics: an object with the attributes of `pushforward.Diagnostics`.
    """
    d = diagnostics
    return [
        ("ELBO", f"{d.elbo:.4f} ± {_error(d.elbo_se)} nats"),
        ("log evidence", f"{d.log_evidence:.4f} ± {_error(d.log_evidence_se)} nats"),
        ("k-hat", f"{d.khat:.2f}"),
        ("effective sample size", f"{d.ess:,.0f} of {d.num_draws:,} ({d.ess_fraction:.1%})"),
    ]


def _error(value: float) -> str:
    """A standard error; one that four decimals would show as zero has one digit."""
    return f"{value:.4f}" if value >= 0.00005 else f"{value:.1g}"


MEANINGS = (
    "a lower bound of the log evidence, reached by an exact fit",
    "the logarithm of the probability of the data under the model, to compare models of the same data",
    "the tail of the weights; above 0.7 a few draws dominate, which matters if the effective sample size is low{}",
    "the number of exact draws that hold as much information as the weighted draws",
)


def diagnostics_table(diagnostics: Any) -> Table:
    """The diagnostics, with what they mean.

    Args:
        diagnostics: an object with the attributes of `pushforward.Diagnostics`.
    """
    gap = ("KL divergence", f"{diagnostics.log_evidence - diagnostics.elbo:.4g} nats")
    names_and_values = [*diagnostics_rows(diagnostics), gap]
    harmless = ""
    if diagnostics.verdict == "good" and diagnostics.khat > HARMLESS_KHAT:
        harmless = f"; here it is {diagnostics.ess_fraction:.1%} of the draws, so this does no harm"
        if diagnostics.ess_fraction <= HARMLESS_ESS_FRACTION:
            harmless = "; here these draws have little of the evidence, as the reasons of the verdict say"
    distance = (
        "how far the fit is from the posterior: log evidence minus ELBO; 0 for an exact fit, a good one is below 0.03"
    )
    meanings = (*(meaning.format(harmless) for meaning in MEANINGS), distance)
    rows = [(*row, meaning) for row, meaning in zip(names_and_values, meanings, strict=True)]
    return Table(rows, ("quantity", "estimate", "meaning"))


def parameters(columns: Columns, summary: Summary) -> Section:
    """The summary of all scalars, with plots of those that the reader chooses.

    Args:
        columns: the draws of each scalar.
        summary: the summary of the draws.
    """
    caption = summary.caption[:1].upper() + summary.caption[1:]
    return Section("Parameters", [Parameters(Table(summary.all_cells, HEAD, caption), charts.draws(columns))])


def training(
    history: History, label: str = "ELBO (nats)", log_evidence: float = np.nan, text: str = TRAINING
) -> Section:
    """The section on the training.

    Args:
        history: the history of the training.
        label: the label of the axis of minus the loss.
        log_evidence: the log evidence in nats; NaN if it is unknown.
        text: what the chart shows.
    """
    if not np.isfinite([record.loss for record in history.evaluations]).any():
        return Section("Training", [Text("This result has no record of its training.")])
    seconds, steps = history.evaluations[-1].seconds, len(history.losses)
    took = f"{steps:,} steps of training in {seconds:.1f} seconds"
    took += f", {history.skipped:,} of them skipped." if history.skipped else "."
    return Section("Training", [Chart(label, charts.training(history, label, log_evidence), text), Text(took)])


def weights(values: Float[np.ndarray, " draws"]) -> Section:
    """The section on the importance weights.

    Args:
        values: the weights of the draws, not negative.
    """
    largest = np.sort(values)[::-1][: max(1, len(values) // 100)].sum() / values.sum()
    zero = int((values == 0).sum())
    text = (
        "The weight of a draw is the posterior's density there, divided by the fit's. An exact fit has equal weights: "
        "one narrow peak at 1. Draws far to the right stand for regions that the fit visits too rarely. "
        f"The 1 % of the draws with the largest weights hold {largest:.1%} of the total weight"
        + (f"; {zero:,} draws of weight zero are not shown." if zero else ".")
    )
    return Section("Importance weights", [Chart("weights of the draws", charts.weights(values), text)])


def settings(facts: Mapping[str, Any], command: str = "") -> Section:
    """The section on the model, the settings and the call.

    Args:
        facts: the facts by name; "command" or "call" is what repeats the fit.
        command: the command that repeats the fit, which replaces both.
    """
    made_by = [facts.get(name, "") for name in ("command", "call")]
    code = next(filter(None, [command, *made_by]), "")
    facts = {name: value for name, value in facts.items() if name not in ("command", "call")}
    names = "" if code.startswith("pushforward ") else NAMES
    repeat = [Text(f"With the same versions, device and data, this gives the same result{names}:"), Code(code)]
    repeat = repeat if code else []
    table = [Table([(name, _shown(value)) for name, value in facts.items()])] if facts else []
    return Section("Model, settings and how to repeat it", [*table, *repeat])


def _shown(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def posterior_page(title: str, verdict: Verdict, sections: Sequence[Section]) -> str:
    """The report as one self-contained HTML page.

    Args:
        title: the title.
        verdict: the verdict.
        sections: the sections.
    """
    return page(title, "Posterior", verdict, [section for section in sections if section.blocks])


def plot_marginals(columns: Columns) -> Any:
    """A histogram of each of the first scalars.

    Args:
        columns: the draws of each scalar.
    """
    shown = dict(list(columns.items())[:MAX_MARGINALS])
    across = min(4, len(shown))
    down = -(-len(shown) // across)
    figure = new_figure(figsize=(3 * across, 2.2 * down))
    grid = figure.subplots(down, across, squeeze=False).ravel()
    for axes, (name, values) in zip(grid, shown.items(), strict=False):
        axes.hist(values, bins=60, density=True, color="steelblue", range=typical_range(values))
        axes.set_title(name, parse_math=False)
        axes.set_yticks([])
    for axes in grid[len(shown) :]:
        axes.set_visible(False)
    return figure
