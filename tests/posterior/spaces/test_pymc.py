"""PyMC models as targets."""

import os

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy import special, stats

import pushforward as pf
from products import few
from pushforward.posterior.arviz import to_arviz
from pushforward.posterior.spaces.base import UnavailablePrediction
from pushforward.posterior.spaces.pymc import erfcx
from pushforward.posterior.spaces.pymc_preparation import prepared
from pymc_cases import DISTRIBUTIONS, OTHERS

pm = pytest.importorskip("pymc", reason="PyMC is not installed")

Y = np.array([2.8, 0.8, -0.3, 0.7, -0.1, 0.1, 1.8, 1.2])


def build(saveable):
    with pm.Model(coords={"school": list("abcdefgh")}) as model:
        mu = pm.Normal("mu", 0, 5)
        tau = pm.HalfNormal("tau", 5)
        share = pm.Beta("share", 2, 3)
        low = pm.Uniform("low", -1, 3)
        top = pm.TruncatedNormal("top", 0, 1, upper=2)
        pm.Normal("cuts", 0, 1, shape=3, transform=pm.distributions.transforms.ordered, initval=[-1, 0, 1])
        if not saveable:
            pm.Dirichlet("w", np.ones(3))
            pm.Uniform("between", low - 1, 4)
        t = pm.Normal("t", 0, 1, dims="school")
        theta = pm.Deterministic("theta", mu + tau * t, dims="school")
        pm.Normal("y", theta * share + low + top, 1.5, observed=Y, dims="school")
    return model


def test_density_and_transforms_are_pymcs():
    model = build(saveable=False)
    target = pf.Target.from_pymc(model)
    # PyMC would let this process, and those that it starts, have 100 devices.
    assert "device_count" not in os.environ.get("XLA_FLAGS", "")
    outputs = [model.logp(), model.logp(jacobian=False), *model.replace_rvs_by_values(model.unobserved_value_vars)]
    compiled = model.compile_fn(outputs, inputs=model.value_vars, point_fn=False, mode="FAST_COMPILE")
    names = [v.name for v in model.value_vars]
    for key in jr.split(jr.key(0), 3):
        u = jr.normal(key, (target.dim,))
        z = target.unravel(u)
        point = {model.rvs_to_values[rv].name: np.asarray(z[rv.name]) for rv in model.free_RVs}
        log_density, constrained, *values = compiled(*[point[n] for n in names])
        np.testing.assert_allclose(target(u), log_density, rtol=1e-10)
        np.testing.assert_allclose(target.log_volume(u), log_density - constrained, rtol=1e-8)
        draw = target.constrain(u)
        expected = dict(zip([v.name for v in model.unobserved_value_vars], values, strict=True))
        for name, value in draw.items():
            np.testing.assert_allclose(value, expected[name], rtol=1e-10, err_msg=name)
        np.testing.assert_allclose(target.unconstrain(draw), u, atol=1e-7)
        assert np.isfinite(jax.grad(target)(u)).all()
    with pytest.raises(ValueError, match="the supports of w, between"):
        target.detached()


def test_saved_without_the_model():
    target = pf.Target.from_pymc(build(saveable=True))
    detached = target.detached()
    for u in jr.normal(jr.key(0), (3, target.dim)):
        draw, expected = detached.constrain(u), target.constrain(u)
        for name in draw:
            np.testing.assert_allclose(draw[name], expected[name], rtol=1e-10, err_msg=name)


def test_fit_of_a_model(tmp_path):
    with pm.Model(coords={"group": ["a", "b"]}) as model:
        mean = pm.Normal("mean", 0, 2, dims="group")
        pm.Normal("y", mean, 0.5, observed=np.array([[1.0, -1.0], [2.0, -2.0], [1.5, -1.5]]))
    posterior = pf.fit_posterior(pf.Target.from_pymc(model), key=jr.key(0), budget=200_000)
    assert posterior.diagnostics.verdict == "good"
    precision = 1 / 4 + 3 / 0.25
    exact = jnp.array([1.5, -1.5]) * (3 / 0.25) / precision
    np.testing.assert_allclose(posterior.sample(jr.key(1), 20_000)["mean"].mean(0), exact, atol=0.02)
    data = posterior.to_arviz()
    assert data["posterior"]["mean"].dims == ("chain", "draw", "group")
    assert [*data["posterior"]["group"].values] == ["a", "b"]
    posterior.save(tmp_path / "posterior")
    assert pf.load(tmp_path / "posterior").sample(jr.key(1), 3)["mean"].shape == (3, 2)


def test_potentials_data_and_custom_distributions():
    with pm.Model(coords={"row": range(3)}) as model:
        x = pm.Data("x", np.arange(3.0), dims="row")
        a = pm.Normal("a")
        pm.Potential("p", -(a**4))
        pm.CustomDist("y", a * x, logp=lambda value, mean: -abs(value - mean), observed=np.ones(3))
    target = pf.Target.from_pymc(model)
    expected = model.compile_logp()({"a": np.asarray(0.7)})
    assert float(target(jnp.array([0.7]))) == pytest.approx(float(expected))


def test_log_volume_where_the_density_is_zero():
    with pm.Model() as model:
        s = pm.HalfNormal("s")
        pm.Uniform("x", 0, s)
        pm.Potential("p", pm.math.switch(s < 1, 0.0, -np.inf))
    target = pf.Target.from_pymc(model)
    u = jnp.array([0.7, 0.2])  # of s and x
    assert target(u) == -np.inf
    slope = jax.grad(lambda v: target.constrain(u.at[1].set(v))["x"])(u[1])
    assert target.log_volume(u) == pytest.approx(float(u[0] + jnp.log(slope)))


def test_censored_variables():
    """Their density has erfcx, and its second derivatives."""
    y = np.array([-0.5, 0.2, 1.0, 2.0])
    with pm.Model() as model:
        pm.Censored("y", pm.Normal.dist(pm.Normal("m"), 1.0), lower=-0.5, upper=2.0, observed=y)
    target = pf.Target.from_pymc(model)

    def exact(m):
        inner = stats.norm.logpdf(y[1:3], m).sum()
        return stats.norm.logpdf(m) + inner + stats.norm.logcdf(-0.5, m) + stats.norm.logsf(2.0, m)

    for m in (-3.0, 0.3, 5.0):
        np.testing.assert_allclose(target(jnp.array([m])), exact(m), rtol=1e-7)  # as exact as PyMC
        second = (exact(m + 1e-3) - 2 * exact(m) + exact(m - 1e-3)) / 1e-6
        np.testing.assert_allclose(jax.hessian(target)(jnp.array([m]))[0, 0], second, rtol=2e-2)


def test_erfcx():
    x = np.concatenate([np.linspace(-5, 40, 2001), [1e3, 1e8]])
    np.testing.assert_allclose(erfcx(jnp.asarray(x)), special.erfcx(x), rtol=1e-13)
    slope = jax.vmap(jax.grad(erfcx))(jnp.asarray(x[:-2]))
    np.testing.assert_allclose(slope, 2 * x[:-2] * special.erfcx(x[:-2]) - 2 / np.sqrt(np.pi), rtol=1e-9, atol=1e-12)


def test_log_likelihoods_are_those_of_each_observation():
    with pm.Model(coords={"school": list("abcdefgh")}) as model:
        mu, tau = pm.Normal("mu", 0, 5), pm.HalfNormal("tau", 5)
        pm.Normal("y", mu, tau, observed=Y, dims="school")
        pm.Poisson("count", tau, observed=pm.Data("counts", [3, 0]))
        pm.Normal("missing", mu, 1.0, observed=np.ma.masked_invalid([1.0, np.nan]))
    space = pf.Target.from_pymc(model).space
    draw = {"mu": jnp.array(0.7), "tau": jnp.array(1.3), "missing_unobserved": jnp.array([0.2])}
    found = space.pointwise_log_likelihood(draw)
    assert set(found) == set(space.observed()) == {"y", "count", "missing_observed"}
    np.testing.assert_allclose(found["y"], stats.norm(0.7, 1.3).logpdf(Y), rtol=1e-10)
    np.testing.assert_allclose(found["count"], stats.poisson(1.3).logpmf([3, 0]), rtol=1e-10)
    np.testing.assert_allclose(found["missing_observed"], stats.norm(0.7, 1).logpdf([1.0]), rtol=1e-10)
    np.testing.assert_array_equal(space.observed()["count"], [3, 0])
    with pytest.raises(UnavailablePrediction, match="pymc.sample_posterior_predictive"):
        space.replicate(draw, jr.key(0))
    data = to_arviz(
        pf.Target.from_pymc(model), {n: a[None, None] for n, a in draw.items()}, {}, None, log_likelihood=True
    )
    assert data["log_likelihood"]["y"].dims[-1] == "school" and data["observed_data"]["y"].shape == (8,)


def test_data_are_those_at_construction():
    with pm.Model() as model:
        x, y = pm.Data("x", np.arange(3.0)), pm.Data("y_data", np.array([0.1, 1.2, 1.9]))
        b = pm.Normal("b")
        pm.Normal("y", b * x, 1.0, observed=y)
        pm.Normal("twice", b, 1.0, observed=2 * y)
    target = pf.Target.from_pymc(model)
    before = target(jnp.ones(1))
    with model:
        pm.set_data({"x": 10 * np.arange(4.0), "y_data": np.full(4, 50.0)})
    assert target(jnp.ones(1)) == before
    observed = target.space.observed()
    np.testing.assert_allclose(observed["y"], [0.1, 1.2, 1.9])
    np.testing.assert_allclose(observed["twice"], [0.2, 2.4, 3.8])
    found = target.space.pointwise_log_likelihood({"b": jnp.array(1.0)})
    np.testing.assert_allclose(found["y"], stats.norm.logpdf([0.1, 0.2, -0.1]), rtol=1e-10)
    np.testing.assert_allclose(found["twice"], stats.norm(1).logpdf([0.2, 2.4, 3.8]), rtol=1e-10)


def test_without_observations_there_are_no_log_likelihoods():
    with pm.Model() as model:
        pm.Normal("x", 0, 1)
    space = pf.Target.from_pymc(model).space
    with pytest.raises(UnavailablePrediction, match="no observations"):
        space.pointwise_log_likelihood({"x": jnp.zeros(())})


def with_distribution(case, *, prior, likelihood):
    with pm.Model() as model:
        t = pm.Normal("t")
        if prior:
            case.make(pm, t, name="x")
        if likelihood and case.value is not None:
            case.make(pm, t, name="y", observed=np.asarray(case.value))
    return model


def test_all_distributions_are_listed():
    assert set(DISTRIBUTIONS) == set(pm.distributions.__all__) - OTHERS


@pytest.mark.filterwarnings("ignore:The Wishart distribution")
@pytest.mark.parametrize("name", few(DISTRIBUTIONS, "GARCH11", "LKJCholeskyCov", "Poisson", "Simulator", "Wishart"))
def test_distributions_are_priors_and_likelihoods(name):
    """The density is PyMC's, and its gradient is finite."""
    case = DISTRIBUTIONS[name]
    for words, chosen in ((case.refused, "prior"), (case.unobserved, "likelihood")):
        if words is not None:
            with pytest.raises(ValueError, match=words):
                pf.Target.from_pymc(with_distribution(case, **{"prior": False, "likelihood": False, chosen: True}))
    model = prepared(with_distribution(case, prior=case.refused is None, likelihood=case.unobserved is None))
    target = pf.Target.from_pymc(model)
    u = jnp.linspace(-0.4, 0.7, target.dim)
    value, gradient = jax.jit(jax.value_and_grad(target))(u)
    z = target.unravel(u)
    point = {model.rvs_to_values[rv].name: np.asarray(z[rv.name]) for rv in model.free_RVs}
    outputs = [model.logp(), model.logp(jacobian=False)]
    densities = model.compile_fn(outputs, inputs=model.value_vars, point_fn=False, mode="FAST_COMPILE")
    log_density, constrained = densities(*[point[v.name] for v in model.value_vars])
    np.testing.assert_allclose(value, log_density, rtol=1e-7)
    np.testing.assert_allclose(target.log_volume(u), log_density - constrained, rtol=1e-7, atol=1e-9)
    assert np.isfinite(gradient).all()
    np.testing.assert_allclose(target.unconstrain(target.constrain(u)), u, atol=1e-6)
