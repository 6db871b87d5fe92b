"""Larger posteriors as NumPyro models, in the plain way a user would write them, and their data."""

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.distributions import constraints

from benchmarks.posteriors.data import read_german_credit, read_json


class Case(NamedTuple):
    """A model, a function from the folder of the data to its arguments, and the log evidence where it is known."""

    model: Callable
    data: Callable[[Path], dict[str, Any]]
    log_evidence: float | None = None


def radon(county, floor, y, centered, num_counties):
    sigma_y, sigma_a, sigma_b = (numpyro.sample(f"sigma_{n}", dist.HalfNormal(1)) for n in "yab")
    mu_a, mu_b = (numpyro.sample(f"mu_{n}", dist.Normal(0, 10)) for n in "ab")
    with numpyro.plate("counties", num_counties):
        if centered:
            a, b = numpyro.sample("a", dist.Normal(mu_a, sigma_a)), numpyro.sample("b", dist.Normal(mu_b, sigma_b))
        else:
            a = mu_a + sigma_a * numpyro.sample("a", dist.Normal(0, 1))
            b = mu_b + sigma_b * numpyro.sample("b", dist.Normal(0, 1))
    numpyro.sample("y", dist.Normal(a[county] + floor * b[county], sigma_y), obs=y)


def radon_data(folder: Path, centered: bool) -> dict[str, Any]:
    found = read_json(folder / "larger" / "radon_mn.json")
    county = found["county_idx"].astype(int) - 1
    return {"county": county, "floor": found["floor_measure"], "y": found["log_radon"]} | {
        "centered": centered,
        "num_counties": int(found["J"]),
    }


def irt_2pl(y):
    sigma_theta, sigma_a, sigma_b = (numpyro.sample(f"sigma_{n}", dist.HalfCauchy(2)) for n in ("theta", "a", "b"))
    mu_b = numpyro.sample("mu_b", dist.Normal(0, 5))
    with numpyro.plate("persons", y.shape[1]):
        theta = numpyro.sample("theta", dist.Normal(0, sigma_theta))
    with numpyro.plate("items", y.shape[0]):
        a, b = numpyro.sample("a", dist.LogNormal(0, sigma_a)), numpyro.sample("b", dist.Normal(mu_b, sigma_b))
    numpyro.sample("y", dist.Bernoulli(logits=a[:, None] * (theta - b[:, None])), obs=y)


def glmm_poisson(year, counts):
    alpha = numpyro.sample("alpha", dist.Uniform(-20, 20))
    slopes = [numpyro.sample(f"beta{k}", dist.Uniform(-10, 20 if k == 2 else 10)) for k in (1, 2, 3)]
    sigma = numpyro.sample("sigma", dist.Uniform(0, 5))
    noise = numpyro.sample("noise", dist.Normal(0, sigma).expand([len(year)]).to_event(1))
    log_rate = alpha + sum(slope * year ** (k + 1) for k, slope in enumerate(slopes)) + noise
    numpyro.sample("counts", dist.Poisson(jnp.exp(log_rate)), obs=counts)


def glmm_poisson_data(folder: Path) -> dict[str, Any]:
    found = read_json(folder / "larger" / "GLMM_Poisson_data.json")
    return {"year": found["year"], "counts": found["C"]}


def lsat(answers):
    alpha = numpyro.sample("alpha", dist.Normal(0, 100).expand([answers.shape[1]]).to_event(1))
    beta = numpyro.sample("beta", dist.HalfNormal(100))
    theta = numpyro.sample("theta", dist.Normal(0, 1).expand([len(answers)]).to_event(1))
    numpyro.sample("answers", dist.Bernoulli(logits=beta * theta[:, None] - alpha), obs=answers)


def lsat_data(folder: Path) -> dict[str, Any]:
    found = read_json(folder / "larger" / "lsat_data.json")
    return {"answers": np.repeat(found["response"], np.diff(found["culm"], prepend=0).astype(int), axis=0)}


def mcycle_gp(y, x, x_sigma, slopes, slopes_sigma):
    means = []
    for name, basis, frequencies, center in (("", x, slopes, -13.0), ("_sigma", x_sigma, slopes_sigma, 0.0)):
        intercept = numpyro.sample(f"intercept{name}", dist.StudentT(3, center, 10.0 if name else 36.0))
        scale = numpyro.sample(f"sd{name}", dist.FoldedDistribution(dist.StudentT(3, 0, 10.0 if name else 36.0)))
        length = numpyro.sample(f"length{name}", dist.InverseGamma(1.124909, 0.0177))
        z = numpyro.sample(f"z{name}", dist.Normal(0, 1).expand([len(frequencies)]).to_event(1))
        spectrum = scale * jnp.sqrt(jnp.sqrt(2 * jnp.pi) * length) * jnp.exp(-0.25 * length**2 * frequencies**2)
        means.append(intercept + basis @ (spectrum * z))
    numpyro.sample("y", dist.Normal(means[0], jnp.exp(means[1])), obs=y)


def mcycle_gp_data(folder: Path) -> dict[str, Any]:
    found = read_json(folder / "larger" / "mcycle_gp.json")
    return {"y": found["Y"], "x": found["Xgp_1"], "x_sigma": found["Xgp_sigma_1"]} | {
        "slopes": found["slambda_1"][:, 0],
        "slopes_sigma": found["slambda_sigma_1"][:, 0],
    }


def logistic(x, y, scale):
    w = numpyro.sample("w", dist.Normal(0, scale).expand([x.shape[1]]).to_event(1))
    numpyro.sample("y", dist.Bernoulli(logits=x @ w), obs=y)


def sampling_data(folder: Path, name: str) -> dict[str, Any]:
    found = np.load(folder / "larger" / "sampling_targets.npz")
    x = found[f"{name}_x"] - found[f"{name}_x"].mean(0)
    spread = x.std(0)
    x = x / np.where(spread > 0, spread, 1)
    return {"x": np.column_stack([np.ones(len(x)), x]), "y": found[f"{name}_y"], "scale": 1.0}


def credit_data(folder: Path) -> dict[str, Any]:
    return read_german_credit(folder / "blessing")[0] | {"scale": 10.0}


def log_gaussian_cox(counts, covariance):
    size = counts.size
    f = numpyro.sample("f", dist.MultivariateNormal(jnp.full(size, jnp.log(126) - 1.91 / 2), covariance))
    numpyro.factor("pines", jnp.sum(counts * f - jnp.exp(f) / size))


def log_gaussian_cox_data(folder: Path, side: int = 40) -> dict[str, Any]:
    pines = np.load(folder / "larger" / "sampling_targets.npz")["pines"]
    counts = np.histogram2d(*pines.T, bins=side, range=[[0, 1], [0, 1]])[0].ravel()
    cells = np.stack(np.meshgrid(*[np.arange(side)] * 2, indexing="ij"), -1).reshape(-1, 2)
    distances = np.linalg.norm(cells[:, None] - cells, axis=-1)
    return {"counts": counts, "covariance": 1.91 * np.exp(-33 * distances / side)}


def funnel(dim):
    v = numpyro.sample("v", dist.Normal(0, 3))
    numpyro.sample("x", dist.Normal(0, jnp.exp(v / 2)).expand([dim - 1]).to_event(1))


def many_well(dim):
    x, y = (numpyro.sample(n, dist.ImproperUniform(constraints.real, (), (dim // 2,))) for n in "xy")
    numpyro.factor("wells", jnp.sum(-(x**4) + 6 * x**2 + x / 2 - y**2 / 2))


def horseshoe(x, y):
    tau = numpyro.sample("tau", dist.HalfCauchy(0.1))
    local = numpyro.sample("lambda", dist.HalfCauchy(1).expand([x.shape[1]]).to_event(1))
    z = numpyro.sample("z", dist.Normal(0, 1).expand([x.shape[1]]).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(2))
    numpyro.sample("y", dist.Normal(x @ (z * local * tau), sigma), obs=y)


def horseshoe_data(folder: Path) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(100, 50)), np.zeros(50)
    w[:5] = 2, -1.5, 1, 3, -2
    return {"x": x, "y": x @ w + rng.normal(size=100)}


def stochastic_volatility(y):
    sigma, nu = numpyro.sample("sigma", dist.Exponential(10)), numpyro.sample("nu", dist.Exponential(0.1))
    x = numpyro.sample("x", dist.GaussianRandomWalk(sigma, len(y)))
    numpyro.sample("y", dist.StudentT(nu, 0, jnp.exp(x / 2)).to_event(1), obs=y)


def stochastic_volatility_data(folder: Path, num: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    x = np.cumsum(0.15 * rng.normal(size=num))
    return {"y": np.exp(x / 2) * rng.standard_t(8, size=num)}


@cache
def cases() -> dict[str, Case]:
    """All cases by name."""
    return {
        "radon_centered": Case(radon, partial(radon_data, centered=True)),
        "radon_noncentered": Case(radon, partial(radon_data, centered=False)),
        "irt_2pl": Case(irt_2pl, lambda folder: {"y": read_json(folder / "larger" / "irt_2pl.json")["y"]}),
        "glmm_poisson": Case(glmm_poisson, glmm_poisson_data),
        "mcycle_gp": Case(mcycle_gp, mcycle_gp_data),
        "horseshoe": Case(horseshoe, horseshoe_data),
        "sv_100": Case(stochastic_volatility, partial(stochastic_volatility_data, num=100)),
        "sv_500": Case(stochastic_volatility, partial(stochastic_volatility_data, num=500)),
        "lsat": Case(lsat, lsat_data),
        "lgcp": Case(log_gaussian_cox, log_gaussian_cox_data, 501.77),
        "sonar": Case(logistic, partial(sampling_data, name="sonar"), -108.40),
        "ionosphere": Case(logistic, partial(sampling_data, name="ionosphere"), -111.61),
        "credit": Case(logistic, credit_data, -585.094),
        "funnel_10": Case(funnel, lambda folder: {"dim": 10}, 0.0),
        "funnel_101": Case(funnel, lambda folder: {"dim": 101}, 0.0),
        "many_well": Case(many_well, lambda folder: {"dim": 32}, 164.6957),
    }
