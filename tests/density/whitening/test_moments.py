"""Moments of columns of any unit and offset."""

import numpy as np
import pytest

from pushforward.density.whitening.moments import Moments

RNG = np.random.default_rng(0)


def test_moments_of_any_unit_and_offset():
    rows = RNG.normal(size=(200, 3)) @ RNG.normal(size=(3, 3))
    units, offsets = np.array([1e-200, 1e160, 1.0]), np.array([0.0, 0.0, 1.6e9])
    weights = RNG.uniform(size=200)
    moments = Moments(rows[:20] * units + offsets)
    for part in (slice(0, 50), slice(50, None)):
        moments.add(rows[part] * units + offsets, weights[part])
    np.testing.assert_allclose(moments.loc, np.average(rows, 0, weights) * units + offsets, rtol=1e-12)
    covariance = np.cov(rows.T, aweights=weights, ddof=0)
    np.testing.assert_allclose(moments.scale, np.sqrt(np.diag(covariance)) * units, rtol=1e-6)
    scale = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose(moments.correlation, covariance / np.outer(scale, scale), atol=1e-6)
    assert moments.effective_size == pytest.approx(weights.sum() ** 2 / (weights**2).sum())
