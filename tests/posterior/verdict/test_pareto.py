"""Pareto smoothing beside ArviZ's and SciPy's."""

import math

import arviz
import numpy as np
import pytest
from scipy import stats

from posterior_cases import gaussian_log_weights
from pushforward.posterior.verdict.pareto import fit_generalized_pareto, pareto_smooth


@pytest.mark.skipif(not hasattr(arviz, "psislw"), reason="this ArviZ has no psislw")
@pytest.mark.parametrize("scale", [0.6, 0.8, 1.3])
def test_smoothing_agrees_with_arviz(scale):
    log_weights = gaussian_log_weights(0.3, scale, 20_000)
    smoothed, khat = pareto_smooth(log_weights)
    expected, expected_khat = arviz.psislw(log_weights.copy())
    assert khat == pytest.approx(float(expected_khat), abs=1e-6)
    np.testing.assert_allclose(smoothed, expected, atol=1e-6)


@pytest.mark.parametrize("shape", [-0.3, 0.2, 0.7, 1.2])
def test_pareto_shape_is_recovered(shape):
    excess = np.sort(stats.genpareto.rvs(shape, scale=2.0, size=20_000, random_state=1))
    found, scale = fit_generalized_pareto(excess)
    # The asymptotic standard error of the shape is (1 + k) / sqrt(n).
    assert abs(found - shape) < 5 * (1 + abs(shape)) / math.sqrt(20_000)
    assert scale == pytest.approx(2.0, rel=0.1)
