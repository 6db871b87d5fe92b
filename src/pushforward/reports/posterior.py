"""The report of a posterior: its verdict, tables and figures of its draws, and a figure of the training."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from pushforward.reports.figures import MAX_PAIRS, new_figure, typical_range
from pushforward.reports.page import page, paragraph, picture, table
from pushforward.reports.summary import Summary

# Columns by name. All columns of a table have the same length.
Columns = Mapping[str, Float[np.ndarray, " _"]]
MAX_MARGINALS = 40


def diagnostics_rows(diagnostics: Any) -> list[tuple[str, str]]:
    """The names and values of the diagnostics, for a table.

    Args:
        diagnostics: an object with the attributes of `pushforward.Diagnostics`.
    """
    d = diagnostics
    return [
        ("ELBO", f"{d.elbo:.4f} ± {d.elbo_se:.4f} nats"),
        ("log evidence", f"{d.log_evidence:.4f} ± {d.log_evidence_se:.4f} nats"),
        ("k-hat", f"{d.khat:.2f}"),
        ("effective sample size", f"{d.ess:,.0f} of {d.num_draws:,} ({d.ess_fraction:.1%})"),
    ]


def verdict_html(
    verdict: str, reasons: Sequence[str], rows: Sequence[tuple[str, str]], summary: Summary | None
) -> list[str]:
    """The parts of a page, or of a notebook's cell: the verdict with its reasons, and summaries of the draws.

    Args:
        verdict: the verdict, one word.
        reasons: the reasons of the verdict, one sentence each.
        rows: the names and values of the diagnostics.
        summary: the summary of the draws; None if there are no draws.
    """
    parts = [paragraph(f"Verdict: {verdict}", warning=verdict != "good"), *map(paragraph, reasons), table(rows)]
    return parts if summary is None else [*parts, summary._repr_html_()]


def posterior_page(title: str, parts: Sequence[str], pictures: Mapping[str, Any]) -> str:
    """The report as one self-contained HTML page.

    Args:
        title: the title, as plain text.
        parts: the parts, as HTML from `verdict_html`.
        pictures: the figures by name.
    """
    return page(title, [*parts, *(picture(name, figure) for name, figure in pictures.items())])


def plot_training(history: Any, log_evidence: float) -> Any:
    """The ELBO at each evaluation against training steps, and the final log evidence.

    Args:
        history: an object with the attributes of `pushforward.training.History`; its losses are minus the ELBO.
        log_evidence: the log evidence in nats; NaN or infinite if it is unknown.
    """
    figure = new_figure(figsize=(7, 4))
    axes = figure.subplots()
    records = [record for record in history.evaluations if np.isfinite(record.loss)]
    for stage in dict.fromkeys(record.stage for record in records):
        points = [(record.step, -record.loss) for record in records if record.stage == stage]
        axes.plot(*zip(*points, strict=True), marker=".", label=stage)
    elbos = [-record.loss for record in records]
    if np.isfinite(log_evidence):
        axes.axhline(log_evidence, color="black", linewidth=0.8, linestyle="--", label="log evidence")
        if elbos:
            # The first values may be far below, but the end of the curve matters.
            low = np.quantile(elbos, 0.1)
            margin = max(0.1 * (log_evidence - low), 0.01)
            axes.set_ylim(low - margin, log_evidence + margin)
    axes.set(xlabel="steps", ylabel="ELBO (nats)")
    if axes.lines:
        axes.legend()
    return figure


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


def plot_pairs(columns: Columns) -> Any:
    """Scatter plots of pairs of the first scalars, with their histograms on the diagonal.

    Args:
        columns: the draws of each scalar.
    """
    shown = dict(list(columns.items())[:MAX_PAIRS])
    names, size = list(shown), len(shown)
    figure = new_figure(figsize=(2 * size + 1, 2 * size + 1))
    grid = figure.subplots(size, size, squeeze=False)
    for row, below in enumerate(names):
        for column, left in enumerate(names):
            axes = grid[row, column]
            if column > row:
                axes.set_visible(False)
            elif column == row:
                axes.hist(shown[left], bins=60, color="steelblue", range=typical_range(shown[left]))
                axes.set_yticks([])
            else:
                axes.plot(shown[left], shown[below], ",", alpha=0.5)
                axes.set(xlim=typical_range(shown[left]), ylim=typical_range(shown[below]))
            if row == size - 1:
                axes.set_xlabel(left, parse_math=False)
            if column == 0:
                axes.set_ylabel(below, parse_math=False)
    return figure
