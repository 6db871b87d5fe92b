"""The effective sample size of weights."""

import numpy as np
import pytest

from pushforward.weights import effective_sample_size


def test_effective_sample_size():
    assert effective_sample_size(np.full(7, 0.3)) == pytest.approx(7)
    assert effective_sample_size([1.0, 0.0, 0.0]) == 1
    assert effective_sample_size([2.0, 1.0]) == pytest.approx(9 / 5)
