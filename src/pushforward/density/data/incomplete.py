"""Rows of which some values are missing."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from pushforward.density.data.arrays import column_labels
from pushforward.density.data.source import open_samples


class IncompleteRows(NamedTuple):
    """Rows in memory, in double precision, because missing values are replaced in it.

    Attributes:
        names: the names of the columns; None if they have no names.
        x: the rows; missing values are NaN.
        missing: which values are missing.
    """

    names: list[str] | None
    x: Float[np.ndarray, "n dim"]
    missing: Bool[np.ndarray, "n dim"]

    def filled(self, generator: np.random.Generator) -> Float[np.ndarray, "n dim"]:
        """The rows with values of other rows for missing ones, so that all checks of complete samples apply.

        Args:
            generator: for the choice of rows.

        Raises:
            ValueError: if a column has fewer than two different observed values.
        """
        filled = self.x.copy()
        for i, label in enumerate(column_labels(self.x.shape[1], self.names)):
            observed = self.x[~self.missing[:, i], i]
            if len(np.unique(observed)) < 2:
                raise ValueError(f"{label} of x has fewer than two different observed values; leave it out.")
            filled[self.missing[:, i], i] = generator.choice(observed, self.missing[:, i].sum())
        return filled


def read_incomplete(x: Any, names: Sequence[str] | None) -> IncompleteRows:
    """Read rows whose missing values are NaN, None, masked or empty.

    Args:
        x: the rows: an array, a data frame or the path of a file.
        names: the names of the columns, by default those of `x`.
    """
    found = open_samples(np.ma.filled(x.astype(float), np.nan) if np.ma.isMaskedArray(x) else x, missing=True)
    samples = np.array(found[0], float)
    return IncompleteRows(found[1] if names is None else list(names), samples, np.isnan(samples))
