"""Which PyMC models are refused, and how they are changed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import pushforward as pf

pm = pytest.importorskip("pymc", reason="PyMC is not installed")


def test_random_densities_are_named():
    with pm.Model() as simulated:
        a = pm.Normal("a")
        pm.Simulator("sim", lambda rng, a, size: rng.normal(a, size=size), a, observed=np.zeros(3))
    with pytest.raises(ValueError, match=r"sim are a pm\.Simulator"):
        pf.Target.from_pymc(simulated)


@pytest.mark.parametrize(
    "add",
    [
        lambda a: pm.Potential("p", pm.Normal.dist(a, 1)),
        lambda a: pm.Deterministic("p", a + pm.Normal.dist()),
        lambda a: pm.Uniform("p", 0, pm.HalfNormal.dist()),
    ],
)
def test_variables_that_draw_random_numbers_are_named(add):
    with pm.Model() as model:
        add(pm.Normal("a"))
    with pytest.raises(ValueError, match="the variables p draw random numbers themselves"):
        pf.Target.from_pymc(model)


def test_bad_models():
    with pm.Model() as discrete:
        k = pm.Poisson("k", 3.0)
        pm.Normal("y", k, 1, observed=1.0)
    with pytest.raises(ValueError, match="k are discrete"):
        pf.Target.from_pymc(discrete)
    with pytest.raises(ValueError, match="nothing to infer"):
        pf.Target.from_pymc(pm.Model())
    with pytest.raises(TypeError, match=r"pymc\.Model, but is of type int"):
        pf.Target.from_pymc(3)


@pytest.mark.parametrize("mean", [2.5, 4.0])
def test_angles_are_in_an_interval(mean):
    """PyMC runs around the circle, where the density has no integral; the user's model stays as it is."""
    with pm.Model() as model:
        pm.VonMises("angle", mean, 2.0)
        pm.Normal("x", 0, 1, initval=0.5)
    transforms = dict(model.rvs_to_transforms)
    target = pf.Target.from_pymc(model)
    assert model.rvs_to_transforms == transforms and np.isfinite(target.start).all()
    u = jnp.stack([jnp.linspace(-30, 30, 4001), jnp.zeros(4001)], 1)  # of angle and x
    density = jnp.exp(jax.vmap(target)(u))
    assert float(jnp.trapezoid(density, u[:, 0])) == pytest.approx(stats.norm.pdf(0), rel=1e-5)
    draw = target.constrain(u[1900])
    assert -np.pi < draw["angle"] < np.pi
    log_p = target(u[1900]) - target.log_volume(u[1900])
    assert log_p == pytest.approx(stats.vonmises(2.0, mean).logpdf(draw["angle"]) + stats.norm.logpdf(0))
    np.testing.assert_allclose(target.detached().constrain(u[1900])["angle"], draw["angle"])
