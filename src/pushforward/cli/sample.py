"""`pushforward sample`: draws from anything that was saved."""

import argparse
import math
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from pushforward.cli.results import Results
from pushforward.cli.saved import add_saved, load_saved
from pushforward.cli.terminal import (
    UserError,
    add_command,
    add_output,
    add_precision,
    add_seed,
    failure_text,
    path_argument,
    set_precision,
    user_error,
    whole_number,
)
from pushforward.files import is_open_file
from pushforward.memory import check_memory
from pushforward.printable import printable

# Of all draws, in memory at the same time: in the flow, in the coordinates of the data, and as text.
COPIES = 3
DESCRIPTION = """\
Draw from a saved flow: density.flow, posterior.flow, or any flow, density or posterior that pushforward.save wrote.

Draws of a posterior have a column for each scalar of the model's sites. Columns of a flow without names are x0, x1,
..., and those of its condition c0, c1, ...
"""


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add `sample`.

    Args:
        commands: the subparsers of the program.
    """
    command = add_command(commands, "sample", "draw from a saved density or posterior", DESCRIPTION)
    add_saved(command)
    add = command.add_argument
    add("--num", type=whole_number, default=1000, metavar="N", help="the number of draws (default 1000)")
    add(
        "--out",
        type=path_argument,
        metavar="FILE",
        help=".csv, .tsv, .npy, .npz, .parquet or .arrow; by default CSV on the terminal",
    )
    add(
        "--given",
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help="the values of the columns of the condition",
    )
    add("--resample", action="store_true", help="for a posterior: resample the draws with importance weights")
    add_seed(command)
    add_precision(command)
    add_output(command)
    command.set_defaults(run=_run)


def _run(options: argparse.Namespace, console: Console) -> int:
    if options.num < 1:
        raise UserError(f"--num must be 1 or more, but is {options.num}.")
    given = dict(map(_pair, options.given))
    if options.out is not None:
        _check_out(options.out, options.saved)
    if options.json and (options.out is None or is_open_file(options.out)):
        raise UserError("--json needs --out FILE, because the draws would be on standard output, too.")
    set_precision(options)
    saved = load_saved(options)
    try:
        columns = _draw(saved, options, given)
    except Exception as error:
        raise user_error(error, str(options.saved), "drawing") from error
    try:
        _write(columns, options.out)
    except (ValueError, OSError) as error:
        raise UserError(
            f"the draws were not written to {options.out or 'the terminal'}: {failure_text(error)}"
        ) from None
    if options.json:
        from pushforward.reports.summary import summarize

        results = Results(str(options.saved), None)
        results.written.append(str(options.out))
        results.summary = {"draws": options.num, "columns": summarize(columns), "seed": options.seed}
        options.results.append(results)
    # Where the draws are on the terminal, nothing else is.
    if options.out is not None and not is_open_file(options.out):
        console.print(f"wrote {options.num:,} draws of {', '.join(columns)} to {options.out}", soft_wrap=True)
    return 0


def _check_out(out: Path, saved: Path) -> None:
    """Raise unless the draws may be written to a path, before the work."""
    if not out.parent.is_dir():
        raise UserError(f"there is no folder {out.parent} to write {out.name} to.")
    if out.is_dir():
        raise UserError(f"--out takes a file, but {out} is a folder.")
    # The same file may have several names, by links and by ways to write a path.
    if out.exists() and saved.exists() and os.path.samefile(out, saved):
        raise UserError(f"--out {out} is the saved file itself; give another file for the draws.")
    if out.is_file():
        from pushforward.serialization import is_archive

        if is_archive(out):
            raise UserError(f"--out {out} is a file of pushforward.save, which draws would replace; give another file.")


def _write(columns: dict[str, np.ndarray], out: Path | None) -> None:
    from pushforward.density.data import tables

    if out is not None:
        tables.write(out, columns)
        return
    try:
        # A terminal might obey a name; a file or another program gets it as it is.
        shown = printable if sys.stdout.isatty() else str
        tables.write_text(sys.stdout, {shown(name): values for name, values in columns.items()})
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader, such as `head`, has all that it wants. Without this, Python would complain at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _pair(text: str) -> tuple[str, float]:
    name, equals, value = text.rpartition("=")
    try:
        number = float(value)
        if not equals or not name or not math.isfinite(number):
            raise ValueError
        return name, number
    except ValueError:
        raise UserError(f"--given takes names and numbers, as in x=1.5, but got {text!r}.") from None


def _check_memory(num: int, dim: int) -> None:
    """Raise if draws cannot fit into the memory of the machine, before the system ends the program."""
    what = f"--num {num} draws of {dim} columns"
    check_memory(COPIES * 8 * num * dim, what, "take fewer draws at a time, with other seeds")


def _draw(saved: Any, options: argparse.Namespace, given: dict[str, float]) -> dict[str, np.ndarray]:
    import jax.random as jr

    from pushforward.density import Density
    from pushforward.flow import Flow
    from pushforward.posterior import Posterior
    from pushforward.reports.columns import by_scalar

    key = jr.key(options.seed)
    if isinstance(saved, Posterior | Flow | Density):
        _check_memory(options.num, (saved if isinstance(saved, Flow) else saved.flow).shape[0])
    if isinstance(saved, Posterior):
        if given:
            raise ValueError("a posterior takes no condition; remove --given.")
        return by_scalar((saved.resample if options.resample else saved.sample)(key, options.num))
    if options.resample:
        raise ValueError("only draws of a posterior have importance weights; remove --resample.")
    density = Density.of(saved) if isinstance(saved, Flow) else saved
    if not isinstance(density, Density):
        raise ValueError(f"it holds a {type(saved).__name__}, not a flow, density or posterior to draw from.")
    draws = np.asarray(density.sample(key, options.num, given))
    return dict(zip(density.columns, draws.T, strict=True))
