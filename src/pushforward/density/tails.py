"""Columns with heavy tails, which no standard deviation describes."""

import numpy as np
from jaxtyping import Float

# Tail parameters of `SinhArcsinh` that are compared; 1 is the identity. The last makes a Cauchy variable's tails those
# of Student's t with 6 degrees of freedom.
TAILS = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
# A Gaussian must gain so many nats a row: with less, splines do as well without, and what bends columns one by one
# bends the correlations between them.
LEAST_GAIN = 1.0
# The quantiles between which two thirds of a Gaussian lie, two standard deviations apart.
QUANTILES = (0.1587, 0.5, 0.8413)


def find_tails(
    z: Float[np.ndarray, "n dim"], weights: Float[np.ndarray, " n"] | None
) -> tuple[Float[np.ndarray, " dim"], Float[np.ndarray, " dim"], Float[np.ndarray, " dim"]]:
    r"""For each column the location, scale and tail parameter $t$ of $\mathrm{loc} + \mathrm{scale} \sinh(t\,
    \operatorname{arsinh} y)$ such that a Gaussian describes $y$ best; 0, 1 and 1 if it describes the column as well.

    Location and scale are the median and half the distance of the quantiles that are two standard deviations apart
    in a Gaussian. Gaussians are compared by their likelihood of the column, as for the transformations of Box and Cox.

    References:
        Box and Cox, An Analysis of Transformations (1964), section 3. https://doi.org/10.1111/j.2517-6161.1964.tb00553.x
    """
    dim = z.shape[1]
    locs, scales, tails = np.zeros(dim), np.ones(dim), np.ones(dim)
    shares = np.full(len(z), 1 / len(z)) if weights is None else weights / weights.sum()
    for i, column in enumerate(z.T):
        order = np.argsort(column)
        at = np.searchsorted(np.cumsum(shares[order]), QUANTILES)
        low, middle, high = column[order][np.minimum(at, len(z) - 1)]
        if low == high:
            continue
        loc, scale = middle, (high - low) / 2
        stretched = np.arcsinh((column - loc) / scale)
        gains = np.array([_log_likelihood(stretched, tail, shares) for tail in TAILS])
        best = gains.argmax()
        if gains[best] - gains[0] > LEAST_GAIN:
            locs[i], scales[i], tails[i] = loc, scale, TAILS[best]
    return locs, scales, tails


def _log_likelihood(stretched: np.ndarray, tail: float, shares: np.ndarray) -> float:
    """Of the best Gaussian of y, nats a row, but for a constant."""
    y = np.sinh(stretched / tail)
    spread = np.sqrt(shares @ (y - shares @ y) ** 2)
    log_slope = np.log(np.cosh(stretched / tail)) - np.log(tail) - np.log(np.cosh(stretched))
    return float(shares @ log_slope - np.log(spread))
