"""The results of a command: its numbers, the files it has written, the warnings of the fit, and the exit code."""

import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from pushforward.cli.terminal import failure_text, print_error, wants_traceback
from pushforward.files import replacing
from pushforward.user_warnings import InterruptedFit

T = TypeVar("T")


class Results:
    """The results of a command. What fails after the fit, or is ended by Ctrl-C, is skipped and reported.

    Args:
        name: what they are the results of: a model, or a file.
        out: the folder for the files.

    Attributes:
        summary: the numbers of the result; None if they could not be computed.
        written: the names of the files.
        warnings: the messages of the fit's warnings.
        failures: the messages of what failed after the fit.
        interrupted: whether Ctrl-C ended the training.
    """

    def __init__(self, name: str, out: Path | None):
        self.name, self.out = name, out
        self.summary: dict[str, Any] | None = None
        self.written: list[str] = []
        self.warnings: list[str] = []
        self.failures: list[str] = []
        self.interrupted = False

    def as_object(self) -> dict[str, Any]:
        """The object of `--json`."""
        return {
            "name": self.name, "folder": None if self.out is None else str(self.out), "written": self.written,
            "warnings": self.warnings, "failures": self.failures, "interrupted": self.interrupted,
            "summary": self.summary,
        }  # fmt: skip

    @property
    def exit_code(self) -> int:
        """130 if Ctrl-C ended the training, 1 if something else failed, otherwise 0."""
        return 130 if self.interrupted else int(bool(self.failures))

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
                    print_error(f"warning: {message}")

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
            self.failures.append(f"{failure}: {failure_text(error)}")
            print_error(self.failures[-1])
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

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Keep the numbers of the result, and write them to summary.json.

        Args:
            summary: the numbers, by name.
        """
        self.summary = summary
        self.write("summary.json", lambda path: path.write_text(json_text(summary) + "\n"))


def json_text(content: Any) -> str:
    """Valid JSON: numbers that are not finite, for which it has no notation, are null.

    Args:
        content: mappings, sequences, NumPy's arrays and numbers, and what JSON has.
    """
    return json.dumps(_plain(content), indent=1, allow_nan=False)


def _plain(value: Any) -> Any:
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, Mapping):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
