"""Newton paths end at modes, with the Gaussian of the curvature."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from pushforward.posterior.search import newton
from pushforward.posterior.search.newton import newton_paths


@pytest.mark.parametrize("dim", [3, 300])
def test_the_gaussian_of_the_mode_whatever_its_scales(dim):
    """From matrices in few dimensions, from diagonals in many."""
    scales, mean = 10.0 ** np.linspace(-3, 3, dim), np.linspace(-1, 1, dim)
    starts = jnp.stack([jnp.zeros(dim), jnp.ones(dim)])
    locs, factors = newton_paths(lambda x: -0.5 * jnp.sum(((x - mean) / scales) ** 2), starts, jr.key(0))
    np.testing.assert_allclose(locs, np.stack([mean, mean]), atol=1e-9)
    expected = np.diag(scales) if dim == 3 else scales
    np.testing.assert_allclose(factors, np.stack([expected] * 2), rtol=1e-6)


@pytest.mark.parametrize("start", [-40.0, -160.0, -600.0])
def test_a_path_climbs_an_exponential_tail(start):
    """There the curvature is as small as e^-600, and Newton's step as long as e^600."""
    locs, _ = newton_paths(lambda x: jnp.sum(x - jnp.exp(x)), jnp.array([[start, 0.3]]), jr.key(0))
    np.testing.assert_allclose(locs[0], 0.0, atol=0.5)


def test_steps_to_a_mode_far_away_are_not_shortened_for_long():
    locs, _ = newton_paths(lambda x: -0.5 * jnp.sum((x - 1e12) ** 2 / 1e20), jnp.zeros((1, 2)), jr.key(0))
    np.testing.assert_allclose(locs, 1e12, rtol=1e-6)


def test_in_many_dimensions_a_path_ends_when_it_climbs_into_the_neck_of_a_funnel(monkeypatch):
    """The best Gaussian comes early, and the mode is at infinity."""
    calls = []

    def funnel(x):
        jax.debug.callback(lambda: calls.append(1))
        return -(x[0] ** 2) / 18 - 0.5 * jnp.sum(x[1:] ** 2) * jnp.exp(-x[0]) - 0.5 * (x.size - 1) * x[0]

    found, counts = [], []
    for patience in (newton.PATIENCE, newton.NUM_ITERATIONS):
        monkeypatch.setattr(newton, "PATIENCE", patience)
        calls.clear()
        found.append(newton_paths(funnel, jnp.ones((1, newton.MANY_PATHS_DIM + 1)), jr.key(0)))
        jax.effects_barrier()
        counts.append(len(calls))
    np.testing.assert_array_equal(found[0][0], found[1][0])
    assert counts[0] < counts[1] / 2
