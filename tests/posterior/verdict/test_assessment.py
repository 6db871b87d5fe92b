"""The assessment of a flow by its draws: missed modes, and Ctrl-C during the assessment."""

import os
import signal
import warnings

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist
import pytest

import pushforward as pf
from posterior_cases import banana, far_mode
from pushforward.flows.stack import standard_normal
from pushforward.posterior.search.candidates import Candidate
from pushforward.posterior.search.census import Census, Round
from pushforward.posterior.search.survey import Survey
from pushforward.posterior.target import Whitened
from pushforward.posterior.verdict import assessment
from pushforward.user_warnings import UnfinishedFit


def test_missed_mode_is_unreliable():
    modes = jnp.array([[-15.0, 0.0], [15.0, 3.0]])

    def log_density(x):
        return jax.nn.logsumexp(-0.5 * jnp.sum((x - modes) ** 2, 1))

    one = pf.flows.linear(2, key=jr.key(0))
    posterior = pf.fit_posterior(pf.Target(log_density, modes[0]), key=jr.key(0), flow=one, budget=100_000)
    assert posterior.diagnostics.verdict == "unreliable"
    assert "another region" in " ".join(posterior.diagnostics.reasons)


def test_missed_modes_add_up():
    """Sixty modes of 0.67 % each, of which none alone is more than 2 %; each is found twice."""
    angles = jnp.linspace(0, 2 * jnp.pi, 60, endpoint=False)
    centers = jnp.concatenate([jnp.zeros((1, 2)), 100 * jnp.stack([jnp.cos(angles), jnp.sin(angles)], 1)])
    weights = jnp.concatenate([jnp.array([0.6]), jnp.full(60, 0.4 / 60)])
    modes = dist.MixtureSameFamily(dist.Categorical(weights), dist.Normal(centers, 1.0).to_event(1))
    found = [Candidate(np.asarray(c), np.eye(2), -1.0, 0.1, 0.0) for c in [*centers, *(centers + 0.5)]]
    whole = Whitened(target := pf.Target(modes.log_prob, jnp.zeros(2)), pf.bijections.Identity((2,)))
    flow = pf.flows.linear(2, key=jr.key(0))
    draws, log_weights = assessment.weighted_draws(whole, flow, jr.key(1), 10_000)
    found = Survey([], found, target, Census.of([Round(None, found)]))
    result = assessment.assess_draws(found, flow, draws, log_weights, jr.key(2))
    assert result.verdict == "unreliable" and "40" in " ".join(result.reasons)


def test_modes_that_the_search_reached_once_show_that_there_are_others():
    """A normal with 96 % of the mass and two modes of 2 %, of which both are covered, but each was reached once."""
    centers, weights = jnp.array([[0.0, 0.0], [20.0, 0.0], [0.0, 20.0]]), jnp.array([0.96, 0.02, 0.02])
    modes = dist.MixtureSameFamily(dist.Categorical(weights), dist.Normal(centers, 1.0).to_event(1))
    ends = [
        Candidate(np.asarray(c), np.eye(2), float(jnp.log(w)), 0.1, 0.0) for c, w in zip(centers, weights, strict=True)
    ]
    target = pf.Target(modes.log_prob, jnp.zeros(2))
    flow = pf.Flow(modes, pf.bijections.Identity((2,)))
    draws, log_weights = assessment.weighted_draws(
        Whitened(target, pf.bijections.Identity((2,))), flow, jr.key(1), 10_000
    )

    def verdict(*paths):
        survey = Survey(ends, ends, target, Census.of([Round(None, list(paths))]))
        return assessment.assess_draws(survey, flow, draws, log_weights, jr.key(2))

    assert verdict(*ends, *ends, *ends).verdict == "good"
    once = verdict(*ends, *ends[:1])
    assert once.verdict == "unreliable" and once.log_evidence_se > 0.01
    assert "reached others only once" in " ".join(once.reasons)


# The budget ends the first round of the training, so that only the diagnostics weigh draws.
BUDGET = 50_000


def test_ctrl_c_during_the_diagnostics_reduces_the_draws(monkeypatch):
    calls, compiled_batch = [], assessment._compiled_batch

    def interrupted(target, flow, key, num):
        calls.append(1)
        os.kill(os.getpid(), signal.SIGINT)
        return compiled_batch(target, flow, key, num)

    flow = pf.flows.linear(2, key=jr.key(1))
    target = pf.Target(banana, jnp.zeros(2))
    whole = pf.fit_posterior(target, key=jr.key(0), flow=flow, budget=BUDGET)
    monkeypatch.setattr(assessment, "_compiled_batch", interrupted)
    posterior = pf.fit_posterior(target, key=jr.key(0), flow=flow, budget=BUDGET)
    assert len(calls) == 1
    assert posterior.diagnostics.num_draws < whole.diagnostics.num_draws
    assert "interrupted" in " ".join(posterior.diagnostics.reasons)


def test_ctrl_c_before_the_diagnostics_leaves_a_fit_without_them(monkeypatch, tmp_path):
    def interrupted(target, flow, key, num):
        for _ in range(4):
            os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("the fourth Ctrl-C is raised")

    flow = pf.flows.linear(2, key=jr.key(1))
    monkeypatch.setattr(assessment, "_compiled_batch", interrupted)
    posterior = pf.fit_posterior(pf.Target(banana, jnp.zeros(2)), key=jr.key(0), flow=flow, budget=BUDGET)
    found = posterior.diagnostics
    assert found.verdict == "unreliable" and found.num_draws == 0
    assert found.reasons[0] == "The fit was interrupted before its diagnostics were computed."
    assert posterior.sample(jr.key(1), 7).shape == (7, 2)
    for draw in (lambda: posterior.resample(jr.key(1)), posterior.summary, posterior.to_arviz, posterior.plot):
        with pytest.raises(ValueError, match="interrupted before its diagnostics were computed"):
            draw()
    assert "interrupted" in posterior.to_arviz(jr.key(1))["posterior"].attrs["reasons"]
    posterior.report(tmp_path / "report.html")
    assert "interrupted before its diagnostics were computed" in (tmp_path / "report.html").read_text()
    posterior.save(tmp_path / "posterior")
    assert pf.load(tmp_path / "posterior").diagnostics.verdict == "unreliable"


def test_any_flow_can_be_assessed_and_a_fit_can_be_watched():
    d = dist.MultivariateNormal(jnp.array([1.0, -1.0]), jnp.array([[1.0, 0.5], [0.5, 2.0]]))
    target = pf.Target(d.log_prob, jnp.zeros(2))
    seen = []

    def watch(progress):
        seen.append(pf.assess(target, progress.model, jr.key(1), num_draws=2000))
        return True

    posterior = pf.fit_posterior(target, key=jr.key(0), callback=watch)
    assert len(seen) == 1 and seen[0].verdict == "good"
    assert any("interrupted" in reason for reason in posterior.diagnostics.reasons)
    assert not posterior.diagnostics.finished
    with pytest.warns(UnfinishedFit, match="ended before its ELBO reached a plateau") as caught:
        posterior.sample(jr.key(2), 3)
    assert [warning.filename for warning in caught] == [__file__]  # not that of a library that calls the method
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # only once
        assert "not finished" in str(posterior.summary())
    assert posterior.to_arviz()["posterior"].attrs["finished"] == 0
    far = pf.Flow(dist.Normal(jnp.array([30.0, 0.0]), 1.0).to_event(1), pf.bijections.Triangular(2))
    assert pf.assess(target, far, jr.key(1), num_draws=2000).verdict == "unreliable"
    with pytest.raises(ValueError, match="num_draws must be a whole number between 100"):
        pf.assess(target, far, jr.key(1), num_draws=10)
    with pytest.raises(ValueError, match=r"shape \(2,\)"):
        pf.assess(target, pf.flows.linear(3, key=jr.key(0)), jr.key(1))


def test_a_mode_far_away_that_changes_a_standard_deviation():
    """It has 0.02 % of the mass and is 118 standard deviations away: the variance is 3.8 instead of 1."""
    target, flow = (
        pf.Target(far_mode(2e-4, 118.0, 2), jnp.zeros(2)),
        pf.Flow(standard_normal(2), pf.bijections.Identity((2,))),
    )
    result = pf.assess(target, flow, jr.key(0), num_draws=10_000)
    assert result.verdict == "unreliable" and "the draw[0] is too small by about 4" in result.reasons[0]
    assert result.gap < 0.001
