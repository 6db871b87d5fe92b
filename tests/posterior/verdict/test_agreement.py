"""Given draws and fits that are right or miss a mode, and draws that are wrong themselves."""

import re

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist
import pytest

import pushforward as pf
from pushforward.posterior.verdict import agreement
from pushforward.posterior.verdict.agreement import compare
from pushforward.posterior.verdict.diagnostics import diagnose

RNG = np.random.default_rng(0)
WEIGHT = 0.25


def log_density(x):
    """Modes at -5 and at 5 of the first coordinate; the second has a local mode of almost no mass at 40."""
    first = jnp.logaddexp(
        jnp.log(1 - WEIGHT) + dist.Normal(-5.0, 1.0).log_prob(x[0]),
        jnp.log(WEIGHT) + dist.Normal(5.0, 1.0).log_prob(x[0]),
    )
    second = jnp.logaddexp(dist.Normal(0.0, 1.0).log_prob(x[1]), dist.Normal(40.0, 1.0).log_prob(x[1]) - 20.0)
    return first + second


TARGET = pf.Target(log_density, jnp.zeros(2))


def flow(weight):
    mixing = dist.Categorical(jnp.array([1 - weight, weight]))
    parts = dist.MultivariateNormal(jnp.array([[-5.0, 0.0], [5.0, 0.0]]), jnp.eye(2))
    return pf.Flow(dist.MixtureSameFamily(mixing, parts), pf.bijections.Identity((2,)))


def given(signs, stuck=0, shift=0.0):
    """Draws of 4 chains; `signs` gives the mode of each draw, and the first `stuck` chains are at the local mode."""
    draws = RNG.normal(size=(4, 500, 2)) + shift
    draws[..., 0] += 5 * signs
    draws[:stuck, :, 1] += 40
    return draws


MIXED = np.where(RNG.uniform(size=(4, 500)) < WEIGHT, 1, -1)
FIRST_ONLY, BY_CHAIN = np.full((4, 500), -1), np.repeat([[-1], [-1], [-1], [1]], 500, 1)


@pytest.mark.parametrize(
    ("weight", "draws", "verdict", "reason", "of_fit"),
    [
        (WEIGHT, given(MIXED), "agree", "agrees with the 2,000 given draws", "good"),
        (WEIGHT, given(FIRST_ONLY), "draws at fault", "the draw.0. differs by up to 2.", "good"),
        (WEIGHT, given(BY_CHAIN), "draws at fault", "R-hat is", "good"),
        (WEIGHT, given(MIXED, stuck=1), "draws at fault", "25.0% of the given .* but only about 2e-09", "good"),
        (WEIGHT, given(MIXED, shift=0.5), "draws at fault", "differs by up to", "good"),
        (1e-12, given(MIXED), "fit at fault", "of the given draws lie where .* about 25", "unreliable"),
        (1e-12, given(BY_CHAIN), "fit at fault", "of the given draws lie where .* about 25", "unreliable"),
    ],
)
def test_which_is_at_fault(weight, draws, verdict, reason, of_fit):
    fit = flow(weight)
    fresh, log_q = fit.sample_and_log_prob(jr.key(0), (8192,))
    log_weights = np.asarray(jax.vmap(log_density)(fresh) - log_q)
    diagnostics = diagnose(log_weights)
    assert diagnostics.verdict == "good"
    found = compare(TARGET, TARGET, fit, diagnostics, draws, np.asarray(fresh), log_weights, jr.key(1))
    assert found.verdict == verdict
    applied = found.applied(diagnostics)
    assert applied.verdict == of_fit
    assert found.reason in applied.reasons
    assert re.search(reason, found.reason), found.reason


def compare_with_normal(draws):
    """Draws of shape (chains, draws, 2) compared with the exact fit of N(0, I)."""
    fit = pf.Flow(dist.Normal(jnp.zeros(2), 1.0).to_event(1), pf.bijections.Identity((2,)))
    target = pf.Target(lambda x: dist.Normal(0.0, 1.0).log_prob(x).sum(), jnp.zeros(2))
    fresh, log_weights = np.asarray(fit.sample(jr.key(0), (8192,))), np.zeros(8192)
    return compare(target, target, fit, diagnose(log_weights), draws, fresh, log_weights, jr.key(1))


@pytest.mark.parametrize("shape", [(500, 34), (2000, 5), (4000, 1)])
def test_many_short_chains(shape):
    draws = RNG.normal(size=(*shape, 2))
    assert compare_with_normal(draws).verdict == "agree"
    assert compare_with_normal(draws + 1.0).verdict == "draws at fault"


@pytest.mark.parametrize("num", [6, 60, 99, 100])
def test_short_chains_that_differ(num):
    """Chains alternate between the two halves of the posterior."""
    draws = np.abs(RNG.normal(size=(8, num, 2))) * np.where(np.arange(8) % 2, 1, -1)[:, None, None]
    found = compare_with_normal(draws)
    assert found.verdict == "draws at fault" and found.rhat > 1.5


def test_all_of_many_chains_are_seen(monkeypatch):
    """One chain of eight is in a mode that the fit misses; of large data, only 512 draws are evaluated."""
    monkeypatch.setattr(agreement, "num_affordable_draws", lambda target, num: 512)
    fit = flow(1e-12)
    fresh, log_q = fit.sample_and_log_prob(jr.key(0), (8192,))
    log_weights = np.asarray(jax.vmap(log_density)(fresh) - log_q)
    signs = np.full((8, 1), -1.0)
    signs[1] = 1
    draws = RNG.normal(size=(8, 1000, 2)) + 5 * np.stack([signs, 0 * signs], -1)
    found = compare(TARGET, TARGET, fit, diagnose(log_weights), draws, np.asarray(fresh), log_weights, jr.key(1))
    assert found.verdict == "fit at fault"
