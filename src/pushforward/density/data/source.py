"""Samples in memory, or in a file that is read in parts."""

import os
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import ArrayLike, Float, Int, PRNGKeyArray

from pushforward.density.data.arrays import as_floats, as_matrix, column_names
from pushforward.density.data.columns import Circle, wrap
from pushforward.density.data.splitting import Split, hash_rows
from pushforward.density.data.tables import open_mapped
from pushforward.density.objective import Rows

# Rows that are read together; files are read in blocks, but what is trained on together should be from many places.
BLOCK = 256


def open_samples(x: ArrayLike | str | os.PathLike) -> tuple[np.ndarray, list[str] | None]:
    """The samples as a matrix in memory; or, from a file or memory-mapped already, as they are. And their names."""
    samples: Any = x
    if isinstance(x, str | os.PathLike):
        names, samples = open_mapped(os.fspath(x))
    else:
        names = column_names(samples)
    if not isinstance(samples, np.memmap):
        return as_matrix("x", samples, names), names
    if samples.ndim != 2 or 0 in samples.shape or samples.dtype.kind not in "bif":
        raise ValueError(
            f"x must hold rows and columns of numbers, but has shape {samples.shape} and dtype {samples.dtype}."
        )
    return samples, names


class Source(NamedTuple):
    """Rows, of which no more than so many are in memory if `x` is memory-mapped; those of weight 0 are none."""

    x: np.ndarray
    condition: Float[np.ndarray, "n cond_dim"] | None
    weights: Float[np.ndarray, " n"] | None
    circles: Sequence[Circle | None]
    rows_at_once: int

    @property
    def streams(self) -> bool:
        """Whether there are more rows than may be in memory."""
        return isinstance(self.x, np.memmap) and len(self.x) > self.rows_at_once

    def chunks(self) -> Iterator[tuple[Int[np.ndarray, " rows"], Float[np.ndarray, "rows dim"]]]:
        """All samples, part by part, with the numbers of their rows."""
        size = self.rows_at_once if self.streams else len(self.x)
        for start in range(0, len(self.x), size):
            rows = self._counting(np.arange(start, min(start + size, len(self.x))))
            if len(rows):
                # A slice of a file is read at once, where an index of its rows is not.
                chunk = self.x[start : start + size]
                yield rows, self._wrapped(chunk if len(rows) == len(chunk) else chunk[rows - start])

    def weights_of(self, rows: Int[np.ndarray, " rows"]) -> Float[np.ndarray, " rows"]:
        """The weights of rows of these numbers."""
        return np.ones(len(rows)) if self.weights is None else self.weights[rows]

    def condition_of(self, rows: Int[np.ndarray, " rows"]) -> Float[np.ndarray, "rows cond_dim"] | None:
        """What rows of these numbers are given."""
        return None if self.condition is None else self.condition[rows]

    def read_part(self, key: PRNGKeyArray) -> tuple[Int[np.ndarray, " rows"], Float[np.ndarray, "rows dim"]]:
        """As many samples as may be in memory, with the numbers of their rows: in blocks from anywhere, or all."""
        if not self.streams:
            return next(self.chunks())
        rows = self._anywhere(key)
        self._check_any(rows, 2)
        return rows, self._wrapped(self.x[rows])

    def training_rows(self, key: PRNGKeyArray, split: Split) -> Rows:
        """Rows to train on: as many as may be in memory, or all."""
        part_key, fill_key = jr.split(key)
        rows, x = self._drawn(part_key, split, held_out=False)
        if not self.streams:
            return self._together(rows, x)
        self._check_any(rows)
        # Always the same number of rows, for programs are compiled for it.
        again = np.asarray(jr.randint(fill_key, (self.rows_at_once - len(rows),), 0, len(rows)))
        chosen = np.sort(np.concatenate([np.arange(len(rows)), again]))
        return self._together(rows[chosen], x[chosen])

    def held_out_rows(self, key: PRNGKeyArray, split: Split, num_parts: int, most: int) -> Rows:
        """Rows to judge by: all of those in memory, or at most so many from so many parts of a file."""
        parts = [self._drawn(k, split, held_out=True) for k in jr.split(key, num_parts if self.streams else 1)]
        rows, x = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        self._check_any(rows)
        chosen = np.asarray(jr.permutation(key, len(rows)))[: most if self.streams else len(rows)]
        return self._together(rows[chosen], x[chosen])

    def _drawn(self, key: PRNGKeyArray, split: Split, *, held_out: bool) -> tuple[np.ndarray, np.ndarray]:
        rows, x = self.read_part(key)
        wanted = split.is_held_out_row(rows, hash_rows((x, self.condition_of(rows)))) == held_out
        return rows[wanted], x[wanted]

    def _check_any(self, rows: np.ndarray, fewest: int = 1) -> None:
        if len(rows) < fewest:
            raise ValueError(
                f"of rows_at_once={self.rows_at_once:,} rows too few have a positive weight and are to train on, or to "
                "judge by; give more."
            )

    def _together(self, rows: np.ndarray, x: np.ndarray) -> Rows:
        weights = None if self.weights is None else self.weights[rows]
        others: Any = (None if a is None else jnp.asarray(a, float) for a in (self.condition_of(rows), weights))
        return Rows(jnp.asarray(x, float), *others)

    def _anywhere(self, key: PRNGKeyArray) -> Int[np.ndarray, " rows"]:
        # Blocks that begin near the end go on at the beginning, so that all rows are as likely.
        starts = np.asarray(jr.randint(key, (-(-self.rows_at_once // BLOCK),), 0, len(self.x)))
        rows = (starts[:, None] + np.arange(BLOCK)) % len(self.x)
        return self._counting(np.sort(rows.ravel()[: self.rows_at_once]))

    def _counting(self, rows: Int[np.ndarray, " rows"]) -> Int[np.ndarray, " rows"]:
        return rows if self.weights is None else rows[self.weights[rows] > 0]

    def _wrapped(self, x: np.ndarray) -> Float[np.ndarray, "rows dim"]:
        return wrap(as_floats(x), self.circles)
