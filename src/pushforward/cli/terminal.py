"""The common parts of all commands: options and errors of the user."""

import argparse
import os
import re
from collections.abc import Callable
from pathlib import Path

NEGATIVE = re.compile(r"-(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$|-inf$", re.IGNORECASE)


class UserError(Exception):
    """An error that the user can correct; its message says how."""


def add_command(commands: argparse._SubParsersAction, name: str, purpose: str, text: str) -> argparse.ArgumentParser:
    """A command whose help keeps the line breaks of its text.

    Args:
        commands: the subparsers of the program.
        name: the name of the command.
        purpose: one line for the list of commands.
        text: the help of the command.
    """
    command = commands.add_parser(
        name, help=purpose, description=text, formatter_class=argparse.RawDescriptionHelpFormatter
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
    command.add_argument("--seed", type=int, default=0, help="the seed of all random numbers (default 0)")
    command.add_argument("--float32", action="store_true", help="single precision; the default is double")
    command.add_argument("--quiet", action="store_true", help="no progress bar")
    command.set_defaults(run=run)


def add_out(command: argparse.ArgumentParser, *, needed: bool) -> None:
    """Add the options of commands that write a folder.

    Args:
        command: the parser of the command.
        needed: whether --out is required.
    """
    command.add_argument("--out", required=needed, type=Path, metavar="DIR", help="the folder for the results")
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
