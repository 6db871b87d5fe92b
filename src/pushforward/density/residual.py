"""What linear functions of a condition leave of columns, and which heavy tails are the columns' own."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from pushforward.density.linear import Linear, Square, Weights
from pushforward.density.moments import Moments
from pushforward.density.tails import Bends, deviations, find_tails

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
