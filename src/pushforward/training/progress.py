"""The progress of a fit on the terminal: a bar with the time left, or a plain line now and then in a log."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SECONDS_BETWEEN_LINES = 10.0


@contextmanager
def progress_bar(name: str, total: float, *, show: bool) -> Iterator[Callable[[float, str], None]]:
    """Show progress on standard error.

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
    # Rich takes a while to import, and most fits are silent.
    from rich.console import Console

    console = Console(stderr=True, markup=False)
    with (_bar if console.is_terminal else _lines)(console, name, total) as advance:
        yield advance


@contextmanager
def _bar(console, name: str, total: float) -> Iterator[Callable[[float, str], None]]:
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[text]}", markup=False),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(name, total=total, text="compiling")
        yield lambda done, text: bar.update(task, completed=done, text=text)


@contextmanager
def _lines(console, name: str, total: float) -> Iterator[Callable[[float, str], None]]:
    began = last = time.monotonic()
    waiting: str | None = None

    def advance(done: float, text: str) -> None:
        nonlocal last, waiting
        now = time.monotonic()
        share = min(done / total, 1.0)
        left = f", about {(now - began) * (1 / share - 1):.0f} s left" if 0 < share < 1 else ""
        waiting = f"{name}: {share:.0%}, {text}, {now - began:.0f} s{left}"
        if now - last >= SECONDS_BETWEEN_LINES:
            console.print(waiting, soft_wrap=True)
            last, waiting = now, None

    try:
        yield advance
    finally:
        if waiting is not None:
            console.print(waiting, soft_wrap=True)
