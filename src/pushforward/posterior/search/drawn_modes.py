r"""Gaussians of the modes of given draws: the forward KL divergence from the draws is smallest at their moments.

A mixture of Gaussians is fitted by expectation-maximization; components that overlap are one mode, however curved or
skewed it is. The recipe trains a Gaussian from each of them by the reverse KL divergence, which then decides.

References:
    Bishop, Pattern Recognition and Machine Learning (2006), section 9.2.2, on expectation-maximization.
    Arthur and Vassilvitskii, k-means++ (2007), on the initial means.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PRNGKeyArray
from scipy.linalg import solve_triangular
from scipy.special import logsumexp

from pushforward.posterior.curvature import LogDensity
from pushforward.posterior.search.candidates import MAX_MODES, MIN_DISTANCE, Candidate, score_gaussians, usable
from pushforward.posterior.search.newton import MAX_HESSIAN_DIM
from pushforward.training.compilation import jit_quick_compilation

SIZES = (1, 2, 4, 8, 16)
NUM_ITERATIONS = 100
# A component needs more rows than it has parameters in a row.
ROWS_PER_DIM = 2
MAX_ROWS = 5_000
# As a fraction of the variance of all rows.
RIDGE = 1e-6
Rows = Float[np.ndarray, "rows dim"]


def drawn_modes(target: LogDensity, draws: Rows, key: PRNGKeyArray) -> list[Candidate]:
    """The Gaussian with the moments of the draws of each mode, the largest mode first.

    Args:
        target: the log-density, for the ELBOs.
        draws: draws, as unconstrained vectors.
        key: for the draws that score the Gaussians.
    """
    found = gaussians_of(draws)
    locs, factors = (np.stack(part) for part in zip(*found, strict=True))
    return usable((locs, factors, *_score(target, jnp.asarray(locs), jnp.asarray(factors), key)))


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
    generator = np.random.default_rng(0)  # which draws begin as means: no key, so that all fits see the same modes
    part = x[:: -(-size // MAX_ROWS)]
    best = min((m for m in (_Mixture.fit(part, n, generator) for n in SIZES) if m is not None), key=lambda m: m.bic)
    component = best.log_densities(x).argmax(1)
    groups = best.overlapping()
    rows = [np.flatnonzero(np.isin(component, group)) for group in groups]
    # A mode of very few draws has no covariance.
    large = [each for each in rows if len(each) > ROWS_PER_DIM * dim]
    return sorted(large, key=lambda each: -len(each)) or [np.arange(size)]


class _Mixture:
    """A mixture of Gaussians.

    Args:
        log_weights: the logarithms of the weights.
        means: the means.
        factors: the Cholesky factors of the covariances.
    """

    def __init__(self, log_weights: np.ndarray, means: np.ndarray, factors: np.ndarray):
        self.log_weights, self.means, self.factors = log_weights, means, factors
        self.bic = np.inf

    @classmethod
    def fit(cls, x: Rows, num: int, generator: np.random.Generator) -> "_Mixture | None":
        """The mixture after expectation-maximization; None if there are too few rows for a component."""
        size, dim = x.shape
        if num > 1 and size < num * ROWS_PER_DIM * (dim + 1):
            return None
        means = _spread_rows(x, num, generator)
        nearest = ((x[:, None] - means) ** 2).sum(2).argmin(1)
        responsibilities, before = np.eye(num)[nearest], -np.inf
        for _ in range(NUM_ITERATIONS):
            sums = responsibilities.sum(0)
            if sums.min() < ROWS_PER_DIM * (dim + 1) and num > 1:
                return None
            means = responsibilities.T @ x / sums[:, None]
            deviations = x - means[:, None]
            covariances = np.einsum("nk,kni,knj->kij", responsibilities, deviations, deviations) / sums[:, None, None]
            mixture = cls(np.log(sums / size), means, np.linalg.cholesky(covariances + RIDGE * np.eye(dim)))
            log_densities = mixture.log_densities(x)
            total = logsumexp(log_densities, 1)
            responsibilities = np.exp(log_densities - total[:, None])
            if total.mean() - before < 1e-4:
                break
            before = total.mean()
        num_parameters = num * (1 + dim + dim * (dim + 1) / 2) - 1
        mixture.bic = float(num_parameters * np.log(size) - 2 * total.sum())
        return mixture

    def log_densities(self, x: Rows) -> Float[np.ndarray, "rows components"]:
        """The log-density of each component times its weight."""
        terms = []
        for log_weight, mean, factor in zip(self.log_weights, self.means, self.factors, strict=True):
            z = solve_triangular(factor, (x - mean).T, lower=True)
            terms.append(log_weight - 0.5 * (z**2).sum(0) - np.log(np.diag(factor)).sum())
        return np.stack(terms, 1) - 0.5 * x.shape[1] * np.log(2 * np.pi)

    def overlapping(self) -> list[list[int]]:
        """Groups of components that are connected by overlaps."""
        parts = [Candidate(mean, factor, 0.0, 0.0, 0.0) for mean, factor in zip(self.means, self.factors, strict=True)]
        groups: list[list[int]] = []
        for i, part in enumerate(parts):
            near = [group for group in groups if any(part.distance(parts[j]) <= MIN_DISTANCE for j in group)]
            groups = [group for group in groups if group not in near] + [[i, *(j for group in near for j in group)]]
        return groups


def _spread_rows(x: Rows, num: int, generator: np.random.Generator) -> Rows:
    """Rows far from each other: each is drawn in proportion to its squared distance to the nearest one before."""
    chosen = [x[generator.integers(len(x))]]
    for _ in range(num - 1):
        distances = np.min([((x - row) ** 2).sum(1) for row in chosen], axis=0)
        chosen.append(x[generator.choice(len(x), p=distances / distances.sum())])
    return np.stack(chosen)
