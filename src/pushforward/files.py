"""Atomic writing: files appear only when they are complete."""

import glob
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# An incomplete file that is older, in seconds, belongs to a killed process.
MAX_AGE = 3600.0


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Write a file that replaces the one at `path` when the block ends without an error.

    If the block fails, the present file is kept. Until then the new one has another name in the same folder. Incomplete
    files that are an hour old are removed. A device is written to directly.

    Args:
        path: the path of the file; its folder must exist.

    Yields:
        The path to write to, with the same suffix.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        yield path
        return
    remove_parts(path, MAX_AGE)
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part{path.suffix}")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def remove_parts(path: Path, age: float = 0.0) -> None:
    """Remove incomplete files that a killed process left behind when it was writing to `path`.

    Args:
        path: the path of the complete file.
        age: the smallest age of the files to remove, in seconds.
    """
    latest = time.time() - age
    for part in path.parent.glob(f".{glob.escape(path.name)}.{'[0-9a-f]' * 32}.part{glob.escape(path.suffix)}"):
        # Another process may remove it at the same time.
        with suppress(FileNotFoundError):
            if age == 0 or part.stat().st_mtime < latest:
                part.unlink()


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write a text file, or keep the present one if writing fails.

    Args:
        path: the path of the file; its folder must exist.
        text: the text, which is written in UTF-8.
    """
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")
