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


def open_samples(x: ArrayLike | str | os.PathLike) -> np.ndarray:
    """The samples as a matrix in memory; or, from a file or memory-mapped already, as they are."""
    samples: Any = open_mapped(os.fspath(x)).values if isinstance(x, str | os.PathLike) else x
    if not isinstance(samples, np.memmap):
        return matrix("x", samples)
    if samples.ndim != 2 or 0 in samples.shape or samples.dtype.kind not in "bif":
        raise ValueError(
            f"x must hold rows and columns of numbers, but has shape {samples.shape} and dtype {samples.dtype}."
        )
    return samples


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
            yield start, self._prepared(self.x[start : start + size])

    def take(self, rows: Int[np.ndarray, " rows"]) -> Rows:
        """Some rows, in memory."""
        others: Any = (None if a is None else jnp.asarray(a[rows], float) for a in (self.condition, self.weights))
        return Rows(jnp.asarray(self._prepared(self.x[rows])), *others)

    def some(self, key: PRNGKeyArray, left_out: Int[np.ndarray, " held_out"]) -> Rows:
        """As many rows as may be in memory, in blocks from anywhere, without those that are left out."""
        num_blocks = -(-self.rows_at_once // BLOCK)
        starts = np.sort(np.asarray(jr.randint(key, (num_blocks,), 0, max(1, len(self.x) - BLOCK + 1))))
        rows = (starts[:, None] + np.arange(min(BLOCK, len(self.x)))).ravel()
        rows = rows[~np.isin(rows, left_out)]
        # Always the same number, for the program is compiled for it.
        return self.take(np.resize(rows, self.rows_at_once))

    def _prepared(self, x: np.ndarray) -> Float[np.ndarray, "rows dim"]:
        return wrap(np.asarray(x, dtype=jnp.result_type(float)), self.circles)
