"""Modes that a fit does not have: their mass and what they change, against exact values."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist
import pytest

import pushforward as pf
from posterior_cases import absorbing, far_mode
from pushforward.flows.stack import standard_normal
from pushforward.posterior.search.candidates import Candidate, gaussian_map
from pushforward.posterior.verdict.examination import Examination
from pushforward.posterior.verdict.missed import Effect, Missed, missed_draws, missed_modes

NEVER = lambda: False  # noqa: E731


def missed(log_density, dim, locs, decrement=0.0, support=None, example=None):
    """What a standard normal misses near some points."""
    target = pf.Target(log_density, jnp.zeros(dim) if example is None else example, support)
    flow = pf.Flow(standard_normal(dim), pf.bijections.Identity((dim,)))
    draws = np.random.default_rng(0).normal(size=(20_000, dim))
    decrements = decrement if isinstance(decrement, list) else [decrement] * len(locs)
    found = [Candidate(np.asarray(a, float), np.eye(dim), 0.0, 0.1, b) for a, b in zip(locs, decrements, strict=True)]
    return missed_modes(target, flow, (found, []), draws, np.zeros(len(draws)), 0.0, jr.key(0), NEVER)


@pytest.mark.parametrize(("share", "distance"), [(2e-4, 118.0), (2e-5, 400.0), (1e-3, 12.0), (0.01, 8.0)])
def test_the_change_of_a_standard_deviation(share, distance):
    found = missed(far_mode(share, distance, 2), 2, [[0, 0], [distance, 0], [distance + 0.5, 0]])
    sd = np.sqrt(1 + share * (1 - share) * distance**2)
    assert found.complete and found.mass == pytest.approx(share, rel=0.1) and found.effect.name == "the draw[0]"
    assert found.effect.sd == pytest.approx(1 - 1 / sd, abs=0.02)
    assert found.effect.shift == pytest.approx(share * distance, rel=0.1)


def test_negligible_modes_have_no_effect():
    assert missed(far_mode(1e-6, 20.0, 2), 2, [[0, 0], [20.0, 0]]) == Missed(0.0, True, None)


def test_tails_are_no_modes():
    """Near a point that is no mode there is mass, but a heavy tail may have no variance."""
    found = missed(far_mode(1e-3, 118.0, 1), 1, [[118.0]], decrement=5.0)
    assert found.mass == pytest.approx(1e-3, rel=0.1) and found.effect.sd == 0
    # The best Gaussian of a skewed mode is not at the mode, but another one is.
    both = missed(far_mode(1e-3, 118.0, 1), 1, [[118.0], [119.0]], decrement=[5.0, 0.1])
    assert both.effect.sd == pytest.approx(1 - 1 / np.sqrt(1 + 1e-3 * 118**2), abs=0.02)


@pytest.mark.parametrize("distance", [-20.0, 20.0])
def test_values_in_their_support_count(distance):
    """A mode far out in the logarithm is a value near 0, which hardly changes the standard deviation of the value."""

    def log_density(x):
        u = jnp.log(x)
        return far_mode(2e-4, distance, 1)(u[None]) - u

    positive = dist.constraints.positive
    found = missed(log_density, 1, [[distance]], support=positive, example=jnp.array(1.0))
    assert found.mass == pytest.approx(2e-4, rel=0.1) and found.effect.name == "the draw"
    assert found.effect.sd < 0.01 if distance < 0 else found.effect.sd > 0.9


def test_an_effect_decides_only_if_it_is_large():
    small = Effect("x", 0.04, 0.01, 1e-4)
    assert Examination().with_effect(small) == Examination()
    large = Examination().with_effect(small._replace(sd=0.48))
    assert "x is too small by about 48%" in large.flaws[0] and "0.0001 of the evidence" in large.uncorrected[0]


def test_modes_of_rounding_noise_are_not_missed():
    target, flow = pf.Target(absorbing, jnp.zeros(1)), pf.Flow(standard_normal(1), pf.bijections.Identity((1,)))
    far = pf.Flow(standard_normal(1), gaussian_map(jnp.array([300.0]), jnp.eye(1)))
    log_evidence, draws = 0.5 * np.log(2 * np.pi), np.random.default_rng(0).normal(size=(100, 1))
    assert (missed_draws(target, flow, far, log_evidence, jr.key(0), 256)[1] > 1e6).all()
    assert not missed_draws(target, flow, far, log_evidence, jr.key(0), 256, draws)[1].any()
