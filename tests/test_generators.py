"""NumPy's generators from keys."""

import jax.random as jr
import numpy as np
import pytest

from pushforward.generators import numpy_generator, separate_key


@pytest.mark.parametrize("seed", [0, 5, 2**32 - 1])
def test_the_key_determines_the_numbers(seed):
    key = jr.key(seed)
    found = numpy_generator(key).normal(size=3)
    np.testing.assert_array_equal(found, numpy_generator(key).normal(size=3))
    # As from the words of the key in an array, which results of earlier versions were drawn with.
    np.testing.assert_array_equal(found, np.random.default_rng(np.asarray(jr.key_data(key))).normal(size=3))
    assert (found != numpy_generator(jr.fold_in(key, 1)).normal(size=3)).all()


def test_separate_keys_differ_from_those_of_a_split():
    key = jr.key(0)
    parts = jr.key_data(jr.split(key, 100))
    assert not (parts == jr.key_data(separate_key(key))).all(1).any()
