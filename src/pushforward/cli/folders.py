"""The folders that commands write: they are made when they are needed, and the files of others in them are kept."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from pushforward.cli.terminal import UserError

# Pages of this version, and of 0.1.0, begin with one of these lines.
PAGES = (b'<meta name="generator" content="pushforward', b"body { font: 16px/1.5 system-ui, sans-serif; max-width")
BEGINNING = 10_000


@contextmanager
def folder(out: Path, *, keep: bool = True) -> Iterator[None]:
    """Create a folder, and remove it after an error if it is empty.

    Args:
        out: the folder, which may exist.
        keep: whether to keep it if there is no error.
    """
    new = [part for part in (out, *out.parents) if not part.exists()]
    try:
        out.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        keep = False
        raise
    finally:
        with suppress(OSError):
            for part in () if keep else new:
                part.rmdir()


def check_folder(out: Path, names: Sequence[str], *, force: bool) -> None:
    """Raise unless results can be written into a folder, before any work is done; the disk stays unchanged.

    Args:
        out: the folder, which need not exist.
        names: the names of the files to write.
        force: whether files that pushforward did not write may be replaced.

    Raises:
        UserError: if the folder cannot be written, or files in it would be replaced that pushforward did not write.
    """
    try:
        with folder(out, keep=False), tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise UserError(f"the output folder {out} cannot be written: {error.strerror}; give another --out.") from None
    known = {name: _is_own(out / name) for name in names if (out / name).exists()}
    # Tables and pictures do not show who wrote them, so the files next to them decide.
    among_own = True in known.values()
    foreign = [name for name, own in known.items() if not (among_own if own is None else own)]
    if foreign and not force:
        raise UserError(
            f"the output folder {out} holds {', '.join(foreign)}, which pushforward did not write; give another --out, "
            "or --force to replace such files."
        )


def check_page(page: Path, *, force: bool) -> None:
    """Raise unless a page can be written, before any work is done; the disk stays unchanged.

    Args:
        page: the path of the page; its folder need not exist.
        force: whether a page that pushforward did not write may be replaced.

    Raises:
        UserError: if the page cannot be written, or pushforward did not write the present one.
    """
    if page.is_dir():
        raise UserError(f"the page {page} cannot be written, because it is a folder; give another --out.")
    check_folder(page.parent, [page.name], force=force)


def _is_own(path: Path) -> bool | None:
    """Whether pushforward wrote a file; None if that cannot be seen."""
    if path.suffix.lower() in (".html", ".htm"):
        with suppress(OSError), path.open("rb") as file:
            beginning = file.read(BEGINNING)
            return any(line in beginning for line in PAGES)
        return False
    if path.suffix in (".flow", ".vae"):
        from pushforward.serialization import is_archive  # imports JAX, which takes a while

        return is_archive(path)
    return None
