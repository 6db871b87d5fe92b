"""Baselines that a flow is compared with: a Gaussian, and a mixture of Gaussians (which needs scikit-learn)."""

from typing import Any, NamedTuple

import numpy as np
import scipy.linalg
from jaxtyping import Float
from scipy.special import logsumexp

from pushforward.density.whitening.moments import Moments

# The covariance of columns that are sums of others is singular; this fraction of its diagonal is added.
RIDGE = 1e-9
MIXTURE_SIZES = (1, 2, 4, 8, 16, 32)
# The largest number of rows that mixtures are fitted to.
MAX_ROWS_FOR_MIXTURE = 20_000

Matrix = Float[np.ndarray, "n dim"]


class GaussianMixtureScore(NamedTuple):
    """The log-density of rows under the mixture of Gaussians that was chosen.

    Attributes:
        log_prob: the log-density of each row, in nats.
        size: the number of Gaussians.
    """

    log_prob: Float[np.ndarray, " test"]
    size: int


def gaussian(x: Matrix, x_test: Float[np.ndarray, "test dim"], cond_dim: int = 0) -> Float[np.ndarray, " test"]:
    """The log-density of test rows under the Gaussian with the mean and the covariance of the training rows.

    Args:
        x: the training rows.
        x_test: the test rows.
        cond_dim: the number of columns, the last ones, that the others are conditional on.
    """
    z, z_test, log_volume = _standardized(x, x_test, cond_dim)
    covariance = np.atleast_2d(np.cov(z.T))
    try:
        np.linalg.cholesky(covariance)
    except np.linalg.LinAlgError:
        covariance = covariance + RIDGE * np.diag(np.diag(covariance))
    return _conditional(z_test, np.zeros(1), z.mean(0)[None], covariance[None], cond_dim) - log_volume


def mixture(x: Matrix, x_test: Float[np.ndarray, "test dim"], cond_dim: int = 0) -> GaussianMixtureScore | None:
    """The log-density of test rows under a mixture of Gaussians with full covariances.

    The number of Gaussians is chosen by the Bayesian information criterion.

    Args:
        x: the training rows.
        x_test: the test rows.
        cond_dim: the number of columns, the last ones, that the others are conditional on.

    Returns:
        The log-density, or None if scikit-learn is not installed.
    """
    try:
        from sklearn.mixture import GaussianMixture
    except ImportError:
        return None
    z, z_test, log_volume = _standardized(x, x_test, cond_dim)
    z = z[:MAX_ROWS_FOR_MIXTURE]
    models = [
        GaussianMixture(size, random_state=0, reg_covar=1e-6, max_iter=200).fit(z)
        for size in MIXTURE_SIZES
        if size * 10 * x.shape[1] <= len(z) or size == 1
    ]
    best: Any = min(models, key=lambda model: model.bic(z))
    log_prob = _conditional(z_test, np.log(best.weights_), best.means_, best.covariances_, cond_dim)
    return GaussianMixtureScore(log_prob - log_volume, best.n_components)


def _standardized(
    x: Matrix, x_test: Float[np.ndarray, "test dim"], cond_dim: int
) -> tuple[Matrix, Float[np.ndarray, "test dim"], float]:
    """Both arrays, standardized by the moments of `x`, and the log-volume of the modeled columns."""
    moments = Moments(x)
    moments.add(x, np.ones(len(x)))
    loc, scale = moments.loc, moments.scale
    return (x - loc) / scale, (x_test - loc) / scale, float(np.log(scale[: x.shape[1] - cond_dim]).sum())


def _conditional(x, log_weights, means, covariances, cond_dim):
    """The log-density of all columns minus that of the last ones."""
    joint = _mixture_log_prob(x, log_weights, means, covariances)
    if not cond_dim:
        return joint
    last = slice(x.shape[1] - cond_dim, None)
    return joint - _mixture_log_prob(x[:, last], log_weights, means[:, last], covariances[:, last, last])


def _mixture_log_prob(x, log_weights, means, covariances):
    terms = []
    for log_weight, mean, covariance in zip(log_weights, means, covariances, strict=True):
        factor = np.linalg.cholesky(covariance)
        z = scipy.linalg.solve_triangular(factor, (x - mean).T, lower=True)
        log_volume = np.log(np.diag(factor)).sum() + 0.5 * len(mean) * np.log(2 * np.pi)
        terms.append(log_weight - 0.5 * (z**2).sum(0) - log_volume)
    return np.asarray(logsumexp(terms, axis=0))
