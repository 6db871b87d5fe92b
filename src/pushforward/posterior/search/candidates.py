"""Gaussians that may fit a target, scored by their ELBO, and those of them that belong to different modes."""

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, PRNGKeyArray
from scipy.linalg import solve_triangular

from pushforward.bijections import Affine, Elementwise, Triangular
from pushforward.posterior.curvature import LogDensity
from pushforward.posterior.rounding import cautious_log_density
from pushforward.posterior.target import finite_or_zero
from pushforward.training.compilation import jit_quick_compilation

# Modes with a smaller fraction of the mass are left out, and so are the smallest modes beyond this number.
MIN_EVIDENCE_FRACTION = 1e-3
MAX_MODES = 16
# A mode of little mass matters if it is so far away that it raises a variance by this fraction.
MIN_RAISED = 0.01
# Both in standard deviations: the smallest distance between two modes, in the scales of either, and the largest Newton
# step at a mode.
MIN_DISTANCE = 4.0
MAX_DECREMENT = 0.3
NUM_SCORE_DRAWS = 1024

GaussianMap = Triangular | Elementwise
AnyArray = Array | np.ndarray


class Candidate(NamedTuple):
    """A Gaussian N(b, S S^T) that may fit the target.

    Attributes:
        loc: its mean, b.
        factor: S, lower triangular, or the diagonal of a diagonal S.
        elbo: its ELBO.
        elbo_se: the standard error of the ELBO.
        decrement: the length of the Newton step at its mean, in its standard deviations; near 0 at a mode.
    """

    loc: np.ndarray
    factor: np.ndarray
    elbo: float
    elbo_se: float
    decrement: float

    @property
    def affine(self) -> GaussianMap:
        """The affine bijection from N(0, I) to the Gaussian."""
        return gaussian_map(self.loc, self.factor)

    @property
    def matrix(self) -> np.ndarray:
        """S as a matrix."""
        return self.factor if self.factor.ndim == 2 else np.diag(self.factor)

    @property
    def is_mode(self) -> bool:
        """Whether its mean is near a mode."""
        return self.decrement <= MAX_DECREMENT

    def distance(self, other: "Candidate") -> float:
        """The distance of the means in standard deviations, of this or of the other Gaussian, whichever is smaller.

        Args:
            other: the other Gaussian.
        """

        def length(factor):
            between = self.loc - other.loc
            return np.linalg.norm(
                between / factor if factor.ndim == 1 else solve_triangular(factor, between, lower=True)
            )

        return float(min(length(self.factor), length(other.factor)))


# Compiled, so that the constructors skip their checks: only usable values come here.
@jit_quick_compilation
def gaussian_map(loc: AnyArray, factor: AnyArray) -> GaussianMap:
    """The affine bijection x = S u + b.

    Args:
        loc: b.
        factor: S, lower triangular, or the diagonal of a diagonal S.
    """
    return Elementwise.each(Affine, loc, factor) if factor.ndim == 1 else Triangular(loc.size, loc, factor)


def apply(factor: Any, x: Any) -> Any:
    """The product of a matrix, or of a diagonal one given as its diagonal, with a vector or another factor.

    Args:
        factor: the matrix or its diagonal.
        x: the vector or factor.
    """
    return factor * x if factor.ndim == 1 else factor @ x


def usable(results: Sequence[Array], within: tuple[np.ndarray, np.ndarray] | None = None) -> list[Candidate]:
    """The usable ones of some Gaussians: those that are finite.

    Args:
        results: arrays of means, factors, ELBOs, their standard errors and decrements.
        within: b and S of an affine map in whose coordinates they are given.
    """
    locs, factors, elbos, errors, decrements = (np.asarray(a) for a in results)
    diagonals = factors if factors.ndim == 2 else np.diagonal(factors, axis1=1, axis2=2)
    finite = np.isfinite(elbos) & np.isfinite(locs).all(1) & np.isfinite(factors).reshape(len(factors), -1).all(1)
    found = []
    for i in np.flatnonzero(finite & (diagonals > 0).all(1)):
        loc, factor = locs[i], factors[i]
        if within is not None:
            loc, factor = within[0] + apply(within[1], loc), apply(within[1], factor)
        factor = factor if factor.ndim == 1 else np.tril(factor)
        found.append(Candidate(loc, factor, float(elbos[i]), float(errors[i]), float(decrements[i])))
    return found


def separate_modes(found: Sequence[Candidate]) -> list[Candidate]:
    """The best candidate and, if it is near a mode, the best candidates of other modes that are not negligible.

    Args:
        found: Gaussians of the curvature at points of Newton paths, in decreasing order of the ELBO.
    """
    # The best Gaussian of a skewed or heavy-tailed mode is near that mode; in a funnel it is far from any mode.
    if not is_near_mode(found[0], found):
        return [found[0]]
    others = (other for other in found[1:] if other.is_mode and not is_negligible(other, found[0]))
    return [*itertools.islice(separate(itertools.chain(found[:1], others)), MAX_MODES)]


def separate(found: Iterable[Candidate]) -> Iterator[Candidate]:
    """The candidates without those that are near an earlier one.

    Args:
        found: Gaussians, the most important ones first.
    """
    kept: list[Candidate] = []
    for candidate in found:
        if all(candidate.distance(other) > MIN_DISTANCE for other in kept):
            kept.append(candidate)
            yield candidate


def is_negligible(candidate: Candidate, best: Candidate) -> bool:
    """Whether a Gaussian has a negligible fraction of the mass of another.

    Args:
        candidate: the Gaussian.
        best: the other one.
    """
    return math.exp(min(candidate.elbo - best.elbo, 0)) < MIN_EVIDENCE_FRACTION


def is_distant(candidate: Candidate, best: Candidate) -> bool:
    """Whether a Gaussian is so far from another one that it changes a variance, however little its mass is.

    Args:
        candidate: the Gaussian.
        best: the best one.
    """
    share, distance = math.exp(min(candidate.elbo - best.elbo, 0.0)), candidate.distance(best)
    return distance > MIN_DISTANCE and share * distance**2 > MIN_RAISED


def is_near_mode(candidate: Candidate, found: Sequence[Candidate]) -> bool:
    """Whether a Gaussian is near a mode, as the best Gaussian of a skewed or heavy-tailed mode is, which is not at it.

    Args:
        candidate: the Gaussian.
        found: Gaussians of the curvature at points of Newton paths.
    """
    return candidate.is_mode or any(c.is_mode and c.distance(candidate) <= MIN_DISTANCE for c in found)


def score_gaussians(target: LogDensity, locs: Array, factors: Array, key: PRNGKeyArray) -> tuple[Array, Array, Array]:
    """ELBOs of Gaussians N(b, S S^T), their standard errors, and Newton decrements.

    Args:
        target: the log-density.
        locs: the means b.
        factors: triangular factors S, or the diagonals of diagonal ones.
        key: for the draws, which all Gaussians share.
    """
    noise = jr.normal(key, (NUM_SCORE_DRAWS, locs.shape[-1]), locs.dtype)

    def one(loc, factor):
        log_weights = gaussian_log_weights(target, loc, factor, noise)
        decrement = jnp.linalg.norm(apply(factor.T, jax.grad(target)(loc)))
        return truncated_elbo(log_weights), _spread(log_weights) / NUM_SCORE_DRAWS**0.5, decrement

    return jax.lax.map(lambda gaussian: one(*gaussian), (locs, factors))


def gaussian_log_weights(target: LogDensity, loc: Array, factor: Array, noise: Array) -> Array:
    """Log p - log q at draws of N(b, S S^T); -inf where log p is not finite, and reduced where it is rounding noise.

    Args:
        target: log p.
        loc: b.
        factor: S, or the diagonal of a diagonal S.
        noise: draws of N(0, I).
    """
    diagonal = factor if factor.ndim == 1 else jnp.diag(factor)
    log_q = -0.5 * jnp.sum(noise**2, 1) - 0.5 * loc.size * jnp.log(2 * jnp.pi) - jnp.log(diagonal).sum()
    log_p = jax.vmap(lambda z: cautious_log_density(target, loc + apply(factor, z)))(noise)
    return finite_or_zero(log_p) - log_q


def truncated_elbo(log_weights: Array) -> Array:
    r"""The ELBO of q restricted to where p is positive, $E[\log p - \log q \mid p > 0] + \log P_q(p > 0)$.

    It equals the ELBO if p is positive everywhere, and is finite if it is not.

    Args:
        log_weights: log p - log q at draws of q.
    """
    finite = jnp.isfinite(log_weights)
    share = finite.mean()
    return jnp.sum(jnp.where(finite, log_weights, 0)) / (share * log_weights.size) + jnp.log(share)


def _spread(log_weights: Array) -> Array:
    finite = jnp.isfinite(log_weights)
    return jnp.std(jnp.where(finite, log_weights, 0), where=finite)
