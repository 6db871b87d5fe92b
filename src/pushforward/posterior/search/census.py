r"""How many modes did the search not find? Those that it reached only once show it.

Newton paths from many starting points are a sample of the modes, as traps are of the species of a forest. If most modes
are reached again and again, there are hardly any others. If $f_1$ modes are reached once and $f_2$ twice, about
$f_1^2 / (2 f_2)$ others are not reached at all, or more if some are harder to reach. Their mass is about that of the
modes that are reached once, which are the most similar to them.

References:
    Good, The Population Frequencies of Species and the Estimation of Population Parameters (1953).
    Chao, Nonparametric Estimation of the Number of Classes in a Population (1984).
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.linalg import solve_triangular

from pushforward.posterior.search.candidates import MIN_DISTANCE, Candidate
from pushforward.posterior.thinning import thinned

# Many modes with less than this fraction of the mass of the best one would have to be missed.
MIN_MASS = 1e-4
# The draws that show whether a mode is a separate one, and how far from it, in its standard deviations beyond those of
# a Gaussian's draws. Around a point of a ridge there are about half as many draws as near it, and around a separate
# mode hardly any.
NUM_DRAWS = 10_000
NEAR, AROUND = 2.0, 4.0
MAX_AROUND = 0.2


class Mode(NamedTuple):
    """A mode that the search reached.

    Attributes:
        candidate: the best Gaussian near it.
        count: the number of paths that began elsewhere and found a Gaussian near it.
    """

    candidate: Candidate
    count: int


class Round(NamedTuple):
    """Gaussians of paths from starting points around the mean of a Gaussian.

    Attributes:
        center: that Gaussian, if it is of one mode; None if the starting points are wide-spread.
        ends: the Gaussians of the paths.
    """

    center: Candidate | None
    ends: list[Candidate]


class Census(NamedTuple):
    """The modes that a search reached.

    Attributes:
        modes: the modes, the best one first.
        log_mass: the logarithm of the mass of all that the search found.
    """

    modes: list[Mode]
    log_mass: float

    @classmethod
    def of(cls, rounds: Sequence[Round]) -> "Census":
        """Count the paths that ended near each mode.

        A path that began near a mode says nothing about how easily that mode is found, so it does not count for it.

        Args:
            rounds: all paths.
        """
        if not any(each.ends for each in rounds):
            return cls([], -math.inf)
        ends = sorted((end for each in rounds for end in each.ends), key=lambda end: -end.elbo)
        ends = [end for end in ends if end.elbo >= ends[0].elbo + math.log(MIN_MASS)]
        distances, ungrouped = _Distances.of(ends), np.ones(len(ends), bool)
        modes = []
        for i, mode in enumerate(ends):
            if ungrouped[i] and mode.is_mode:
                near = ungrouped & (distances.to(i) <= MIN_DISTANCE)
                ungrouped &= ~near
                own = {id(end) for each in rounds if _is_center(mode, each) for end in each.ends}
                modes.append(Mode(mode, sum(id(ends[k]) not in own for k in np.flatnonzero(near))))
        # Without its modes, the mass is that of the best Gaussian: the mode of a funnel is far from its mass.
        masses = np.logaddexp.reduce([mode.candidate.elbo for mode in modes], initial=-np.inf)
        return cls(modes, max(ends[0].elbo, float(masses)))

    @property
    def is_complete(self) -> bool:
        """Whether there are at most two modes, which are reached again and again, so that others are improbable."""
        return len(self.modes) < 2 or (len(self.modes) == 2 and all(mode.count > 1 for mode in self.modes))

    def beyond(self, known: "Census") -> list[Candidate]:
        """The modes that are not near those of another census.

        Args:
            known: the other census.
        """
        others = [mode.candidate for mode in known.modes]
        new = [mode.candidate for mode in self.modes]
        return [mode for mode in new if all(mode.distance(other) > MIN_DISTANCE for other in others)]

    @property
    def unseen(self) -> float:
        """The estimated mass of the modes that were not reached, relative to the mass of all that was found."""
        once = [mode.candidate.elbo for mode in self.modes if mode.count <= 1]
        if not once or len(self.modes) == 1:
            return 0.0
        twice = sum(mode.count == 2 for mode in self.modes)
        number = len(once) ** 2 / (2 * max(twice, 1))
        return number * float(np.mean(np.exp(np.asarray(once) - self.log_mass)))

    @property
    def spread(self) -> tuple[np.ndarray, np.ndarray]:
        """The mean and a factor of the covariance of the modes, each with the same weight."""
        candidates = [mode.candidate for mode in self.modes]
        # In double precision, because the covariance squares the scales.
        locs, factors = (np.stack([getattr(c, name) for c in candidates]).astype(float) for name in ("loc", "factor"))
        deviations = locs - locs.mean(0)
        if factors.ndim == 2:
            factor = np.sqrt((factors**2 + deviations**2).mean(0))
        else:
            factor = np.linalg.cholesky(np.mean(factors @ factors.mT + deviations[:, :, None] * deviations[:, None], 0))
        dtype = candidates[0].loc.dtype
        return locs.mean(0).astype(dtype), factor.astype(dtype)

    def separate(self, draws: Float[np.ndarray, "draws dim"], weights: Float[np.ndarray, " draws"]) -> "Census":
        """Only the modes around which a posterior has hardly any mass.

        The others are points of a ridge, such as a ring, where paths end anywhere; all of it is one region.

        Args:
            draws: draws of a fit, in unconstrained coordinates.
            weights: their weights, up to a constant.
        """
        draws, weights = thinned(draws, NUM_DRAWS), thinned(weights, NUM_DRAWS)
        return self._replace(modes=[mode for mode in self.modes if _is_separate(mode.candidate, draws, weights)])


class _Distances(NamedTuple):
    """The distances of `Candidate.distance`, of all Gaussians at once."""

    locs: np.ndarray
    inverses: np.ndarray

    @classmethod
    def of(cls, found: Sequence[Candidate]) -> "_Distances":
        locs, factors = (np.stack([getattr(c, name) for c in found]).astype(float) for name in ("loc", "factor"))
        return cls(locs, 1 / factors if factors.ndim == 2 else np.linalg.inv(factors))

    def to(self, i: int) -> np.ndarray:
        """The distances of all Gaussians to one of them."""
        between = self.locs - self.locs[i]
        if self.inverses.ndim == 2:
            parts = between * self.inverses[i], between * self.inverses
        else:
            parts = between @ self.inverses[i].T, np.einsum("nij,nj->ni", self.inverses, between)
        return np.minimum(*(np.linalg.norm(part, axis=1) for part in parts))


def _is_center(mode: Candidate, one: Round) -> bool:
    return one.center is not None and mode.distance(one.center) <= MIN_DISTANCE


def _is_separate(candidate: Candidate, draws: np.ndarray, weights: np.ndarray) -> bool:
    between, factor = draws - candidate.loc, candidate.factor
    between = between / factor if factor.ndim == 1 else solve_triangular(factor, between.T, lower=True).T
    beyond = np.linalg.norm(between, axis=1) - math.sqrt(candidate.loc.size)
    near, around = weights[beyond <= NEAR].sum(), weights[(beyond > NEAR) & (beyond <= AROUND)].sum()
    return bool(around <= MAX_AROUND * near)
