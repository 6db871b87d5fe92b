"""The progress of a fit: a bar on the terminal or in a notebook, or a plain line now and then in a log."""

import html
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

SECONDS_BETWEEN_LINES = 10.0
SECONDS_BETWEEN_UPDATES = 0.2
Advance = Callable[[float, str], None]


@contextmanager
def progress_bar(name: str, total: float, *, show: bool) -> Iterator[Advance]:
    """Show progress on standard error, or below the cell of a notebook.

    Only a terminal gets control characters; a file gets plain lines, also if FORCE_COLOR is set.

    Args:
        name: the name of the fit.
        total: what `done` is when the fit is complete.
        show: whether to show anything.

    Yields:
        A function of `done` and a text to show with it.
    """
    if not show:
        yield lambda done, text: None
        return
    kind = _lines
    if in_notebook():
        kind = _cell
    elif on_terminal():
        kind = _bar
    with kind(name, total) as advance:
        yield advance


def on_terminal() -> bool:
    """Whether standard error is a terminal that can overwrite its lines."""
    return sys.stderr.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")


def in_notebook() -> bool:
    """Whether the program runs in the kernel of a notebook."""
    shell: Any = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return shell is not None and hasattr(shell, "kernel")


@contextmanager
def _bar(name: str, total: float) -> Iterator[Advance]:
    # Rich takes a while to import, and most fits are silent.
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    line = _Line(name, total)
    # Narrow, so that a line of text has room in 80 columns.
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=10),
        TextColumn("{task.fields[text]}", markup=False),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}", markup=False),
    )
    with Progress(*columns, console=Console(stderr=True, markup=False)) as bar:
        task = bar.add_task(name, total=total, text="compiling", left="")
        yield lambda done, text: bar.update(task, completed=done, text=text, left=line.left(done))


class _Line:
    """The text of a line, with the time that is left: at most, because most fits end before their budget is spent."""

    def __init__(self, name: str, total: float):
        self.name, self.total, self.began = name, total, time.monotonic()
        self.share = 0.0

    def left(self, done: float) -> str:
        self.share = min(done / self.total, 1.0)
        return f"at most {self.seconds * (1 / self.share - 1):.0f} s left" if 0 < self.share < 1 else ""

    def text(self, done: float, text: str) -> str:
        left = self.left(done)
        return f"{self.name}: {self.share:.0%}, {text}, {self.seconds:.0f} s{left and ', '}{left}"

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began


@contextmanager
def _throttled(seconds: float, show: Callable[[str], None], line: _Line) -> Iterator[Advance]:
    """Show a line at most once in some seconds, and the last one in any case."""
    last, waiting = time.monotonic(), None

    def advance(done: float, text: str) -> None:
        nonlocal last, waiting
        waiting = line.text(done, text)
        if time.monotonic() - last >= seconds:
            show(waiting)
            last, waiting = time.monotonic(), None

    try:
        yield advance
    finally:
        if waiting is not None:
            show(waiting)


@contextmanager
def _lines(name: str, total: float) -> Iterator[Advance]:
    def show(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    with _throttled(SECONDS_BETWEEN_LINES, show, _Line(name, total)) as advance:
        yield advance


@contextmanager
def _cell(name: str, total: float) -> Iterator[Advance]:
    """One line with a bar below the cell, which is updated in place and needs no widgets."""
    from IPython.display import HTML, display  # pyright: ignore[reportMissingImports]

    line = _Line(name, total)

    def content(text: str) -> Any:
        return HTML(f'<progress max="1" value="{line.share:.4f}"></progress> {html.escape(text)}')

    handle: Any = display(content(f"{name}: compiling"), display_id=True)
    with _throttled(SECONDS_BETWEEN_UPDATES, lambda text: handle.update(content(text)), line) as advance:
        yield advance
