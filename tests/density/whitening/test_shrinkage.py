"""The shrinkage of correlations."""

import numpy as np
import pytest

from pushforward.density.whitening.shrinkage import choose_shrinkage


@pytest.mark.parametrize(
    ("size", "make", "expected"),
    [
        (60, lambda x: x @ [[1, 1], [0, 1e-3]], (0.0, 0.0)),
        (400, lambda x: x, (0.0, 0.0)),
        (30, lambda x: x, (0.1, 1.0)),
        (30, lambda x: np.where(np.arange(30)[:, None] == [7, 8], 1.0, 0.0) + 1e-9 * x, (0.0, 1.0)),
    ],
)
def test_amount_of_shrinkage(size, make, expected):
    x = make(np.random.default_rng(0).normal(size=(size, 2)))
    assert expected[0] <= choose_shrinkage(x, np.ones(size), size) <= expected[1]
    # Copies tell nothing new, wherever they are.
    assert choose_shrinkage(np.repeat(x, 4, axis=0), np.ones(4 * size), 4 * size) >= expected[0]
