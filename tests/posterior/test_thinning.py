"""Every k-th draw."""

import numpy as np
import pytest

from pushforward.posterior.thinning import MIN_PER_CHAIN, stride, thinned, thinned_chains


@pytest.mark.parametrize(("num", "most", "expected"), [(0, 5, 1), (4, 5, 1), (5, 5, 1), (6, 5, 2), (100, 9, 12)])
def test_no_more_are_left_than_allowed(num, most, expected):
    assert stride(num, most) == expected
    draws, weights = np.arange(2.0 * num).reshape(num, 2), np.arange(num)
    kept = thinned(draws, most)
    assert len(kept) == len(range(0, num, expected)) <= most
    np.testing.assert_array_equal(kept, draws[thinned(weights, most)])


@pytest.mark.parametrize("shape", [(4, 1000), (500, 100), (2000, 3), (3000, 150), (1, 7)])
def test_chains_that_are_left_have_enough_draws(shape):
    draws = np.arange(shape[0] * shape[1]).reshape(shape)
    left = thinned_chains(draws, 2000)
    assert left.size <= 2000 and left.size > 0.3 * min(2000, draws.size)
    assert left.shape[1] >= min(MIN_PER_CHAIN, draws.size) and (np.diff(left) > 0).all()
    if shape[1] >= MIN_PER_CHAIN:
        assert (left // shape[1] == left[:, :1] // shape[1]).all()
