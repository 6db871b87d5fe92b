"""Hierarchical models in NumPyro: each function makes data and returns a model with its arguments."""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.infer.reparam import LocScaleReparam

from benchmarks.gallery.registry import example

EFFECTS = np.array([28.0, 8, -3, 7, -1, 1, 18, 12])
ERRORS = np.array([15.0, 10, 16, 11, 9, 11, 10, 18])


def schools(effects, errors):
    mean = numpyro.sample("mean", dist.Normal(0, 5))
    spread = numpyro.sample("spread", dist.HalfCauchy(5))
    with numpyro.plate("schools", len(effects)):
        effect = numpyro.sample("effect", dist.Normal(mean, spread))
        numpyro.sample("y", dist.Normal(effect, errors), obs=effects)


@example("NumPyro: eight schools, centered")
def eight_schools_centered(rng):
    return schools, {"effects": EFFECTS, "errors": ERRORS}


@example("NumPyro: eight schools, reparametrized by a handler")
def eight_schools_reparam(rng):
    config = {"effect": LocScaleReparam(centered=0)}
    return numpyro.handlers.reparam(schools, config=config), {"effects": EFFECTS, "errors": ERRORS}


@example("NumPyro: Neal's funnel")
def funnel(rng):
    def model(size):
        log_scale = numpyro.sample("log_scale", dist.Normal(0, 3))
        numpyro.sample("x", dist.Normal(0, jnp.exp(log_scale / 2)).expand([size]).to_event(1))

    return model, {"size": 5}


@example("NumPyro: baseball, partial pooling")
def baseball(rng):
    hits = rng.binomial(45, rng.beta(80, 220, size=12))

    def model(at_bats, hits):
        center = numpyro.sample("center", dist.Uniform(0, 1))
        concentration = numpyro.sample("concentration", dist.Pareto(1, 1.5))
        with numpyro.plate("players", len(hits)):
            chance = numpyro.sample("chance", dist.Beta(center * concentration, (1 - center) * concentration))
            numpyro.sample("hits", dist.Binomial(at_bats, chance), obs=hits)

    return model, {"at_bats": 45, "hits": hits}


@example("NumPyro: baseball, logits with a normal population")
def baseball_logits(rng):
    hits = rng.binomial(45, rng.beta(80, 220, size=12))

    def model(at_bats, hits):
        center, spread = numpyro.sample("center", dist.Normal(-1, 1)), numpyro.sample("spread", dist.HalfCauchy(1))
        with numpyro.plate("players", len(hits)):
            logit = center + spread * numpyro.sample("z", dist.Normal(0, 1))
            numpyro.sample("hits", dist.Binomial(at_bats, logits=logit), obs=hits)

    return model, {"at_bats": 45, "hits": hits}


@example("NumPyro: hierarchical linear regression (lung function)")
def varying_slopes(rng):
    patients, times = np.repeat(np.arange(7), 8), np.tile(np.linspace(-1, 1, 8), 7)
    y = rng.normal(2, 0.7, 7)[patients] + rng.normal(-0.5, 0.4, 7)[patients] * times + 0.3 * rng.normal(size=56)

    def model(patients, times, y):
        centers = numpyro.sample("centers", dist.Normal(0, 2).expand([2]).to_event(1))
        spreads = numpyro.sample("spreads", dist.HalfNormal(1).expand([2]).to_event(1))
        with numpyro.plate("patients", 7):
            a = numpyro.sample("a", dist.Normal(centers[0], spreads[0]))
            b = numpyro.sample("b", dist.Normal(centers[1], spreads[1]))
        noise = numpyro.sample("noise", dist.HalfNormal(1))
        with numpyro.plate("rows", len(y)):
            numpyro.sample("y", dist.Normal(a[patients] + b[patients] * times, noise), obs=y)

    return model, {"patients": patients, "times": times, "y": y}


@example("NumPyro: correlated intercepts and slopes (admissions), with an LKJ prior")
def correlated_slopes(rng):
    groups, x = np.repeat(np.arange(8), 12), np.tile([0.0, 1.0], 48)
    effects = rng.multivariate_normal([0.3, -0.6], [[0.5, -0.2], [-0.2, 0.3]], 8)
    y = rng.random(96) < 1 / (1 + np.exp(-(effects[groups, 0] + effects[groups, 1] * x)))

    def model(groups, x, y):
        centers = numpyro.sample("centers", dist.Normal(0, 1).expand([2]).to_event(1))
        spreads = numpyro.sample("spreads", dist.HalfNormal(1).expand([2]).to_event(1))
        root = numpyro.sample("root", dist.LKJCholesky(2, 2.0))
        with numpyro.plate("groups", 8):
            effect = numpyro.sample("effect", dist.MultivariateNormal(centers, scale_tril=spreads[:, None] * root))
        logits = effect[groups, 0] + effect[groups, 1] * x
        numpyro.sample("y", dist.Bernoulli(logits=logits), obs=y)

    return model, {"groups": groups, "x": x, "y": y.astype(int)}


@example("NumPyro: item response")
def item_response(rng):
    ability, difficulty = rng.normal(size=14), rng.normal(size=6)
    y = rng.random((14, 6)) < 1 / (1 + np.exp(difficulty - ability[:, None]))

    def model(y):
        spread = numpyro.sample("spread", dist.HalfNormal(2))
        ability = numpyro.sample("ability", dist.Normal(0, 1).expand([y.shape[0]]).to_event(1))
        difficulty = numpyro.sample("difficulty", dist.Normal(0, spread).expand([y.shape[1]]).to_event(1))
        numpyro.sample("y", dist.Bernoulli(logits=ability[:, None] - difficulty), obs=y)

    return model, {"y": y.astype(int)}


@example("NumPyro: mortality in areas, with a conditional autoregression")
def area_rates(rng):
    near = np.zeros((9, 9))
    for i in range(9):
        for j in (i + 1, i + 3):
            if j < 9 and not (j == i + 1 and j % 3 == 0):
                near[i, j] = near[j, i] = 1
    deaths = rng.poisson(20 * np.exp(np.linspace(-0.5, 0.5, 9)))

    def model(near, deaths):
        overall = numpyro.sample("overall", dist.Normal(0, 1))
        correlation = numpyro.sample("correlation", dist.Uniform(0, 0.99))
        precision = numpyro.sample("precision", dist.Gamma(2, 0.2))
        area = numpyro.sample("area", dist.CAR(jnp.zeros(9), correlation, precision, jnp.asarray(near)))
        numpyro.sample("deaths", dist.Poisson(20 * jnp.exp(overall + area)).to_event(1), obs=deaths)

    return model, {"near": near, "deaths": deaths}
