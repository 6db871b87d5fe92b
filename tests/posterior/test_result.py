"""Draws and files of a fitted posterior."""

import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import pushforward as pf


def test_results_survive_a_file(tmp_path):
    def model(y):
        mu = numpyro.sample("mu", dist.Normal(0, 5))
        sigma = numpyro.sample("sigma", dist.HalfNormal(2))
        numpyro.deterministic("ratio", mu / sigma)
        with numpyro.plate("data", len(y)):
            numpyro.sample("y", dist.Normal(mu, sigma), obs=y)

    posterior = pf.fit_posterior(
        pf.Target.from_numpyro(model, np.array([1.0, 2.0, 3.0, 2.5])), key=jr.key(0), budget=100_000
    )
    path = tmp_path / "posterior"
    posterior.save(path)
    loaded = pf.load(path)
    assert loaded.diagnostics == posterior.diagnostics
    draws, again = posterior.sample(jr.key(1), 50), loaded.sample(jr.key(1), 50)
    assert set(draws) == {"mu", "sigma", "ratio"}
    assert set(again) == {"mu", "sigma"}
    for name in again:
        np.testing.assert_allclose(draws[name], again[name])
    np.testing.assert_allclose(posterior.log_prob(draws), loaded.log_prob(again), rtol=1e-8)
    weighted = loaded.resample(jr.key(2), 100)
    assert weighted["sigma"].min() > 0
    data = posterior.to_arviz(jr.key(3), num_samples=200, log_likelihood=True, predictive=True)
    assert data["posterior"]["ratio"].shape == (1, 200)
    assert data["posterior"].attrs["verdict"] == posterior.diagnostics.verdict
    assert data["posterior_predictive"]["y"].shape == data["log_likelihood"]["y"].shape == (1, 200, 4)
    np.testing.assert_allclose(data["observed_data"]["y"], [1.0, 2.0, 3.0, 2.5])
    with pytest.raises(ValueError, match="does not hold the density"):
        loaded.target(loaded.target.start)
    # Without a key there is nothing random: no predictions, and the same draws each time.
    data, again = posterior.to_arviz(num_samples=200, log_likelihood=True), posterior.to_arviz(num_samples=200)
    assert data["log_likelihood"]["y"].shape == (1, 200, 4)
    assert not hasattr(data, "posterior_predictive") and not hasattr(again, "log_likelihood")
    with pytest.raises(ValueError, match="needs a key"):
        posterior.to_arviz(predictive=True)
    np.testing.assert_array_equal(data["posterior"]["mu"], again["posterior"]["mu"])
