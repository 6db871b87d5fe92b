"""Columns with heavy tails, which no standard deviation describes."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from pushforward.density.whitening.moments import effective_sample_size

# Tail parameters of `SinhArcsinh` that are compared; 1 is the identity. The last makes a Cauchy variable's tails those
# of Student's t with 6 degrees of freedom.
TAILS = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
# A Gaussian must gain so many nats a row, on either side of the median. Without a bend, tails of Student's t are left
# to the affine map beyond the knots of splines, which costs most in the rarest rows.
LEAST_GAIN = 0.1
# It must gain so many if only one tail is heavy: with less, splines do better without, for that is skewness as well,
# and what bends columns one by one bends what is between them.
ONE_SIDED_GAIN = 1.0
# The gains of so many nats in all are chance.
CHANCE = 4.0
# The quantiles between which two thirds of a Gaussian lie, two standard deviations apart.
QUANTILES = (0.1587, 0.5, 0.8413)


class Bends(NamedTuple):
    r"""For each column $z = \mathrm{loc} + \mathrm{scale} \sinh(t\, \operatorname{arsinh} y)$, or the identity.

    Args:
        locs: the locations; 0 for the identity.
        scales: 1 for the identity.
        tails: $t$; 1 for the identity.
        likelihoods: of z, with the best Gaussian of y, in nats a row, but for a constant.
    """

    locs: Float[np.ndarray, " dim"]
    scales: Float[np.ndarray, " dim"]
    tails: Float[np.ndarray, " dim"]
    likelihoods: Float[np.ndarray, " dim"]

    @property
    def any(self) -> bool:
        """Whether there is one that is not the identity."""
        return bool(np.any(self.tails != 1))

    def where(self, kept: Bool[np.ndarray, " dim"]) -> "Bends":
        """These, and the identity elsewhere."""
        locs, scales, tails = np.where(kept, self[:3], np.array([[0.0], [1.0], [1.0]]))
        return Bends(locs, scales, tails, self.likelihoods)

    def inverse(self, z: Float[np.ndarray, "n dim"]) -> Float[np.ndarray, "n dim"]:
        """The columns y."""
        y = np.sinh(np.arcsinh((z - self.locs) / self.scales) / self.tails)
        return np.where(self.tails == 1, z, y)


def find_tails(z: Float[np.ndarray, "n dim"], weights: Float[np.ndarray, " n"]) -> Bends:
    r"""For each column the bend such that a Gaussian describes $y$ best; the identity if one describes $z$ as well.

    Location and scale are the median and half the distance of the quantiles that are two standard deviations apart
    in a Gaussian. Gaussians are compared by their likelihood of the column, as for the transformations of Box and Cox.

    References:
        Box and Cox, An Analysis of Transformations (1964), section 3. https://doi.org/10.1111/j.2517-6161.1964.tb00553.x
    """
    dim, shares, least = z.shape[1], weights / weights.sum(), CHANCE / effective_sample_size(weights)
    with np.errstate(divide="ignore"):
        likelihoods = -np.log(deviations(z, shares))
    bends = Bends(np.zeros(dim), np.ones(dim), np.ones(dim), likelihoods)
    for i, (loc, scale) in enumerate(zip(*bulk(z, weights), strict=True)):
        if not scale > 0:
            continue
        stretched = np.arcsinh((z[:, i] - loc) / scale)
        found = _log_likelihoods(stretched, shares)
        sides = [_log_likelihoods(*_mirrored(stretched, shares, side)) for side in (stretched <= 0, stretched >= 0)]
        # A side without any width has no tail.
        both = np.min([np.isfinite(side[0]) and side.max() - side[0] for side in sides]) > LEAST_GAIN
        if found.max() - found[0] > max(least, LEAST_GAIN if both else ONE_SIDED_GAIN):
            best = found.argmax()
            for array, value in zip(bends, (loc, scale, TAILS[best], found[best] - np.log(scale)), strict=True):
                array[i] = value
    return bends


def _mirrored(stretched: np.ndarray, shares: np.ndarray, side: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One side of the median, and its mirror image on the other."""
    some, parts = stretched[side], shares[side]
    return np.concatenate([some, -some]), np.tile(parts / parts.sum(), 2) / 2


def bulk(
    z: Float[np.ndarray, "n dim"], weights: Float[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, " dim"], Float[np.ndarray, " dim"]]:
    """The medians, and half the distances of the quantiles that are two standard deviations apart in a Gaussian."""
    low, middle, high = np.array([_quantiles(column, weights) for column in z.T]).T
    return middle, (high - low) / 2


def _quantiles(column: Float[np.ndarray, " n"], weights: Float[np.ndarray, " n"]) -> Float[np.ndarray, " 3"]:
    order = np.argsort(column)
    at = np.searchsorted(np.cumsum(weights[order]) / weights.sum(), QUANTILES)
    return column[order][np.minimum(at, len(column) - 1)]


class ConditionScaling(NamedTuple):
    """The location and scale of each number of a condition, and of which networks see the arsinh; None if of none."""

    loc: Float[np.ndarray, " cond_dim"]
    scale: Float[np.ndarray, " cond_dim"]
    arsinh: Bool[np.ndarray, " cond_dim"] | None


def condition_scaling(c: Float[np.ndarray, "n cond_dim"], weights: Float[np.ndarray, " n"]) -> ConditionScaling:
    """Means and standard deviations; for heavy tails those of the bulk, and for values that are mostly one, both."""
    shares = weights / weights.sum()
    bends = find_tails(c, weights)
    heavy, single = bends.tails != 1, bulk(c, weights)[1] == 0
    scale = np.where(heavy, bends.scales, deviations(c, shares))
    arsinh = heavy | single
    return ConditionScaling(np.where(heavy, bends.locs, shares @ c), scale, arsinh if arsinh.any() else None)


def deviations(z: Float[np.ndarray, "n *dim"], shares: Float[np.ndarray, " n"]) -> Float[np.ndarray, "*dim"]:
    """The standard deviations, in any unit: of the largest and the least of numbers squares cannot be held."""
    off = z - shares @ z
    unit = np.maximum(np.abs(off).max(0), np.finfo(float).tiny)
    return unit * np.sqrt(shares @ (off / unit) ** 2)


def _log_likelihoods(stretched: np.ndarray, shares: np.ndarray) -> Float[np.ndarray, " tails"]:
    """Of the best Gaussian of y by each tail parameter, nats a row, but for a constant."""

    def one(tail: float) -> float:
        log_slope = np.log(np.cosh(stretched / tail)) - np.log(tail) - np.log(np.cosh(stretched))
        with np.errstate(divide="ignore"):
            return float(shares @ log_slope - np.log(deviations(np.sinh(stretched / tail), shares)))

    return np.array([one(tail) for tail in TAILS])
