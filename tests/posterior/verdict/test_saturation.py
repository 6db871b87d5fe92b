"""Mass where transforms of supports saturate, against the tails of beta and gamma distributions."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import stats

import pushforward as pf
from pushforward.posterior.verdict.saturation import saturated_mass

C = dist.constraints


def saturated(law, support, u):
    example = jnp.full(law.event_shape, 1 / 3)
    return saturated_mass(pf.Target(law.log_prob, example, support), np.asarray(u, float), np.ones(len(u)))


@pytest.mark.parametrize("a", [0.05, 0.1, 0.5, 2.0])
def test_beta(a):
    """Of the logit, the upper tail beyond 36.7 is lost, where 1 - x has no other value: x itself is known."""
    log_gammas = [np.log(g) + np.log(u) / a for g, u in _boosted(a)]
    found = saturated(dist.Beta(a, a), C.unit_interval, (log_gammas[0] - log_gammas[1])[:, None])
    lost = stats.beta.cdf(np.exp(-36.7), a, a)
    assert lost / 3 < found + 1e-4 < 3 * lost + 1e-3


def _boosted(a, num=20_000):
    """Factors of gamma variables of a small shape, as g u^(1/a), which would underflow."""
    rng = np.random.default_rng(0)
    return [(rng.gamma(a + 1, size=num), rng.uniform(size=num)) for _ in range(2)]


def test_gamma_below_the_smallest_numbers():
    g, u = _boosted(0.003)[0]
    found = saturated(dist.Gamma(0.003, 1.0), C.positive, (np.log(g) + np.log(u) / 0.003)[:, None])
    assert found == pytest.approx(stats.gamma.cdf(np.exp(-708.0), 0.003), rel=0.5)


def test_none_without_supports_or_far_from_their_ends():
    u = jr.normal(jr.key(0), (1000, 1))
    assert saturated(dist.Normal(0, 1).expand([1]).to_event(1), None, 1e9 * u) == 0
    assert saturated(dist.HalfNormal(1), C.positive, u) == 0
