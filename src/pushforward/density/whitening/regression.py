"""What a condition tells of columns linearly, as far as it is no chance."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from pushforward.density.whitening.moments import Moments
from pushforward.density.whitening.tails import Bends, deviations, find_tails

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


Rows = Float[np.ndarray, "n dim_and_cond_dim"]


class Residual(NamedTuple):
    """Standardised columns less what is linear in the standardised condition, as wide as it is in rows not seen.

    Args:
        loc: of the columns and of the condition beside them.
        scale: the same.
        weights: of the condition.
        widening: residuals of the rows that weights were fitted to are narrower, by so much.
    """

    loc: Float[np.ndarray, " dim_and_cond_dim"]
    scale: Float[np.ndarray, " dim_and_cond_dim"]
    weights: Weights
    widening: Float[np.ndarray, " dim"]

    @classmethod
    def of(cls, loc, scale, weights: Weights, left: Square, rows: Rows, counts: Float[np.ndarray, " n"]) -> "Residual":
        """The one that has the variances of `left` in these rows, which count so much."""
        narrow = cls(loc, scale, weights, np.ones(len(weights)))
        spread = np.sqrt(counts @ narrow(rows) ** 2 / counts.sum())
        return narrow._replace(widening=np.sqrt(np.diag(left)) / np.where(spread > 0, spread, 1))

    def __call__(self, rows: Rows) -> Float[np.ndarray, "n dim"]:
        z = (rows - self.loc) / self.scale
        dim = len(self.weights)
        return (z[:, :dim] - z[:, dim:] @ self.weights.T) * self.widening


def own_tails(rows: Rows, dim: int, counts: Float[np.ndarray, " n"]) -> Bends:
    """The bends of the first columns that are not the condition's doing.

    A column may have its tails from a heavy-tailed condition that it is linear in, which it no longer is when bent.
    A bend is kept if, given the condition, a Gaussian describes the column better than without it, what is left of
    either being bent too where that is better.
    """
    z, condition = rows[:, :dim], rows[:, dim:]
    # What is the same in all these rows, as a rare kind may be, tells nothing of them.
    condition = condition[:, np.ptp(condition, axis=0) > 0]
    found = find_tails(z, counts)
    if not condition.size or not found.any:
        return found
    y = found.inverse(z)
    log_slopes = found.likelihoods + np.log(deviations(y, counts / counts.sum()))
    # A column that follows from the condition has no likelihood, and is not bent.
    with np.errstate(all="ignore"):
        bent = _likelihoods(y, condition, counts) + log_slopes
        return found.where(bent > _likelihoods(z, condition, counts))


def _likelihoods(z: Float[np.ndarray, "n dim"], condition: Float[np.ndarray, "n cond_dim"], counts: np.ndarray):
    """Of columns given a condition, with Gaussians of what a linear function of it leaves of them."""
    rows, dim = np.concatenate([z, condition], axis=1), z.shape[1]
    moments = Moments(rows)
    moments.add(rows, counts)
    correlation = moments.correlation
    linear = Linear(correlation[:dim, :dim], correlation[:dim, dim:], correlation[dim:, dim:], moments.size)
    residual = Residual.of(moments.loc, moments.scale, *linear.ridge(), rows, counts)
    return find_tails(residual(rows), counts).likelihoods - np.log(moments.scale[:dim])
