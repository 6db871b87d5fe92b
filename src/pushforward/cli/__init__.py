"""The command line: `pushforward demo`, `fit`, `density`, `sample` and `vae`."""

import argparse
import os
import sys
import textwrap
from collections.abc import Sequence
from importlib.metadata import version

from rich.console import Console

from pushforward.cli import density, posterior, sample, vae
from pushforward.cli.terminal import UserError

DESCRIPTION = "Variational inference with normalizing flows, with an honest statement of whether to trust the result."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code, 2 for what the user can mend."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_help()
        return 0
    # Names of columns and sites may have brackets, which are no markup.
    console = Console(markup=False)
    try:
        return options.run(options, console)
    except UserError as error:
        text = textwrap.fill(str(error), width=min(console.width, 100), break_long_words=False, break_on_hyphens=False)
        print(f"pushforward: error: {text}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("pushforward: interrupted before there was anything to keep", file=sys.stderr)
        if arguments is None:
            # At once, for threads that compile do not survive the end of Python.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(130)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pushforward", description=DESCRIPTION)
    parser.add_argument("--version", action="version", version=version("pushforward"))
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for part in (posterior, density, sample, vae):
        part.add_commands(commands)
    return parser
