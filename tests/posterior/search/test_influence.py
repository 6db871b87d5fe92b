"""Global coordinates are found by their influence on the shape of the others."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np

from pushforward.bijections import Triangular
from pushforward.posterior.search.influence import influence, order_by_influence


def test_a_gaussian_has_no_influence():
    matrix = jnp.array([[2.0, 0, 0], [1, 0.5, 0], [0, 0, 1e3]])
    precision = jnp.linalg.inv(matrix @ matrix.T)
    found = influence(lambda x: -0.5 * x @ precision @ x, Triangular(3, matrix=matrix), jr.key(0))
    np.testing.assert_allclose(found, 0.0, atol=1e-8)


def test_the_scale_of_many_is_global():
    """Two scales with 20 local parameters each; the order of the coordinates does not matter."""
    order = np.random.default_rng(0).permutation(42)

    def log_density(x):
        x = x[order]
        scales, local = x[:2], x[2:].reshape(2, 20)
        prior = -0.5 * jnp.sum(local**2 * jnp.exp(-2 * scales[:, None])) - 20 * scales.sum()
        return prior - 0.5 * jnp.sum(scales**2) - 0.5 * jnp.sum((local - 1) ** 2)

    found = influence(log_density, Triangular(42, matrix=0.5 * jnp.eye(42)), jr.key(0))
    first, num_global = order_by_influence(np.asarray(found))
    assert num_global == 2 and set(first[:2]) == set(order[:2])
    assert sorted(first) == list(range(42))


def test_independent_coordinates_and_damaged_values():
    found = influence(lambda x: -jnp.sum(x**4), Triangular(40), jr.key(0))
    assert order_by_influence(np.asarray(found))[1] == 0
    assert order_by_influence(np.array([np.nan] * 5 + [1.0] * 35))[1] == 0


def test_rounding_noise_is_no_influence():
    assert order_by_influence(np.array([1.0, 0.5] + [1e-12] * 20 + [1e-9] * 10))[1] == 2
