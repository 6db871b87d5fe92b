"""The common parts of all commands: options, what they print, and errors of the user."""

import argparse
import errno
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console

from pushforward.printable import printable

NEGATIVE = re.compile(r"-(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$|-inf$", re.IGNORECASE)

EXIT_CODES = """\
exit codes:
  0    success
  1    the fit succeeded, but some files could not be written or computed
  2    an error of the arguments, the data or the model; nothing is written
  130  Ctrl-C: the best result so far is written, if there is one
  141  the program that reads the output ended first, as head does
"""


class UserError(Exception):
    """An error that the user can correct; its message says how."""


class Terminal(Console):
    """A console that prints names as they are: brackets are not Rich's markup, and no text controls the terminal."""

    def __init__(self, **options: Any):
        super().__init__(markup=False, **options)

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(*(printable(part) if isinstance(part, str) else part for part in objects), **options)


def print_error(text: str) -> None:
    """Print a line on standard error.

    Args:
        text: what went wrong.
    """
    print(printable(f"pushforward: {text}"), file=sys.stderr)


class Parser(argparse.ArgumentParser):
    """A parser whose errors are those of the user, in one paragraph."""

    def error(self, message: str) -> NoReturn:
        raise UserError(message)


def path_argument(text: str) -> Path:
    """The path in an argument.

    Args:
        text: the argument.

    Raises:
        argparse.ArgumentTypeError: if it is empty, which would be the current folder, or cannot be a path.
    """
    if not text.strip() or "\0" in text:
        raise argparse.ArgumentTypeError(f"a path must have a name, but is {text!r}")
    if is_too_long(text):
        raise argparse.ArgumentTypeError(f"a path must fit this system, but has {len(text)} characters")
    return Path(text)


def is_too_long(path: str) -> bool:
    """Whether the system has no paths of this length.

    Args:
        path: the path.
    """
    try:
        os.stat(path)
    except OSError as error:
        return error.errno == errno.ENAMETOOLONG
    return False


def whole_number(text: str) -> int:
    """The whole number in an argument.

    Args:
        text: the argument.

    Raises:
        argparse.ArgumentTypeError: if there is none, or one of more than 64 bits.
    """
    shown = text if len(text) <= 30 else f"a text of {len(text)} characters"
    # Long before Python's own limit of digits.
    if not re.fullmatch(r"[+-]?\d{1,30}", text.strip()):
        raise argparse.ArgumentTypeError(f"must be a whole number, but is {shown}")
    if abs(number := int(text)) >= 2**63:
        raise argparse.ArgumentTypeError(f"must have at most 64 bits, but is {shown}")
    return number


def seed(text: str) -> int:
    """The seed in an argument.

    Args:
        text: the argument.

    Raises:
        argparse.ArgumentTypeError: unless it is a whole number of 32 bits; larger ones would not all differ.
    """
    if not 0 <= (number := whole_number(text)) < 2**32:
        raise argparse.ArgumentTypeError(f"must be between 0 and {2**32 - 1}, but is {number}")
    return number


def add_command(commands: argparse._SubParsersAction, name: str, purpose: str, text: str) -> argparse.ArgumentParser:
    """A command whose help keeps the line breaks of its text.

    Args:
        commands: the subparsers of the program.
        name: the name of the command.
        purpose: one line for the list of commands.
        text: the help of the command.
    """
    command = commands.add_parser(
        name, help=purpose, description=text, epilog=EXIT_CODES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    # Without it, argparse reads -1e3 as an option.
    command._negative_number_matcher = NEGATIVE
    return command


def add_common(command: argparse.ArgumentParser, run: Callable, *, out_needed: bool = False) -> None:
    """Add the options of commands that fit something.

    Args:
        command: the parser of the command.
        run: the function of the command.
        out_needed: whether --out is required.
    """
    add_out(command, needed=out_needed)
    add_seed(command)
    add_precision(command)
    add_output(command)
    command.set_defaults(run=run)


def add_seed(command: argparse.ArgumentParser) -> None:
    """Add the seed of all random numbers.

    Args:
        command: the parser of the command.
    """
    command.add_argument("--seed", type=seed, default=0, help="the seed of all random numbers (default 0)")


def add_precision(command: argparse.ArgumentParser) -> None:
    """Add the option that `set_precision` reads.

    Args:
        command: the parser of the command.
    """
    command.add_argument("--float32", action="store_true", help="single precision; the default is double")


def add_output(command: argparse.ArgumentParser) -> None:
    """Add the options of what is printed.

    Args:
        command: the parser of the command.
    """
    command.add_argument("--quiet", action="store_true", help="print warnings and errors only")
    command.add_argument(
        "--json", action="store_true",
        help="print one JSON object of the numbers on standard output, and everything else on standard error",
    )  # fmt: skip


def add_out(command: argparse.ArgumentParser, *, needed: bool) -> None:
    """Add the options of commands that write a folder.

    Args:
        command: the parser of the command.
        needed: whether --out is required.
    """
    command.add_argument("--out", required=needed, type=path_argument, metavar="DIR", help="the folder for the results")
    command.add_argument("--force", action="store_true", help="replace files in DIR that pushforward did not write")


def set_precision(options: argparse.Namespace) -> None:
    """Set JAX's precision, before the model is imported, because its arrays have this precision too.

    Args:
        options: the parsed arguments.
    """
    import jax

    jax.config.update("jax_enable_x64", not options.float32)


def user_error(error: Exception, name: str, raised_by: str) -> UserError:
    """Any error as an error of the user, in one paragraph; raises the error itself if PUSHFORWARD_TRACEBACK is set.

    Args:
        error: the error.
        name: the name of the input that caused it.
        raised_by: the part that raised it, for errors other than ValueError.
    """
    if wants_traceback():
        raise error
    text = failure_text(error)
    if not isinstance(error, ValueError):
        text = f"{raised_by} raised {text}"
    return UserError(f"{name}: {text} (Set PUSHFORWARD_TRACEBACK=1 to see where it comes from.)")


def wants_traceback() -> bool:
    """Whether errors are raised with their traceback, not reported in one paragraph."""
    return bool(os.environ.get("PUSHFORWARD_TRACEBACK"))


def failure_text(error: BaseException) -> str:
    """An error in one line, with its type unless it is a ValueError with a message.

    Args:
        error: the error, or a KeyboardInterrupt.
    """
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    text = str(error).strip().split("\n\n")[0].replace("\n", " ")
    return text if isinstance(error, ValueError) and text else f"{type(error).__name__}: {text}".rstrip(": ")
