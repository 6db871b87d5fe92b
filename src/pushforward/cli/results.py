"""The results of a command: the files it has written, the warnings of the fit, and the exit code."""

import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console

from pushforward.cli.terminal import failure_text, print_error, wants_traceback
from pushforward.files import replacing
from pushforward.user_warnings import InterruptedFit

T = TypeVar("T")


class Results:
    """The results of a command. What fails after the fit, or is ended by Ctrl-C, is skipped and reported.

    Args:
        out: the folder for the files.
        console: where warnings are printed.

    Attributes:
        written: the names of the files.
        warnings: the messages of the fit's warnings.
        interrupted: whether Ctrl-C ended the training.
        failed: whether something after the fit failed.
    """

    def __init__(self, out: Path | None, console: Console):
        self.out, self.console = out, console
        self.written: list[str] = []
        self.warnings: list[str] = []
        self.interrupted = self.failed = False

    @property
    def exit_code(self) -> int:
        """130 if Ctrl-C ended the training, 1 if something else failed, otherwise 0."""
        return 130 if self.interrupted else int(self.failed)

    @contextmanager
    def fit(self) -> Iterator[None]:
        """Print the warnings of a fit when it ends, each once."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                yield
            finally:
                shown = [warning for warning in caught if issubclass(warning.category, UserWarning)]
                self.warnings = [*dict.fromkeys(str(warning.message) for warning in shown)]
                self.interrupted = any(issubclass(warning.category, InterruptedFit) for warning in shown)
                for message in self.warnings:
                    self.console.print(f"warning: {message}", style="yellow", soft_wrap=True)

    def attempt(self, failure: str, make: Callable[[], T]) -> T | None:
        """What a function returns; None after an error or Ctrl-C, which is reported.

        Args:
            failure: what it means if the function fails, for the report.
            make: the function.
        """
        try:
            return make()
        except (Exception, KeyboardInterrupt) as error:
            if wants_traceback() and isinstance(error, Exception):
                raise
            print_error(f"{failure}: {failure_text(error)}")
            self.failed = True
            return None

    def write(self, name: str, write: Callable[[Path], object]) -> None:
        """Write a file, whole or not at all.

        Args:
            name: its name.
            write: writes the file of a given path.
        """
        if self.out is None:
            return
        path = self.out / name

        def write_all() -> str:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as part:
                write(part)
            return name

        if self.attempt(f"{name} was not written", write_all):
            self.written.append(name)

    def write_json(self, name: str, content: dict[str, Any]) -> None:
        """Write a JSON file, whole or not at all.

        Args:
            name: its name.
            content: its object.
        """
        self.write(name, lambda path: path.write_text(json.dumps(content, indent=1) + "\n"))
