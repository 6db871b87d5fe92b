"""What a flow has to beat: a Gaussian, and the best mixture of Gaussians (which needs scikit-learn)."""

from typing import Any

import numpy as np
import scipy.linalg
from jaxtyping import Float
from scipy.special import logsumexp

from pushforward.density.whitening.moments import Moments

# Columns that are sums of others have a singular covariance; this share of its diagonal keeps it positive.
RIDGE = 1e-9
MIXTURE_SIZES = (1, 2, 4, 8, 16, 32)
# Mixtures are chosen and fitted by at most so many rows.
MOST_FOR_MIXTURE = 20_000

Matrix = Float[np.ndarray, "n dim"]


def gaussian(x: Matrix, held_out: Matrix, num_given: int = 0) -> Float[np.ndarray, " held_out"]:
    """The log-density of held-out rows by the Gaussian of `x`, given the last `num_given` columns."""
    z, held_out, log_volume = _standardised(x, held_out, num_given)
    covariance = np.atleast_2d(np.cov(z.T))
    try:
        np.linalg.cholesky(covariance)
    except np.linalg.LinAlgError:
        covariance = covariance + RIDGE * np.diag(np.diag(covariance))
    return _conditional(held_out, np.zeros(1), z.mean(0)[None], covariance[None], num_given) - log_volume


def mixture(x: Matrix, held_out: Matrix, num_given: int = 0) -> tuple[Float[np.ndarray, " held_out"], int] | None:
    """The same by a mixture of Gaussians with full covariances, and how many there are; None without scikit-learn.

    The size is chosen by the Bayesian information criterion.
    """
    try:
        from sklearn.mixture import GaussianMixture
    except ImportError:
        return None
    z, held_out, log_volume = _standardised(x, held_out, num_given)
    z = z[:MOST_FOR_MIXTURE]
    models = [
        GaussianMixture(size, random_state=0, reg_covar=1e-6, max_iter=200).fit(z)
        for size in MIXTURE_SIZES
        if size * 10 * x.shape[1] <= len(z) or size == 1
    ]
    best: Any = min(models, key=lambda model: model.bic(z))
    log_prob = _conditional(held_out, np.log(best.weights_), best.means_, best.covariances_, num_given)
    return log_prob - log_volume, best.n_components


def _standardised(x: Matrix, held_out: Matrix, num_given: int) -> tuple[Matrix, Matrix, float]:
    """Both in the units of the first, and the logarithm of these units' product for the columns that are not given."""
    moments = Moments(x)
    moments.add(x, np.ones(len(x)))
    loc, scale = moments.loc, moments.scale
    return (x - loc) / scale, (held_out - loc) / scale, float(np.log(scale[: x.shape[1] - num_given]).sum())


def _conditional(x, log_weights, means, covariances, num_given):
    """The log-density of all columns less that of the last ones."""
    joint = _mixture_log_prob(x, log_weights, means, covariances)
    if not num_given:
        return joint
    last = slice(x.shape[1] - num_given, None)
    return joint - _mixture_log_prob(x[:, last], log_weights, means[:, last], covariances[:, last, last])


def _mixture_log_prob(x, log_weights, means, covariances):
    terms = []
    for log_weight, mean, covariance in zip(log_weights, means, covariances, strict=True):
        factor = np.linalg.cholesky(covariance)
        z = scipy.linalg.solve_triangular(factor, (x - mean).T, lower=True)
        log_volume = np.log(np.diag(factor)).sum() + 0.5 * len(mean) * np.log(2 * np.pi)
        terms.append(log_weight - 0.5 * (z**2).sum(0) - log_volume)
    return np.asarray(logsumexp(terms, axis=0))
