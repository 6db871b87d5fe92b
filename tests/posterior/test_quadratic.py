"""Quadratic maps by natural gradients: posteriors near a Gaussian in few steps, and no harm elsewhere."""

import dataclasses
import math

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist
import pytest

import pushforward as pf
from pushforward.bijections import Triangular
from pushforward.flow import Flow
from pushforward.flows.stack import standard_normal
from pushforward.posterior.objective import NUM_SAMPLES
from pushforward.posterior.quadratic import NUM_DRAWS, _inverse_of_scalars, is_promising, quadratic_fit
from pushforward.posterior.target import Whitened
from pushforward.posterior.verdict.assessment import quick_diagnostics
from pushforward.posterior.verdict.diagnostics import diagnose


def whitened(log_density, dim):
    return Whitened(pf.Target(log_density, jnp.zeros(dim)), Triangular(dim))


def regression(x):
    """A log-density near N(0, I), with terms of third order between all coordinates."""
    rows = jnp.asarray(np.random.default_rng(0).normal(size=(12, x.size))) / 4
    return -0.5 * jnp.sum(x**2) - jnp.sum((rows @ x) ** 3) / 40 - jnp.sum((rows @ x) ** 4) / 80


def gaussian(dim):
    return Flow(standard_normal(dim), Triangular(dim))


@pytest.mark.parametrize("dim", [1, 6])
def test_a_skewed_posterior_is_reached_in_a_few_steps(dim):
    target = whitened(regression, dim)
    flow = quadratic_fit(target, dim, jr.key(0))
    before, after = (quick_diagnostics(target, f, jr.key(1)) for f in (gaussian(dim), flow))
    assert before.gap > 10 * after.gap and after.gap < 0.01


def test_a_bent_posterior_is_such_a_map():
    target = whitened(lambda x: -0.5 * x[0] ** 2 - 0.5 * jnp.sum((x[1:] - 0.2 * (x[0] ** 2 - 1)) ** 2), 3)
    flow = quadratic_fit(target, 3, jr.key(0))
    assert quick_diagnostics(target, flow, jr.key(1)).gap < 2e-3
    np.testing.assert_allclose(flow.bijection.bijections[1].quadratic[:, 0, 0], 0.2, atol=0.01)


def test_where_steps_diverge_the_best_of_them_is_kept():
    """A funnel, far from a Gaussian."""
    target = whitened(lambda x: -0.5 * (x[0] / 3) ** 2 - 0.5 * jnp.sum(x[1:] ** 2 * jnp.exp(-x[0]) + x[0]), 9)
    flow = quadratic_fit(target, 9, jr.key(0))
    before, after = (quick_diagnostics(target, f, jr.key(1)) for f in (gaussian(9), flow))
    assert math.isfinite(after.elbo) and after.elbo >= before.elbo


def test_draws_with_no_finite_gradient_are_left_out():
    target = whitened(lambda x: jnp.where(x[0] > -2.5, -0.5 * jnp.sum(x**2) + 0.1 * x[0] ** 3, jnp.nan), 2)
    flow = quadratic_fit(target, 2, jr.key(0))
    assert np.isfinite(flow.sample(jr.key(1), (100,))).all()


def test_its_gradients_are_counted():
    """Each step reports the losses of its draws, as of steps of training, and the flow that they are of."""
    target, calls = whitened(regression, 3), []

    def took(loss, losses, flow):
        calls.append(losses)
        assert losses.size * NUM_SAMPLES == NUM_DRAWS and np.mean(losses) == pytest.approx(loss)
        assert quick_diagnostics(target, flow, jr.key(1)).elbo == pytest.approx(-loss, abs=0.05)
        return loss

    quadratic_fit(target, 3, jr.key(0), took=took)
    assert 3 < len(calls) < 13


def test_a_stop_ends_it_with_the_identity():
    flow = quadratic_fit(whitened(regression, 3), 3, jr.key(0), stop=lambda: True)
    np.testing.assert_allclose(flow.bijection.forward(jnp.arange(3.0)), jnp.arange(3.0), atol=1e-12)


def test_the_information_of_a_coordinate():
    """Of the location 1, of the raw scale 1/2, without a skewness and a tail."""
    fisher = np.linalg.inv(_inverse_of_scalars())
    np.testing.assert_allclose(fisher[2:, 2:], [[1, 0], [0, 0.5]], atol=1e-10)
    assert np.linalg.eigvalsh(fisher).min() > 0


@pytest.mark.parametrize(
    ("dim", "gap", "khat", "promising"),
    [
        (5, 0.01, 0.3, True),
        (5, 0.2, 0.3, False),
        (40, 0.5, 0.3, True),
        (40, 0.5, 0.9, False),
        (40, math.nan, math.nan, False),
        (65, 0.01, 0.3, False),
    ],
)
def test_what_is_promising(dim, gap, khat, promising):
    found = dataclasses.replace(diagnose(np.zeros(200)), elbo=-gap, khat=khat)
    assert is_promising(found, gaussian(dim), 4_000_000) == promising
    assert not is_promising(found, gaussian(dim), 100_000)
    modes = dist.MixtureSameFamily(dist.Categorical(jnp.ones(2) / 2), dist.Normal(jnp.zeros((2, dim)), 1.0).to_event(1))
    assert not is_promising(found, Flow(modes, Triangular(dim)), 4_000_000)
