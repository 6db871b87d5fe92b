"""Saving to a file, and the one boundary at which everything that can be wrong with a file becomes a `ValueError`."""

import io
import os
from collections.abc import Sequence
from importlib import metadata
from typing import Any

from jaxtyping import PyTree

from pushforward.arguments import checked
from pushforward.files import replacing
from pushforward.serialization.archive import Archive, write_archive
from pushforward.serialization.decoding import Decoder
from pushforward.serialization.encoding import encode
from pushforward.serialization.names import Refused, shown
from pushforward.user_warnings import warn

FORMAT = 1


@checked()
def save(path: str | os.PathLike, tree: PyTree) -> None:
    """Save a flow, a result or any pytree of them to one file.

    A tree may hold Equinox modules and other dataclasses, NumPyro distributions, constraints and transforms, (named)
    tuples, lists, dicts, arrays, random keys, numbers, strings, dtypes, tree structures, and functions and classes from
    the top level of a module, which are saved by name. The file is an .npz archive that `numpy.load` reads too.

    Args:
        path: the path of the file; no suffix is added. An existing file is replaced, but kept if saving fails. If the
            path is a symbolic link, the file that it points to is replaced.
        tree: the pytree to save.

    Raises:
        ValueError: if the tree holds anything else, for example a lambda; the message gives its path in the tree.
        OSError: if the file cannot be written.

    Examples:
        >>> import jax, pushforward as pf
        >>> pf.save("flow", pf.flows.nice(2, key=jax.random.key(0)))
        >>> pf.load("flow").log_prob(jax.numpy.zeros((3, 2))).shape
        (3,)
    """
    with replacing(path) as part:
        _write(part, tree)


def to_bytes(tree: PyTree) -> bytes:
    """The content of the file that `save` would write.

    Args:
        tree: the tree to save.
    """
    file = io.BytesIO()
    _write(file, tree)
    return file.getvalue()


def from_bytes(data: bytes) -> PyTree:
    """Load the tree that `to_bytes` encoded. Like pickle and unlike `load`, it trusts all code that the data name.

    Args:
        data: the result of `to_bytes`.

    Raises:
        ValueError: if the data are anything else.
    """
    return _read(data, "the pickled object", None)


def _write(file: str | os.PathLike | io.BufferedIOBase, tree: PyTree) -> None:
    described, arrays = encode(tree)
    versions = {package: metadata.version(package) for package in ("pushforward", "jax", "equinox", "numpyro")}
    write_archive(file, {"format": FORMAT, "versions": versions, "tree": described}, arrays)


@checked(path=None)
def load(path: str | os.PathLike | io.BufferedIOBase, *, trusted: str | Sequence[str] = ()) -> PyTree:
    """Load a file that `save` wrote.

    Loading runs no code that the file chooses, imports nothing that only the file names, and allocates no more than a
    small multiple of the file's size. The file may use data classes of this library, NumPyro, JAX, Optax, Diffrax and
    `equinox.nn`, whose fields are set without calling a constructor, and functions of these packages without side
    effects. Arrays keep their dtypes, except that 64-bit JAX arrays become 32-bit arrays, with a warning, if JAX is not
    in 64-bit mode.

    A file holds a digest of its content, so a file that was damaged or edited is refused. The digest is no signature:
    it does not show who wrote the file.

    Args:
        path: the path of the file, or a file object that reads bytes.
        trusted: further modules or packages that the file may use, such as those of your own classes and functions.
            Loading imports them.

    Raises:
        TypeError: if an argument is of a wrong type.
        OSError: if the file does not exist or cannot be read.
        ValueError: if `save` did not write the file, if it was edited, is damaged or of a newer format, if it names
            anything that is not trusted or does not exist, or if the fields of a class have changed.

    Examples:
        >>> import jax, pushforward as pf
        >>> pf.save("results", {"flow": pf.flows.nice(2, key=jax.random.key(0)), "year": 2021})
        >>> pf.load("results")["year"]
        2021
    """
    trusted = [trusted] if isinstance(trusted, str) else trusted
    if isinstance(path, (str, os.PathLike)):
        with open(path, "rb") as file:
            return _read(file.read(), os.fspath(path), trusted)
    if hasattr(path, "read"):
        if path.seekable():
            path.seek(0)
        if isinstance(data := path.read(), bytes):
            return _read(data, str(getattr(path, "name", path)), trusted)
    raise TypeError(f"path must be a path, or a file object that reads bytes, but is {path!r}.")


def _read(data: bytes, source: str, trusted: Sequence[str] | None) -> PyTree:
    """The tree of a file. Wrong content can raise any error in any library, and all of them become a ValueError."""
    name, problem = source, "is not a file of pushforward.save, or is truncated or damaged"
    try:
        archive = Archive(data)
        document: dict[str, Any] = archive.document
        versions = ", ".join(f"{package} {version}" for package, version in document["versions"].items())
        source = f"{name} (saved with {shown(versions)})"
        if document["format"] > FORMAT:
            raise Refused(
                f"has format {document['format']}, but this version of pushforward reads formats up to {FORMAT}: "
                "upgrade it."
            )
        if not archive.is_as_saved():
            raise Refused("was edited after it was saved, or is damaged: its content does not match its digest.")
        problem = "cannot be read"
        decoder = Decoder(archive, trusted)
        tree = decoder.decode(document["tree"])
    except Refused as error:
        raise ValueError(f"{source} {error}") from error.__cause__
    except Exception as error:
        raise ValueError(f"{source} {problem}: {type(error).__name__}: {shown(str(error))}") from error
    if decoder.narrowed:
        warn(
            f"{name} holds 64-bit arrays, which were converted to 32 bits because JAX is not in 64-bit mode; to keep "
            'them, call jax.config.update("jax_enable_x64", True) before loading.'
        )
    return tree
