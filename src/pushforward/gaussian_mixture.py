"""Mixtures of Gaussians, fitted to weighted rows by expectation-maximization.

References:
    Bishop, Pattern Recognition and Machine Learning (2006), section 9.2.2, on expectation-maximization.
    Arthur and Vassilvitskii, k-means++ (2007), on the initial means.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.linalg import solve_triangular
from scipy.special import logsumexp

from pushforward.weights import effective_sample_size

NUM_ITERATIONS = 100
MIN_GAIN = 1e-4
# The effective number of rows of a component for each of its dimensions.
ROWS_PER_DIM = 2
# Added to the variances, as a fraction of the variance of all rows.
RIDGE = 1e-6
Rows = Float[np.ndarray, "rows dim"]


class GaussianMixture(NamedTuple):
    """A mixture of Gaussians.

    Attributes:
        log_weights: the logarithms of the weights.
        means: the means.
        factors: the Cholesky factors of the covariances.
    """

    log_weights: Float[np.ndarray, " components"]
    means: Float[np.ndarray, "components dim"]
    factors: Float[np.ndarray, "components dim dim"]

    def log_densities(self, x: Rows) -> Float[np.ndarray, "rows components"]:
        """The log-density of each component times its weight.

        Args:
            x: the rows.
        """
        terms = []
        for log_weight, mean, factor in zip(self.log_weights, self.means, self.factors, strict=True):
            z = solve_triangular(factor, (x - mean).T, lower=True)
            terms.append(log_weight - 0.5 * (z**2).sum(0) - np.log(np.diag(factor)).sum())
        return np.stack(terms, 1) - 0.5 * x.shape[1] * np.log(2 * np.pi)


def fit_mixture(
    x: Rows, sizes: Sequence[int], generator: np.random.Generator, weights: Float[np.ndarray, " rows"] | None = None
) -> GaussianMixture:
    """The mixture with the best Bayesian information criterion; of sizes with too few rows none is fitted, except 1.

    Args:
        x: rows of scales that do not differ much.
        sizes: the numbers of components to try, the first of which is 1.
        generator: for the initial means.
        weights: the weights of the rows, by default equal.
    """
    given = np.ones(len(x)) if weights is None else weights
    scaled = given * (effective_sample_size(given) / given.sum())
    found = [_fit(x, scaled, num, generator) for num in sizes]
    return min((each for each in found if each is not None), key=lambda each: each[0])[1]


def _fit(
    x: Rows, weights: Float[np.ndarray, " rows"], num: int, generator: np.random.Generator
) -> tuple[float, GaussianMixture] | None:
    """The criterion and the mixture after expectation-maximization; None if there are too few rows for a component."""
    dim, size = x.shape[1], weights.sum()
    fewest = ROWS_PER_DIM * (dim + 1) if num > 1 else 0
    if size < num * fewest:
        return None
    means = _spread_rows(x, weights, num, generator)
    nearest = np.stack([((x - mean) ** 2).sum(1) for mean in means], 1).argmin(1)
    responsibilities, before = np.eye(num)[nearest] * weights[:, None], -np.inf
    ridge = RIDGE * np.diag(np.cov(x.T, aweights=weights, ddof=0).reshape(dim, dim).diagonal() + 1e-12)
    for _ in range(NUM_ITERATIONS):
        sums = responsibilities.sum(0)
        if not sums.min() > fewest:
            return None
        means = responsibilities.T @ x / sums[:, None]
        covariances = [np.cov(x.T, aweights=r, ddof=0).reshape(dim, dim) for r in responsibilities.T]
        mixture = GaussianMixture(np.log(sums / size), means, np.linalg.cholesky(np.stack(covariances) + ridge))
        log_densities = mixture.log_densities(x)
        total = np.asarray(logsumexp(log_densities, 1))
        mean = weights @ total / size
        if mean - before < MIN_GAIN:
            break
        responsibilities, before = np.exp(log_densities - total[:, None]) * weights[:, None], mean
    num_parameters = num * (1 + dim + dim * (dim + 1) / 2) - 1
    return float(num_parameters * np.log(size) - 2 * size * mean), mixture


def _spread_rows(x: Rows, weights: Float[np.ndarray, " rows"], num: int, generator: np.random.Generator) -> np.ndarray:
    """Rows far from each other: each is drawn in proportion to its squared distance to the nearest one before."""
    chosen = [x[generator.choice(len(x), p=weights / weights.sum())]]
    for _ in range(num - 1):
        distances = weights * np.min([((x - row) ** 2).sum(1) for row in chosen], axis=0)
        total = distances.sum()
        chosen.append(x[generator.choice(len(x), p=distances / total if total > 0 else weights / weights.sum())])
    return np.stack(chosen)
