"""Log-likelihoods and predictions in chunks."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import pushforward as pf
from pushforward.posterior import predictions
from pushforward.posterior.spaces.base import UnavailablePrediction

Y = np.array([1.0, -2.0, 0.5])


def model(y):
    mu = numpyro.sample("mu", dist.Normal(0, 1))
    numpyro.sample("y", dist.Normal(mu, 0.1), obs=y)


def test_chunks_are_together_what_one_is(monkeypatch):
    space = pf.Target.from_numpyro(model, Y).space
    draws = {"mu": jnp.linspace(-1, 1, 14).reshape(2, 7)}
    whole = [
        predictions.predict(p, space, draws, jr.key(0)) for p in (predictions.log_likelihoods, predictions.replicas)
    ]
    expected = dist.Normal(draws["mu"][..., None], 0.1).log_prob(Y)
    assert whole[0]["y"].dtype == whole[1]["y"].dtype == np.float32
    np.testing.assert_allclose(whole[0]["y"], expected, rtol=1e-6)
    assert np.abs(whole[1]["y"] - draws["mu"][..., None]).max() < 0.6
    monkeypatch.setattr(predictions, "CHUNK_BYTES", 48)  # 4 draws
    for prediction, value in zip((predictions.log_likelihoods, predictions.replicas), whole, strict=True):
        np.testing.assert_allclose(predictions.predict(prediction, space, draws, jr.key(0))["y"], value["y"], rtol=1e-6)
    assert predictions.bytes_per_draw(predictions.replicas, space, jax.tree.map(lambda leaf: leaf[0, 0], draws)) == 12


def test_each_draw_and_each_site_has_noise_of_its_own():
    def two_sites(y):
        model(y)
        numpyro.sample("z", dist.Normal(0, 0.1), obs=jnp.asarray(y))

    space = pf.Target.from_numpyro(two_sites, Y).space
    found = predictions.predict(predictions.replicas, space, {"mu": jnp.zeros((1, 500))}, jr.key(0))
    noise = np.concatenate([found["y"][0], found["z"][0]], axis=1)
    assert np.abs(noise.std(0) - 0.1).max() < 5 * 0.1 / 1000**0.5
    assert np.abs(np.corrcoef(noise.T) - np.eye(6)).max() < 5 / 500**0.5


def test_a_density_has_no_observations():
    target = pf.Target(lambda x: -0.5 * jnp.sum(x**2), jnp.zeros(2))
    with pytest.raises(UnavailablePrediction, match="no posterior predictive"):
        predictions.predict(predictions.replicas, target.space, jnp.zeros((1, 3, 2)), jr.key(0))
    with pytest.raises(UnavailablePrediction, match="no pointwise"):
        predictions.predict(predictions.log_likelihoods, target.space, jnp.zeros((1, 3, 2)), None)
