"""Amortised posteriors: exact where the answer is known, calibrated, and clear about what they need."""

import pickle

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import pushforward as pf
from pushforward.posterior.amortized import AllNumbers, AmortizedPosterior
from pushforward.reports.calibration import outside_band, plot_calibration
from pushforward.serialization import to_bytes
from pushforward.training.history import History
from training_cases import Killed


def joint(draw, data):
    """Known noise: the posterior of the mean of n numbers is normal, of variance 1 / (1 / 4 + n / 9)."""
    prior = dist.Normal(0, 2).log_prob(draw["mean"]).sum()
    return prior + dist.Normal(draw["mean"][None], 3).log_prob(data["y"]).sum()


def simulate(key, n):
    mean_key, noise_key = jr.split(key)
    mean = 2 * jr.normal(mean_key, (n, 2))
    return {"mean": mean}, {"y": mean[:, None] + 3 * jr.normal(noise_key, (n, 5, 2))}


EXAMPLE = {"mean": jnp.zeros(2)}


def fitted_log_prob(fitted, datum, key, num):
    """The log-densities of the draws of `sample` with the same key: there is no support to transform to."""
    condition = fitted.statistics(datum)
    return fitted.flow.log_prob(fitted.flow.sample(key, (num,), condition), condition)


@pytest.mark.conformance
def test_known_posteriors_and_calibration():
    truths, data = simulate(jr.key(0), 2000)
    one = jax.tree.map(lambda a: a[0], data)
    target = pf.ConditionalTarget(joint, EXAMPLE, one)
    fitted = pf.fit_amortized(target, data, key=jr.key(1), steps=600)
    new_truths, new_data = simulate(jr.key(2), 400)
    variance = 1 / (1 / 4 + 5 / 9)
    for row in range(3):
        datum = jax.tree.map(lambda a, row=row: a[row], new_data)
        d = fitted.diagnose(jr.key(3), datum)
        evidence = dist.MultivariateNormal(jnp.zeros(5), 4 * jnp.ones((5, 5)) + 9 * jnp.eye(5)).log_prob(datum["y"].T)
        assert d.log_evidence == pytest.approx(float(evidence.sum()), abs=0.02)
        assert d.gap < 0.03 and d.verdict in ("good", "reweight")
        draws = fitted.sample(jr.key(4), datum, 20_000)["mean"]
        np.testing.assert_allclose(draws.mean(0), datum["y"].sum(0) / 9 * variance, atol=0.1)
        np.testing.assert_allclose(draws.var(0), variance, rtol=0.15)
    ranks = fitted.ranks(jr.key(5), new_truths, new_data)
    assert ranks.ranks["mean"].shape == (400, 2)
    assert set(ranks.p_values()) == {"mean[0]", "mean[1]"} and min(ranks.p_values().values()) > 1e-3
    assert not any(outside_band({name: numbers}) for name, numbers in ranks.pit().items())  # each alone
    assert len(plot_calibration(ranks.pit(), "data sets").axes[0].lines) == 2
    posterior = fitted.posterior(jr.key(3), datum)
    assert posterior.diagnostics.verdict == d.verdict
    np.testing.assert_allclose(
        posterior.log_prob(posterior.sample(jr.key(6), 5)), fitted_log_prob(fitted, datum, jr.key(6), 5), rtol=1e-6
    )
    # Truths that do not go with the data are found out.
    assert min(fitted.ranks(jr.key(5), {"mean": new_truths["mean"] + 1.0}, new_data).p_values().values()) < 1e-6


@pytest.mark.conformance
def test_one_skewed_coordinate():
    """Of proportions near 0 the logit falls slowly on one side: an affine map of a Gaussian leaves 0.1 nats."""

    def model(y):
        p = numpyro.sample("p", dist.Beta(0.5, 0.5))
        numpyro.sample("y", dist.Binomial(10, p), obs=y)

    data = jnp.asarray(jr.randint(jr.key(0), (500,), 0, 11), float)
    target = pf.ConditionalTarget.from_numpyro(model, data[0])
    fitted = pf.fit_amortized(target, data, key=jr.key(1), steps=2000)
    for y in (0.0, 3.0, 10.0):
        d = fitted.diagnose(jr.key(3), jnp.array(y))
        evidence = dist.BetaBinomial(0.5, 0.5, 10).log_prob(y)
        assert d.log_evidence == pytest.approx(float(evidence), abs=0.01)
        assert d.verdict == "good" and d.gap < 0.01


def test_a_numpyro_model(tmp_path):
    def model(y, scale):
        mean = numpyro.sample("mean", dist.Normal(0, 2))
        noise = numpyro.sample("noise", dist.LogNormal(0, 0.3))
        numpyro.sample("y", dist.Normal(mean, scale * noise), obs=y)

    y = jr.normal(jr.key(0), (64, 6)) + 2 * jr.normal(jr.key(1), (64, 1))
    target = pf.ConditionalTarget.from_numpyro(model, y[0], 1.5)
    np.testing.assert_allclose(
        target.at(y[3])(jnp.array([0.2, -0.1])), pf.Target.from_numpyro(model, y[3], 1.5)(jnp.array([0.2, -0.1]))
    )
    flow = pf.flows.realnvp(2, num_layers=2, hidden=(8,), cond_dim=6, key=jr.key(0))
    fitted = pf.fit_amortized(target, y, key=jr.key(1), steps=50, flow=flow)
    assert fitted.sample(jr.key(2), y[0], 7)["noise"].min() > 0
    assert fitted.summary()["steps"] == 50 and "mean ELBO" in str(fitted.summary())
    fitted.report(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "mean ELBO (nats)" in page and "pf.fit_amortized(target, data, key=jax.random.key(1), steps=50)" in page
    fitted.save(tmp_path / "amortized")
    loaded = pf.load(tmp_path / "amortized")
    assert to_bytes(pickle.loads(pickle.dumps(fitted))) == to_bytes(loaded)
    for name, draws in loaded.sample(jr.key(2), y[0], 7).items():
        np.testing.assert_allclose(draws, fitted.sample(jr.key(2), y[0], 7)[name])
    draws = fitted.sample(jr.key(2), y[0], 7)
    np.testing.assert_allclose(
        loaded.log_prob(draws, y[0]), fitted.posterior(jr.key(3), y[0], 100).log_prob(draws), rtol=1e-6
    )
    # The verdict of a posterior is from a search too.
    assert any("not searched" in reason for reason in fitted.diagnose(jr.key(3), y[0]).reasons)
    assert not any("not searched" in reason for reason in fitted.posterior(jr.key(3), y[0]).diagnostics.reasons)
    with pytest.raises(ValueError, match="does not hold the density"):
        loaded.diagnose(jr.key(3), y[0])
    with pytest.raises(ValueError, match=r"shapes \(6,\)"):
        target.at(y[0, :5])
    with pytest.raises(ValueError, match="data set 5"):
        pf.fit_amortized(target, y.at[5, 2].set(jnp.nan), key=jr.key(1))
    with pytest.raises(TypeError, match="'realnvp'"):
        pf.fit_amortized(target, y, key=jr.key(1), flow=pf.flows.realnvp)
    with pytest.raises(ValueError, match=r"cond_shape \(6,\)"):
        pf.fit_amortized(target, y, key=jr.key(1), flow=pf.flows.realnvp(2, key=jr.key(0)))


@pytest.mark.conformance
def test_an_amortized_fit_resumes(tmp_path):
    def log_density(draw, data):
        return -0.5 * draw**2 - 0.5 * jnp.sum((data - draw) ** 2)

    target = pf.ConditionalTarget(log_density, jnp.array(0.0), jnp.zeros(2))
    data = np.random.default_rng(0).normal(size=(40, 2))

    def fit(path=None, callback=None):
        return pf.fit_amortized(target, data, key=jr.key(0), steps=60, checkpoint=path, callback=callback)

    def kill(progress):
        if progress.step == 30:
            raise Killed

    whole, path = fit(), tmp_path / "checkpoint"
    with pytest.raises(Killed):
        fit(path, kill)
    resumed = fit(path, lambda progress: progress.step <= 30 and pytest.fail("did not resume"))
    assert resumed.history.losses.tobytes() == whole.history.losses.tobytes()
    draws = [p.sample(jr.key(1), jnp.ones(2), 10) for p in (whole, resumed)]
    assert draws[0].tobytes() == draws[1].tobytes()


def double(data):
    return 2 * data


def test_data_sets_on_disk_give_the_fit_of_those_in_memory(tmp_path):
    def log_density(draw, data):
        return dist.Normal(0, 2).log_prob(draw) + dist.Normal(draw, 1).log_prob(data).sum()

    data = np.random.default_rng(0).normal(size=(1500, 3)) + 1.0
    np.save(tmp_path / "data.npy", data)
    stored = tmp_path / "data.npy"
    target = pf.ConditionalTarget(log_density, jnp.zeros(()), data[0])
    fits = [pf.fit_amortized(target, d, key=jr.key(1), steps=40, statistics=double) for d in (data, stored)]
    draws = [np.asarray(fit.sample(jr.key(2), data[0], 5)) for fit in fits]
    np.testing.assert_allclose(draws[1], draws[0], rtol=1e-6)
    wrong = pf.ConditionalTarget(log_density, jnp.zeros(()), data[0, :2])
    with pytest.raises(ValueError, match=r"data sets of shapes \(2,\) along a first axis, but has shapes \(1500, 3\)"):
        pf.fit_amortized(wrong, stored, key=jr.key(1))


def test_a_missed_mode_of_one_data_set():
    """Two modes 20 apart, of which the flow has one."""

    def joint(draw, data):
        return jnp.logaddexp(*(dist.Normal(data + at, 1.0).log_prob(draw).sum() for at in (0.0, 20.0)))

    target = pf.ConditionalTarget(joint, jnp.zeros(2), jnp.zeros(()))
    flow = pf.flows.realnvp(2, num_layers=2, hidden=(8,), cond_dim=1, key=jr.key(0))  # at first N(0, I)
    fitted = AmortizedPosterior(target, flow, AllNumbers(), History(np.zeros(0), ()))
    assert fitted.diagnose(jr.key(1), jnp.zeros(())).verdict == "good"
    found = fitted.posterior(jr.key(1), jnp.zeros(())).diagnostics
    assert found.verdict == "unreliable" and "lies in another region" in " ".join(found.reasons)
