"""Transforms of columns with heavy tails, which a mean and a standard deviation do not describe.

The transforms of scipy.stats (`boxcox`, `yeojohnson`) are not used: they correct skewness, not two heavy tails, and for
some parameters their range is not the whole real line.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from pushforward.weights import effective_sample_size

# The tail parameters of `SinhArcsinh` that are compared; 1 is the identity. With the last one, a Cauchy variable gets
# the tails of Student's t with 6 degrees of freedom.
TAILS = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
# A transform must increase the Gaussian log-likelihood on each side of the median by this, in nats per row. Without a
# transform, the linear tails of splines have to fit heavy tails, and do it badly in the rarest rows.
MIN_GAIN = 0.1
# The same if only one tail is heavy. Then the column is skewed, which splines fit better, and transforming single
# columns makes the dependence between columns nonlinear.
MIN_ONE_SIDED_GAIN = 1.0
# Gains below this, in nats in total, are not significant.
MIN_TOTAL_GAIN = 4.0
# The quantiles of a Gaussian at minus one, zero and one standard deviation.
QUANTILES = (0.1587, 0.5, 0.8413)


class TailTransforms(NamedTuple):
    r"""For each column $z = \mathrm{loc} + \mathrm{scale} \sinh(t \operatorname{arsinh} y)$, or the identity.

    $z$ has heavier tails than $y$ if $t > 1$.

    Args:
        locs: the locations; 0 for the identity.
        scales: the scales; 1 for the identity.
        tails: the tail parameters $t$; 1 for the identity.
        log_likelihoods: the log-likelihood of each column $z$ if $y$ is Gaussian with the best mean and variance, in
            nats per row, up to a constant.
    """

    locs: Float[np.ndarray, " dim"]
    scales: Float[np.ndarray, " dim"]
    tails: Float[np.ndarray, " dim"]
    log_likelihoods: Float[np.ndarray, " dim"]

    @property
    def any(self) -> bool:
        """Whether one of them is not the identity."""
        return bool(np.any(self.tails != 1))

    def where(self, keep: Bool[np.ndarray, " dim"]) -> "TailTransforms":
        """The same transforms, with the identity for some columns.

        Args:
            keep: which columns keep their transform.
        """
        locs, scales, tails = np.where(keep, self[:3], np.array([[0.0], [1.0], [1.0]]))
        return TailTransforms(locs, scales, tails, self.log_likelihoods)

    def inverse(self, z: Float[np.ndarray, "n dim"]) -> Float[np.ndarray, "n dim"]:
        """The columns $y$, with lighter tails.

        Args:
            z: the columns with heavy tails.
        """
        y = np.sinh(np.arcsinh((z - self.locs) / self.scales) / self.tails)
        return np.where(self.tails == 1, z, y)


def fit_tail_transforms(z: Float[np.ndarray, "n dim"], weights: Float[np.ndarray, " n"]) -> TailTransforms:
    r"""For each column the transform with which a Gaussian describes $y$ best; the identity without a clear gain.

    The location is the median, and the scale half the distance of the quantiles which, in a Gaussian, lie two standard
    deviations apart. Transforms are compared by the likelihood of $z$, as in the method of Box and Cox.

    Args:
        z: the columns.
        weights: the weight of each row.

    References:
        Box and Cox, An Analysis of Transformations (1964), section 3. https://doi.org/10.1111/j.2517-6161.1964.tb00553.x
    """
    dim, normalized_weights = z.shape[1], weights / weights.sum()
    min_gain = MIN_TOTAL_GAIN / effective_sample_size(weights)
    with np.errstate(divide="ignore"):
        log_likelihoods = -np.log(standard_deviations(z, normalized_weights))
    transforms = TailTransforms(np.zeros(dim), np.ones(dim), np.ones(dim), log_likelihoods)
    for i, (loc, scale) in enumerate(zip(*robust_location_and_scale(z, weights), strict=True)):
        if not scale > 0:
            continue
        arsinh = np.arcsinh((z[:, i] - loc) / scale)
        by_tail = _log_likelihoods(arsinh, normalized_weights)
        sides = [_log_likelihoods(*_mirror(arsinh, normalized_weights, side)) for side in (arsinh <= 0, arsinh >= 0)]
        # The likelihood is infinite on a side on which all values equal the median: such a side has no tail.
        gains = [side.max() - side[0] if np.isfinite(side[0]) else -np.inf for side in sides]
        min_column_gain = MIN_GAIN if min(gains) > MIN_GAIN else MIN_ONE_SIDED_GAIN
        if by_tail.max() - by_tail[0] > max(min_gain, min_column_gain):
            best = by_tail.argmax()
            for array, value in zip(transforms, (loc, scale, TAILS[best], by_tail[best] - np.log(scale)), strict=True):
                array[i] = value
    return transforms


def _mirror(arsinh: np.ndarray, normalized_weights: np.ndarray, side: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The values on one side of the median with their mirror images, and their normalized weights."""
    values, parts = arsinh[side], normalized_weights[side]
    return np.concatenate([values, -values]), np.tile(parts / parts.sum(), 2) / 2


def _log_likelihoods(arsinh: np.ndarray, normalized_weights: np.ndarray) -> Float[np.ndarray, " tails"]:
    """The log-likelihood of a column for each tail parameter if $y$ is Gaussian, in nats per row, up to a constant."""

    def log_likelihood(tail: float) -> float:
        log_slope = np.log(np.cosh(arsinh / tail)) - np.log(tail) - np.log(np.cosh(arsinh))
        with np.errstate(divide="ignore"):
            return float(
                normalized_weights @ log_slope - np.log(standard_deviations(np.sinh(arsinh / tail), normalized_weights))
            )

    return np.array([log_likelihood(tail) for tail in TAILS])


def robust_location_and_scale(
    z: Float[np.ndarray, "n dim"], weights: Float[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, " dim"], Float[np.ndarray, " dim"]]:
    """The medians, and half the distances of the quantiles which, in a Gaussian, lie two standard deviations apart.

    Args:
        z: the columns.
        weights: the weight of each row.
    """
    low, median, high = np.array([_quantiles(column, weights) for column in z.T]).T
    return median, (high - low) / 2


def _quantiles(column: Float[np.ndarray, " n"], weights: Float[np.ndarray, " n"]) -> Float[np.ndarray, " 3"]:
    """Weighted quantiles by the inverse distribution function; `numpy.quantile` has weights only from version 2."""
    order = np.argsort(column)
    at = np.searchsorted(np.cumsum(weights[order]) / weights.sum(), QUANTILES)
    return column[order][np.minimum(at, len(column) - 1)]


class ConditionScaling(NamedTuple):
    """The inputs of the networks for a condition $c$: $(c - m) / s$, or its arsinh.

    The fields are arguments of `RescaledCondition`.

    Args:
        loc: the location $m$ of each column of the condition.
        scale: the scale $s$ of each column.
        arsinh: the columns of which the arsinh is taken; None if there are none.
    """

    loc: Float[np.ndarray, " cond_dim"]
    scale: Float[np.ndarray, " cond_dim"]
    arsinh: Bool[np.ndarray, " cond_dim"] | None


def condition_scaling(condition: Float[np.ndarray, "n cond_dim"], weights: Float[np.ndarray, " n"]) -> ConditionScaling:
    """Choose the scaling of a condition for which the inputs of the networks are of order one.

    The location and the scale of a column are its mean and standard deviation; with heavy tails, their robust
    counterparts, and the arsinh is taken. If most values of a column are equal, the arsinh is taken too.

    Args:
        condition: the condition of each row.
        weights: the weight of each row.
    """
    normalized_weights = weights / weights.sum()
    transforms = fit_tail_transforms(condition, weights)
    heavy_tailed = transforms.tails != 1
    mostly_equal = robust_location_and_scale(condition, weights)[1] == 0
    loc = np.where(heavy_tailed, transforms.locs, normalized_weights @ condition)
    scale = np.where(heavy_tailed, transforms.scales, standard_deviations(condition, normalized_weights))
    arsinh = heavy_tailed | mostly_equal
    return ConditionScaling(loc, scale, arsinh if arsinh.any() else None)


def standard_deviations(
    z: Float[np.ndarray, "n *dim"], normalized_weights: Float[np.ndarray, " n"]
) -> Float[np.ndarray, "*dim"]:
    """The standard deviations of columns in any unit, without overflow or underflow of squares.

    Args:
        z: the columns.
        normalized_weights: the weight of each row; their sum is 1.
    """
    deviations = z - normalized_weights @ z
    unit = np.maximum(np.abs(deviations).max(0), np.finfo(float).tiny)
    return np.asarray(unit * np.sqrt(normalized_weights @ (deviations / unit) ** 2))
