import json
import math
import os
import signal

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist
import pytest
from numpyro.distributions import constraints

import pushforward as pf
from posterior_cases import banana, gaussian_target
from products import first
from pushforward import examples
from pushforward.posterior import assessment
from pushforward.posterior.recipe import NUM_SAMPLES


@pytest.mark.parametrize(("dim", "widest"), first((12, 1e6), (1, 1.0)))
def test_gaussians_of_any_scale_are_fitted_exactly(dim, widest):
    target, d = gaussian_target(dim, 0, widest)
    posterior = pf.fit_posterior(target, key=jr.key(1))
    found = posterior.diagnostics
    assert found.verdict == "good"
    assert abs(found.log_evidence) < 1e-3
    assert found.gap < 1e-3
    draws = posterior.sample(jr.key(2), 50_000)
    sd = jnp.sqrt(d.variance)
    np.testing.assert_allclose((draws.mean(0) - d.mean) / sd, 0, atol=5 / math.sqrt(50_000))
    np.testing.assert_allclose(draws.std(0) / sd, 1, atol=0.02)


def test_conjugate_model_with_supports():
    """Gamma-Poisson and beta-binomial in one pytree: both posteriors and the evidence are known."""
    counts, successes, trials = jnp.array([3.0, 5.0, 4.0, 6.0]), 7.0, 10.0

    def log_density(x):
        return (
            dist.Gamma(2.0, 1.0).log_prob(x["rate"])
            + dist.Poisson(x["rate"]).log_prob(counts).sum()
            + dist.Beta(1.0, 1.0).log_prob(x["p"])
            + dist.Binomial(10, x["p"]).log_prob(successes)
        )

    support = {"rate": constraints.positive, "p": constraints.unit_interval}
    target = pf.Target(log_density, {"rate": jnp.array(1.0), "p": jnp.array(0.5)}, support)
    posterior = pf.fit_posterior(target, key=jr.key(0))
    a, b = 2 + counts.sum(), 1 + len(counts)
    log_evidence = (
        math.lgamma(a)
        - a * math.log(b)
        - math.lgamma(2)
        - sum(math.lgamma(c + 1) for c in counts)
        - math.log(trials + 1)
    )
    d = posterior.diagnostics
    assert d.verdict == "good"
    assert d.log_evidence == pytest.approx(float(log_evidence), abs=0.005)
    draws = posterior.sample(jr.key(1), 20_000)
    exact = dist.Gamma(a, b)
    assert abs(draws["rate"].mean() - exact.mean) < 0.05 * jnp.sqrt(exact.variance)
    assert abs(draws["p"].mean() - 8 / 12) < 0.01
    # log_prob is normalised in the space of the draws.
    np.testing.assert_allclose(
        posterior.log_prob(draws),
        exact.log_prob(draws["rate"]) + dist.Beta(8.0, 4.0).log_prob(draws["p"]),
        atol=0.6,
    )
    assert (
        abs(
            (
                posterior.log_prob(draws) - exact.log_prob(draws["rate"]) - dist.Beta(8.0, 4.0).log_prob(draws["p"])
            ).mean()
        )
        < 0.01
    )


@pytest.mark.conformance
@pytest.mark.parametrize("model", [examples.eight_schools_centered])
def test_eight_schools_against_reference_draws(model, reference_data):
    folder = reference_data / "posteriordb"
    entry = json.loads((folder / "index.json").read_text())[f"eight_schools-{model.__name__}"]
    reference = np.load(folder / entry["draws"])
    # The reference's Cauchy is a full one on a half line; NumPyro's HalfCauchy is twice that.
    log_evidence = entry["log_evidence"] + math.log(2)
    posterior = pf.fit_posterior(pf.Target.from_numpyro(model, **examples.EIGHT_SCHOOLS), key=jr.key(3))
    assert abs(posterior.diagnostics.elbo - log_evidence) < 0.05
    for draws in (posterior.sample(jr.key(4), 20_000), posterior.resample(jr.key(4), 20_000)):
        columns = {"mu": draws["mu"], "tau": draws["tau"]}
        columns |= {f"theta[{i + 1}]": draws["theta"][:, i] for i in range(8)}
        for name, expected in zip(reference["names"], reference["draws"].T, strict=True):
            if name in columns:
                assert abs(columns[name].mean() - expected.mean()) < 0.1 * expected.std(), name
                assert abs(columns[name].std() - expected.std()) < 0.1 * expected.std(), name


def test_missed_mode_is_unreliable():
    modes = jnp.array([[-15.0, 0.0], [15.0, 3.0]])

    def log_density(x):
        return jax.nn.logsumexp(-0.5 * jnp.sum((x - modes) ** 2, 1))

    one = pf.flows.linear(2, key=jr.key(0))
    posterior = pf.fit_posterior(pf.Target(log_density, modes[0]), key=jr.key(0), flow=one, budget=100_000)
    assert posterior.diagnostics.verdict == "unreliable"
    assert "another region" in " ".join(posterior.diagnostics.reasons)


def test_improper_posterior_ends_and_is_not_good():
    posterior = pf.fit_posterior(pf.Target(lambda x: -0.5 * x[0] ** 2, jnp.zeros(2)), key=jr.key(0), budget=300_000)
    assert posterior.diagnostics.verdict != "good"


def test_nan_off_the_typical_set_does_no_harm():
    def log_density(x):
        value = -0.5 * jnp.sum(x**2)
        return jnp.where(jnp.abs(x).max() > 6, jnp.nan, value)

    posterior = pf.fit_posterior(pf.Target(log_density, jnp.zeros(2)), key=jr.key(0))
    assert posterior.diagnostics.verdict == "good"


def test_bounds_that_were_not_declared_are_named():
    """A half-normal without its support: the density is zero at half of what a Gaussian draws."""
    target = pf.Target(lambda x: jnp.where(x[0] > 0, -0.5 * jnp.sum(x**2), -jnp.inf), jnp.ones(2))
    found = pf.fit_posterior(target, key=jr.key(0), budget=100_000).diagnostics
    assert found.verdict != "good"
    assert "declare them as its support" in " ".join(found.reasons)
    assert found.log_evidence == pytest.approx(math.log(math.pi), abs=0.05)


def test_density_without_forward_mode():
    """Whatever is behind a custom_vjp, as an ODE solver's adjoint."""

    @jax.custom_vjp
    def square(x):
        return x**2

    square.defvjp(lambda x: (x**2, x), lambda x, g: (2 * x * g,))
    posterior = pf.fit_posterior(pf.Target(lambda x: -0.5 * square(x / 10.0).sum(), jnp.ones(3)), key=jr.key(0))
    assert posterior.diagnostics.verdict == "good"
    assert posterior.diagnostics.log_evidence == pytest.approx(1.5 * math.log(2 * math.pi * 100), abs=1e-3)


@pytest.mark.parametrize("value", [-jnp.inf, jnp.nan])
def test_nowhere_finite(value):
    with pytest.raises(ValueError, match="at all starting points"):
        pf.fit_posterior(pf.Target(lambda x: jnp.sum(x) * 0 + value, jnp.zeros(2)), key=jr.key(0))


def test_bad_arguments():
    target = pf.Target(lambda x: -0.5 * jnp.sum(x**2), jnp.zeros(3))
    with pytest.raises(TypeError, match="Target"):
        pf.fit_posterior(lambda x: x, key=jr.key(0))
    with pytest.raises(ValueError, match=r"\(3,\).*\(2,\)"):
        pf.fit_posterior(target, key=jr.key(0), flow=pf.flows.realnvp(2, key=jr.key(0)))
    with pytest.raises(ValueError, match="budget"):
        pf.fit_posterior(target, key=jr.key(0), budget=0)


def test_own_flow_and_budget():
    flow = pf.flows.nsf(2, num_layers=2, hidden=(8,), key=jr.key(0))
    posterior = pf.fit_posterior(pf.Target(banana, jnp.zeros(2)), key=jr.key(1), flow=flow, budget=200_000)
    assert len(posterior.history.losses) * NUM_SAMPLES <= 200_000
    assert "budget" in " ".join(posterior.diagnostics.reasons)


@pytest.mark.parametrize("presses", [1, 2])
def test_ctrl_c_in_training_keeps_the_best(presses):
    steps = []

    def interrupt(progress):
        steps.append(progress.step)
        if len(steps) == 3:
            for _ in range(presses):
                os.kill(os.getpid(), signal.SIGINT)

    posterior = pf.fit_posterior(pf.Target(banana, jnp.zeros(2)), key=jr.key(0), callback=interrupt)
    assert len(steps) == 3 and len(posterior.history.losses) == steps[-1]
    assert "interrupted" in " ".join(posterior.diagnostics.reasons)
    assert math.isfinite(posterior.diagnostics.elbo)


def test_ctrl_c_in_the_judging_judges_by_fewer_draws(monkeypatch):
    calls, compiled_batch = [], assessment._compiled_batch

    def interrupted(target, flow, key):
        calls.append(1)
        os.kill(os.getpid(), signal.SIGINT)
        return compiled_batch(target, flow, key)

    flow = pf.flows.linear(2, key=jr.key(1))
    target = pf.Target(banana, jnp.zeros(2))
    whole = pf.fit_posterior(target, key=jr.key(0), flow=flow, budget=100_000)
    monkeypatch.setattr(assessment, "_compiled_batch", interrupted)
    posterior = pf.fit_posterior(target, key=jr.key(0), flow=flow, budget=100_000)
    assert len(calls) == 1
    assert posterior.diagnostics.num_draws < whole.diagnostics.num_draws
    assert "interrupted" in " ".join(posterior.diagnostics.reasons)


def test_ctrl_c_before_any_judging_leaves_a_fit_that_is_not_judged(monkeypatch, tmp_path):
    def interrupted(target, flow, key):
        for _ in range(4):
            os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("the fourth Ctrl-C is raised")

    flow = pf.flows.linear(2, key=jr.key(1))
    monkeypatch.setattr(assessment, "_compiled_batch", interrupted)
    posterior = pf.fit_posterior(pf.Target(banana, jnp.zeros(2)), key=jr.key(0), flow=flow, budget=100_000)
    found = posterior.diagnostics
    assert found.verdict == "unreliable" and found.num_draws == 0
    assert found.reasons[0] == "The fit was interrupted before it was judged."
    assert posterior.sample(jr.key(1), 7).shape == (7, 2)
    for draw in (lambda: posterior.resample(jr.key(1)), posterior.summary, posterior.to_arviz, posterior.plot):
        with pytest.raises(ValueError, match="interrupted before it was judged"):
            draw()
    assert "interrupted" in posterior.to_arviz(jr.key(1))["posterior"].attrs["reasons"]
    posterior.report(tmp_path / "report.html")
    assert "interrupted before it was judged" in (tmp_path / "report.html").read_text()
    posterior.save(tmp_path / "posterior")
    assert pf.load(tmp_path / "posterior").diagnostics.verdict == "unreliable"


@pytest.mark.conformance
def test_same_key_same_result():
    target = pf.Target(banana, jnp.zeros(2))
    one, two = (pf.fit_posterior(target, key=jr.key(5), budget=70_000) for _ in range(2))
    assert one.diagnostics.elbo == two.diagnostics.elbo


@pytest.mark.conformance
def test_float32():
    with jax.enable_x64(False):
        posterior = pf.fit_posterior(pf.Target(banana, jnp.zeros(2)), key=jr.key(0))
        assert posterior.sample(jr.key(0), 5).dtype == jnp.float32
    assert posterior.diagnostics.verdict in ("good", "reweight")
    assert posterior.diagnostics.log_evidence == pytest.approx(math.log(2 * math.pi * 0.5), abs=0.01)


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


@pytest.mark.conformance
def test_one_skewed_coordinate():
    """The logit of a Beta(0.5, 10.5) falls like exp(u / 2) on one side and far faster on the other."""
    d = dist.Beta(0.5, 10.5)

    def log_density(u):
        p = jax.nn.sigmoid(u[0])
        return d.log_prob(p) + jnp.log(p) + jnp.log1p(-p)

    posterior = pf.fit_posterior(pf.Target(log_density, jnp.zeros(1)), key=jr.key(7))
    assert posterior.diagnostics.verdict == "good"
    assert -posterior.diagnostics.elbo < 0.01
    p = jax.nn.sigmoid(posterior.sample(jr.key(1), 50_000))
    assert float(p.mean()) == pytest.approx(float(d.mean), abs=0.03 * float(d.variance) ** 0.5)
    assert float(p.var()) == pytest.approx(float(d.variance), rel=0.05)


@pytest.mark.conformance
def test_polynomial_tails_are_learned():
    """Over a Gaussian base a flow leaves half of the draws effective."""
    target = pf.Target(lambda x: dist.Cauchy(0.0, 1.0).log_prob(x).sum(), jnp.full(3, 0.3))
    posterior = pf.fit_posterior(target, key=jr.key(1))
    assert posterior.history.evaluations[-1].stage == "tails"
    assert posterior.diagnostics.ess_fraction > 0.8
    assert -posterior.diagnostics.elbo < 0.03
    assert (posterior.flow.base_distribution.base_dist.df < 3).all()


def test_any_flow_can_be_assessed_and_a_fit_can_be_watched():
    d = dist.MultivariateNormal(jnp.array([1.0, -1.0]), jnp.array([[1.0, 0.5], [0.5, 2.0]]))
    target = pf.Target(d.log_prob, jnp.zeros(2))
    seen = []

    def watch(progress):
        seen.append(pf.assess(target, progress.model, jr.key(1), num_draws=2000))
        return True

    posterior = pf.fit_posterior(target, key=jr.key(0), callback=watch)
    assert len(seen) == 1 and seen[0].verdict == "good"
    assert any("interrupted" in reason for reason in posterior.diagnostics.reasons)
    far = pf.Flow(dist.Normal(jnp.array([30.0, 0.0]), 1.0).to_event(1), pf.bijections.Triangular(2))
    assert pf.assess(target, far, jr.key(1), num_draws=2000).verdict == "unreliable"
    with pytest.raises(ValueError, match="100 draws"):
        pf.assess(target, far, jr.key(1), num_draws=10)
    with pytest.raises(ValueError, match=r"shape \(2,\)"):
        pf.assess(target, pf.flows.linear(3, key=jr.key(0)), jr.key(1))


@pytest.mark.conformance
def test_an_exact_fit_says_nothing_of_its_budget():
    target, _ = gaussian_target(3, 0, 10.0)
    posterior = pf.fit_posterior(target, key=jr.key(1), budget=100)
    assert posterior.diagnostics.verdict == "good"
    assert not any("budget" in reason for reason in posterior.diagnostics.reasons)
