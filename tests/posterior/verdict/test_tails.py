"""Draws of a fit and of wider distributions, against exact integrals."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist
import pytest

import pushforward as pf
from posterior_cases import absorbing
from pushforward.posterior.verdict import tails


def normal_flow(dim):
    return pf.Flow(dist.Normal(0, 1).expand([dim]).to_event(1), pf.bijections.Identity((dim,)))


def measured(target, flow, num=20_000):
    draws = np.asarray(flow.sample(jr.key(0), (num,)))
    _, log_p, log_q = tails.evaluate(target, flow, draws)
    return tails.measure_excess(target, flow, draws, log_p - log_q, jr.key(1))


@pytest.mark.parametrize("dim", [1, 3, 50])
def test_exact_fit_has_no_excess(dim):
    target = pf.Target(dist.Normal(0, 1).expand([dim]).to_event(1).log_prob, jnp.zeros(dim))
    found = measured(target, normal_flow(dim))
    assert found.mass == pytest.approx(0, abs=1e-9) and found.sd == pytest.approx(0, abs=1e-9)


def test_rounding_noise_is_no_excess():
    """An exact fit of a density that is computed as up to 45,000 nats too high, beyond 34 standard deviations."""
    flow, target = normal_flow(1), pf.Target(absorbing, jnp.zeros(1))
    drawn = tails.tail_draws(target, flow, tails.Frame.of(flow, jr.key(0)), jr.key(1))
    assert drawn.log_p.max() > 10_000
    found = measured(target, flow)
    assert found.mass == pytest.approx(0, abs=1e-6) and found.sd == pytest.approx(0, abs=1e-6)
    assert not len(found.lacking)


def test_memory_is_limited_in_many_dimensions(monkeypatch):
    monkeypatch.setattr(tails, "MAX_NUMBERS", 3 * 5000)
    frame = tails.Frame.of(normal_flow(3), jr.key(0))
    target = pf.Target(dist.Normal(0, 1).expand([3]).to_event(1).log_prob, jnp.zeros(3))
    drawn = tails.tail_draws(target, normal_flow(3), frame, jr.key(1))
    assert len(drawn.draws) == 5000
    assert tails.stratified_mean(drawn.excess(0.0)) == pytest.approx((0, 0), abs=1e-9)


def test_components_of_the_mixture_are_normalized():
    """The mean of each part's density divided by the mixture's is one."""
    flow, target = normal_flow(3), pf.Target(lambda x: 0.0 * x.sum(), jnp.zeros(3))
    frame = tails.Frame.of(flow, jr.key(0))
    drawn = tails.tail_draws(target, flow, frame, jr.key(1))
    inner = (drawn.draws - frame.center) / frame.scale
    log_mixture = -drawn.log_p
    for log_part in (tails._log_one_wide(inner, frame.scale), tails._log_radial(inner, frame.scale)):
        mean, error = tails.stratified_mean(np.exp(log_part - log_mixture))
        assert abs(mean - 1) < 5 * error < 0.1


def test_a_wide_part_that_own_draws_do_not_show():
    """A normal of five times the width has 1 % of the mass, and an eighth of the variance in each coordinate."""
    wide = dist.MixtureSameFamily(
        dist.Categorical(jnp.array([0.99, 0.01])), dist.Normal(jnp.zeros((2, 3)), jnp.array([[1.0], [5.0]])).to_event(1)
    )
    target, flow = pf.Target(wide.log_prob, jnp.zeros(3)), normal_flow(3)
    draws = np.asarray(flow.sample(jr.key(0), (100_000,)))
    _, log_p, log_q = tails.evaluate(target, flow, draws)
    found = tails.measure_excess(target, flow, draws, log_p - log_q, jr.key(1))
    evidence = np.log(np.exp(log_p - log_q).mean())
    assert evidence < -0.005  # of 0
    assert evidence + np.log1p(found.mass) == pytest.approx(0, abs=5 * found.mass_se)
    assert found.sd == pytest.approx(0.12, abs=0.03) and found.sd_left > 0.05


def test_values_in_their_support_count():
    """The draws are exact in the logarithm except far out, where the value itself is largest."""
    target = pf.Target(
        lambda x: dist.LogNormal(0, 1).log_prob(x).sum() + 0.1 * jnp.maximum(jnp.log(x[0]) - 1, 0),
        jnp.ones(1), dist.constraints.positive,
    )  # fmt: skip
    found = measured(target, normal_flow(1))
    assert found.sd > 3 * found.sd_se


def test_logarithms_of_values_near_zero_do_not_count():
    """The draws are exact except in the left tail of the logarithm, where the value itself hardly changes."""

    def log_density(x):
        return dist.LogNormal(0, 1).log_prob(x).sum() + 0.8 * jnp.maximum(-jnp.log(x[0]) - 1.5, 0)

    read = pf.Target(log_density, jnp.ones(1), dist.constraints.positive)
    logarithm = pf.Target(lambda u: log_density(jnp.exp(u)) + u.sum(), jnp.zeros(1))
    found, of_logarithm = measured(read, normal_flow(1)), measured(logarithm, normal_flow(1))
    assert abs(found.sd) + found.sd_se < 0.03 < 0.05 < of_logarithm.sd
    assert found.mass == pytest.approx(of_logarithm.mass, abs=1e-6)
