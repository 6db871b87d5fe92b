"""Regressions in PyMC: each function makes data and returns a model."""

import numpy as np
import pymc as pm
import pytensor.tensor as pt

from benchmarks.gallery.registry import example


@example("PyMC: robust regression")
def pymc_robust(rng):
    x = np.linspace(0, 1, 50)
    y = 1 + 2 * x + 0.3 * rng.normal(size=50)
    y[::12] += 4
    with pm.Model() as model:
        a, b = pm.Normal("a", 0, 5), pm.Normal("b", 0, 5)
        pm.StudentT("y", nu=pm.Gamma("nu", 2, 0.1), mu=a + b * x, sigma=pm.HalfCauchy("scale", 2), observed=y)
    return model


@example("PyMC: Poisson regression with an interaction")
def pymc_poisson(rng):
    a, b = rng.integers(0, 2, (2, 200))
    y = rng.poisson(np.exp(0.5 + 1 * a - 0.4 * b + 0.5 * a * b))
    with pm.Model() as model:
        w = pm.Normal("w", 0, 2, shape=4)
        pm.Poisson("y", pt.exp(w[0] + w[1] * a + w[2] * b + w[3] * a * b), observed=y)
    return model


@example("PyMC: negative binomial regression")
def pymc_negative_binomial(rng):
    x = rng.normal(size=120)
    mean = np.exp(1 + 0.5 * x)
    y = rng.negative_binomial(2, 2 / (2 + mean))
    with pm.Model() as model:
        w = pm.Normal("w", 0, 2, shape=2)
        pm.NegativeBinomial("y", mu=pt.exp(w[0] + w[1] * x), alpha=pm.Exponential("alpha", 0.5), observed=y)
    return model


@example("PyMC: binomial regression")
def pymc_binomial(rng):
    x = np.linspace(-2, 2, 15)
    y = rng.binomial(20, 1 / (1 + np.exp(-1 - 1.5 * x)))
    with pm.Model(coords={"dose": np.arange(15)}) as model:
        doses = pm.Data("x", x, dims="dose")
        a, b = pm.Normal("a", 0, 2), pm.Normal("b", 0, 2)
        pm.Binomial("y", 20, logit_p=a + b * doses, observed=y, dims="dose")
    return model


@example("PyMC: ordinal outcomes")
def pymc_ordinal(rng):
    x = rng.normal(size=100)
    y = np.digitize(x + rng.logistic(size=100), [-1, 1])
    with pm.Model() as model:
        cuts = pm.Normal("cuts", 0, 2, shape=2, transform=pm.distributions.transforms.ordered, initval=[-1.0, 1.0])
        pm.OrderedLogistic("y", eta=pm.Normal("slope", 0, 2) * x, cutpoints=cuts, compute_p=False, observed=y)
    return model


@example("PyMC: regression with truncated and with censored outcomes")
def pymc_censored(rng):
    x = rng.normal(size=100)
    y = np.clip(1 + x + rng.normal(size=100), -0.5, 2.5)
    with pm.Model() as model:
        w, scale = pm.Normal("w", 0, 3, shape=2), pm.HalfNormal("scale", 2)
        pm.Censored("y", pm.Normal.dist(w[0] + w[1] * x, scale), lower=-0.5, upper=2.5, observed=y)
    return model


@example("PyMC: mediation analysis")
def pymc_mediation(rng):
    x = rng.normal(size=80)
    between = 0.5 * x + 0.4 * rng.normal(size=80)
    y = 0.2 * x + 0.8 * between + 0.5 * rng.normal(size=80)
    with pm.Model() as model:
        w, scales = pm.Normal("w", 0, 1, shape=5), pm.HalfNormal("scales", 1, shape=2)
        pm.Normal("between", w[0] + w[1] * x, scales[0], observed=between)
        pm.Normal("y", w[2] + w[3] * x + w[4] * between, scales[1], observed=y)
        pm.Deterministic("indirect", w[1] * w[4])
    return model


@example("PyMC: regression discontinuity")
def pymc_discontinuity(rng):
    x = rng.uniform(-1, 1, 70)
    y = x + 0.8 * (x > 0) + 0.4 * rng.normal(size=70)
    with pm.Model() as model:
        level, slope, jump = (pm.Normal(name, 0, 1) for name in ("level", "slope", "jump"))
        pm.Normal("y", level + slope * x + jump * (x > 0), pm.HalfNormal("scale", 1), observed=y)
    return model


@example("PyMC: Bayesian estimation of the difference of groups")
def pymc_two_groups(rng):
    groups = rng.normal(101, 4, 40), rng.normal(99, 3, 40)
    with pm.Model() as model:
        nu = 1 + pm.Exponential("nu", 1 / 29)
        loc, scale = pm.Normal("loc", 100, 10, shape=2), pm.Uniform("scale", 0.5, 20, shape=2)
        for i, y in enumerate(groups):
            pm.StudentT(f"y{i}", nu=nu, mu=loc[i], sigma=scale[i], observed=y)
        pm.Deterministic("difference", loc[0] - loc[1])
    return model


@example("PyMC: A/B test")
def pymc_ab_test(rng):
    with pm.Model() as model:
        rates = pm.Beta("rates", 2, 30, shape=2)
        pm.Binomial("visits", n=[500, 480], p=rates, observed=[31, 45])
        pm.Deterministic("uplift", rates[1] / rates[0] - 1)
    return model


@example("PyMC: splines")
def pymc_spline(rng):
    x, knots = np.linspace(0, 1, 60), np.linspace(0, 1, 7)
    basis = np.maximum(0, 1 - np.abs(x[:, None] - knots) * 6)
    with pm.Model() as model:
        w, scale = pm.Normal("w", 0, 2, shape=7), pm.Exponential("scale", 1)
        pm.Normal("y", pt.dot(basis, w), scale, observed=np.sin(6 * x) + 0.3 * rng.normal(size=60))
    return model


@example("PyMC: missing values of a predictor, imputed")
def pymc_missing(rng):
    x = np.ma.masked_array(rng.normal(size=50), mask=rng.random(50) < 0.2)
    y = 1 + 2 * x.data + 0.5 * rng.normal(size=50)
    with pm.Model() as model:
        center, spread = pm.Normal("center", 0, 1), pm.HalfNormal("spread", 1)
        filled = pm.Normal("x", center, spread, observed=x)
        a, b = pm.Normal("a", 0, 2), pm.Normal("b", 0, 2)
        pm.Normal("y", a + b * filled, pm.HalfNormal("scale", 1), observed=y)
    return model
