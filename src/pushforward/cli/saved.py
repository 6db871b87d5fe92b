"""The files that pushforward wrote, as arguments of commands."""

import argparse
from typing import Any

from pushforward.cli.terminal import UserError, path_argument


def add_saved(command: argparse.ArgumentParser) -> None:
    """Add the saved file, and the modules that it may import, to a command.

    Args:
        command: the parser of the command.
    """
    add = command.add_argument
    add("saved", type=path_argument, metavar="SAVED", help="a file that pushforward wrote")
    add(
        "--trust", nargs="+", default=[], metavar="MODULE",
        help="modules, in addition to pushforward's, that the file may import",
    )  # fmt: skip


def load_saved(options: argparse.Namespace) -> Any:
    """What the saved file holds.

    Args:
        options: the parsed arguments.

    Raises:
        UserError: if the file does not exist, cannot be read, or is not one that `pushforward.save` wrote.
    """
    from pushforward import serialization  # imports JAX, which takes a while

    try:
        return serialization.load(options.saved, trusted=options.trust)
    except FileNotFoundError:
        raise UserError(f"there is no file {options.saved}.") from None
    except OSError as error:
        raise UserError(f"{options.saved} cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise UserError(str(error)) from None
