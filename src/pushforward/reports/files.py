"""Folders of files that appear only when all of them are complete."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path


def write_all(out: Path, make: Callable[[Path], None]) -> list[Path]:
    """Write files into a folder, all of them or, if one fails, none.

    The files are made in a temporary folder inside `out` and moved when all of them are complete.

    Args:
        out: the folder, which is created if it does not exist.
        make: writes the files into the folder that it is called with.

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
