"""The progress bar, in one place so that all parts look alike."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn


@contextmanager
def progress_bar(name: str, total: float, *, show: bool) -> Iterator[Callable[[float, str], None]]:
    """A bar on the terminal; yields a function of what is done and a text to show beside it."""
    if not show:
        yield lambda done, text: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[text]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns) as bar:
        task = bar.add_task(name, total=total, text="compiling")
        yield lambda done, text: bar.update(task, completed=done, text=text)
