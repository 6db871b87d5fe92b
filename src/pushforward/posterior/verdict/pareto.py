"""Pareto-smoothed importance sampling: the largest weights are replaced by the quantiles of a fitted distribution.

ArviZ implements it too, under names that differ between its versions; the tests compare the results.
"""

import math

import numpy as np
from jaxtyping import Float
from scipy.special import logsumexp

# With a larger shape, the mean of the weights is unreliable.
MAX_KHAT = 0.7


def pareto_smooth(log_weights: Float[np.ndarray, " n"]) -> tuple[Float[np.ndarray, " n"], float]:
    """Pareto-smoothed normalized log-weights, and k-hat.

    The largest min(n/5, 3 sqrt(n)) weights are replaced by the quantiles of a generalized Pareto distribution fitted
    to them, but at most by the largest raw weight.

    Args:
        log_weights: the log-weights of draws, up to a constant; -inf for a weight of zero.

    References:
        Vehtari et al., Pareto Smoothed Importance Sampling (2024). https://arxiv.org/abs/1507.02646
    """
    smoothed = np.array(log_weights, float)
    smoothed -= smoothed.max()
    n = smoothed.size
    num_tail = math.ceil(min(0.2 * n, 3 * math.sqrt(n)))
    order = np.argsort(smoothed, kind="stable")
    tail = order[n - num_tail :]
    cutoff = max(smoothed[order[n - num_tail - 1]], math.log(np.finfo(float).tiny))
    excess = np.exp(smoothed[tail]) - math.exp(cutoff)
    if excess[-1] <= 1e-10:
        khat = 0.0  # weights that are equal up to rounding have no tail
    elif num_tail < 5 or excess[_quartile(num_tail)] <= 0:
        khat = math.inf  # nearly all weight is on a few draws, too few to fit a shape
    else:
        khat, scale = fit_generalized_pareto(excess)
        probabilities = (np.arange(num_tail) + 0.5) / num_tail
        survival = np.log1p(-probabilities)
        quantiles = scale * (np.expm1(-khat * survival) / khat if khat else -survival)
        smoothed[tail] = np.minimum(np.log(quantiles + math.exp(cutoff)), 0.0)
    return smoothed - logsumexp(smoothed), khat


def fit_generalized_pareto(excess: Float[np.ndarray, " n"]) -> tuple[float, float]:
    """The shape and scale of a generalized Pareto distribution.

    The estimate is the posterior mean of Zhang and Stephens, with a weak prior of the weight of ten observations that
    the shape is 0.5.

    Args:
        excess: the excesses over the threshold, in increasing order.

    References:
        Zhang and Stephens, A New and Efficient Estimation Method for the Generalized Pareto Distribution (2009).
        Vehtari et al. (2024), appendix C.
    """
    n = excess.size
    num_grid = 30 + int(math.sqrt(n))
    quartile = excess[_quartile(n)]
    grid = (1 - np.sqrt(num_grid / (np.arange(num_grid) + 0.5))) / (3 * quartile) + 1 / excess[-1]
    shapes = np.log1p(-grid[:, None] * excess).mean(1)
    log_likelihood = n * (np.log(-grid / shapes) - shapes - 1)
    posterior = np.exp(log_likelihood - logsumexp(log_likelihood))
    theta = float(posterior @ grid)
    shape = float(np.log1p(-theta * excess).mean())
    return (n * shape + 5) / (n + 10), -shape / theta


def _quartile(n: int) -> int:
    return int(n / 4 + 0.5) - 1
