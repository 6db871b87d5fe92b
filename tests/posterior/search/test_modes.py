"""Mixtures as bases, one component for each mode."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist
import pytest

import pushforward as pf
from pushforward.bijections import Triangular
from pushforward.posterior.search.modes import mixture_base, reweight_modes
from pushforward.posterior.target import Whitened


@pytest.mark.conformance
def test_modes_far_apart_are_all_found(tmp_path):
    """Each in its place and with its share, though the flow is one; the evidence is 1."""
    weights = (0.5, 0.48, 0.02)
    locs = 7.0 * jnp.eye(3)[: len(weights)] - 2.0
    scales = jnp.array([1.0, 0.8, 1.3])[: len(weights), None, None] * jnp.eye(3)
    parts = dist.MultivariateNormal(locs, scale_tril=scales)
    d = dist.MixtureSameFamily(dist.Categorical(jnp.array(weights)), parts)
    posterior = pf.fit_posterior(pf.Target(d.log_prob, jnp.zeros(3)), key=jr.key(0), budget=1_000_000)
    assert posterior.diagnostics.verdict == "good"
    assert abs(posterior.diagnostics.log_evidence) < 0.01
    draws = posterior.sample(jr.key(1), 50_000)
    nearest = jnp.argmin(
        jnp.linalg.norm(draws[:, None] - locs, axis=-1) / jnp.diagonal(scales, axis1=1, axis2=2)[:, 0], 1
    )
    np.testing.assert_allclose(jnp.bincount(nearest, length=len(weights)) / 50_000, weights, atol=0.015)
    posterior.save(tmp_path / "modes")
    np.testing.assert_allclose(pf.load(tmp_path / "modes").log_prob(draws[:5]), posterior.log_prob(draws[:5]))


LOCS = jnp.array([[-6.0, 0.0], [6.0, 1.0]])
FACTORS = jnp.array([[[1.0, 0.0], [0.5, 0.8]], [[0.6, 0.0], [0.0, 2.0]]])
WEIGHTS = jnp.array([0.9, 0.1])


def two_modes(weights=WEIGHTS):
    return dist.MixtureSameFamily(dist.Categorical(weights), dist.MultivariateNormal(LOCS, scale_tril=FACTORS))


def test_the_base_is_the_mixture_of_the_gaussians_in_coordinates_of_order_one():
    affines = [Triangular(2, loc, factor) for loc, factor in zip(LOCS, FACTORS, strict=True)]
    affine, base = mixture_base([*affines, affines[0]], [*np.log(WEIGHTS) + 500, 450.0])
    x = two_modes().sample(jr.key(0), (1000,))
    u, log_det = affine.batched.inverse_and_log_det(x)
    np.testing.assert_allclose(base.log_prob(u) + log_det, two_modes().log_prob(x), atol=1e-10)
    assert base.mixing_distribution.probs.shape == (2,)  # the third one has a share of 1e-22
    draws = base.sample(jr.key(1), (100_000,))
    np.testing.assert_allclose(draws.mean(0), 0, atol=0.02)
    np.testing.assert_allclose(jnp.cov(draws.T), np.eye(2), atol=0.03)


def test_importance_weights_give_the_modes_their_shares():
    target = Whitened(pf.Target(two_modes().log_prob, jnp.zeros(2)), Triangular(2))
    flow = pf.Flow(two_modes(jnp.array([0.5, 0.5])), Triangular(2))
    probs = reweight_modes(target, flow, jr.key(0)).base_distribution.mixing_distribution.probs
    np.testing.assert_allclose(probs, WEIGHTS, atol=0.01)


def test_weights_of_modes_stay_if_there_is_one_or_if_no_draw_has_a_weight():
    one = pf.Flow(dist.MultivariateNormal(LOCS[0], scale_tril=FACTORS[0]), Triangular(2))
    target = Whitened(pf.Target(two_modes().log_prob, jnp.zeros(2)), Triangular(2))
    assert reweight_modes(target, one, jr.key(0)) is one
    empty = Whitened(pf.Target(lambda x: jnp.where(x[0] > 1e9, 0.0, -jnp.inf), jnp.zeros(2)), Triangular(2))
    both = pf.Flow(two_modes(), Triangular(2))
    assert reweight_modes(empty, both, jr.key(0)) is both
