"""Mixtures as bases, one component for each mode."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist
import pytest

import pushforward as pf


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
