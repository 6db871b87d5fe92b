"""Draws, tables, figures and files of a fitted posterior."""

import html

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import pushforward as pf
from pushforward.flows.stack import standard_normal
from pushforward.training import Evaluation, History


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


def posterior_of(loc, scale):
    """A posterior of N(0, I) by N(loc, scale^2 I), with the diagnostics of 5000 draws."""
    target = pf.Target(lambda x: dist.Normal(0, 1).log_prob(x["a"]).sum(), {"a": jnp.zeros(2)})
    flow = pf.Flow(standard_normal(2), pf.bijections.Triangular(2, jnp.full(2, loc), scale * jnp.eye(2)))
    u, log_q = flow.sample_and_log_prob(jr.key(2), (5000,))
    log_weights = np.asarray(jax.vmap(target)(u) - log_q)
    diagnostics = pf.diagnose(log_weights, draws=np.asarray(u))
    history = History(np.zeros(250), (Evaluation("flow", 0, 250, 1.0, 0.1, 0.2, 1.0, 0, {}),))
    return pf.Posterior.from_draws(target, flow, diagnostics, history, np.asarray(u), log_weights)


@pytest.mark.parametrize(("loc", "scale", "verdict"), [(0.0, 1.0, "good"), (0.4, 1.2, "reweight")])
def test_summary_is_of_the_posterior_and_needs_no_key(loc, scale, verdict):
    posterior = posterior_of(loc, scale)
    assert posterior.diagnostics.verdict == verdict
    summary = posterior.summary()
    assert set(summary) == {"a[0]", "a[1]"}
    error = 5 / np.sqrt(posterior.diagnostics.ess)
    for row in summary.values():
        assert row.mean == pytest.approx(0.0, abs=error)
        assert row.sd == pytest.approx(1.0, abs=error)
        assert row.median == pytest.approx(0.0, abs=2 * error)
        assert row.q05 == pytest.approx(-1.645, abs=3 * error) and row.q95 == pytest.approx(1.645, abs=3 * error)
    assert str(posterior.summary()) == str(summary) and f"verdict: {verdict}" in str(summary)
    assert ("importance weights" in str(summary)) == (verdict == "reweight")
    draws = posterior.stored_draws(3000)["a"]
    assert draws.shape == (3000, 2) and (len(np.unique(draws[:, 0])) == 3000) == (verdict == "good")


def test_page_and_figures(tmp_path):
    posterior = posterior_of(0.4, 1.2)
    posterior.report(tmp_path / "report.html", title="a < b")
    page = (tmp_path / "report.html").read_text()
    assert page.count('<figure class="chart"') == 2 and "a &lt; b" in page and "Verdict: reweight" in page
    assert all(html.escape(reason) in page for reason in posterior.diagnostics.reasons)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert "<td>a[0]" in posterior._repr_html_()
    assert posterior.plot("training").axes[0].get_ylabel() == "ELBO (nats)"
    assert len(posterior.plot().axes) == 4 and len(posterior.plot("marginals").axes) == 2
    with pytest.raises(ValueError, match="'trace'"):
        posterior.plot("trace")
