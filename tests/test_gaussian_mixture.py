"""Mixtures of Gaussians by expectation-maximization."""

import numpy as np
import pytest
from scipy import stats
from scipy.special import logsumexp

from pushforward.gaussian_mixture import fit_mixture

RNG = np.random.default_rng(0)


def test_a_mixture_is_found_with_its_size_also_from_weighted_rows():
    """Half of the rows of the second component have twice the weight."""
    x = np.concatenate([RNG.multivariate_normal([0, 0], [[1, 0.5], [0.5, 2]], 3000), RNG.normal(8, 0.5, (1500, 2))])
    weights = np.repeat([1.0, 2.0], [3000, 1500])
    for rows, w in ((np.concatenate([x, x[3000:]]), None), (x, weights)):
        found = fit_mixture(rows, (1, 2, 4), np.random.default_rng(1), w)
        order = np.argsort(found.means[:, 0])
        np.testing.assert_allclose(np.exp(found.log_weights), 0.5, atol=0.01)
        np.testing.assert_allclose(found.means[order], [[0, 0], [8, 8]], atol=0.1)
        factor = found.factors[order[0]]
        np.testing.assert_allclose(factor @ factor.T, [[1, 0.5], [0.5, 2]], atol=0.15)


def test_log_densities_are_those_of_scipy():
    x = RNG.normal(size=(500, 3))
    found = fit_mixture(x, (1,), np.random.default_rng(0))
    expected = stats.multivariate_normal(x.mean(0), np.cov(x.T, bias=True) + 1e-6 * np.diag(x.var(0))).logpdf(x)
    np.testing.assert_allclose(logsumexp(found.log_densities(x), 1), expected, rtol=1e-9)


@pytest.mark.parametrize("rows", [RNG.normal(size=(5, 3)), np.ones((50, 1)), RNG.integers(0, 2, (100, 2)) * 1.0])
def test_few_or_equal_rows_have_a_finite_mixture(rows):
    found = fit_mixture(rows, (1, 2, 4), np.random.default_rng(0))
    assert np.isfinite(found.log_densities(rows)).all()
