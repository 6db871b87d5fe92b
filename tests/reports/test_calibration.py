"""The Kolmogorov-Smirnov band: uniform samples leave it as often as they should."""

import numpy as np
import pytest

from pushforward.reports.calibration import band_width, outside_band


def within_band(values):
    return not outside_band({"only": values})


@pytest.mark.parametrize("size", [1, 10, 1000])
def test_the_level(size):
    rng = np.random.default_rng(0)
    inside = np.mean([within_band(rng.uniform(size=size)) for _ in range(1000)])
    assert inside == pytest.approx(0.95, abs=0.03)
    assert not within_band(np.full(10, 0.5)) and within_band((np.arange(size) + 0.5) / size)


def test_the_width_of_large_samples():
    """The quantile of Kolmogorov's distribution is 1.3581."""
    assert band_width(10**6) == pytest.approx(1.3581e-3, rel=1e-3)


@pytest.mark.parametrize("num_columns", [1, 10])
def test_the_level_of_all_columns_together(num_columns):
    """Columns of a perfect density are named in about 5 % of the cases, and a wrong one is named among them."""
    rng, named = np.random.default_rng(0), 0
    for _ in range(1000):
        named += bool(outside_band({str(i): rng.uniform(size=100) for i in range(num_columns)}))
    assert named / 1000 == pytest.approx(0.05, abs=0.02)
    columns = {str(i): rng.uniform(size=100) for i in range(num_columns)}
    assert outside_band({**columns, "wrong": rng.uniform(size=100) ** 2}) == ["wrong"]


def test_the_drawn_band_is_the_one_of_the_test():
    """A sample whose distance is just inside of the band is not named; one just outside is."""
    grid = (np.arange(400) + 0.5) / 400
    for num_columns in (1, 7):
        band, others = band_width(400, num_columns), {str(i): grid for i in range(num_columns - 1)}
        for distance, named in ((0.99 * band, []), (1.01 * band, ["x"])):
            # The distribution function of max(grid, distance) is off by the distance, where it jumps.
            values = np.maximum(grid, distance)
            assert outside_band({**others, "x": values}) == named
