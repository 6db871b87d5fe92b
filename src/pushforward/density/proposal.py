"""Proposals of importance sampling: mixtures of Student's t distributions, fitted to weighted points."""

from typing import NamedTuple

import numpy as np
import scipy.special
from jaxtyping import Float
from scipy.linalg import solve_triangular

from pushforward.gaussian_mixture import GaussianMixture, fit_mixture

# The numbers of components to try, and the degrees of freedom: tails heavier than those of most densities.
SIZES, DF = (1, 2, 4, 8), 5.0
Points = Float[np.ndarray, "points free"]
Vector = Float[np.ndarray, " points"]


class Proposal(NamedTuple):
    """A mixture of multivariate t distributions, in coordinates (z - loc) / scale.

    Attributes:
        mixture: the weights, locations and scales.
        loc: the location of the coordinates.
        scale: the scales of the coordinates.
    """

    mixture: GaussianMixture
    loc: Float[np.ndarray, " free"]
    scale: Float[np.ndarray, " free"]

    @classmethod
    def fit(cls, z: Points, generator: np.random.Generator, weights: Vector | None = None) -> "Proposal":
        """The mixture fitted to weighted points.

        Args:
            z: the points.
            generator: for initial values.
            weights: the weights, by default equal.
        """
        loc = np.average(z, 0, weights)
        scale = np.sqrt(np.average((z - loc) ** 2, 0, weights)) + 1e-300
        return cls(fit_mixture((z - loc) / scale, SIZES, generator, weights), loc, scale)

    def sample(self, generator: np.random.Generator, num: int) -> Points:
        """Draws.

        Args:
            generator: for the draws.
            num: the number of draws.
        """
        part = generator.choice(len(self.mixture.means), num, p=np.exp(self.mixture.log_weights))
        noise = generator.normal(size=(num, self.loc.size)) / np.sqrt(generator.chisquare(DF, num) / DF)[:, None]
        draws = self.mixture.means[part] + np.einsum("nij,nj->ni", self.mixture.factors[part], noise)
        return self.loc + self.scale * draws

    def log_prob(self, z: Points) -> Vector:
        """The log-density.

        Args:
            z: points.
        """
        dim, terms = self.loc.size, []
        constant = scipy.special.gammaln((DF + dim) / 2) - scipy.special.gammaln(DF / 2) - dim / 2 * np.log(DF * np.pi)
        x = (z - self.loc) / self.scale
        for log_weight, mean, factor in zip(*self.mixture, strict=True):
            squares = (solve_triangular(factor, (x - mean).T, lower=True) ** 2).sum(0)
            volume = np.log(np.diag(factor)).sum() + np.log(self.scale).sum()
            terms.append(log_weight + constant - (DF + dim) / 2 * np.log1p(squares / DF) - volume)
        return scipy.special.logsumexp(terms, axis=0)
