"""`pushforward density`: the density of the columns of a file."""

import argparse
import time
from typing import Any

import numpy as np
from rich.console import Console

from pushforward.cli.devices import add_devices, connect, mesh, writes
from pushforward.cli.folders import check_folder, folder
from pushforward.cli.results import Results
from pushforward.cli.terminal import (
    UserError,
    add_command,
    add_common,
    path_argument,
    set_precision,
    user_error,
    whole_number,
)

DESCRIPTION = """\
Fit a normalizing flow to the rows of a file, and evaluate it on test rows.

FILE is CSV or TSV (with or without a line of names), .npy, .npz, Parquet or Arrow; also columns separated by blanks.

DIR will hold density.flow (for `pushforward sample` and pushforward.load), summary.json and report.html: scores of
test rows, compared with a Gaussian and with a mixture of Gaussians (with scikit-learn), plots of data and draws,
calibration, and the learning curve.

While the fit runs, DIR also holds a checkpoint: if the fit is killed or interrupted, the same command continues it.
Ctrl-C ends the training; the best density so far is then saved and evaluated, and the exit code is 130.
"""
CHECKPOINT, DENSITY = "checkpoint", "density.flow"
FILES = (DENSITY, "summary.json", "report.html")


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add `density`.

    Args:
        commands: the subparsers of the program.
    """
    command = add_command(commands, "density", "fit the density of the rows of a file", DESCRIPTION)
    command.add_argument(
        "file", type=path_argument, metavar="FILE", help="the data: CSV, TSV, .npy, .npz, Parquet, Arrow"
    )
    add = command.add_argument
    add("--columns", nargs="+", metavar="COLUMN", help="the columns to fit; by default all but those of --given")
    add("--given", nargs="+", default=[], metavar="COLUMN", help="fit the density conditional on these columns")
    add("--positive", nargs="+", default=[], metavar="COLUMN", help="columns of positive numbers")
    add(
        "--bounds",
        nargs=3,
        action="append",
        default=[],
        metavar=("COLUMN", "LO", "HI"),
        help="the lower and upper bound of a column; may be repeated",
    )
    add(
        "--circular", nargs="+", action="append", default=[], metavar=("COLUMN", "PERIOD"),
        help="a column of angles, and its period (default 2 pi)",
    )  # fmt: skip
    add("--discrete", nargs="+", default=[], metavar="COLUMN", help="columns with a constant step, such as counts")
    add(
        "--missing",
        choices=("error", "impute"),
        default="error",
        help="what to do with empty cells, NA and NaN: refuse them (the default), or draw them, which takes three fits",
    )
    add("--held-out", type=float, default=0.1, metavar="FRACTION", help="the fraction of test rows (default 0.1)")
    add("--epochs", type=whole_number, metavar="N", help="the largest number of passes through the data")
    add_devices(command, "rows")
    add_common(command, _run, out_needed=True)


def _run(options: argparse.Namespace, console: Console) -> int:
    check_folder(options.out, FILES, force=options.force)
    if not 0 < options.held_out < 1:
        raise UserError(f"--held-out must be a fraction between 0 and 1, but is {options.held_out:g}.")
    if options.epochs is not None and options.epochs < 1:
        raise UserError(f"--epochs must be 1 or more, but is {options.epochs}.")
    from pushforward.density.data import tables

    try:
        wanted = None if options.columns is None else [*options.columns, *options.given]
        table = tables.read(options.file, wanted, missing=options.missing == "impute")
        names = [name for name in table.names if name not in options.given]
        x, condition = table.pick(names, options.file), table.pick(options.given, options.file)
        if not names:
            raise ValueError("all columns are in --given: no column remains to be fitted.")
    except ValueError as error:
        raise UserError(str(error)) from None
    set_precision(options)
    connect(options, console)
    x, condition = np.asarray(x, float), np.asarray(condition, float) if options.given else None
    try:
        return _fit_and_evaluate(options, console, names, x, condition)
    except UserError:
        raise
    except Exception as error:
        raise user_error(error, str(options.file), "the fit") from error


def _supports(options: argparse.Namespace, names: list[str], x: np.ndarray) -> list[Any]:
    """The constraint of each column."""
    from numpyro.distributions import constraints

    from pushforward.density import Circular
    from pushforward.density.data.tables import column_indices

    found: dict[int, Any] = {}

    def declare(name: str, constraint: Any) -> None:
        (i,) = column_indices([name], names, "the table to fit")
        if i in found:
            raise ValueError(f"the column {name} has two supports; give each column once.")
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
        # Like the data: from 0 on, or symmetric about 0.
        declare(name, Circular(turn, 0.0 if np.nanmin(x[:, i]) >= 0 else -turn / 2))
    return [found.get(i, constraints.real) for i in range(len(names))]


def _number(text: str, option: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{option} takes numbers, but got {text!r}.") from None


def _fit_and_evaluate(
    options: argparse.Namespace, console: Console, names: list[str], x: np.ndarray, condition: np.ndarray | None
) -> int:
    """Fit; write the density; then evaluate it and write the rest. Returns the exit code."""
    import jax.random as jr

    from pushforward.density import fit_density, hold_out
    from pushforward.reports.density import compare
    from pushforward.reports.provenance import with_command

    kinds: dict[str, Any] = {
        "support": _supports(options, names, x), "names": names, "condition_names": options.given,
        "missing": options.missing,
    }  # fmt: skip
    key, test_key, fit_key = jr.split(jr.key(options.seed), 3)
    of = lambda rows: None if condition is None else condition[rows]  # noqa: E731
    holdout = hold_out(
        x, options.held_out, key=test_key, condition=condition, discrete=options.discrete, **kinds
    )  # fmt: skip
    test, training = holdout.test, holdout.training
    checkpoint, began, results = options.out / CHECKPOINT, time.perf_counter(), Results(str(options.file), options.out)
    options.results.append(results)
    with results.fit(), folder(options.out):
        density = fit_density(
            x[training], key=fit_key, condition=of(training), discrete=holdout.discrete, **kinds,
            max_epochs=options.epochs, checkpoint=checkpoint, progress=not options.quiet,
            mesh=mesh(options),
        )  # fmt: skip
        density = with_command(density, options.command_line)
        # Save first, so that an error in the evaluation does not lose the result of the training.
        if writes(options):
            density.save(options.out / DENSITY)
    if not writes(options):
        return results.exit_code
    results.written.append(DENSITY)
    if results.interrupted:
        console.print(f"the same command continues the training from its checkpoint in {options.out}", soft_wrap=True)
    else:
        checkpoint.unlink(missing_ok=True)
    evaluation = results.attempt(
        "the density was not evaluated, so there is no report",
        lambda: density.evaluate(x[test], of(test), key=key),
    )
    if evaluation is not None:
        summary = {
            "file": str(options.file), "columns": names, "condition": options.given, "rows": len(x),
            "test_rows": len(test), "fit": dict(density.summary()),
            "scores": {name: {"mean": s.mean, "se": s.standard_error} for name, s in evaluation.scores.items()},
            "mixture": evaluation.mixture, "calibration": evaluation.calibration,
            "seconds": time.perf_counter() - began, "steps": len(density.history.losses), "seed": options.seed,
            "warnings": results.warnings,
        }  # fmt: skip
        page = {"title": f"density of {options.file}", "warnings": results.warnings}
        results.write_summary(summary)
        results.write("report.html", lambda path: density.report(path, evaluation, **page))
        console.print(str(compare(evaluation.data, evaluation.draws, str(options.file))), soft_wrap=True)
        console.print(str(evaluation), soft_wrap=True)
    console.print(str(density.summary()), soft_wrap=True)
    console.print(f"wrote {', '.join(results.written)} to {options.out}", soft_wrap=True)
    return results.exit_code
