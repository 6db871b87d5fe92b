"""Atomic writing: files appear in a folder only when they are complete."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path


def write_all(out: Path, make: Callable[[Path], None]) -> list[Path]:
    """Write files into a folder, all of them or, if one fails, none.

    The files are made in a temporary folder inside `out` and moved when all of them are complete.

    Args:
        out: the folder, which is created if it does not exist.
        make: a function that writes the files into a folder, its argument.

    Returns:
        The paths of the files, sorted by name.
    """
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=".writing-") as folder:
        made = Path(folder)
        make(made)
        written = []
        for file in sorted(made.iterdir()):
            os.replace(file, out / file.name)
            written.append(out / file.name)
    return written


def write_text(path: str | os.PathLike, text: str) -> Path:
    """Write a text file, or keep the present one if writing fails.

    Args:
        path: the path of the file; its folder must exist.
        text: the text, which is written in UTF-8.
    """
    path = Path(path)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".writing-") as folder:
        made = Path(folder) / path.name
        made.write_text(text, encoding="utf-8")
        os.replace(made, path)
    return path
