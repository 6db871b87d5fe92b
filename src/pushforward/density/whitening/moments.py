"""Means and covariances of columns that come part by part."""

import numpy as np
from jaxtyping import ArrayLike, Float


def effective_sample_size(weights: ArrayLike) -> float:
    """How many rows of equal weight tell as much as rows of these: the effective number of Kish."""
    weights = np.asarray(weights, float)
    return float(weights.sum() ** 2 / np.sum(weights**2))


class Moments:
    """Weighted moments of rows, in double precision, of columns of any offset and unit.

    They are taken about a point nearby, for those about 0 lose digits, and in a unit near to a column's own, for
    squares of the largest and the least of numbers cannot be held.

    Args:
        some: rows that tell the point and the unit.
    """

    def __init__(self, some: Float[np.ndarray, "n dim"]):
        self.shift = some.mean(0)
        self.unit = np.abs(some - self.shift).max(0)
        self.unit[self.unit == 0] = 1
        self.largest = np.zeros(some.shape[1])
        self.total = self.squares = 0.0
        self.sums, self.products = np.zeros(some.shape[1]), np.zeros((some.shape[1], some.shape[1]))

    def add(self, rows: Float[np.ndarray, "n dim"], weights: Float[np.ndarray, " n"]) -> None:
        """Count further rows."""
        self.largest = np.maximum(self.largest, np.abs(rows).max(0))
        z = (rows - self.shift) / self.unit
        self.total += weights.sum()
        self.squares += (weights**2).sum()
        self.sums += weights @ z
        self.products += (weights[:, None] * z).T @ z

    @property
    def size(self) -> float:
        """How many rows of equal weight tell as much."""
        return self.total**2 / self.squares

    @property
    def loc(self) -> Float[np.ndarray, " dim"]:
        """The mean."""
        return self.shift + self.unit * self.sums / self.total

    @property
    def scale(self) -> Float[np.ndarray, " dim"]:
        """The standard deviations."""
        return self.unit * np.sqrt(np.diag(self._covariance))

    @property
    def correlation(self) -> Float[np.ndarray, "dim dim"]:
        """The correlations."""
        scale = np.sqrt(np.diag(self._covariance))
        return self._covariance / np.outer(scale, scale)

    @property
    def _covariance(self) -> Float[np.ndarray, "dim dim"]:
        return self.products / self.total - np.outer(self.sums, self.sums) / self.total**2
