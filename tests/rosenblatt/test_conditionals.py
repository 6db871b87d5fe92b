"""Rosenblatt maps from conditional distributions: both tails, against SciPy, and supports."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist
import pytest
import scipy.special
import scipy.stats

import pushforward as pf
from pushforward.rosenblatt.conditionals import log_tails
from rosenblatt_cases import forward, normal


def test_supports_that_move():
    """A uniform distribution with an end that depends on another coordinate: that end of the domain is infinite."""
    source = [lambda x: dist.Exponential(1.0), lambda x: dist.Uniform(0.0, x[0])]
    flow = pf.Flow(normal(2), pf.transport(normal(2), source))
    x, log_prob = jax.jit(lambda key: flow.sample_and_log_prob(key, (100,)))(jr.key(0))
    assert jnp.all((x[:, 1] > 0) & (x[:, 1] < x[:, 0]))
    np.testing.assert_allclose(log_prob, -x[:, 0] - jnp.log(x[:, 0]), rtol=1e-8)


@pytest.mark.parametrize(
    ("distribution", "reference"),
    [
        (dist.Normal(1.0, 2.0), scipy.stats.norm(1.0, 2.0)),
        (dist.Logistic(1.0, 2.0), scipy.stats.logistic(1.0, 2.0)),
        (dist.Laplace(1.0, 2.0), scipy.stats.laplace(1.0, 2.0)),
        (dist.Cauchy(1.0, 2.0), scipy.stats.cauchy(1.0, 2.0)),
        (dist.StudentT(3.0, 1.0, 2.0), scipy.stats.t(3.0, 1.0, 2.0)),
        (dist.Exponential(0.5), scipy.stats.expon(scale=2.0)),
        (dist.LogNormal(0.3, 0.5), scipy.stats.lognorm(0.5, scale=np.exp(0.3))),
        (dist.Gamma(2.0, 0.7), scipy.stats.gamma(2.0, scale=1 / 0.7)),
        (dist.Chi2(3.0), scipy.stats.chi2(3.0)),
        (dist.Beta(2.0, 3.0), scipy.stats.beta(2.0, 3.0)),
        (dist.HalfNormal(2.0), scipy.stats.halfnorm(scale=2.0)),
        (dist.HalfCauchy(2.0), scipy.stats.halfcauchy(scale=2.0)),
        (dist.Weibull(2.0, 1.5), scipy.stats.weibull_min(1.5, scale=2.0)),
        (dist.Gumbel(1.0, 2.0), scipy.stats.gumbel_r(1.0, 2.0)),
        (dist.Uniform(-1.0, 3.0), scipy.stats.uniform(-1.0, 4.0)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_log_tails(distribution, reference):
    lower, upper = reference.support()
    points = np.array([-30.0, -3.0, 1e-12, 0.01, 0.4, 0.99, 1.0, 2.5, 9.0, 25.0])
    x = points[(points > lower) & (points < upper)]
    below, above = jax.vmap(lambda x: log_tails(distribution, x))(jnp.asarray(x))
    np.testing.assert_allclose(below, reference.logcdf(x), rtol=1e-7, atol=1e-15)
    np.testing.assert_allclose(above, reference.logsf(x), rtol=1e-7, atol=1e-15)


def test_upper_tails_that_are_cut():
    """If a family has only a CDF, its upper tail ends at 1 - eps and is not NaN."""
    carry = pf.transport(normal(1), [dist.AsymmetricLaplace(0.0, 1.0, 2.0)])
    x = forward(carry, jnp.array([[8.0], [12.0], [30.0]]))
    assert jnp.isfinite(x).all()
    assert x[0, 0] < x[1, 0] == x[2, 0]
