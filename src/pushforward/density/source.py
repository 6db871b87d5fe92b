"""Samples in memory, or in a file that is read in parts."""

import os
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import ArrayLike, Float, Int, PRNGKeyArray

from pushforward.density.checks import matrix
from pushforward.density.objective import Rows
from pushforward.density.supports import Circle, wrap
from pushforward.tables import open_mapped

# Rows that are read together; files are read in blocks, but what is trained on together should be from many places.
BLOCK = 256


def open_samples(x: ArrayLike | str | os.PathLike) -> tuple[np.ndarray, list[str] | None]:
    """The samples as a matrix in memory; or, from a file or memory-mapped already, as they are. And their names."""
    samples: Any = x
    if isinstance(x, str | os.PathLike):
        names, samples = open_mapped(os.fspath(x))
    else:
        names = [str(name) for name in samples.columns] if hasattr(samples, "columns") else None
    if not isinstance(samples, np.memmap):
        return matrix("x", samples), names
    if samples.ndim != 2 or 0 in samples.shape or samples.dtype.kind not in "bif":
        raise ValueError(
            f"x must hold rows and columns of numbers, but has shape {samples.shape} and dtype {samples.dtype}."
        )
    return samples, names


class Source(NamedTuple):
    """Rows, of which no more than so many are in memory if `x` is memory-mapped."""

    x: np.ndarray
    condition: Float[np.ndarray, "n cond_dim"] | None
    weights: Float[np.ndarray, " n"] | None
    circles: Sequence[Circle | None]
    rows_at_once: int

    @property
    def streams(self) -> bool:
        """Whether there are more rows than may be in memory."""
        return isinstance(self.x, np.memmap) and len(self.x) > self.rows_at_once

    def chunks(self) -> Iterator[tuple[int, Float[np.ndarray, "rows dim"]]]:
        """All samples, part by part, with the number of the first row of each."""
        size = self.rows_at_once if self.streams else len(self.x)
        for start in range(0, len(self.x), size):
            yield start, self._wrapped(self.x[start : start + size])

    def weights_of(self, start: int, size: int) -> Float[np.ndarray, " size"]:
        """The weights of so many rows."""
        return np.ones(size) if self.weights is None else self.weights[start : start + size]

    def part(self, key: PRNGKeyArray) -> tuple[Float[np.ndarray, "rows dim"], Float[np.ndarray, " rows"] | None]:
        """As many samples as may be in memory, and their weights."""
        rows = self._anywhere(key, np.array([], int)) if self.streams else slice(None)
        return self._wrapped(self.x[rows]), None if self.weights is None else self.weights[rows]

    def take(self, rows: Int[np.ndarray, " rows"]) -> Rows:
        """Some rows, in memory."""
        others: Any = (None if a is None else jnp.asarray(a[rows], float) for a in (self.condition, self.weights))
        return Rows(jnp.asarray(self._wrapped(self.x[rows]), float), *others)

    def some(self, key: PRNGKeyArray, left_out: Int[np.ndarray, " held_out"]) -> Rows:
        """As many rows as may be in memory, in blocks from anywhere, without those that are left out."""
        return self.take(self._anywhere(key, left_out))

    def _anywhere(self, key: PRNGKeyArray, left_out: Int[np.ndarray, " held_out"]) -> Int[np.ndarray, " rows"]:
        """Always the same number of rows, for programs are compiled for it."""
        start_key, fill_key = jr.split(key)
        # Blocks that begin near the end go on at the beginning, so that all rows are as likely.
        starts = np.asarray(jr.randint(start_key, (-(-self.rows_at_once // BLOCK),), 0, len(self.x)))
        rows = ((starts[:, None] + np.arange(BLOCK)) % len(self.x)).ravel()[: self.rows_at_once]
        rows = rows[~np.isin(rows, left_out)]
        again = np.asarray(jr.randint(fill_key, (self.rows_at_once - len(rows),), 0, len(rows)))
        return np.sort(np.concatenate([rows, rows[again]]))

    def _wrapped(self, x: np.ndarray) -> Float[np.ndarray, "rows dim"]:
        return wrap(x if x.dtype.kind == "f" else x.astype(float), self.circles)
