"""Modes of draws: curved and heavy-tailed ones are not split."""

import numpy as np
import pytest

from pushforward.posterior.search.candidates import Candidate
from pushforward.posterior.search.drawn_modes import gaussians_of, with_drawn

RNG = np.random.default_rng(0)


def banana(num):
    a = RNG.normal(size=(num, 2))
    return np.concatenate([a, a**2 + 0.3 * RNG.normal(size=(num, 2))], 1)


@pytest.mark.parametrize(
    ("draws", "num_modes"),
    [
        (banana(2000), 1),
        (np.concatenate([banana(700), 30 - banana(300)]), 2),
        (RNG.standard_t(3, size=(2000, 3)), 1),
        (np.log(RNG.gamma(0.5, size=(500, 3))), 1),
        (np.concatenate([RNG.normal(c, 0.1, (100, 2)) for c in (0, 5, 11, 20, 30)]), 5),
        (RNG.normal(size=(100, 80)), 1),
        (RNG.normal(size=(100, 300)), 1),
    ],
)
def test_modes_of_draws(draws, num_modes):
    found = gaussians_of(draws)
    assert len(found) == num_modes
    assert all(np.isfinite(loc).all() and np.isfinite(factor).all() for loc, factor in found)


def test_the_gaussian_of_a_mode_has_its_moments():
    draws = RNG.multivariate_normal([1e3, -1e-3], [[1e4, 5e-2], [5e-2, 1e-6]], 2000)
    ((loc, factor),) = gaussians_of(draws)
    np.testing.assert_allclose(loc, draws.mean(0))
    np.testing.assert_allclose(factor @ factor.T, np.cov(draws.T), rtol=0.01)


def test_of_two_gaussians_of_one_mode_the_better_is_kept():
    def gaussian(loc, elbo):
        return Candidate(np.array([loc]), np.eye(1), elbo, 0.0, 0.0)

    kept = with_drawn([gaussian(0.0, -1.0)], [gaussian(0.1, -0.5), gaussian(20.0, -30.0)])
    assert [(float(c.loc[0]), c.elbo) for c in kept] == [(0.1, -0.5), (20.0, -30.0)]
