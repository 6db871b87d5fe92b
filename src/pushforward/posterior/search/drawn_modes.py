r"""Gaussians of the modes of given draws: the forward KL divergence from the draws is smallest at their moments.

A mixture of Gaussians is fitted by expectation-maximization; components that overlap are one mode, however curved or
skewed it is. The recipe trains a Gaussian from each of them by the reverse KL divergence, which then decides.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PRNGKeyArray
from scipy.special import logsumexp

from pushforward.gaussian_mixture import RIDGE, ROWS_PER_DIM, GaussianMixture, Rows, fit_mixture
from pushforward.posterior.curvature import LogDensity
from pushforward.posterior.search.candidates import MAX_MODES, MIN_DISTANCE, Candidate, score_gaussians, usable
from pushforward.posterior.search.newton import MAX_HESSIAN_DIM
from pushforward.posterior.thinning import thinned
from pushforward.training.compilation import jit_quick_compilation

SIZES = (1, 2, 4, 8, 16)
MAX_ROWS = 5_000
# Two components of one mode share at least this number of rows; those of separate modes share none.
MIN_SHARED_ROWS = 1.0


def drawn_modes(target: LogDensity, draws: Rows, key: PRNGKeyArray) -> list[Candidate]:
    """The Gaussian with the moments of the draws of each mode, the largest mode first.

    Args:
        target: the log-density, for the ELBOs.
        draws: draws, as unconstrained vectors.
        key: for the draws that score the Gaussians.
    """
    found = gaussians_of(draws)
    locs, factors = (jnp.asarray(np.stack(part)) for part in zip(*found, strict=True))
    return usable((locs, factors, *_score(target, locs, factors, key)))


def gaussians_of(draws: Rows) -> list[tuple[np.ndarray, np.ndarray]]:
    """The mean and a factor of the covariance of the draws of each mode, the largest mode first.

    Args:
        draws: draws, as unconstrained vectors.
    """
    loc, scale = draws.mean(0), draws.std(0)
    scale = np.where(scale > 0, scale, 1.0)
    x, found = (draws - loc) / scale, []
    for rows in _modes(x):
        factor = _factor(x[rows])
        factor = scale * factor if factor.ndim == 1 else scale[:, None] * factor
        found.append((loc + scale * x[rows].mean(0), factor))
    return found


@jit_quick_compilation
def _score(target, locs, factors, key):
    return score_gaussians(target, locs, factors, key)


def with_drawn(modes: Sequence[Candidate], drawn: Sequence[Candidate]) -> list[Candidate]:
    """The modes of the search and those of the draws; of two of the same mode, the one with the higher ELBO.

    Args:
        modes: the modes of the search, the best first.
        drawn: the modes of the draws.
    """
    kept: list[Candidate] = []
    for candidate in sorted([*modes, *drawn], key=lambda c: -c.elbo):
        if all(candidate.distance(other) > MIN_DISTANCE for other in kept):
            kept.append(candidate)
    return kept[:MAX_MODES]


def _factor(x: Rows) -> np.ndarray:
    """The factor of the covariance of rows, shrunk to its diagonal where rows are few."""
    size, dim = x.shape
    if dim > MAX_HESSIAN_DIM:
        return np.sqrt(x.var(0) + RIDGE)
    covariance = np.atleast_2d(np.cov(x.T, bias=True)) + RIDGE * np.eye(dim)
    shrinkage = dim / (size + dim)
    return np.linalg.cholesky((1 - shrinkage) * covariance + shrinkage * np.diag(np.diag(covariance)))


def _modes(x: Rows) -> list[np.ndarray]:
    """The indices of the rows of each mode, the largest mode first."""
    size, dim = x.shape
    if dim > MAX_HESSIAN_DIM:
        return [np.arange(size)]
    # No key, so that all fits see the same modes.
    mixture = fit_mixture(thinned(x, MAX_ROWS), SIZES, np.random.default_rng(0))
    log_densities = mixture.log_densities(x)
    component = log_densities.argmax(1)
    rows = [np.flatnonzero(np.isin(component, group)) for group in _connected(mixture, log_densities)]
    # A mode of very few draws has no covariance.
    large = [each for each in rows if len(each) > ROWS_PER_DIM * dim]
    return sorted(large, key=lambda each: -len(each)) or [np.arange(size)]


def _connected(mixture: GaussianMixture, log_densities: Float[np.ndarray, "rows components"]) -> list[list[int]]:
    """Groups of components that are near each other, or share rows, as along a curve."""
    pairs = zip(mixture.means, mixture.factors, strict=True)
    parts = [Candidate(mean, factor, 0.0, 0.0, 0.0) for mean, factor in pairs]
    responsibilities = np.exp(log_densities - logsumexp(log_densities, 1)[:, None])

    def connected(i: int, j: int) -> bool:
        shared = np.minimum(responsibilities[:, i], responsibilities[:, j]).sum()
        return bool(shared >= MIN_SHARED_ROWS) or parts[i].distance(parts[j]) <= MIN_DISTANCE

    groups: list[list[int]] = []
    for i in range(len(parts)):
        near = [group for group in groups if any(connected(i, j) for j in group)]
        groups = [group for group in groups if group not in near] + [[i, *(j for group in near for j in group)]]
    return groups
