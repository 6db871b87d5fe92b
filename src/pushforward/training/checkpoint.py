"""Where a fit stands, in a file, so that it can be killed and resumed to the bit.

A file holds numbers only: the facts that identify the fit, its history, the parameters of finished stages and the state
of the current one. Everything else, such as code, is the caller's and is built again by the same call.
"""

import hashlib
import os
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import PRNGKeyArray, PyTree

from pushforward.serialization import load, remove_parts, save
from pushforward.training.history import History

KIND = "pushforward checkpoint"
# Of arrays whose fingerprints are taken.
NUMBERS_AT_ONCE = 1 << 24
# Writing takes at most this share of the time.
SHARE_OF_TIME = 0.05


def fingerprint(tree: PyTree) -> str:
    """A digest of the arrays of a pytree, with their places, shapes, dtypes and values, and of its plain numbers."""
    # The order of a NumPyro distribution's arrays differs from process to process, and so do their indices.
    return _digest(*sorted(_digest(_place(path), *_parts(leaf)) for path, leaf in jax.tree.leaves_with_path(tree)))


def _place(path: tuple) -> bytes:
    named = [entry for entry in path if not isinstance(entry, jax.tree_util.FlattenedIndexKey)]
    return jax.tree_util.keystr(tuple(named)).encode()


def _parts(leaf: Any) -> Iterator[bytes]:
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jr.key_data(leaf)
    if eqx.is_array_like(leaf):
        values = np.asarray(leaf)
        yield f"{values.dtype}{values.shape}".encode()
        # Part by part: an array may be memory-mapped and larger than memory.
        rows = values.reshape(-1)
        for start in range(0, rows.size, NUMBERS_AT_ONCE):
            yield np.ascontiguousarray(rows[start : start + NUMBERS_AT_ONCE]).tobytes()
    elif isinstance(leaf, str):
        yield leaf.encode()


def _digest(*parts: bytes | str) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() if isinstance(part, str) else part)
    return digest.hexdigest()


Reason = Literal["steps", "plateau", "reached", "stopped"]


class FinishedStage(NamedTuple):
    """A stage of a fit that has ended.

    Attributes:
        best: the arrays of its best parameters.
        loss: their loss.
        best_step: the step of the stage that they were reached at.
        steps: all steps of the stage.
        evaluations: how many evaluations there were up to its end.
        reason: why it ended.
    """

    best: list[Any]
    loss: float
    best_step: int
    steps: int
    evaluations: int
    reason: Reason


class Standing(NamedTuple):
    """Where a fit stands.

    Attributes:
        finished: the stages that have ended.
        current: the arrays of the state of the current stage, None before its first step.
        history: of all stages.
        seconds: the time that all of it took.
        stopped: whether the callback has stopped the fit.
    """

    finished: tuple[FinishedStage, ...]
    current: list[Any] | None
    history: History
    seconds: float
    stopped: bool


BEGINNING = Standing((), None, History(np.zeros(0, np.float32), ()), 0.0, False)


class Checkpoint:
    """The file of one fit; with `path=None` nothing is read or written.

    Args:
        path: of the file. If it exists, the fit resumes from it.
        facts: what identifies the fit: the name of the function, options, fingerprints of data and model. The version
            of the library and the fingerprint of the key are added.
        key: of the fit.

    Attributes:
        standing: where the fit stood when the file was written.

    Raises:
        ValueError: if the file is not the checkpoint of this fit; the message names what differs. The file is
            unchanged.
        OSError: if the file cannot be written.
    """

    def __init__(self, path: str | os.PathLike | None, facts: dict[str, Any], key: PRNGKeyArray):
        self.path = None if path is None else Path(path)
        self.standing, self._next_write = BEGINNING, 0.0
        if self.path is None:
            return
        self.facts = facts | {"version": metadata.version("pushforward"), "key": fingerprint(key)}
        if self.path.exists():
            self.standing = self._read(self.path)
        remove_parts(self.path)
        # A file that cannot be written is better known now than after hours.
        self.write(self.standing)

    def _read(self, path: Path) -> Standing:
        try:
            content = load(path)
        except ValueError as error:  # damaged, or of version 0.1.0, whose classes are gone
            raise ValueError(f"{path} is not a checkpoint that this version can resume: {error}") from error
        if not (isinstance(content, dict) and content.get("kind") == KIND):
            raise ValueError(f"{path} is not a checkpoint of a fit; give another path.")
        before = content["facts"]
        differ = [name for name in self.facts | before if before.get(name) != self.facts.get(name)]
        if differ:
            raise _another_fit(path, f"in: {', '.join(differ)}")
        return content["standing"]

    def restore(self, like: PyTree, leaves: list[Any]) -> PyTree:
        """A pytree with the structure of another and these arrays."""
        expected, structure = jax.tree.flatten(like)
        kinds = [[(leaf.shape, leaf.dtype) for leaf in arrays] for arrays in (expected, leaves)]
        if kinds[0] != kinds[1]:
            raise _another_fit(self.path, "in the arrays of the model or of the optimizer")
        return jax.tree.unflatten(structure, leaves)

    @property
    def due(self) -> bool:
        """Whether the file should be written again: writing takes a small share of the time."""
        return self.path is not None and time.monotonic() > self._next_write

    def write(self, standing: Standing) -> None:
        """Write the file, atomically."""
        if self.path is None:
            return
        began = time.monotonic()
        save(self.path, {"kind": KIND, "facts": self.facts, "standing": standing})
        now = time.monotonic()
        self._next_write = now + (now - began) / SHARE_OF_TIME


def _another_fit(path: Path | None, what: str) -> ValueError:
    return ValueError(
        f"{path} is the checkpoint of another fit, which differs {what}. Give another path, or remove the file to "
        "begin again."
    )
