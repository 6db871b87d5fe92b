"""The report of a posterior: its verdict, tables and figures of its draws, and a figure of the training."""

from collections.abc import Mapping, Sequence
from typing import Any

from pushforward.reports.figures import Columns, new_figure, typical_range
from pushforward.reports.page import page, paragraph, picture, table
from pushforward.reports.summary import Summary

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
