"""The stages of a fit, one at a time."""

import dataclasses
import functools
import math

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist
import pytest

import pushforward as pf
from pushforward.flow import Flow
from pushforward.flows.default import default_flow
from pushforward.posterior.composed import marginals_in_axes_of, unwhitened, with_base
from pushforward.posterior.recipe import Recipe, StageKeys
from pushforward.posterior.search.influence import CLEAR_RATIO, MIN_RATIO
from pushforward.posterior.target import Whitened
from pushforward.posterior.verdict.assessment import quick_diagnostics
from pushforward.training.checkpoint import Checkpoint
from pushforward.training.run import Run
from pushforward.training.trainer import Trained


@pytest.mark.conformance
def test_what_is_not_good_gets_splines_on_top():
    """From a Gaussian on two shoulders a coordinate, and what is good is left as it is."""
    target = pf.Target(lambda x: -jnp.sum((x**2 - 1) ** 2), jnp.zeros(2))
    whitened = Whitened(target, pf.bijections.Triangular(2))
    gaussian = pf.flows.linear(2, key=jr.key(0))
    with Run("posterior", 1, Checkpoint(None, dict, jr.key(0))) as run:
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


def test_a_hierarchical_flow_begins_as_the_gaussian(tmp_path):
    """In other coordinates, with the global one first. If no coordinate is global, there is no such flow."""
    dim, last = 40, 39

    def log_density(x):
        local, log_scale = x[:last], x[last]
        prior = -0.5 * jnp.sum(local**2) * jnp.exp(-2 * log_scale) - last * log_scale - 0.5 * log_scale**2
        return prior - 0.5 * jnp.sum((local - 1) ** 2)

    rng = np.random.default_rng(0)
    affine = pf.bijections.Triangular(dim, rng.normal(size=dim), 0.3 * np.eye(dim) + np.tril(np.full((dim, dim), 0.02)))
    gaussian = pf.Flow(pf.flows.linear(dim, key=jr.key(0)).base, affine)
    identity, keys = pf.bijections.Triangular(dim), StageKeys(*jr.split(jr.key(1), 7))
    # No budget, no steps.
    with Run("posterior", 1, Checkpoint(None, dict, jr.key(0))) as run:
        found = Recipe(pf.Target(log_density, jnp.zeros(dim)), run, 1).hierarchical(
            affine, Flow(gaussian.base, identity), keys, None, MIN_RATIO
        )
        # The first coordinate has a third derivative of three times the others'.
        unclear = pf.Target(lambda x: -0.5 * jnp.sum(x**2) - 0.05 * jnp.sum(x**3) - 0.1 * x[0] ** 3, jnp.zeros(dim))
        arguments = pf.bijections.Triangular(dim, matrix=0.5 * jnp.eye(dim)), gaussian, keys
        assert Recipe(unclear, run, 1).hierarchical(*arguments, None, MIN_RATIO) is not None
        assert Recipe(unclear, run, 1).hierarchical(*arguments, None, CLEAR_RATIO) is None
        independent = pf.Target(lambda x: -jnp.sum(x**4), jnp.zeros(dim))
        assert Recipe(independent, run, 1).hierarchical(identity, gaussian, keys, None, MIN_RATIO) is None
    whitened, trained = found
    assert whitened.affine.forward(jnp.arange(float(dim)))[last] == pytest.approx(
        float(affine.loc[last]), abs=1e-12
    )  # the global coordinate is the first
    flow = unwhitened(whitened.affine, trained.model)
    x = gaussian.sample(jr.key(2), (10,))
    np.testing.assert_allclose(flow.log_prob(x), gaussian.log_prob(x), rtol=1e-9)
    flow.save(tmp_path / "flow")
    np.testing.assert_array_equal(pf.load(tmp_path / "flow").log_prob(x), flow.log_prob(x))


def test_splines_of_coordinates_follow_what_is_far_from_the_posterior():
    """Independent log-gamma variables in rotated whitened coordinates: couplings do not see their shape, splines do."""
    dim, shape = 34, 1.0
    log_norm = dim * math.lgamma(shape)
    target = pf.Target(lambda x: jnp.sum(shape * x - jnp.exp(x)) - log_norm, jnp.zeros(dim))
    x = np.log(np.random.default_rng(0).gamma(shape, size=(20_000, dim)))
    factor = pf.bijections.Triangular(dim, x.mean(0), np.diag(x.std(0)))
    whitened = Whitened(target, factor)
    gaussian = Trained(pf.flows.linear(dim, key=jr.key(0)), math.nan, 0, "plateau")
    with Run("posterior", 1, Checkpoint(None, dict, jr.key(0))) as run:
        recipe = Recipe(target, run, 64_000)
        marginals = functools.partial(marginals_in_axes_of, factor)
        fitted = recipe.with_marginals(whitened, gaussian, marginals, jr.key(1)).model
        near = pf.Target(lambda x: -0.5 * jnp.sum(x**2), jnp.zeros(dim))
        same = recipe.with_marginals(Whitened(near, pf.bijections.Triangular(dim)), gaussian, marginals, jr.key(1))
    assert same is gaussian
    assert {record.stage for record in run.history.evaluations} == {"marginals"}
    before, after = (quick_diagnostics(whitened, flow, jr.key(2)) for flow in (gaussian.model, fitted))
    assert before.gap > 1 and -after.elbo < 0.2
