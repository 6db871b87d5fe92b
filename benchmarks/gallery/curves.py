"""Curves and directions in NumPyro: each function makes data and returns a model with its arguments."""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist

from benchmarks.gallery.registry import example


def squares(x, z, variance, length):
    return variance * jnp.exp(-0.5 * ((x[:, None] - z) / length) ** 2)


def kernel_parameters():
    names = ("variance", "length", "noise")
    return (numpyro.sample(name, dist.LogNormal(loc, 1)) for name, loc in zip(names, (0.0, -1.0, -2.0), strict=True))


@example("NumPyro: Gaussian process regression")
def gaussian_process(rng):
    x = np.linspace(-1, 1, 30)

    def model(x, y):
        variance, length, noise = kernel_parameters()
        cov = squares(x, x, variance, length) + (noise + 1e-6) * jnp.eye(len(x))
        numpyro.sample("y", dist.MultivariateNormal(0.0, cov), obs=y)

    return model, {"x": x, "y": np.sin(3 * x) + 0.2 * rng.normal(size=30)}


@example("NumPyro: sparse Gaussian process with inducing points")
def sparse_process(rng):
    x = np.linspace(-1, 1, 80)

    def model(x, inducing, y):
        variance, length, noise = kernel_parameters()
        inner = squares(inducing, inducing, variance, length) + 1e-5 * jnp.eye(len(inducing))
        half = jnp.linalg.solve(jnp.linalg.cholesky(inner), squares(inducing, x, variance, length))
        rest = jnp.clip(variance - jnp.sum(half**2, 0), 0.0) + noise
        numpyro.sample("y", dist.LowRankMultivariateNormal(jnp.zeros(len(x)), half.T, rest), obs=y)

    data = {"x": x, "inducing": np.linspace(-1, 1, 6), "y": np.sin(3 * x) + 0.2 * rng.normal(size=80)}
    return model, data


@example("NumPyro: Gaussian process in a Hilbert space of sines")
def hilbert_process(rng):
    x = np.linspace(-1, 1, 40)
    frequencies = np.pi * np.arange(1, 9) / 3
    basis = np.sin(frequencies * (x[:, None] + 1.5)) / np.sqrt(1.5)

    def model(basis, frequencies, y):
        variance, length, noise = kernel_parameters()
        spectrum = jnp.sqrt(variance * length * jnp.sqrt(2 * jnp.pi)) * jnp.exp(-0.25 * (length * frequencies) ** 2)
        z = numpyro.sample("z", dist.Normal(0, 1).expand([len(frequencies)]).to_event(1))
        numpyro.sample("y", dist.Normal(basis @ (spectrum * z), noise), obs=y)

    return model, {"basis": basis, "frequencies": frequencies, "y": np.sin(3 * x) + 0.2 * rng.normal(size=40)}


@example("NumPyro: Cox process on a line")
def cox_process(rng):
    centers = np.linspace(0, 1, 20)
    counts = rng.poisson(5 * np.exp(np.sin(6 * centers)))

    def model(centers, counts):
        level, scale = numpyro.sample("level", dist.Normal(1, 1)), numpyro.sample("scale", dist.HalfNormal(1))
        root = jnp.linalg.cholesky(squares(centers, centers, 1.0, 0.2) + 1e-4 * jnp.eye(len(centers)))
        z = numpyro.sample("z", dist.Normal(0, 1).expand([len(centers)]).to_event(1))
        numpyro.sample("counts", dist.Poisson(jnp.exp(level + scale * root @ z)).to_event(1), obs=counts)

    return model, {"centers": centers, "counts": counts}


@example("NumPyro: spline of hat functions with a smoothness prior")
def spline(rng):
    x, knots = np.linspace(0, 1, 60), np.linspace(0, 1, 8)
    basis = np.maximum(0, 1 - np.abs(x[:, None] - knots) * 7)

    def model(basis, y):
        start, step = numpyro.sample("start", dist.Normal(0, 2)), numpyro.sample("step", dist.HalfNormal(1))
        z = numpyro.sample("z", dist.Normal(0, 1).expand([basis.shape[1] - 1]).to_event(1))
        noise = numpyro.sample("noise", dist.HalfNormal(1))
        heights = start + jnp.concatenate([jnp.zeros(1), jnp.cumsum(step * z)])
        numpyro.sample("y", dist.Normal(basis @ heights, noise), obs=y)

    return model, {"basis": basis, "y": np.cos(5 * x) + 0.3 * rng.normal(size=60)}


@example("NumPyro: directions, a von Mises regression")
def circular(rng):
    x = rng.normal(size=80)
    angles = (1 + 2 * np.arctan(0.7 * x) + rng.vonmises(0, 3, 80) + np.pi) % (2 * np.pi) - np.pi

    def model(x, angles):
        center = numpyro.sample("center", dist.Uniform(-jnp.pi, jnp.pi))
        slope = numpyro.sample("slope", dist.Normal(0, 1))
        concentration = numpyro.sample("concentration", dist.Gamma(2, 0.5))
        numpyro.sample("angles", dist.VonMises(center + 2 * jnp.arctan(slope * x), concentration), obs=angles)

    return model, {"x": x, "angles": angles}


@example("NumPyro: torsion angles, a sine bivariate von Mises distribution")
def torsion_angles(rng):
    pairs = np.column_stack([rng.vonmises(0.5, 4, 100), rng.vonmises(-1, 3, 100)])

    def model(pairs):
        loc = [numpyro.sample(f"loc{i}", dist.VonMises(0, 0.1)) for i in (0, 1)]
        concentrations = [numpyro.sample(f"concentration{i}", dist.Gamma(2, 0.5)) for i in (0, 1)]
        weight = numpyro.sample("weight", dist.Uniform(-0.95, 0.95))
        sine = dist.SineBivariateVonMises(*loc, *concentrations, weighted_correlation=weight)
        with numpyro.plate("rows", len(pairs)):
            numpyro.sample("pairs", sine, obs=pairs)

    return model, {"pairs": pairs}
