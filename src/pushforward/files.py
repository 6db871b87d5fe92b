"""Atomic writing: files appear only when they are complete."""

import errno
import glob
import os
import stat
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
    files that are an hour old are removed. A symbolic link stays, and the file that it points to is replaced; the new
    file has the mode of the present one. Devices and open files, as /dev/stdout, are written to directly.

    Args:
        path: the path of the file; its folder must exist.

    Yields:
        The path to write to, with the same suffix.

    Raises:
        OSError: if the file cannot be written; it names `path`.
    """
    path = Path(path)
    target, mode = _destination(path), None
    with suppress(FileNotFoundError):
        mode = target.stat().st_mode
    if is_open_file(path) or (mode is not None and not stat.S_ISREG(mode)):
        yield path
        return
    if mode is not None and not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    remove_parts(path, MAX_AGE)
    part = target.with_name(f".{target.name}.{uuid.uuid4().hex}.part{path.suffix}")
    try:
        yield part
        if mode is not None:
            part.chmod(stat.S_IMODE(mode))
        os.replace(part, target)
    except OSError as error:
        # A full disk names no file, and the temporary name means nothing to the user.
        if error.errno is None or error.filename not in (None, str(part)):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        part.unlink(missing_ok=True)


def remove_parts(path: Path, age: float = 0.0) -> None:
    """Remove incomplete files that a killed process left behind when it was writing to `path`.

    Args:
        path: the path of the complete file.
        age: the smallest age of the files to remove, in seconds.
    """
    target, latest = _destination(path), time.time() - age
    for part in target.parent.glob(f".{glob.escape(target.name)}.{'[0-9a-f]' * 32}.part{glob.escape(path.suffix)}"):
        # Another process may remove it at the same time.
        with suppress(FileNotFoundError):
            if age == 0 or part.stat().st_mtime < latest:
                part.unlink()


def is_open_file(path: Path) -> bool:
    """Whether a path is the name of an open file, such as /dev/stdout: another file in its place would not be read.

    Args:
        path: the path.
    """
    folder = os.path.realpath(path.parent)
    return folder == "/dev" or folder.startswith("/proc/")


def _destination(path: Path) -> Path:
    """The file that a path leads to through symbolic links, which need not exist."""
    return Path(os.path.realpath(path))


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write a text file, or keep the present one if writing fails.

    Args:
        path: the path of the file; its folder must exist.
        text: the text, which is written in UTF-8.
    """
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")
