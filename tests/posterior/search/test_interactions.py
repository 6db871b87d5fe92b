"""Coordinates that change the scales of others become their parents."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from pushforward.bijections import Triangular
from pushforward.posterior.search.interactions import MAX_DIM, MAX_PARENTS, find_interactions, two_groups


def pairs(x, strength=0.6):
    """Normal pairs (s, y), in which exp(strength s) is the scale of y."""
    s, y = x.reshape(-1, 2).T
    return -0.5 * jnp.sum(s**2 + y**2 * jnp.exp(-2 * strength * s)) - strength * jnp.sum(s)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_scale_of_each_coordinate_is_its_parent(dtype):
    affine = Triangular(12, matrix=jnp.eye(12, dtype=dtype))
    found = find_interactions(pairs, affine, 0, jr.key(0))
    assert found.mask == (True, False) * 6
    np.testing.assert_array_equal(found.of_second[:, 0], np.arange(6))
    assert found.of_second.shape == found.of_first.shape == (6, MAX_PARENTS)
    assert 0.5 < found.loss / (6 * 0.6**2) < 3


def test_coordinates_are_those_of_the_gaussian():
    """An affine map of the coordinates changes nothing."""
    matrix = jnp.tril(jr.normal(jr.key(1), (6, 6))) + 3 * jnp.eye(6)
    affine = Triangular(6, matrix=matrix)
    found = find_interactions(lambda x: pairs(affine.inverse(x)), affine, 0, jr.key(0))
    plain = find_interactions(pairs, Triangular(6), 0, jr.key(0))
    assert found.mask == plain.mask
    assert found.loss == pytest.approx(plain.loss, rel=1e-6)


def test_a_gaussian_and_independent_coordinates_have_none():
    assert find_interactions(lambda x: -jnp.sum(x**2), Triangular(5), 0, jr.key(0)) is None
    assert find_interactions(lambda x: -jnp.sum(x**4), Triangular(5), 0, jr.key(0)) is None


def test_locals_given_globals_are_left_to_the_other_couplings():
    """All depend on the first coordinate."""

    def funnel(x):
        return -0.5 * x[0] ** 2 - 0.5 * jnp.sum(x[1:] ** 2) * jnp.exp(-x[0]) - 2 * x[0]

    assert find_interactions(funnel, Triangular(5), 0, jr.key(0)).mask == (True, False, False, False, False)
    assert find_interactions(funnel, Triangular(5), 1, jr.key(0)) is None


def test_values_that_are_not_finite_and_many_dimensions():
    found = find_interactions(lambda x: jnp.where(x[0] > 2, jnp.nan, pairs(x)), Triangular(4), 0, jr.key(0))
    assert np.isfinite(found.loss)
    assert find_interactions(pairs, Triangular(MAX_DIM + 1), 0, jr.key(0)) is None


def test_the_groups_are_a_local_maximum():
    strength = np.random.default_rng(0).random((20, 20)) ** 4 * (1 - np.eye(20))
    first = two_groups(strength)

    def total(first):
        return strength[np.ix_(~first, first)].sum()

    assert all(total(first) >= total(first ^ (np.arange(20) == i)) for i in range(20))
    np.testing.assert_array_equal(two_groups(np.array([[0, 0, 0], [1.0, 0, 0], [2.0, 0, 0]])), [True, False, False])
