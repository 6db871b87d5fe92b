"""What all commands share: options, errors that a person can mend, and folders that can be written."""

import argparse
import os
import re
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

NEGATIVE = re.compile(r"-(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$|-inf$", re.IGNORECASE)


class UserError(Exception):
    """Something that the person at the terminal can mend; its text says how."""


def add_command(commands: argparse._SubParsersAction, name: str, purpose: str, text: str) -> argparse.ArgumentParser:
    """A command whose help shows a text with the line breaks that it has."""
    command = commands.add_parser(
        name, help=purpose, description=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    # By itself argparse takes -1e3 for an option.
    command._negative_number_matcher = NEGATIVE
    return command


def add_common(command: argparse.ArgumentParser, run: Callable, *, out_needed: bool = False) -> None:
    """The options of commands that fit something."""
    command.add_argument("--out", required=out_needed, type=Path, metavar="DIR", help="the folder for the results")
    command.add_argument("--seed", type=int, default=0, help="for all randomness (default 0)")
    command.add_argument("--float32", action="store_true", help="single precision; the default is double")
    command.add_argument("--quiet", action="store_true", help="no progress bar")
    command.set_defaults(run=run)


def set_precision(options: argparse.Namespace) -> None:
    """Before the model is imported: its arrays have this precision too."""
    import jax

    jax.config.update("jax_enable_x64", not options.float32)


def mendable(error: Exception, name: str, raised_by: str) -> UserError:
    """What went wrong with something, in a paragraph."""
    if os.environ.get("PUSHFORWARD_TRACEBACK"):
        raise error
    text = str(error).strip().split("\n\n")[0].replace("\n", " ")
    if not isinstance(error, ValueError) or not text:
        text = f"{raised_by} raised {type(error).__name__}: {text}"
    return UserError(f"{name}: {text} (Set PUSHFORWARD_TRACEBACK=1 to see where it comes from.)")


def check_writable(out: Path) -> None:
    """Find out before an hour of work, and leave no trace if the folder cannot be used."""
    new = [folder for folder in (out, *out.parents) if not folder.exists()]
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise UserError(f"the output folder {out} cannot be written: {error.strerror}; give another --out.") from None
    finally:
        for folder in new:
            with suppress(OSError):
                folder.rmdir()
