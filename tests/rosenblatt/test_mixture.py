"""Rosenblatt maps of mixtures of Gaussians."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist
import pytest
import scipy.special
import scipy.stats

import pushforward as pf
from rosenblatt_cases import forward, mixture


@pytest.mark.parametrize("dim", [2, 10])
def test_draws_become_uniform_and_independent(dim):
    model, size = mixture(dim, count=5), 20_000
    u = np.asarray(forward(pf.rosenblatt(model), model.sample(jr.key(1), (size,))))
    assert ((u > 0) & (u < 1)).all()
    assert min(scipy.stats.kstest(column, "uniform").pvalue for column in u.T) > 1e-3 / dim
    # Neither the coordinates nor their distances from the middle are correlated.
    for values in (u, np.abs(u - 0.5)):
        correlation = np.corrcoef(values.T) - np.eye(dim)
        assert np.abs(correlation).max() < 4.5 / size**0.5


def test_weights_of_zero_and_unions_of_conditionals():
    two = dist.MultivariateNormal(jnp.array([[0.0, 0.0], [9.0, 9.0]]), jnp.eye(2))
    mix = dist.MixtureSameFamily(dist.Categorical(jnp.array([1.0, 0.0])), two)
    x = jnp.array([[0.3, -1.0]])
    np.testing.assert_allclose(forward(pf.rosenblatt(mix), x), scipy.special.ndtr(x), rtol=1e-12)
    np.testing.assert_allclose(
        forward(pf.rosenblatt([dist.Normal(0.0, 1.0), lambda x: dist.Normal(0.0, 1.0)]), x), scipy.special.ndtr(x)
    )
