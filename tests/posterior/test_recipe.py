"""The stages of a fit, one at a time."""

import dataclasses
import math

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist
import pytest

import pushforward as pf
from pushforward.flows.default import default_flow
from pushforward.posterior.recipe import Recipe, quick_diagnostics, with_base
from pushforward.posterior.target import Whitened
from pushforward.training.checkpoint import Checkpoint
from pushforward.training.run import Run, Trained


@pytest.mark.conformance
def test_what_is_not_good_gets_splines_on_top():
    """From a Gaussian on two shoulders a coordinate, and what is good is left as it is."""
    target = pf.Target(lambda x: -jnp.sum((x**2 - 1) ** 2), jnp.zeros(2))
    whitened = Whitened(target, pf.bijections.Triangular(2))
    gaussian = pf.flows.linear(2, key=jr.key(0))
    with Run("posterior", 1, Checkpoint(None, {}, jr.key(0))) as run:
        recipe = Recipe(target, run, 400_000)
        fitted = recipe.with_splines(whitened, Trained(gaussian, math.nan, 0, "plateau"), jr.key(1))
        again = dataclasses.replace(fitted, reason="plateau")
        assert recipe.with_splines(whitened, again, jr.key(1)).model is fitted.model
    fitted = fitted.model
    assert {record.stage for record in run.history.evaluations} == {"splines"}
    line = np.linspace(-4, 4, 4001)
    log_evidence = 2 * math.log(np.trapezoid(np.exp(-((line**2 - 1) ** 2)), line))
    before, after = (quick_diagnostics(whitened, flow, jr.key(2)) for flow in (gaussian, fitted))
    assert before.gap > 0.2 and log_evidence - after.elbo < 0.02


def test_a_flow_over_a_mixture_begins_as_the_mixture():
    parts = dist.MultivariateNormal(jnp.array([[0.0, 1, 2, 3, 4], [5.0, 4, 3, 2, 1]]), jnp.diag(jnp.arange(1.0, 6)))
    mixture = dist.MixtureSameFamily(dist.Categorical(jnp.array([0.4, 0.6])), parts)
    flow = with_base(mixture, default_flow(5, key=jr.key(3)))
    x = mixture.sample(jr.key(0), (20,))
    np.testing.assert_allclose(flow.log_prob(x), mixture.log_prob(x), rtol=1e-10)
