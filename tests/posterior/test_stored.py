"""What a posterior stores of its draws."""

import jax.numpy as jnp
import numpy as np
import pytest

from pushforward.posterior.stored import MIN_POOL, POOL_SIZE, rows_at, stored
from pushforward.posterior.verdict.pareto import pareto_smooth


def test_the_first_draws_with_their_weights():
    rng = np.random.default_rng(0)
    draws, log_weights = rng.normal(size=(30_000, 500)), rng.normal(size=30_000)
    log_weights[3] = -np.inf
    pool, weights = stored(draws, log_weights)
    assert len(pool) == MIN_POOL > POOL_SIZE // 500
    np.testing.assert_array_equal(pool, draws[:MIN_POOL])
    expected = np.exp(pareto_smooth(log_weights)[0][:MIN_POOL])
    np.testing.assert_allclose(weights, expected / expected.sum(), rtol=1e-9)
    assert weights[3] == 0


@pytest.mark.parametrize("log_weight", [-np.inf, np.nan])
def test_weights_that_are_not_finite(log_weight):
    pool, weights = stored(np.zeros((4, 1)), np.full(4, log_weight))
    assert pool.shape == (4, 1)
    np.testing.assert_allclose(weights, 0.25)


def test_no_draws():
    pool, weights = stored(np.zeros((0, 3)), np.zeros(0))
    assert pool.shape == (0, 3) and weights.shape == (0,)
    with pytest.raises(ValueError, match="interrupted before its diagnostics"):
        rows_at(weights, jnp.array([0.5]))


def test_rows_occur_in_proportion_to_their_weights():
    rows = rows_at(jnp.array([0.2, 0.0, 0.5, 0.3]), (jnp.arange(10) + 0.5) / 10)
    np.testing.assert_array_equal(np.bincount(rows), [2, 0, 5, 3])
