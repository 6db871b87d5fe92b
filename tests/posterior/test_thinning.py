"""Every k-th draw."""

import numpy as np
import pytest

from pushforward.posterior.thinning import stride, thinned


@pytest.mark.parametrize(("num", "most", "expected"), [(0, 5, 1), (4, 5, 1), (5, 5, 1), (6, 5, 2), (100, 9, 12)])
def test_no_more_are_left_than_allowed(num, most, expected):
    assert stride(num, most) == expected
    draws, weights = np.arange(2.0 * num).reshape(num, 2), np.arange(num)
    kept = thinned(draws, most)
    assert len(kept) == len(range(0, num, expected)) <= most
    np.testing.assert_array_equal(kept, draws[thinned(weights, most)])
