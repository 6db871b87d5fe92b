"""The Kolmogorov-Smirnov band: uniform samples leave it as often as they should."""

import numpy as np
import pytest

from pushforward.reports.calibration import band_width, within_band


@pytest.mark.parametrize("size", [1, 10, 1000])
def test_the_level(size):
    rng = np.random.default_rng(0)
    inside = np.mean([within_band(rng.uniform(size=size)) for _ in range(1000)])
    assert inside == pytest.approx(0.95, abs=0.03)
    assert not within_band(np.full(10, 0.5)) and within_band((np.arange(size) + 0.5) / size)


def test_the_width_of_large_samples():
    """The quantile of Kolmogorov's distribution is 1.3581."""
    assert band_width(10**6) == pytest.approx(1.3581e-3, rel=1e-3)
