"""What an examination makes of heavy tails, impropriety and saturation."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist

import pushforward as pf
from pushforward.posterior.search.census import Census
from pushforward.posterior.search.survey import Survey
from pushforward.posterior.verdict.assessment import assess_draws
from pushforward.posterior.verdict.diagnostics import diagnose


def assessed(target, flow, num=20_000):
    draws, log_q = flow.sample_and_log_prob(jr.key(0), (num,))
    log_weights = np.asarray(jax.vmap(target)(draws) - log_q)
    return diagnose(log_weights, draws=np.asarray(draws)), assess_draws(
        Survey([], [], target, Census([], -np.inf)), flow, np.asarray(draws), log_weights, jr.key(1)
    )


def flow(base):
    return pf.Flow(base.to_event(1), pf.bijections.Identity(base.batch_shape))


def test_nearly_exact_fits_stay_good():
    target = pf.Target(dist.StudentT(8.0, jnp.zeros(2), 1.0).to_event(1).log_prob, jnp.zeros(2))
    before, after = assessed(target, flow(dist.StudentT(8.3, jnp.zeros(2), 1.01)))
    assert before.verdict == after.verdict == "good"
    assert abs(after.log_evidence) < 4 * after.log_evidence_se < 0.01


def test_tails_that_weights_do_not_show():
    wide = dist.MixtureSameFamily(
        dist.Categorical(jnp.array([0.995, 0.005])),
        dist.Normal(jnp.zeros((2, 3)), jnp.array([[1.0], [8.0]])).to_event(1),
    )
    before, after = assessed(pf.Target(wide.log_prob, jnp.zeros(3)), flow(dist.Normal(jnp.zeros(3), 1.0)))
    assert before.verdict == "good" and abs(before.log_evidence) > 5 * before.log_evidence_se
    assert after.verdict == "unreliable" and "standard deviation" in after.reasons[0]
    assert abs(after.log_evidence) < 4 * after.log_evidence_se < 0.005


def test_improper_posteriors_are_unreliable():
    """The floor has a millionth of the mass within the draws, but the mass has no end."""
    target = pf.Target(lambda x: jnp.logaddexp(-0.5 * (x**2).sum(), -20.0), jnp.zeros(2))
    before, after = assessed(target, flow(dist.Normal(jnp.zeros(2), 1.0)))
    assert before.verdict == "good"
    assert after.verdict == "unreliable" and "improper" in after.reasons[0]


def test_saturated_supports_are_unreliable():
    """Half the logits of Beta(0.05, 0.05) are beyond the ends of floating-point numbers, the upper ones for good."""
    target = pf.Target(dist.Beta(0.05, 0.05).log_prob, jnp.array(0.5), dist.constraints.unit_interval)
    _, after = assessed(target, flow(dist.Laplace(jnp.zeros(1), 20.0)))
    assert after.verdict == "unreliable"
    assert "equal in floating point" in " ".join(after.reasons)
    assert after.log_evidence_se > 0.02
