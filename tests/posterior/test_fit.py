"""Posteriors of known models, fits that are interrupted, and fits that are killed and resumed."""

import math
import os
import signal

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist
import pytest
from numpyro.distributions import constraints

import pushforward as pf
from posterior_cases import banana, gaussian_target
from products import few, first
from pushforward.posterior.objective import NUM_SAMPLES
from pushforward.posterior.quadratic import NUM_DRAWS
from training_cases import Killed


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


def test_what_nothing_informs_is_named():
    with pytest.raises(ValueError, match=r"draw\[1\] is not informed by the model"):
        pf.fit_posterior(pf.Target(lambda x: -0.5 * x[0] ** 2, jnp.zeros(2)), key=jr.key(0))


def test_a_density_that_misbehaves_far_out():
    """One derivative, known to NumPy alone, an error at some draws, and overflow to +inf far from the draws."""

    def by_numpy(fn, x):
        return jax.pure_callback(fn, jax.ShapeDtypeStruct(x.shape, x.dtype), x, vmap_method="expand_dims")

    @jax.custom_vjp
    def square(x):
        return by_numpy(np.square, x)

    square.defvjp(lambda x: (square(x), x), lambda x, g: (g * by_numpy(lambda x: 2 * np.asarray(x), x),))

    def log_density(x):
        x = eqx.error_if(x, x[0] > 3.5, "too large")
        return jnp.where(x[0] < -30, jnp.inf, -0.5 * square(x)[0])

    found = pf.fit_posterior(pf.Target(log_density, jnp.zeros(1)), key=jr.key(0), budget=20_000).diagnostics
    assert found.verdict != "unreliable"
    assert found.log_evidence == pytest.approx(0.5 * math.log(2 * math.pi), abs=1e-3)
    assert "raises an error at 0.02% of the draws" in " ".join(found.reasons)


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
    with pytest.raises(TypeError, match="'realnvp'"):
        pf.fit_posterior(target, key=jr.key(0), flow=pf.flows.realnvp)
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

    with pytest.warns(UserWarning, match="interrupted after .* steps"):
        posterior = pf.fit_posterior(pf.Target(banana, jnp.zeros(2)), key=jr.key(0), callback=interrupt)
    assert len(steps) == 3 and len(posterior.history.losses) == steps[-1]
    assert "interrupted" in " ".join(posterior.diagnostics.reasons)
    assert math.isfinite(posterior.diagnostics.elbo)


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


@pytest.mark.conformance
def test_an_exact_fit_says_nothing_of_its_budget():
    target, _ = gaussian_target(3, 0, 10.0)
    posterior = pf.fit_posterior(target, key=jr.key(1), budget=100)
    assert posterior.diagnostics.verdict == "good"
    assert not any("budget" in reason for reason in posterior.diagnostics.reasons)


# Fits that are killed and resumed.


def fit(path=None, *, density=banana, key=0, budget=300_000, callback=None, flow=None):
    target = pf.Target(density, jnp.zeros(2))
    return pf.fit_posterior(target, key=jr.key(key), budget=budget, callback=callback, checkpoint=path, flow=flow)


@pytest.fixture(scope="module")
def whole():
    return fit()


def assert_same(one, other):
    assert one.pool.tobytes() == other.pool.tobytes()
    assert one.pool_weights.tobytes() == other.pool_weights.tobytes()
    assert one.diagnostics == other.diagnostics
    assert one.history.losses.tobytes() == other.history.losses.tobytes()


@pytest.mark.parametrize("stage", few(["gaussian", "flow"], "flow"))
def test_resumes_to_the_bit_in_each_stage(stage, whole, tmp_path):
    path, seen = tmp_path / "checkpoint", []

    def kill(progress):
        seen.append(progress)
        if progress.stage == stage:
            raise Killed

    with pytest.raises(Killed):
        fit(path, callback=kill)
    resumed = fit(path, callback=seen.append)
    assert len(seen) == len([r for r in whole.history.evaluations if r.training_loss == r.training_loss])
    assert_same(resumed, whole)
    assert_same(fit(path, callback=lambda progress: pytest.fail("there is nothing left to train")), whole)


def test_a_quadratic_map_is_a_stage_of_the_fit(tmp_path):
    """Its gradients are in the history, and a fit that was killed in it resumes."""
    path, seen = tmp_path / "checkpoint", []

    def skewed(x):
        return jnp.sum(0.4 * x - jnp.exp(0.4 * x)) / 0.16

    def kill(progress):
        seen.append(progress)
        if progress.stage == "quadratic":
            raise Killed

    whole = fit(density=skewed)
    steps = [record.step for record in whole.history.stage("quadratic")]
    assert len(steps) > 3 and whole.history.evaluations[-1].step == steps[-1] == len(whole.history.losses)
    assert {*np.diff(steps)} == {NUM_DRAWS // NUM_SAMPLES} and whole.diagnostics.verdict == "good"
    with pytest.raises(Killed):
        fit(path, density=skewed, callback=kill)
    assert seen[-1].model.shape == (2,)
    assert_same(fit(path, density=skewed), whole)
    assert_same(fit(path, density=skewed, callback=lambda progress: pytest.fail("nothing is left to train")), whole)


def test_a_fit_that_its_callback_has_ended_stays_as_it_is(tmp_path):
    """To the bit: its search is not cut short when it is resumed."""
    path = tmp_path / "checkpoint"
    ended = fit(path, callback=lambda progress: progress.stage == "flow")
    assert_same(fit(path, callback=lambda progress: pytest.fail("there is nothing left to train")), ended)


def test_a_time_limit_ends_the_training_and_the_verdict_says_so(whole, tmp_path):
    path, target = tmp_path / "checkpoint", pf.Target(banana, jnp.zeros(2))
    short = pf.fit_posterior(target, key=jr.key(0), budget=300_000, seconds=1e-3, checkpoint=path)
    assert not short.diagnostics.finished
    assert any("within 0.001 seconds" in reason for reason in short.diagnostics.reasons)
    assert "seconds=0.001" in dict(short.provenance)["call"]
    # Another limit is not another fit; and enough time changes nothing.
    long = pf.fit_posterior(target, key=jr.key(0), budget=300_000, seconds=3600, checkpoint=path)
    assert_same(long, whole)


def test_a_search_that_takes_all_of_the_time_has_a_result():
    """A dense Gaussian, for which the search finds diagonal ones."""
    dim = 260
    matrix = jnp.asarray(np.random.default_rng(0).normal(size=(dim, dim))) / dim**0.5 + jnp.eye(dim)
    target = pf.Target(lambda x: -0.5 * jnp.sum((matrix @ x) ** 2), jnp.zeros(dim))
    posterior = pf.fit_posterior(target, key=jr.key(0), seconds=1e-3)
    assert not posterior.diagnostics.finished and jnp.isfinite(posterior.sample(jr.key(1), 10)).all()


def test_another_fit_is_named_and_its_checkpoint_untouched(tmp_path):
    path = tmp_path / "checkpoint"
    fit(path, budget=1000)
    before = path.read_bytes()
    others = {
        "target": {"density": lambda x: banana(x) - 0.1 * x[0]},
        "key": {"key": 1},
        "budget": {"budget": 2000},
        "flow": {"flow": pf.flows.linear(2, key=jr.key(1))},
    }
    for name, other in others.items():
        with pytest.raises(ValueError, match=f"another fit, which differs in: {name}"):
            fit(path, **({"budget": 1000} | other))
    with pytest.raises(ValueError, match="another fit, which differs in: .*fit"):
        pf.train(pf.flows.linear(2, key=jr.key(1)), pf.ReverseKL(banana), key=jr.key(0), checkpoint=path)
    assert path.read_bytes() == before
