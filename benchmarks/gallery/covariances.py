"""Covariances, counts and games in NumPyro: each function makes data and returns a model with its arguments."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist

from benchmarks.gallery.registry import example


@example("NumPyro: covariance matrix with an LKJ prior")
def lkj_covariance(rng):
    y = rng.multivariate_normal([0, 1, 2], [[1, 0.5, 0], [0.5, 2, -0.3], [0, -0.3, 0.5]], 50)

    def model(y):
        loc = numpyro.sample("loc", dist.Normal(0, 3).expand([3]).to_event(1))
        scale = numpyro.sample("scale", dist.HalfCauchy(2).expand([3]).to_event(1))
        root = numpyro.sample("root", dist.LKJCholesky(3, 1.0))
        with numpyro.plate("rows", len(y)):
            numpyro.sample("y", dist.MultivariateNormal(loc, scale_tril=scale[:, None] * root), obs=y)

    return model, {"y": y}


@example("NumPyro: precision matrix with a Wishart prior")
def wishart_precision(rng):
    y = rng.multivariate_normal([0, 0], [[1, 0.6], [0.6, 2]], 40)

    def model(y):
        precision = numpyro.sample("precision", dist.Wishart(4.0, scale_matrix=jnp.eye(2)))
        with numpyro.plate("rows", len(y)):
            numpyro.sample("y", dist.MultivariateNormal(jnp.zeros(2), precision_matrix=precision), obs=y)

    return model, {"y": y}


@example("NumPyro: copula of two margins")
def copula(rng):
    z = rng.multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]], 80)
    y = np.column_stack([np.exp(0.5 * z[:, 0]), np.exp(1 + 0.8 * z[:, 1])])

    def model(y):
        shape = numpyro.sample("shape", dist.LogNormal(0, 1).expand([2]).to_event(1))
        rate = numpyro.sample("rate", dist.LogNormal(0, 1).expand([2]).to_event(1))
        root = numpyro.sample("root", dist.LKJCholesky(2, 1.0))
        margins = dist.Weibull(rate, shape)
        with numpyro.plate("rows", len(y)):
            numpyro.sample("y", dist.GaussianCopula(margins, correlation_cholesky=root), obs=y)

    return model, {"y": y}


@example("NumPyro: factor analysis, loadings below the diagonal")
def factor_analysis(rng):
    loadings = np.array([[1, 0], [0.7, 0.9], [-0.6, 0.5], [0.4, -0.8], [0.9, 0.2]])
    y = rng.normal(size=(80, 2)) @ loadings.T + 0.5 * rng.normal(size=(80, 5))

    def model(y):
        diagonal = numpyro.sample("diagonal", dist.HalfNormal(1).expand([2]).to_event(1))
        below = numpyro.sample("below", dist.Normal(0, 1).expand([7]).to_event(1))
        noise = numpyro.sample("noise", dist.HalfNormal(1).expand([5]).to_event(1))
        loadings = jnp.zeros((5, 2)).at[jnp.arange(2), jnp.arange(2)].set(diagonal)
        loadings = loadings.at[jnp.array([1, 2, 3, 4, 2, 3, 4]), jnp.array([0, 0, 0, 0, 1, 1, 1])].set(below)
        with numpyro.plate("rows", len(y)):
            numpyro.sample("y", dist.LowRankMultivariateNormal(jnp.zeros(5), loadings, noise**2), obs=y)

    return model, {"y": y}


@example("NumPyro: matrix factorization (invariant under rotations)")
def matrix_factorization(rng):
    ratings = rng.normal(size=(5, 2)) @ rng.normal(size=(2, 4)) + 0.3 * rng.normal(size=(5, 4))

    def model(ratings):
        users = numpyro.sample("users", dist.Normal(0, 1).expand([5, 2]).to_event(2))
        films = numpyro.sample("films", dist.Normal(0, 1).expand([2, 4]).to_event(2))
        numpyro.sample("ratings", dist.Normal(users @ films, 0.5), obs=ratings)

    return model, {"ratings": ratings}


@example("NumPyro: Dirichlet-multinomial counts")
def dirichlet_multinomial(rng):
    counts = np.array([rng.multinomial(30, p) for p in rng.dirichlet([4, 2, 3], 15)])

    def model(counts):
        p = numpyro.sample("p", dist.Dirichlet(jnp.ones(3)))
        size = numpyro.sample("size", dist.LogNormal(1, 1))
        with numpyro.plate("rows", len(counts)):
            numpyro.sample("counts", dist.DirichletMultinomial(size * p, total_count=30), obs=counts)

    return model, {"counts": counts}


@example("NumPyro: paired comparisons of players (Bradley-Terry)")
def bradley_terry(rng):
    skill = rng.normal(size=8)
    pairs = np.array([rng.choice(8, 2, replace=False) for _ in range(120)])
    won = rng.random(120) < 1 / (1 + np.exp(skill[pairs[:, 1]] - skill[pairs[:, 0]]))

    def model(pairs, won):
        spread = numpyro.sample("spread", dist.HalfNormal(1))
        with numpyro.plate("players", 8):
            skill = numpyro.sample("skill", dist.Normal(0, spread))
        logits = skill[pairs[:, 0]] - skill[pairs[:, 1]]
        numpyro.sample("won", dist.Bernoulli(logits=logits), obs=won)

    return model, {"pairs": pairs, "won": won.astype(int)}


@example("NumPyro: beta-binomial over-dispersion")
def beta_binomial(rng):
    y = rng.binomial(20, rng.beta(3, 5, size=30))

    def model(y):
        a, b = numpyro.sample("a", dist.Gamma(2, 0.3)), numpyro.sample("b", dist.Gamma(2, 0.3))
        numpyro.sample("y", dist.BetaBinomial(a, b, total_count=20), obs=y)

    return model, {"y": y}


@example("NumPyro: doubly truncated power law")
def power_law(rng):
    u = rng.random(100)
    y = (1 + u * (10.0**-0.5 - 1)) ** -2.0

    def model(y):
        exponent = numpyro.sample("exponent", dist.Normal(-2, 1))
        numpyro.sample("y", dist.DoublyTruncatedPowerLaw(exponent, 1.0, 10.0), obs=y)

    return model, {"y": np.clip(y, 1.001, 9.99)}


@example("NumPyro: times until failure, Weibull with censoring")
def weibull_survival(rng):
    x = rng.normal(size=90)
    times = rng.weibull(1.5, size=90) * np.exp(1 - 0.5 * x)

    def model(x, times, observed):
        shape, level = numpyro.sample("shape", dist.LogNormal(0, 1)), numpyro.sample("level", dist.Normal(0, 2))
        slope = numpyro.sample("slope", dist.Normal(0, 1))
        hazard = (times / jnp.exp(level + slope * x)) ** shape
        density = jnp.log(shape) + jnp.log(hazard) - jnp.log(times)
        numpyro.factor("times", jnp.sum(jnp.where(observed, density, 0.0) - hazard))

    return model, {"x": x, "times": np.minimum(times, 4.0), "observed": times < 4}


@example("NumPyro: gamma failure times with censoring (incomplete gamma function)")
def gamma_survival(rng):
    times = rng.gamma(2, 1.5, size=60)

    def model(times, observed):
        shape, rate = numpyro.sample("shape", dist.LogNormal(0, 1)), numpyro.sample("rate", dist.LogNormal(0, 1))
        survival = jnp.log(jax.scipy.special.gammaincc(shape, rate * times))
        numpyro.factor("times", jnp.sum(jnp.where(observed, dist.Gamma(shape, rate).log_prob(times), survival)))

    return model, {"times": np.minimum(times, 5.0), "observed": times < 5}
