"""Uniform ranks pass a chi-square test, others do not."""

import numpy as np
import pytest
import scipy.stats

from pushforward.posterior.ranks import Ranks

RNG = np.random.default_rng(0)
NUM = 2000


# The ranks 0, ..., 99 fall into 16 bins of different sizes, and 0, ..., 4 are fewer than the bins.
@pytest.mark.parametrize("num_samples", [99, 4])
def test_p_values_of_uniform_ranks_are_not_small(num_samples):
    ranks = Ranks({"mu": RNG.integers(0, num_samples + 1, NUM)}, num_samples)
    assert list(ranks.p_values()) == ["mu"]
    assert ranks.p_values()["mu"] > 0.01


def test_p_values_of_ranks_that_are_not_uniform_are_small_for_these_scalars_only():
    draws = {
        "mu": RNG.integers(0, 100, NUM),
        "theta": np.stack([RNG.integers(0, 100, NUM), RNG.binomial(99, 0.5, NUM)], 1),
    }
    p_values = Ranks(draws, 99).p_values()
    assert list(p_values) == ["mu", "theta[0]", "theta[1]"]
    assert p_values["mu"] > 0.01 and p_values["theta[0]"] > 0.01 and p_values["theta[1]"] < 1e-10


def test_pit_values_of_uniform_ranks_are_uniform():
    found = Ranks({"mu": RNG.integers(0, 8, NUM)}, 7).pit()["mu"]
    assert found.shape == (NUM,) and found.min() > 0 and found.max() < 1
    assert scipy.stats.kstest(found, "uniform").pvalue > 0.01
    np.testing.assert_array_equal(found, Ranks({"mu": np.floor(8 * found).astype(int)}, 7).pit()["mu"])
