"""Draws whose weights stand out, and the modes that they lead to."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist
import pytest

import pushforward as pf
from pushforward.posterior.search.census import Census
from pushforward.posterior.search.survey import Survey
from pushforward.posterior.verdict.assessment import assess_draws
from pushforward.posterior.verdict.outliers import MAX_POINTS, outliers, outlying_modes

CENTER, SCALE, SHARE = np.array([1.0, -0.5]), 1e-3, 0.2
FIT = pf.Flow(dist.Normal(0, 1).expand([2]).to_event(1), pf.bijections.Identity((2,)))


def log_density(x):
    """A standard normal with a spike: of 100,000 draws, about two see anything of it."""
    broad, spike = dist.Normal(0, 1).log_prob(x).sum(), dist.Normal(CENTER, SCALE).log_prob(x).sum()
    return jnp.logaddexp(jnp.log(1 - SHARE) + broad, jnp.log(SHARE) + spike)


TARGET = pf.Target(log_density, jnp.zeros(2))


@pytest.mark.parametrize("distance", [5.0, 8.0])
def test_a_draw_at_the_edge_of_a_spike_shows_it(distance):
    """At 8 standard deviations the spike adds a millionth of a millionth to the density."""
    draws = np.array(FIT.sample(jr.key(0), (2000,)))
    draws[7] = CENTER + distance * SCALE * np.array([0.6, 0.8])
    log_weights = np.asarray(jax.vmap(log_density)(jnp.asarray(draws)) - FIT.log_prob(draws))
    (mode,) = outlying_modes(TARGET, FIT, draws, log_weights, None, jr.key(1))
    np.testing.assert_allclose(mode.loc, CENTER, atol=0.1 * SCALE)
    nothing = Survey([], [], TARGET, Census([], -np.inf))
    result = assess_draws(nothing, FIT, draws, log_weights, jr.key(2))
    assert result.verdict == "unreliable" and "20% of the evidence" in result.reasons[0]


def test_tail_draws_show_a_mode_beyond_the_search():
    """Measurements of three values with errors of Student's t: the modes are 100 and 200 of their widths apart."""
    y = jnp.array([0.0, 0.1, 8.0, 8.05, -20.0, -20.1])

    def log_density(x):
        return dist.Normal(0, 30).log_prob(x[0]) + dist.StudentT(2, x[0], 0.1).log_prob(y).sum()

    target = pf.Target(log_density, jnp.zeros(1))
    grid = jnp.linspace(-60, 60, 400_001)
    values = jax.vmap(lambda x: log_density(x[None]))(grid)
    near = jnp.abs(grid) < 3
    mean, scale = 0.05, float(jnp.sqrt(jnp.average((grid - 0.05) ** 2, weights=jnp.exp(values) * near)))
    flow = pf.Flow(dist.Normal(mean, scale).expand([1]).to_event(1), pf.bijections.Identity((1,)))
    draws = np.asarray(flow.sample(jr.key(0), (20_000,)))
    log_weights = np.asarray(jax.vmap(log_density)(draws) - flow.log_prob(draws))
    result = assess_draws(Survey([], [], target, Census([], -np.inf)), flow, draws, log_weights, jr.key(1))
    assert result.verdict == "unreliable" and "another region" in result.reasons[0], result.reasons


def test_outliers():
    rng = np.random.default_rng(0)
    usual = rng.normal(size=100_000)
    assert not outliers(usual).size and not outliers(0.1 * rng.standard_exponential(100_000)).size
    assert not outliers(np.full(1000, -1e5) + np.spacing(1e5) * rng.integers(-5, 6, 1000)).size
    usual[[5, 9]] = 40.0, 50.0
    np.testing.assert_array_equal(outliers(usual), [9, 5])
    usual[:2] = np.nan, np.inf
    assert not {0, 1} & set(outliers(usual))
    assert len(outliers(np.where(np.arange(100_000) < 90, 5.0, 0.0))) == MAX_POINTS
    assert not outliers(np.full(100, -np.inf)).size
