"""`pushforward --print-completion SHELL`: the script with which a shell completes commands, options and files."""

import argparse
from typing import Any

import shtab

from pushforward.cli.model import MODEL
from pushforward.cli.terminal import path_argument


def add_completion(parser: argparse.ArgumentParser) -> None:
    """Add the option to a program that has all of its commands.

    Args:
        parser: the parser of the program.
    """
    shtab.add_argument_to(parser, help="print the completion script of a shell, and exit")
    _complete_paths(parser)


def _complete_paths(parser: argparse.ArgumentParser) -> None:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                _complete_paths(command)
        elif action.type is path_argument or action.metavar == MODEL:
            completed: Any = action  # shtab reads this attribute
            completed.complete = shtab.DIRECTORY if action.metavar == "DIR" else shtab.FILE
