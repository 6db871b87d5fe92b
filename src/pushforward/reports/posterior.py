"""The report of a posterior: tables and plots of its draws, of its diagnostics and of the training.

`diagnostics` is any object with the attributes of `pushforward.Diagnostics`, and `posterior` one with its methods.
"""

import contextlib
from pathlib import Path
from typing import Any

import jax.random as jr
import numpy as np
from jaxtyping import Float, PRNGKeyArray
from rich.console import Group
from rich.table import Table
from rich.text import Text

from pushforward.reports.columns import by_scalar
from pushforward.reports.figures import MOST_PAIRS, new_figure, typical_range
from pushforward.reports.files import write_all
from pushforward.training.history import History

COLORS = {"good": "green", "reweight": "yellow", "unreliable": "red"}
NUM_PLOTTED = 4000
MOST_ROWS = 40


def scalars(posterior: Any, key: PRNGKeyArray, num_samples: int = 20_000) -> dict[str, Float[np.ndarray, " n"]]:
    """Draws of every scalar of the posterior by its name, as `theta[2]`; weighted ones unless the verdict is good."""
    draws = (posterior.sample if posterior.diagnostics.verdict == "good" else posterior.resample)(key, num_samples)
    return by_scalar(draws)


def verdict_text(diagnostics: Any) -> Group:
    """The diagnostics in words and numbers."""
    d = diagnostics
    numbers = Table.grid(padding=(0, 2))
    numbers.add_row("ELBO", f"{d.elbo:.4f} ± {d.elbo_se:.4f} nats")
    numbers.add_row("log evidence", f"{d.log_evidence:.4f} ± {d.log_evidence_se:.4f} nats")
    numbers.add_row("k-hat", f"{d.khat:.2f}")
    numbers.add_row("effective draws", f"{d.ess:,.0f} of {d.num_draws:,} ({d.ess_fraction:.1%})")
    verdict = Text("verdict: ", style="bold").append(d.verdict, style=f"bold {COLORS[d.verdict]}")
    return Group(numbers, verdict, *(Text(f"  {reason}") for reason in d.reasons))


def summary_table(columns: dict[str, Float[np.ndarray, " n"]], title: str) -> Table:
    """Mean, standard deviation and quantiles of each scalar."""
    table = Table(title=title, caption=_rest(len(columns)))
    for head in ("", "mean", "sd", "5%", "median", "95%"):
        table.add_column(head, justify="right" if head else "left")
    for name, values in list(columns.items())[:MOST_ROWS]:
        numbers = (values.mean(), values.std(), *np.quantile(values, (0.05, 0.5, 0.95)))
        table.add_row(name, *(f"{number:.4g}" for number in numbers))
    return table


def _rest(num: int) -> str | None:
    return f"and {num - MOST_ROWS} more, in posterior.nc" if num > MOST_ROWS else None


def write(posterior: Any, out: Path, key: PRNGKeyArray | None = None) -> list[Path]:
    """Write posterior.nc (for ArviZ), posterior.flow (for `pushforward.load`) and the plots into a folder.

    The files are made elsewhere and moved when all are done, so that a failure leaves nothing half-written.
    """
    key = jr.key(0) if key is None else key

    def make(folder: Path) -> None:
        columns = scalars(posterior, key, NUM_PLOTTED)
        posterior.to_arviz(key).to_netcdf(str(folder / "posterior.nc"))
        # Without the model's code, draws of supports that depend on each other cannot be made again.
        with contextlib.suppress(ValueError):
            posterior.save(folder / "posterior.flow")
        for name, figure in (
            ("trace.png", plot_trace(posterior.history, posterior.diagnostics)),
            ("marginals.png", plot_marginals(columns)),
            ("pairs.png", plot_pairs(columns)),
        ):
            figure.savefig(folder / name, dpi=120)

    return write_all(out, make)


def plot_trace(history: History, diagnostics: Any):
    """The ELBO against training steps, with the final log evidence."""
    figure = new_figure(figsize=(7, 4))
    axes = figure.subplots()
    records = [record for record in history.evaluations if np.isfinite(record.loss)]
    for stage in dict.fromkeys(record.stage for record in records):
        points = [(r.step, -r.loss) for r in records if r.stage == stage]
        if points:
            axes.plot(*zip(*points, strict=True), marker=".", label=stage)
    axes.axhline(diagnostics.log_evidence, color="black", linewidth=0.8, linestyle="--", label="log evidence")
    elbos = [-record.loss for record in records]
    if elbos and np.isfinite(diagnostics.log_evidence):
        # The first points may be far below: the interesting part is the end.
        low = np.quantile(elbos, 0.1)
        margin = max(0.1 * (diagnostics.log_evidence - low), 0.01)
        axes.set_ylim(low - margin, diagnostics.log_evidence + margin)
    axes.set(xlabel="steps", ylabel="ELBO (nats)", title=f"verdict: {diagnostics.verdict}")
    axes.legend()
    return figure


def plot_marginals(columns: dict[str, Float[np.ndarray, " n"]]):
    """A histogram of each scalar."""
    shown = dict(list(columns.items())[:MOST_ROWS])
    across = min(4, len(shown))
    down = -(-len(shown) // across)
    figure = new_figure(figsize=(3 * across, 2.2 * down))
    grid = figure.subplots(down, across, squeeze=False).ravel()
    for axes, (name, values) in zip(grid, shown.items(), strict=False):
        axes.hist(values, bins=60, density=True, color="steelblue", range=typical_range(values))
        axes.set(title=name, yticks=[])
    for axes in grid[len(shown) :]:
        axes.set_visible(False)
    return figure


def plot_pairs(columns: dict[str, Float[np.ndarray, " n"]]):
    """Scatter plots of the first scalars against each other."""
    shown = dict(list(columns.items())[:MOST_PAIRS])
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
                axes.set_xlabel(left)
            if column == 0:
                axes.set_ylabel(below)
    return figure
