"""Simulation-based calibration: ranks of true values among draws of posteriors, and tests for their uniformity.

References:
    Talts et al., Validating Bayesian Inference Algorithms with Simulation-Based Calibration (2018).
    https://arxiv.org/abs/1804.06788
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from pushforward.posterior.spaces.base import Draw
from pushforward.reports.columns import by_scalar


class Ranks(NamedTuple):
    """Ranks of true values, which are uniform over 0, ..., `num_samples` if the posteriors are calibrated.

    Attributes:
        ranks: a pytree with the structure of draws.
        num_samples: the largest possible rank.
    """

    ranks: Draw
    num_samples: int

    def p_values(self, bins: int = 16) -> dict[str, float]:
        """The p-value of a chi-square test for uniformity, for each scalar; small values indicate miscalibration.

        With many scalars, a few p-values are small by chance: compare the smallest with 0.05 / their number.

        Args:
            bins: the number of bins of the histogram of ranks.
        """
        import scipy.stats  # only here: it takes long to import

        bins = min(bins, self.num_samples + 1)
        edges = np.linspace(0, self.num_samples + 1, bins + 1) - 0.5
        # The bins may hold different numbers of possible ranks.
        possible, _ = np.histogram(np.arange(self.num_samples + 1), edges)

        def p_value(ranks):
            counts, _ = np.histogram(ranks, edges)
            return float(scipy.stats.chisquare(counts, possible / possible.sum() * ranks.size).pvalue)

        return {name: p_value(ranks) for name, ranks in by_scalar(self.ranks).items()}

    def pit(self) -> dict[str, Float[np.ndarray, " n"]]:
        """The ranks of each scalar as numbers in (0, 1), dequantized by uniform noise (PIT values)."""
        noise = np.random.default_rng(0)
        return {
            name: (ranks + noise.uniform(size=ranks.size)) / (self.num_samples + 1)
            for name, ranks in by_scalar(self.ranks).items()
        }
