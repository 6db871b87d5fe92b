"""`pushforward density`: the density of the columns of a file."""

import argparse
import json
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from pushforward.cli.terminal import UserError, add_command, add_common, check_writable, set_precision, user_error

DESCRIPTION = """\
Fit a normalizing flow to the rows of a file, and judge it by rows that it has not seen.

FILE is CSV or TSV (with or without a line of names), .npy, .npz or, with pyarrow, Parquet.

DIR will hold density.flow (for `pushforward sample` and pushforward.load), summary.json and report.html: scores of
held-out rows beside those of a Gaussian and of a mixture of Gaussians (with scikit-learn), draws beside data,
calibration, and the learning curve.
"""
NUM_DRAWS = 20_000
# Draws for the calibration of a conditional density, for each of so many rows.
DRAWS_A_ROW, ROWS_FOR_CALIBRATION = 200, 1000
SMALLEST_HELD_OUT = 10


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add `density`."""
    command = add_command(commands, "density", "fit the density of the rows of a file", DESCRIPTION)
    command.add_argument("file", metavar="FILE", help="the data: CSV, TSV, .npy, .npz, Parquet")
    add = command.add_argument
    add("--columns", nargs="+", metavar="COLUMN", help="the columns to fit; by default all that are not given")
    add("--given", nargs="+", default=[], metavar="COLUMN", help="fit the density conditional on these columns")
    add("--positive", nargs="+", default=[], metavar="COLUMN", help="columns of positive numbers")
    add("--bounds", nargs=3, action="append", default=[], metavar=("COLUMN", "LO", "HI"), help="a column's interval")
    add(
        "--circular", nargs="+", action="append", default=[], metavar=("COLUMN", "PERIOD"),
        help="a column of angles, and their full turn (default 2 pi)",
    )  # fmt: skip
    add("--discrete", nargs="+", default=[], metavar="COLUMN", help="columns of values a step apart, as counts are")
    add("--held-out", type=float, default=0.1, metavar="SHARE", help="of rows, to judge by (default 0.1)")
    add("--epochs", type=int, metavar="N", help="passes through the data at most")
    add_common(command, _run, out_needed=True)


def _run(options: argparse.Namespace, console: Console) -> int:
    check_writable(options.out)
    if not 0 < options.held_out < 1:
        raise UserError(f"--held-out must be a share between 0 and 1, but is {options.held_out:g}.")
    if options.epochs is not None and options.epochs < 1:
        raise UserError(f"--epochs must be 1 or more, but is {options.epochs}.")
    from pushforward.density.data import tables

    try:
        wanted = None if options.columns is None else [*options.columns, *options.given]
        table = tables.read(options.file, wanted)
        names = [name for name in table.names if name not in options.given]
        x, condition = table.pick(names, options.file), table.pick(options.given, options.file)
        if not names:
            raise ValueError("all columns are given: there is none left to fit.")
    except ValueError as error:
        raise UserError(str(error)) from None
    set_precision(options)
    try:
        summary = _fit(options, console, names, np.asarray(x, float), np.asarray(condition, float))
    except Exception as error:
        raise user_error(error, options.file, "the fit") from error
    _print(summary, options, console)
    return 0


def _supports(options: argparse.Namespace, names: list[str], x: np.ndarray) -> list[Any]:
    """The constraint of each column."""
    from numpyro.distributions import constraints

    from pushforward.density import Circular
    from pushforward.density.data.tables import column_indices

    found: dict[int, Any] = {}

    def declare(name: str, constraint: Any) -> None:
        (i,) = column_indices([name], names, "the table to fit")
        if i in found:
            raise ValueError(f"the support of the column {name} is given twice.")
        found[i] = constraint

    for name in options.positive:
        declare(name, constraints.positive)
    for name, *ends in options.bounds:
        lower, upper = (_number(end, f"--bounds {name}") for end in ends)
        declare(name, constraints.interval(lower, upper))
    for name, *period in options.circular:
        if len(period) > 1:
            raise ValueError("--circular takes a column and its period; repeat it for further columns.")
        turn = _number(period[0], f"--circular {name}") if period else 2 * np.pi
        (i,) = column_indices([name], names, "the table to fit")
        # As the data have it: from 0, or around it.
        declare(name, Circular(turn, 0.0 if x[:, i].min() >= 0 else -turn / 2))
    return [found.get(i, constraints.real) for i in range(len(names))]


def _number(text: str, option: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{option} takes numbers, but got {text!r}.") from None


def _fit(options, console, names, x, condition) -> dict[str, Any]:
    import jax.numpy as jnp
    import jax.random as jr

    from pushforward import calibration, density_report, serialization
    from pushforward.density import NamedFlow, fit_density
    from pushforward.density.data import arrays, columns as supports, splitting, validation
    from pushforward.reports.files import write_all

    support = _supports(options, names, x)
    columns, rows = arrays.column_labels(len(names), names), np.arange(len(x))
    # Here, for rows of the whole table are counted from its first.
    validation.check_samples([(rows, x)], x.shape, columns)
    if options.given:
        validation.check_condition(condition, len(x), options.given)
    box, circles = supports.parse_support(support, names, columns)
    x = supports.wrap(x, circles)
    steps = supports.find_steps([(rows, x)], supports.parse_discrete(options.discrete, names, columns), columns)
    validation.check_inside(x, box.ends, steps, columns, rows)
    split_key, order_key, fit_key, noise_key, draw_key, pit_key = jr.split(jr.key(options.seed), 6)
    num_held_out = round(options.held_out * len(x))
    if num_held_out < SMALLEST_HELD_OUT:
        raise ValueError(
            f"--held-out {options.held_out:g} of {len(x)} rows are {num_held_out}, but the fit is judged by "
            f"{SMALLEST_HELD_OUT} or more."
        )
    lots = splitting.split_rows(rows, x, condition if options.given else None, steps, num_held_out, split_key)
    is_held_out = lots.is_held_out(rows, splitting.hash_rows((x, condition)))
    held_out, kept = np.asarray(jr.permutation(order_key, np.flatnonzero(is_held_out))), np.flatnonzero(~is_held_out)

    given = (lambda rows: condition[rows]) if options.given else lambda rows: None
    curve: list[tuple[int, float]] = []
    began = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        flow = fit_density(
            x[kept],
            key=fit_key,
            condition=given(kept),
            support=support,
            discrete={i: step for i, step in enumerate(steps) if step},
            names=names,
            max_epochs=options.epochs,
            progress=not options.quiet,
            callback=lambda step, loss: curve.append((step, loss)),
        )
    seconds = time.perf_counter() - began
    # What is scored are values spread over their steps, for the others as for the flow.
    spread = supports.wrap(x + steps * np.asarray(jr.uniform(noise_key, x.shape)), circles)
    log_prob = np.asarray(flow.log_prob(jnp.asarray(spread[held_out]), given(held_out)))
    scores, mixture = _scores(log_prob, np.concatenate([spread, condition], axis=1), kept, held_out, len(options.given))

    grids = tuple((float(x[:, i].min()), float(step)) if step else None for i, step in enumerate(steps))
    named = NamedFlow(flow, tuple(names), tuple(options.given), grids)
    if options.given:
        draws = np.asarray(flow.sample(draw_key, (), given(held_out)))
    else:
        draws = np.asarray(flow.sample(draw_key, (NUM_DRAWS,)))
    # Few beside the draws, whose own chance the band leaves out.
    few = held_out[:ROWS_FOR_CALIBRATION]
    pits = _pits(flow, spread[few], given(few), pit_key)
    pits = dict(zip(names, pits.T, strict=True))
    off = [name for name, pit in pits.items() if not calibration.within_band(pit)]
    summary = {
        "file": str(options.file),
        "columns": names,
        "given": options.given,
        "rows": len(x),
        "held_out_rows": len(held_out),
        "scores": scores,
        "mixture": mixture,
        "calibration": f"columns that differ from draws by more than chance (5 % level): {', '.join(off) or 'none'}",
        "seconds": seconds,
        "steps": curve[-1][0],
        "seed": options.seed,
        "warnings": [str(warning.message) for warning in caught if issubclass(warning.category, UserWarning)],
    }
    data_columns = dict(zip(names, spread[held_out].T, strict=True))
    draw_columns = dict(zip(names, draws.T, strict=True))
    pictures = {
        "Data and draws": density_report.plot_pairs(data_columns, draw_columns),
        "Calibration": calibration.plot_calibration(pits),
        "Learning": density_report.plot_learning(curve),
    }

    def make(folder: Path) -> None:
        serialization.save(folder / "density.flow", named)
        (folder / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
        (folder / "report.html").write_text(density_report.page(summary, pictures), encoding="utf-8")

    files = write_all(options.out, make)
    console.print(density_report.summary_table(data_columns, draw_columns, str(options.file)))
    console.print(f"wrote {', '.join(file.name for file in files)} to {options.out}", soft_wrap=True)
    return summary


def _scores(log_prob, table, kept, held_out, num_given) -> tuple[dict[str, dict[str, float]], str]:
    """Means and standard errors for held-out rows, of the flow and of what it has to beat."""
    from pushforward.density import baselines

    found = {"flow": log_prob, "Gaussian": baselines.gaussian(table[kept], table[held_out], num_given)}
    mixture = baselines.mixture(table[kept], table[held_out], num_given)
    note = "none; it needs scikit-learn (pip install 'pushforward[sklearn]')"
    if mixture is not None:
        found["mixture of Gaussians"], size = mixture
        note = f"{size} Gaussians, chosen by the Bayesian information criterion"
    return {
        name: {"mean": float(np.mean(value)), "se": float(np.std(value) / len(value) ** 0.5)}
        for name, value in found.items()
    }, note


def _pits(flow, rows, condition, key) -> np.ndarray:
    """The share of draws below each value of each row, draws that are given what the row is given."""
    if condition is None:
        draws = np.sort(np.asarray(flow.sample(key, (NUM_DRAWS,))), axis=0)
        below = [np.searchsorted(draws[:, i], rows[:, i]) for i in range(rows.shape[1])]
        return np.stack(below, axis=1) / NUM_DRAWS
    draws = np.asarray(flow.sample(key, (DRAWS_A_ROW,), condition))
    # Ranks among so few draws are spread, for else they would be steps.
    ranks = (draws < rows).sum(0)
    return (ranks + np.random.default_rng(0).uniform(size=ranks.shape)) / (DRAWS_A_ROW + 1)


def _print(summary: dict[str, Any], options: argparse.Namespace, console: Console) -> None:
    from pushforward import density_report

    for text in summary["warnings"]:
        console.print(f"warning: {text}", style="yellow")
    scores = Table.grid(padding=(0, 2))
    for name, text in density_report.score_lines(summary["scores"]):
        scores.add_row(name, text)
    console.print("log-likelihood of held-out rows:")
    console.print(scores)
    console.print(f"mixture: {summary['mixture']}")
    console.print(f"calibration: {summary['calibration']}")
    console.print(f"{summary['seconds']:.1f} s with compilation, {summary['steps']:,} steps")
