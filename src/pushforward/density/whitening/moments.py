"""Means and covariances of rows that are added in parts."""

import numpy as np
from jaxtyping import Float


class Moments:
    """Weighted means and covariances, accumulated in double precision, for columns of any offset and unit.

    Sums of powers are taken about a point near the data, because cancellation about 0 loses digits; and in a unit of
    the size of the data, because squares of very large or very small numbers overflow or underflow.

    Args:
        sample: some of the rows, which determine the point and the units.
    """

    def __init__(self, sample: Float[np.ndarray, "n dim"]):
        self.shift = sample.mean(0)
        self.unit = np.abs(sample - self.shift).max(0)
        self.unit[self.unit == 0] = 1
        self.largest = np.zeros(sample.shape[1])
        self.sum_weights = self.sum_squared_weights = 0.0
        self.sums, self.products = np.zeros(sample.shape[1]), np.zeros((sample.shape[1], sample.shape[1]))

    def add(self, rows: Float[np.ndarray, "n dim"], weights: Float[np.ndarray, " n"]) -> None:
        """Add rows.

        Args:
            rows: the rows.
            weights: the weight of each.
        """
        self.largest = np.maximum(self.largest, np.abs(rows).max(0))
        z = (rows - self.shift) / self.unit
        self.sum_weights += weights.sum()
        self.sum_squared_weights += (weights**2).sum()
        self.sums += weights @ z
        self.products += (weights[:, None] * z).T @ z

    @property
    def effective_size(self) -> float:
        """The effective sample size of the weights."""
        return self.sum_weights**2 / self.sum_squared_weights

    @property
    def loc(self) -> Float[np.ndarray, " dim"]:
        """The means."""
        return self.shift + self.unit * self.sums / self.sum_weights

    @property
    def scale(self) -> Float[np.ndarray, " dim"]:
        """The standard deviations."""
        return self.unit * np.sqrt(np.diag(self._covariance))

    @property
    def correlation(self) -> Float[np.ndarray, "dim dim"]:
        """The correlation matrix."""
        scale = np.sqrt(np.diag(self._covariance))
        return self._covariance / np.outer(scale, scale)

    @property
    def _covariance(self) -> Float[np.ndarray, "dim dim"]:
        return self.products / self.sum_weights - np.outer(self.sums, self.sums) / self.sum_weights**2
