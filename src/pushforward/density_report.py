"""What a person sees of a fitted density: plots, numbers, and one HTML page that holds them all."""

import base64
import html
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from rich.table import Table
from rich.text import Text

from pushforward.reports.figures import MOST_PAIRS, new_figure, typical_range

Columns = Mapping[str, Float[np.ndarray, " n"]]
MOST_SHOWN = 20
NUM_POINTS = 3000

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; margin: 1rem 0; }
td, th { padding: .15rem .8rem; text-align: right; border-bottom: 1px solid #ddd; }
td:first-child, th:first-child { text-align: left; }
img { max-width: 100%; }
.warning { background: #fff3cd; padding: .5rem 1rem; }
"""


def plot_learning(curve: Sequence[tuple[int, float]]):
    """The log-likelihood of held-out rows against the steps of training."""
    figure = new_figure(figsize=(7, 3.5))
    axes = figure.subplots()
    steps, losses = np.array(curve, float).reshape(-1, 2).T
    axes.plot(steps, -losses, marker=".")
    finite = np.isfinite(losses)
    if finite.any():
        steps, losses = steps[finite], losses[finite]
        axes.axvline(steps[np.argmin(losses)], color="black", linewidth=0.8, linestyle="--", label="kept")
        # The first points may be far below: the interesting part is the end.
        low, high = np.quantile(-losses, 0.1), (-losses).max()
        margin = max(0.1 * (high - low), 1e-3)
        axes.set_ylim(low - margin, high + margin)
        axes.legend()
    axes.set(xlabel="steps", ylabel="validation (nats a row)", title="learning curve")
    return figure


def plot_pairs(data: Columns, draws: Columns):
    """Data and draws beside each other: histograms, data above the diagonal and draws below."""
    names = list(data)[:MOST_PAIRS]
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
    figure.suptitle("held-out data (black, above) and draws (orange, below)")
    return figure


def summary_table(data: Columns, draws: Columns, title: str) -> Table:
    """Means, standard deviations and quantiles of data and draws."""
    # Names may have brackets, which Rich would take for its markup.
    table = Table(title=Text(title))
    for head in ("", "", "mean", "sd", "5%", "median", "95%"):
        table.add_column(head, justify="right" if head else "left")
    for name in list(data)[:MOST_SHOWN]:
        for label, values in ((name, data[name]), ("", draws[name])):
            numbers = (values.mean(), values.std(), *np.quantile(values, (0.05, 0.5, 0.95)))
            table.add_row(Text(label), "data" if label else "draws", *(f"{number:.4g}" for number in numbers))
    return table


def score_lines(scores: Mapping[str, Mapping[str, float]]) -> list[tuple[str, str]]:
    """Names of densities and what held-out rows say of them."""
    return [(name, f"{score['mean']:.4f} ± {score['se']:.4f} nats a row") for name, score in scores.items()]


def page(summary: Mapping[str, Any], pictures: Mapping[str, Any]) -> str:
    """The page: the summary's scores, warnings and calibration, and the pictures inside it."""
    title = f"density of {summary['file']}"
    columns = ", ".join(summary["columns"]) + (f" given {', '.join(summary['given'])}" if summary["given"] else "")
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(title)}</title><style>{STYLE}</style>",
        f"<h1>{html.escape(title)}</h1>",
        f"<p>{summary['rows']:,} rows of {html.escape(columns)}; {summary['held_out_rows']:,} of them held out. "
        f"Fitted in {summary['seconds']:.0f} s, seed {summary['seed']}.</p>",
        *(f"<p class=warning>{html.escape(text)}</p>" for text in summary["warnings"]),
        "<h2>Log-likelihood of held-out rows</h2><table>",
        *(f"<tr><td>{html.escape(name)}<td>{text}" for name, text in score_lines(summary["scores"])),
        "</table>",
        f"<p>{html.escape(summary['calibration'])}</p>" if summary["calibration"] else "",
    ]
    for name, figure in pictures.items():
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=110)
        image = base64.b64encode(file.getvalue()).decode()
        parts.append(f'<h2>{html.escape(name)}</h2><img alt="{html.escape(name)}" src="data:image/png;base64,{image}">')
    return "\n".join(parts) + "\n"
