"""The rows of a large data set, in memory or memory-mapped, of which only a part is in use at a time."""

import abc
import os
from collections.abc import Callable, Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Int, PRNGKeyArray, PyTree

from pushforward.density.data.tables import open_mapped
from pushforward.masked import check_unmasked, without_masks
from pushforward.training.data import AbstractBatches, Rows
from pushforward.training.devices import read_parts
from pushforward.training.mapped import Mapped

CHECKED_AT_ONCE = 100_000
# Of a file: how many rows are in memory during training, and how many neighbors are read together.
ROWS_IN_MEMORY, BLOCK = 100_000, 256


class AbstractRows(eqx.Module):
    """Rows that are read by their indices: a pytree of arrays with one length along the first axis."""

    @property
    @abc.abstractmethod
    def num_rows(self) -> int:
        """The number of rows."""

    @abc.abstractmethod
    def at(self, indices: Int[Array, " rows"]) -> PyTree[Array]:
        """The rows of some indices, which may be traced.

        Args:
            indices: the indices of the rows.
        """


class AbstractDataRows(AbstractRows):
    """The rows of a data set, with a source of random ones and sums over all."""

    @abc.abstractmethod
    def batches(self, batch_size: int, key: PRNGKeyArray) -> AbstractBatches:
        """Random rows for training, drawn with replacement.

        Args:
            batch_size: rows per step.
            key: the key for the choice of rows that are in memory together.
        """

    def total(self, fn: Callable[[PyTree[Array], Bool[Array, " rows"]], PyTree], size: int) -> PyTree:
        """The sum of fn(rows, mask) over all rows in chunks of one size; the mask is False where a chunk is padded.

        Only one chunk at a time is in memory, also where the sum is differentiated.

        Args:
            fn: the function; its result is a pytree of arrays.
            size: the number of rows of a chunk.
        """
        num_chunks = -(-self.num_rows // size)

        @jax.checkpoint
        def of_chunk(index):
            rows = index * size + jnp.arange(size)
            return fn(self.at(jnp.minimum(rows, self.num_rows - 1)), rows < self.num_rows)

        if num_chunks == 1:
            return of_chunk(0)
        zeros = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), jax.eval_shape(of_chunk, 0))

        def add(total, index):
            return jax.tree.map(jnp.add, total, of_chunk(index)), None

        return jax.lax.scan(add, zeros, jnp.arange(num_chunks))[0]


class RowsInMemory(AbstractDataRows):
    """Rows as JAX arrays.

    Args:
        values: a pytree of arrays.
    """

    values: PyTree[Array]

    @property
    def num_rows(self):
        return jax.tree.leaves(self.values)[0].shape[0]

    def at(self, indices):
        return jax.tree.map(lambda a: a[indices], self.values)

    def batches(self, batch_size, key):
        return Rows(self.values, batch_size=batch_size)


class RowNumbers(AbstractDataRows):
    """Rows that are their own numbers, for likelihoods that find the data of a number themselves.

    Args:
        num: the number of rows.
    """

    num: int = eqx.field(static=True)

    @property
    def num_rows(self):
        return self.num

    def at(self, indices):
        return indices

    def batches(self, batch_size, key):
        return RandomNumbers(self.num, batch_size)


def shared(rows: Int[Array, " rows"], num_rows: int, num_entries: int) -> tuple[Array, Array]:
    """The entry of a smaller data set that belongs to each row, and the number of rows that share this entry.

    Args:
        rows: the indices of the rows.
        num_rows: the number of all rows.
        num_entries: the number of entries, at most that of the rows.
    """
    whole, rest = divmod(num_rows, num_entries)
    entries = rows % num_entries
    return entries, whole + (entries < rest)


class RandomNumbers(AbstractBatches):
    """Random numbers of rows, drawn with replacement.

    Args:
        num_rows: the number of rows.
        batch_size: rows per step.
    """

    num_rows: int = eqx.field(static=True)
    batch_size: int = eqx.field(static=True)

    def next(self, carry, key, step):
        return carry, (jr.randint(jr.fold_in(key, step), (self.batch_size,), 0, self.num_rows), None)


class RowsOnDisk(AbstractDataRows):
    """Rows that are read when they are needed, inside compiled programs too.

    Args:
        values: a pytree of arrays, some of them memory-mapped.
    """

    mapped: Mapped = eqx.field(static=True)

    def __init__(self, values: PyTree[np.ndarray]):
        self.mapped = Mapped(values)

    @property
    def num_rows(self):
        return self.mapped.num_rows

    def at(self, indices):
        return self.mapped.at(indices)

    def batches(self, batch_size, key):
        return RandomBlocks(self.mapped, key, batch_size)


class RandomBlocks(AbstractBatches):
    """Rows of random blocks of a file, which are read again before each chunk of steps.

    Args:
        mapped: the rows on disk.
        key: the key for the choice of blocks.
        batch_size: rows per step.
        mesh: the devices that share the rows that are in memory.
    """

    mapped: Mapped = eqx.field(static=True)
    key: PRNGKeyArray
    batch_size: int = eqx.field(static=True)
    mesh: Mesh | None = eqx.field(static=True, default=None)

    def on(self, mesh):
        return RandomBlocks(self.mapped, self.key, self.batch_size, mesh)

    def at(self, step):
        num_rows = self.mapped.num_rows
        num_blocks = -(-min(ROWS_IN_MEMORY, num_rows) // BLOCK)
        starts = np.asarray(jr.randint(jr.fold_in(self.key, step), (num_blocks,), 0, num_rows))
        # Blocks that start near the end continue at the beginning, so that all rows are equally likely.
        rows = np.sort(((starts[:, None] + np.arange(BLOCK)) % num_rows).ravel())
        return Rows(
            self.mapped.map(lambda array, dtype: read_parts(lambda i: np.asarray(array[i], dtype), rows, self.mesh)),
            batch_size=self.batch_size,
        )

    def next(self, carry, key, step):
        raise TypeError("the batches of RandomBlocks come from the source that its method `at` returns.")


def data_rows(data: PyTree) -> AbstractDataRows:
    """The rows of a data set, checked.

    Args:
        data: a pytree of arrays with one length along the first axis, or of the paths of table files, which become
            matrices of rows and columns; memory-mapped arrays stay on disk.

    Raises:
        ValueError: if there is no array, an entry is not an array of numbers, the lengths differ, or a value is masked
            or not finite.
    """
    data = jax.tree.map(
        lambda leaf: open_mapped(os.fspath(leaf)).values if isinstance(leaf, str | os.PathLike) else leaf, data
    )
    named = [(f"data{jax.tree_util.keystr(path)}", leaf) for path, leaf in jax.tree.leaves_with_path(data)]
    if not named:
        raise ValueError("data is empty: it must hold at least one array, with rows along its first axis.")
    for name, leaf in named:
        check_unmasked(name, leaf, "leave out the masked rows, or make the mask one of the arrays")
    leaves = [leaf for _, leaf in without_masks(named)]
    arrays = [leaf if isinstance(leaf, np.ndarray | jax.Array) else np.asarray(leaf) for leaf in leaves]
    for (name, leaf), array in zip(named, arrays, strict=True):
        if array.ndim == 0 or array.dtype.kind not in "biuf":
            raise ValueError(
                f"{name} must be an array of real numbers with rows along its first axis, but is {type(leaf).__name__} "
                f"of dtype {array.dtype} and shape {array.shape}."
            )
    lengths = {name: len(array) for (name, _), array in zip(named, arrays, strict=True)}
    if len(set(lengths.values())) > 1 or 0 in lengths.values():
        text = ", ".join(f"{name} has {length:,}" for name, length in lengths.items())
        raise ValueError(f"all arrays of data must have the same positive number of rows, but {text}.")
    for (name, _), array in zip(named, arrays, strict=True):
        _check_finite(name, array)
    values = jax.tree.unflatten(jax.tree.structure(data), arrays)
    if any(isinstance(array, np.memmap) for array in arrays):
        return RowsOnDisk(jax.tree.map(np.asanyarray, values))
    return RowsInMemory(jax.tree.map(jnp.asarray, values))


def _check_finite(name: str, array: Any) -> None:
    if array.dtype.kind != "f":
        return
    for start, part in _parts(array):
        bad = ~np.isfinite(part.reshape(len(part), -1)).all(1)
        if bad.any():
            raise ValueError(
                f"{name} must be finite, but row {start + int(np.argmax(bad))} holds NaN or an infinite value. Leave "
                "out or impute missing values."
            )


def _parts(array: Any) -> Iterator[tuple[int, np.ndarray]]:
    for start in range(0, len(array), CHECKED_AT_ONCE):
        yield start, np.asarray(array[start : start + CHECKED_AT_ONCE])
