"""Checkpoints: the state of a fit in a file, from which the fit resumes with bitwise identical results.

A file holds numbers only: the facts that identify the fit, its history, the parameters of finished stages and the state
of the current one. Everything else, such as code, is the caller's and is built again by the same call.
"""

import dataclasses
import hashlib
import io
import os
import re
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeGuard

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jax.extend.core import ClosedJaxpr, Jaxpr
from jax.sharding import Mesh
from jaxtyping import PRNGKeyArray, PyTree

from pushforward.files import remove_parts
from pushforward.serialization import load, save
from pushforward.training.history import History
from pushforward.training.processes import bytes_of_first, check_agreement, spans_processes, writes_files
from pushforward.user_warnings import warn

KIND = "pushforward checkpoint"
# The number of array entries that are hashed at a time.
HASHED_AT_ONCE = 1 << 24
# The largest fraction of the running time that is used to write checkpoints.
MAX_WRITE_FRACTION = 0.05
# Of the loss of a stage's initial model, which another machine computes with other rounding errors.
LOSS_TOLERANCE = 1e-4


def fingerprint(tree: PyTree) -> str:
    """A digest of a pytree: its arrays, with their places, shapes, dtypes and values, its plain numbers, and the static
    fields of its modules.
    """
    # The order of a NumPyro distribution's arrays differs from process to process, and so do their indices.
    leaves = sorted(_digest(_place(path), *_parts(leaf)) for path, leaf in jax.tree.leaves_with_path(tree))
    return _digest(*leaves, *sorted(_static_fields(tree)))


def shapes(tree: PyTree) -> str:
    """The shapes and dtypes of the arrays of a pytree, which say more than a fingerprint if processes disagree.

    Args:
        tree: the pytree.
    """
    leaves = [(jax.tree_util.keystr(path), leaf) for path, leaf in jax.tree.leaves_with_path(tree)]
    return ", ".join(
        f"{name} {leaf.dtype}{list(leaf.shape)}".strip() for name, leaf in leaves if hasattr(leaf, "dtype")
    )


def fingerprint_optimizer(optimizer: optax.GradientTransformation, parameters: PyTree) -> str:
    """A digest of the computation of an update, which contains all options of an optimizer."""
    state = optimizer.init(parameters)
    update = jax.make_jaxpr(optimizer.update)(parameters, state, parameters)
    # Without the names of variables and in any order, for the reason above; without addresses of functions.
    lines = sorted(re.sub(r"\b[a-z]{1,2}\b|0x[0-9a-f]+", "", str(update)).splitlines())
    # The text has no values of arrays, such as a table of learning rates.
    return _digest(fingerprint(state), *lines, *sorted(map(fingerprint, _constants(update))))


def _constants(computation: ClosedJaxpr | Jaxpr) -> Iterator[jax.Array | np.ndarray]:
    """The arrays that a computation holds, also those of the computations inside it."""
    for value in computation.consts if isinstance(computation, ClosedJaxpr) else ():
        yield value if isinstance(value, jax.Array) else np.asarray(value)
    for equation in computation.eqns:
        for part in jax.tree.leaves(equation.params):
            if isinstance(part, ClosedJaxpr | Jaxpr):
                yield from _constants(part)


def _static_fields(tree: PyTree) -> Iterator[str]:
    if isinstance(tree, eqx.Module):
        for field in dataclasses.fields(tree):
            value = getattr(tree, field.name, None)
            if field.metadata.get("static"):
                yield f"{type(tree).__qualname__}.{field.name}={_text(value)}"
            else:
                yield from _static_fields(value)
    elif isinstance(tree, (tuple, list, dict)):
        for value in tree.values() if isinstance(tree, dict) else tree:
            yield from _static_fields(value)


def _text(value: Any) -> str:
    """Plain values and the names of functions; of other objects the type alone, because they may show addresses."""
    if isinstance(value, (tuple, list)):
        return ",".join(map(_text, value))
    plain = value is None or isinstance(value, (bool, int, float, str))
    return repr(value) if plain else getattr(value, "__qualname__", type(value).__qualname__)


def _place(path: tuple) -> bytes:
    named = [entry for entry in path if not isinstance(entry, jax.tree_util.FlattenedIndexKey)]
    return jax.tree_util.keystr(tuple(named)).encode()


def _parts(leaf: Any) -> Iterator[bytes]:
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jr.key_data(leaf)
    if eqx.is_array_like(leaf):
        values = np.asarray(leaf)
        yield f"{values.dtype}{values.shape}".encode()
        # In parts: an array may be memory-mapped and larger than memory.
        rows = values.reshape(-1)
        for start in range(0, rows.size, HASHED_AT_ONCE):
            yield np.ascontiguousarray(rows[start : start + HASHED_AT_ONCE]).tobytes()
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


class FitState(NamedTuple):
    """The state of a fit.

    Attributes:
        finished: the stages that have ended.
        current: the arrays of the state of the current stage, None before its first evaluation.
        history: the history of all stages.
        seconds: the time that all of it took.
        stopped: whether the callback has stopped the fit.
    """

    finished: tuple[FinishedStage, ...]
    current: list[Any] | None
    history: History
    seconds: float
    stopped: bool


def _is_state(state: Any) -> TypeGuard[FitState]:
    """Whether it is the state of a fit, with fields of the right types, which a forged file need not have."""

    def are_arrays(leaves: Any) -> bool:
        return isinstance(leaves, list) and all(
            isinstance(leaf, jax.Array | np.ndarray | np.generic) for leaf in leaves
        )

    def is_finished(stage: Any) -> bool:
        numbers = (stage.best_step, stage.steps, stage.evaluations) if isinstance(stage, FinishedStage) else (None,)
        return all(isinstance(number, int) for number in numbers) and are_arrays(stage.best)

    return (
        isinstance(state, FitState)
        and isinstance(state.finished, tuple)
        and all(map(is_finished, state.finished))
        and (state.current is None or are_arrays(state.current))
        and isinstance(state.history, History)
        and isinstance(state.seconds, float)
    )


INITIAL_STATE = FitState((), None, History(np.zeros(0, np.float32), ()), 0.0, False)


class Checkpoint:
    """The file of one fit; with `path=None` nothing is read or written.

    Args:
        path: the path of the file. If it exists, the fit resumes from it.
        facts: returns what identifies the fit: the name of the function, options, fingerprints of data and model. The
            version of the library, the precision and the fingerprint of the key are added. It is called only if there
            is a path.
        key: the key of the fit.
        mesh: the mesh of the fit, or None. Of several processes the first reads and writes the file.

    Attributes:
        state: the state of the fit when the file was written.

    Raises:
        ValueError: if the file is not the checkpoint of this fit, or if several processes do not make the same fit;
            the message names what differs. The file is unchanged.
        OSError: if the file cannot be written.
    """

    def __init__(
        self,
        path: str | os.PathLike | None,
        facts: Callable[[], dict[str, Any]],
        key: PRNGKeyArray,
        mesh: Mesh | None = None,
    ):
        self.path = None if path is None else Path(path)
        self.state, self._next_write, self._writes = INITIAL_STATE, 0.0, writes_files(mesh)
        several = spans_processes(mesh)
        if self.path is None and not several:
            return
        self.facts = facts() | {
            "version": metadata.version("pushforward"),
            "precision": str(jnp.result_type(float)),
            "key": fingerprint(key),
        }
        if several:
            others = {f"version of {name}": metadata.version(name) for name in ("jax", "jaxlib", "numpyro")}
            check_agreement(self.facts | others | {"checkpoint": str(self.path)}, mesh)
        if self.path is None:
            return
        present = self._writes and self.path.exists()
        before = bytes_of_first(self.path.read_bytes() if present else None, mesh)
        if before is not None:
            self.state = self._read(self.path, before)
        if self._writes:
            remove_parts(self.path)
        # If the path is not writable, the error comes before the training.
        self._save(self.path, self.state)

    def _read(self, path: Path, data: bytes) -> FitState:
        file = io.BytesIO(data)
        file.name = str(path)
        try:
            content = load(file)
        except ValueError as error:  # damaged, or of version 0.1.0, whose classes are gone
            raise ValueError(f"{path} is not a checkpoint that this version can resume: {error}") from error
        before, state = (content.get("facts"), content.get("state")) if isinstance(content, dict) else (None, None)
        if not (isinstance(before, dict) and content.get("kind") == KIND and _is_state(state)):
            raise ValueError(f"{path} is not a checkpoint of a fit; give another path.")
        differ = [name for name in self.facts | before if before.get(name) != self.facts.get(name)]
        if differ:
            raise _another_fit(path, f"in: {', '.join(differ)}")
        return state

    def check_loss(self, before: float, now: float) -> None:
        """Compare the losses of a stage's initial model: the code of a density or of an objective has no fingerprint.

        Raises:
            ValueError: if they differ by more than the rounding errors of another machine.
        """
        if not np.isclose(now, before, rtol=LOSS_TOLERANCE, atol=LOSS_TOLERANCE, equal_nan=True):
            raise _another_fit(self.path, f"in the loss of the initial model: it was {before:g} and is {now:g}")

    def restore(self, like: PyTree, leaves: list[Any]) -> PyTree:
        """A pytree with the structure of another and these arrays."""
        expected, structure = jax.tree.flatten(like)
        kinds = [[(leaf.shape, leaf.dtype) for leaf in arrays] for arrays in (expected, leaves)]
        if kinds[0] != kinds[1]:
            raise _another_fit(self.path, "in the arrays of the model or of the optimizer")
        return jax.tree.unflatten(structure, leaves)

    @property
    def due(self) -> bool:
        """Whether to write the file again. Writing takes at most 5 % of the running time."""
        return self.path is not None and time.monotonic() > self._next_write

    def write(self, state: FitState) -> None:
        """Write the file, atomically. If that fails, warn: the fit can go on."""
        if self.path is None:
            return
        try:
            self._save(self.path, state)
        except OSError as error:
            warn(f"the checkpoint {self.path} could not be written: {error}")

    def _save(self, path: Path, state: FitState) -> None:
        if not self._writes:
            return
        began = time.monotonic()
        try:
            save(path, {"kind": KIND, "facts": self.facts, "state": state})
        finally:
            now = time.monotonic()
            self._next_write = now + (now - began) / MAX_WRITE_FRACTION


def _another_fit(path: Path | None, what: str) -> ValueError:
    return ValueError(
        f"{path} is the checkpoint of another fit, which differs {what}. Give another path, or remove the file to "
        "begin again."
    )
