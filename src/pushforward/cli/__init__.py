"""How does the command line parse arguments, call the library and print?"""

import argparse
import contextlib
import os
import shlex
import sys
import textwrap
import warnings
from collections.abc import Sequence
from importlib.metadata import version

from pushforward.cli import density, diagnose, posterior, report, sample, vae
from pushforward.cli.compilation_cache import keep_programs
from pushforward.cli.completion import add_completion
from pushforward.cli.results import json_text
from pushforward.cli.terminal import EXIT_CODES, Parser, Terminal, UserError, print_error

DESCRIPTION = "Variational inference with normalizing flows, with diagnostics that say whether to trust the result."

# What a shell reports for a program that the signal of a broken pipe has ended.
BROKEN_PIPE = 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: the arguments, by default those of the process.

    Returns:
        The exit code: 0, 1 if some files could not be written, 2 for an error of the user, 130 after Ctrl-C, 141 if the
        reader of the output, such as `head`, has ended.
    """
    try:
        try:
            return _main(arguments)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes once more when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE


def _main(arguments: Sequence[str] | None) -> int:
    parser, console = _parser(), Terminal()
    try:
        options = parser.parse_args(arguments)
        # For reports, which say how they can be repeated.
        options.command_line = shlex.join(["pushforward", *(sys.argv[1:] if arguments is None else arguments)])
        if options.command is None:
            parser.print_help()
            return 0
        # Only in a process of its own: a call from Python changes no configuration.
        if arguments is None:
            keep_programs()
            # JAX 0.10 waits forever if as many factorizations run at the same time as it has threads.
            os.environ.setdefault("PJRT_NPROC", str(max(16, os.cpu_count() or 1)))
        with warnings.catch_warnings():
            # Warnings of a fit are shown when it ends; these are of what precedes and follows it.
            warnings.showwarning = lambda message, *_, **__: print_error(f"warning: {message}")
            console.quiet, options.results = options.quiet, []
            # Also what the code of a model prints.
            with contextlib.redirect_stdout(sys.stderr) if options.json else contextlib.nullcontext():
                code = options.run(options, console)
        if options.json:
            results = [results.as_object() for results in options.results]
            print(json_text({"command": options.command, "exit_code": code, "results": results}))
        return code
    except UserError as error:
        text = textwrap.fill(str(error), width=min(console.width, 100), break_long_words=False, break_on_hyphens=False)
        print_error(f"error: {text}")
        return 2
    except KeyboardInterrupt:
        print_error("interrupted before there was a result")
        if arguments is None:
            # Without Python's own exit, which crashes while other threads compile.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(130)
        return 130


def _parser() -> Parser:
    parser = Parser(
        prog="pushforward", description=DESCRIPTION, epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--version", action="version", version=version("pushforward"))
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for part in (posterior, diagnose, density, sample, report, vae):
        part.add_commands(commands)
    add_completion(parser)
    return parser
