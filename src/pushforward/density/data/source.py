"""Samples in memory, or in a file that is read in parts."""

import os
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Float, Int, PRNGKeyArray

from pushforward.bijections.arrays import ArrayLike
from pushforward.density.data.arrays import as_floats, as_matrix, column_names
from pushforward.density.data.columns import Circle, wrap
from pushforward.density.data.splitting import Split, hash_rows
from pushforward.density.data.tables import open_mapped
from pushforward.training import Rows

# Rows of a file are read in blocks of this many: reading single rows is slow, and larger blocks mix rows from fewer
# places of the file.
BLOCK = 256


def open_samples(x: ArrayLike | str | os.PathLike, *, missing: bool = False) -> tuple[np.ndarray, list[str] | None]:
    """The samples as a matrix, memory-mapped if they are a file or a `numpy.memmap`, and the names of its columns.

    Args:
        x: an array, a data frame, or the path of a file.
        missing: whether cells of a text file may be empty or mark missing values, which become NaN.

    Raises:
        ValueError: if they are not a matrix of numbers.
    """
    samples: Any = x
    if isinstance(x, str | os.PathLike):
        names, samples = open_mapped(os.fspath(x), missing=missing)
    else:
        names = column_names(samples)
    if not isinstance(samples, np.memmap) or samples.dtype.names is not None:
        return as_matrix("x", samples, names), names
    if samples.ndim != 2 or 0 in samples.shape or samples.dtype.kind not in "biuf":
        raise ValueError(
            f"x must hold rows and columns of numbers, but has shape {samples.shape} and dtype {samples.dtype}."
        )
    return samples, names


class Source(NamedTuple):
    """The samples that a density is fitted to. Rows of weight 0 are skipped everywhere.

    Args:
        x: the samples, in memory or memory-mapped.
        condition: the condition of each row, or None.
        weights: the weight of each row, or None if all are equal.
        circles: the ends of the interval of each angle; None for other columns.
        rows_at_once: the number of rows of a memory-mapped `x` that may be in memory.
    """

    x: np.ndarray
    condition: Float[np.ndarray, "n cond_dim"] | None
    weights: Float[np.ndarray, " n"] | None
    circles: Sequence[Circle | None]
    rows_at_once: int

    @property
    def streams(self) -> bool:
        """Whether the samples do not fit into memory at once."""
        return isinstance(self.x, np.memmap) and len(self.x) > self.rows_at_once

    def chunks(self) -> Iterator[tuple[Int[np.ndarray, " rows"], Float[np.ndarray, "rows dim"]]]:
        """All samples in parts, each with the indices of its rows."""
        size = self.rows_at_once if self.streams else len(self.x)
        for start in range(0, len(self.x), size):
            rows = self._with_weight(np.arange(start, min(start + size, len(self.x))))
            if len(rows):
                # Reading a slice of a file is faster than reading the same rows by an index.
                chunk = self.x[start : start + size]
                yield rows, self._clean(chunk if len(rows) == len(chunk) else chunk[rows - start])

    def weights_of(self, rows: Int[np.ndarray, " rows"]) -> Float[np.ndarray, " rows"]:
        """The weights of rows.

        Args:
            rows: the indices of the rows.
        """
        return np.ones(len(rows)) if self.weights is None else self.weights[rows]

    def condition_of(self, rows: Int[np.ndarray, " rows"]) -> Float[np.ndarray, "rows cond_dim"] | None:
        """The conditions of rows, or None.

        Args:
            rows: the indices of the rows.
        """
        return None if self.condition is None else self.condition[rows]

    def read_part(self, key: PRNGKeyArray) -> tuple[Int[np.ndarray, " rows"], Float[np.ndarray, "rows dim"]]:
        """All samples if they fit into memory, otherwise random blocks of them; with the indices of their rows.

        Args:
            key: the key for the choice of blocks.
        """
        if not self.streams:
            return next(self.chunks())
        rows = self._random_rows(key)
        self._check_enough(rows, 2)
        return rows, self._clean(self.x[rows])

    def training_rows(self, key: PRNGKeyArray, split: Split, batch_size: int) -> Rows:
        """The training rows: all if they fit into memory, otherwise those of random blocks.

        Args:
            key: the key for the choice of blocks.
            split: the rule that assigns rows to validation.
            batch_size: the number of rows of a batch, unless there are fewer.
        """
        part_key, fill_key = jr.split(key)
        rows, x = self._read_assigned(part_key, split, held_out=False)
        if not self.streams:
            return self._to_device(rows, x, min(batch_size, len(rows)))
        self._check_enough(rows)
        # Repeat random rows up to a fixed number: training is compiled for one number of rows, and so is this draw.
        random = np.asarray(jr.randint(fill_key, (self.rows_at_once,), 0, len(rows)))
        chosen = np.sort(np.concatenate([np.arange(len(rows)), random[len(rows) :]]))
        return self._to_device(rows[chosen], x[chosen], min(batch_size, len(self.x)))

    def validation_rows(self, key: PRNGKeyArray, split: Split, num_parts: int, max_rows: int) -> Rows:
        """The validation rows: all if they fit into memory, otherwise some from several parts of the file.

        Args:
            key: the key for the choice of blocks.
            split: the rule that assigns rows to validation.
            num_parts: the number of parts of a file to read.
            max_rows: the largest number of validation rows of a file.
        """
        parts = [self._read_assigned(k, split, held_out=True) for k in jr.split(key, num_parts if self.streams else 1)]
        rows, x = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        self._check_enough(rows)
        chosen = np.asarray(jr.permutation(key, len(rows)))[: max_rows if self.streams else len(rows)]
        return self._to_device(rows[chosen], x[chosen])

    def _read_assigned(self, key: PRNGKeyArray, split: Split, *, held_out: bool) -> tuple[np.ndarray, np.ndarray]:
        return self.assigned(*self.read_part(key), split, held_out=held_out)

    def assigned(
        self, rows: Int[np.ndarray, " rows"], x: Float[np.ndarray, "rows dim"], split: Split, *, held_out: bool
    ) -> tuple[Int[np.ndarray, " kept"], Float[np.ndarray, "kept dim"]]:
        """The validation rows among some rows, or the training rows.

        Args:
            rows: the indices of the rows.
            x: the samples in these rows.
            split: the rule that assigns rows to validation.
            held_out: whether to return the validation rows.
        """
        wanted = split.is_held_out(rows, hash_rows((x, self.condition_of(rows)))) == held_out
        return rows[wanted], x[wanted]

    def _check_enough(self, rows: np.ndarray, min_rows: int = 1) -> None:
        if len(rows) < min_rows:
            raise ValueError(
                f"rows_at_once={self.rows_at_once:,} is too small: too few of these rows have a positive weight and "
                "can be used for training or for validation; use a larger rows_at_once."
            )

    def _to_device(self, rows: np.ndarray, x: np.ndarray, batch_size: int | None = None) -> Rows:
        weights = None if self.weights is None else self.weights[rows]
        values = jax.tree.map(lambda a: jnp.asarray(a, float), (x, self.condition_of(rows)))
        return Rows(values, None if weights is None else jnp.asarray(weights, float), batch_size)

    def _random_rows(self, key: PRNGKeyArray) -> Int[np.ndarray, " rows"]:
        # Blocks that start near the end continue at the beginning, so that all rows are equally likely.
        starts = np.asarray(jr.randint(key, (-(-self.rows_at_once // BLOCK),), 0, len(self.x)))
        rows = (starts[:, None] + np.arange(BLOCK)) % len(self.x)
        return self._with_weight(np.sort(rows.ravel()[: self.rows_at_once]))

    def _with_weight(self, rows: Int[np.ndarray, " rows"]) -> Int[np.ndarray, " kept"]:
        return rows if self.weights is None else rows[self.weights[rows] > 0]

    def _clean(self, x: np.ndarray) -> Float[np.ndarray, "rows dim"]:
        return wrap(as_floats(x), self.circles)
