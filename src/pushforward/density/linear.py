"""What a condition tells of columns linearly, as far as it is no chance."""

import math

import numpy as np
from jaxtyping import Float

# Directions in which conditions have less than this share of a standardised column's variance tell nothing.
LEAST_SHARE = 1e-10
# Of a standardised condition's variance, what is added to each direction; the last leaves nothing of the regression.
RIDGES = (0.0, *10.0 ** np.arange(-6, 3.5, 0.5), math.inf)
# Fits that use up more of the rows than this share are not compared: their errors are hardly known.
MOST_USED = 0.5

Square = Float[np.ndarray, "dim dim"]
Weights = Float[np.ndarray, "dim cond_dim"]


class Linear:
    """The regression of standardised columns on a standardised condition, in its principal directions.

    Args:
        own: the correlations of the columns.
        across: of the columns with the condition.
        given: of the condition.
        size: how many rows they are from.
    """

    def __init__(self, own: Square, across: Weights, given: Square, size: float):
        self.own, self.across, self.given, self.size = own, across, given, size
        shares, directions = np.linalg.eigh(given)
        self.shares, self.directions = shares[shares > LEAST_SHARE], directions[:, shares > LEAST_SHARE]
        # The correlations with each direction.
        self.told = across @ self.directions / np.sqrt(self.shares)

    @property
    def least(self) -> tuple[Weights, Square] | None:
        """The weights by least squares and the covariance that they leave; None with too few rows to know it."""
        if len(self.shares) > MOST_USED * self.size:
            return None
        weights = self._weights(np.zeros(len(self.own)))
        return weights, self._left(weights)

    def ridge(self) -> tuple[Weights, Square]:
        """The weights by ridge regression, and the covariance of what they leave of rows that they have not seen.

        Each column has the ridge of least error by generalised cross-validation.

        References:
            Golub, Heath and Wahba, Generalized Cross-Validation as a Method for Choosing a Good Ridge Parameter (1979).
        """
        errors, ridges = np.full(len(self.own), np.inf), np.zeros(len(self.own))
        for ridge in RIDGES:
            kept = self.shares / (self.shares + ridge)
            if kept.sum() > MOST_USED * self.size:
                continue
            error = (1 - self.told**2 @ (kept * (2 - kept))) / (1 - kept.sum() / self.size) ** 2
            ridges, errors = np.where(error < errors, ridge, ridges), np.minimum(error, errors)
        weights = self._weights(ridges)
        left = self._left(weights)
        # What is left of the rows that they were fitted to is less.
        more = np.sqrt(errors / np.diag(left))
        return weights, left * np.outer(more, more)

    def _weights(self, ridges: Float[np.ndarray, " dim"]) -> Weights:
        kept = self.shares / (self.shares + ridges[:, None])
        return self.told * kept / np.sqrt(self.shares) @ self.directions.T

    def _left(self, weights: Weights) -> Square:
        explained = weights @ self.across.T
        return self.own - explained - explained.T + weights @ self.given @ weights.T
