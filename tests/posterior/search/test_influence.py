"""Global coordinates are found by their influence on the shape of the others."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.optimize

from pushforward.bijections import Triangular
from pushforward.posterior.search.influence import MAX_GLOBAL_FRACTION, find_global, order_by_influence


def test_a_gaussian_has_no_global_coordinates():
    matrix = np.tril(np.random.default_rng(0).normal(size=(20, 20))) * np.logspace(-2, 3, 20)[:, None] + np.eye(20)
    affine = Triangular(20, matrix=np.where(np.eye(20), np.abs(matrix), matrix))
    order, num_global = find_global(lambda x: -0.5 * jnp.sum(affine.inverse(x) ** 2), affine, jr.key(0))
    assert num_global == 0
    np.testing.assert_array_equal(order, np.arange(20))


def test_the_scale_of_many_is_global():
    """Two scales with 20 local parameters each; the order of the coordinates does not matter."""
    order = np.random.default_rng(0).permutation(42)

    def log_density(x):
        x = x[order]
        scales, local = x[:2], x[2:].reshape(2, 20)
        prior = -0.5 * jnp.sum(local**2 * jnp.exp(-2 * scales[:, None])) - 20 * scales.sum()
        return prior - 0.5 * jnp.sum(scales**2) - 0.5 * jnp.sum((local - 1) ** 2)

    first, num_global = find_global(log_density, Triangular(42, matrix=0.5 * jnp.eye(42)), jr.key(0))
    assert num_global == 2 and set(first[:2]) == set(order[:2])
    assert sorted(first) == list(range(42))


@pytest.mark.parametrize("precision", ["float32", "float64"], indirect=True)
def test_scales_are_global_although_correlations_are_strong(precision):
    """Counts whose logarithms are a random walk, in terms of its innovations."""
    counts = np.random.default_rng(0).poisson(20, size=40)

    def log_density(x):
        start, log_scale, steps = x[0], x[1], x[2:]
        logits = 3 + start + jnp.cumsum(0.3 * jnp.exp(0.5 * log_scale) * steps)
        return jnp.sum(counts * logits - jnp.exp(logits)) - 0.5 * jnp.sum(x**2)

    with jax.enable_x64(True):
        mode = scipy.optimize.minimize(
            lambda x: -log_density(x), np.zeros(42), jac=lambda x: -jax.grad(log_density)(x)
        ).x
        covariance = np.linalg.inv(-jax.hessian(log_density)(mode) + 1e-3 * np.eye(42))
    affine = Triangular(42, mode, np.linalg.cholesky(covariance))
    order, num_global = find_global(log_density, affine, jr.key(0))
    assert order[0] == 1
    # In float32 the noise of gradients far out stands out, too.
    assert num_global <= 3 or precision == "float32"


def test_what_moves_with_a_global_coordinate_is_not_global():
    """Curvatures change with coordinate 2 alone, and coordinate 3 is almost the same."""
    matrix = np.eye(20)
    matrix[3, 2:4] = 0.99, 0.1
    changes = np.random.default_rng(0).normal(size=(512, 20)) * np.where(np.arange(20) == 2, 10, 0.1)
    order, num_global = order_by_influence(changes, matrix)
    assert num_global == 1 and order[0] == 2
    # The same in other units.
    assert order_by_influence(changes, 1e3 * matrix)[1] == 1


def test_independent_coordinates_have_no_global_one():
    assert find_global(lambda x: -jnp.sum(x**4), Triangular(40), jr.key(0))[1] == 0


def test_values_that_are_not_finite_do_not_count():
    def log_density(x):
        scale = jnp.exp(x[0])
        return -0.5 * x[0] ** 2 - 0.5 * jnp.sum((x[1:] / scale) ** 2) - 39 * x[0] + jnp.where(x[1] > 1, jnp.nan, 0)

    order, num_global = find_global(log_density, Triangular(40), jr.key(0))
    assert order[0] == 0 and num_global == 1
    assert find_global(lambda x: jnp.sum(x) * jnp.nan, Triangular(40), jr.key(0))[1] == 0


def test_rounding_noise_is_no_influence_and_there_is_a_largest_number():
    rng = np.random.default_rng(0)
    sizes = np.array([1.0, 0.5] + [1e-12] * 20 + [1e-9] * 10)
    assert order_by_influence(rng.normal(size=(512, 32)) * sizes, np.eye(32))[1] == 2
    sizes = np.where(np.arange(32) < 15, 1.0, 0.01)
    order, num_global = order_by_influence(rng.normal(size=(512, 32)) * sizes, np.eye(32))
    assert num_global == int(32 * MAX_GLOBAL_FRACTION) and sorted(order) == list(range(32))


def test_the_first_coordinate_may_have_to_be_clearly_global():
    """Three coordinates with 6, 5 and 3 times the influence of the others: if the first is clear, all count."""
    changes = np.random.default_rng(0).normal(size=(512, 32)) * np.array([6.0, 5.0, 3.0] + [1.0] * 29)
    for first_ratio, expected in ((2.0, 3), (4.0, 3), (8.0, 0)):
        assert order_by_influence(changes, np.eye(32), first_ratio)[1] == expected
