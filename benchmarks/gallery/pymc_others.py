"""Other models in PyMC: each function makes data and returns a model."""

import numpy as np
import pymc as pm
import pytensor.tensor as pt

from benchmarks.gallery.registry import example


@example("PyMC: hierarchical binomial model with a prior by pm.Potential (rat tumors)")
def pymc_tumors(rng):
    total = rng.integers(10, 30, 12)
    y = rng.binomial(total, rng.beta(2, 10, 12))
    with pm.Model() as model:
        ab = pm.HalfNormal("ab", 10, shape=2)
        pm.Potential("prior", -2.5 * pt.log(ab.sum()))
        rates = pm.Beta("rates", ab[0], ab[1], shape=12)
        pm.Binomial("y", p=rates, n=total, observed=y)
    return model


@example("PyMC: radon, varying intercepts and slopes")
def pymc_radon(rng):
    county, floor = np.repeat(np.arange(8), 8), np.tile([0.0, 0, 0, 1], 16)
    y = rng.normal(1.4, 0.4, 8)[county] - 0.7 * floor + 0.7 * rng.normal(size=64)
    with pm.Model(coords={"county": np.arange(8)}) as model:
        centers, spreads = pm.Normal("centers", 0, 2, shape=2), pm.Exponential("spreads", 1, shape=2)
        z = pm.Normal("z", 0, 1, shape=(2, 8))
        a, b = (centers[i] + spreads[i] * z[i] for i in (0, 1))
        pm.Normal("y", a[county] + b[county] * floor, pm.Exponential("scale", 1), observed=y)
    return model


@example("PyMC: covariance matrix with LKJCholeskyCov")
def pymc_lkj(rng):
    y = rng.multivariate_normal([1, -1], [[1, 0.6], [0.6, 2]], 60)
    with pm.Model() as model:
        root, _, _ = pm.LKJCholeskyCov("root", n=2, eta=2, sd_dist=pm.Exponential.dist(1, shape=2))
        pm.MvNormal("y", pm.Normal("loc", 0, 2, shape=2), chol=root, observed=y)
    return model


@example("PyMC: marginalized Gaussian mixture")
def pymc_mixture(rng):
    y = np.concatenate([rng.normal(-2, 0.5, 40), rng.normal(1, 1, 60)])
    with pm.Model() as model:
        loc = pm.Normal(
            "loc", 0, 3, shape=2, transform=pm.distributions.transforms.ordered, initval=np.array([-1.0, 1.0])
        )
        p, scale = pm.Dirichlet("p", np.ones(2)), pm.HalfNormal("scale", 2, shape=2)
        pm.NormalMixture("y", w=p, mu=loc, sigma=scale, observed=y)
    return model


@example("PyMC: accelerated failure times, Weibull with censoring")
def pymc_weibull(rng):
    x = rng.integers(0, 2, 80)
    times = rng.weibull(1.3, 80) * np.exp(1 + 0.6 * x)
    with pm.Model() as model:
        w, shape = pm.Normal("w", 0, 2, shape=2), pm.HalfNormal("shape", 3)
        free = pm.Weibull.dist(alpha=shape, beta=pt.exp(w[0] + w[1] * x))
        pm.Censored("times", free, lower=None, upper=5.0, observed=np.minimum(times, 5.0))
    return model


@example("PyMC: proportional hazards, constant in pieces")
def pymc_hazards(rng):
    x = np.repeat(rng.integers(0, 2, 30), 4)
    exposure, piece = rng.uniform(0.3, 1, 120), np.tile(np.arange(4), 30)
    deaths = rng.poisson(exposure * 0.3 * np.exp(0.7 * x))
    with pm.Model() as model:
        base, effect = pm.Gamma("base", 1, 1, shape=4), pm.Normal("effect", 0, 2)
        pm.Poisson("deaths", exposure * base[piece] * pt.exp(effect * x), observed=deaths)
    return model


@example("PyMC: matches of teams (rugby)")
def pymc_rugby(rng):
    home, away = np.array([(i, j) for i in range(5) for j in range(5) if i != j]).T
    strength = rng.normal(0, 0.3, 5)
    scored = rng.poisson(np.exp(2.5 + strength[home])), rng.poisson(np.exp(2.3 + strength[away]))
    with pm.Model() as model:
        spreads = pm.HalfNormal("spreads", 0.5, shape=2)
        attack, defense = (pm.ZeroSumNormal(name, spreads[i], shape=5) for i, name in enumerate(("attack", "defense")))
        level, advantage = pm.Normal("level", 2, 1), pm.Normal("advantage", 0, 0.5)
        pm.Poisson("home", pt.exp(level + advantage + attack[home] - defense[away]), observed=scored[0])
        pm.Poisson("away", pt.exp(level + attack[away] - defense[home]), observed=scored[1])
    return model


@example("PyMC: Dirichlet-multinomial counts")
def pymc_dirichlet_multinomial(rng):
    counts = np.array([rng.multinomial(40, p) for p in rng.dirichlet([6, 3, 1], 10)])
    with pm.Model() as model:
        p, size = pm.Dirichlet("p", np.ones(3)), pm.LogNormal("size", 1, 1)
        pm.DirichletMultinomial("counts", n=40, a=size * p, observed=counts)
    return model


@example("PyMC: Gaussian process, marginal likelihood")
def pymc_marginal_process(rng):
    x = np.linspace(0, 1, 25)[:, None]
    y = np.sin(6 * x[:, 0]) + 0.2 * rng.normal(size=25)
    with pm.Model() as model:
        length, scale = pm.Gamma("length", 2, 5), pm.HalfNormal("scale", 2)
        process = pm.gp.Marginal(cov_func=scale**2 * pm.gp.cov.Matern52(1, length))
        process.marginal_likelihood("y", X=x, y=y, sigma=pm.HalfNormal("noise", 1))
    return model


@example("PyMC: Gaussian process as a latent function")
def pymc_latent_process(rng):
    x = np.linspace(0, 1, 15)[:, None]
    y = rng.random(15) < 1 / (1 + np.exp(-3 * np.sin(6 * x[:, 0])))
    with pm.Model() as model:
        process = pm.gp.Latent(cov_func=pm.HalfNormal("scale", 2) ** 2 * pm.gp.cov.ExpQuad(1, 0.3))
        pm.Bernoulli("y", logit_p=process.prior("f", X=x), observed=y.astype(int))
    return model


@example("PyMC: disasters in coal mines (a discrete time of change)")
def pymc_coal(rng):
    counts = np.concatenate([rng.poisson(3, 40), rng.poisson(1, 60)])
    with pm.Model() as model:
        when = pm.DiscreteUniform("when", 0, 99)
        early, late = pm.Exponential("early", 1), pm.Exponential("late", 1)
        pm.Poisson("counts", pt.where(np.arange(100) < when, early, late), observed=counts)
    return model


@example("PyMC: a density of the user's (CustomDist)")
def pymc_custom(rng):
    with pm.Model() as model:
        rate, power = pm.Gamma("rate", 2, 1), pm.HalfNormal("power", 2)

        def logp(value, rate, power):
            return pt.log(power) + pt.log(rate) + (power - 1) * pt.log(value) - rate * value**power

        pm.CustomDist("y", rate, power, logp=logp, observed=rng.weibull(1.5, 60))
    return model


@example("PyMC: autoregression")
def pymc_autoregression(rng):
    y = np.zeros(70)
    for t in range(1, 70):
        y[t] = 0.3 + 0.7 * y[t - 1] + 0.5 * rng.normal()
    with pm.Model() as model:
        w = pm.Normal("w", 0, 1, shape=2)
        pm.AR("y", w, sigma=pm.HalfNormal("scale", 1), constant=True, observed=y)
    return model


@example("PyMC: stochastic differential equation by Euler's method")
def pymc_ornstein(rng):
    y = np.cumsum(0.1 * rng.normal(size=30)) + 0.1 * rng.normal(size=30)
    with pm.Model() as model:
        speed, noise = pm.HalfNormal("speed", 1), pm.HalfNormal("noise", 0.5)
        init = pm.Normal.dist(0, 1)
        path = pm.EulerMaruyama("path", 0.1, lambda x, speed: (-speed * x, 0.5), (speed,), init_dist=init, shape=30)
        pm.Normal("y", path, noise, observed=y)
    return model


@example("PyMC: extreme values")
def pymc_extremes(rng):
    y = 3.8 - 0.2 * np.log(rng.exponential(size=60))
    with pm.Model() as model:
        loc, scale = pm.Normal("loc", 3.8, 1), pm.HalfNormal("scale", 0.5)
        pm.Gumbel("y", loc, scale, observed=y)
    return model


@example("PyMC: simulator without a likelihood (ABC)")
def pymc_simulator(rng):
    with pm.Model() as model:
        loc = pm.Normal("loc", 0, 5)
        pm.Simulator("y", lambda rng, loc, size: rng.normal(loc, 1, size=size), loc, observed=rng.normal(1, 1, 50))
    return model


@example("PyMC: variational inference with minibatches")
def pymc_minibatch(rng):
    batch = pm.Minibatch(rng.normal(1, 1, 500), batch_size=50)
    with pm.Model() as model:
        pm.Normal("y", pm.Normal("loc", 0, 5), 1.0, observed=batch, total_size=500)
    return model


@example("PyMC: likelihood as a black box of NumPy")
def pymc_black_box(rng):
    from pytensor.compile.ops import wrap_py

    data = rng.normal(2, 1, 40)

    @wrap_py(itypes=[pt.dscalar], otypes=[pt.dscalar])
    def likelihood(loc):
        return np.asarray(-0.5 * np.sum((data - loc) ** 2))

    with pm.Model() as model:
        pm.Potential("likelihood", likelihood(pm.Normal("loc", 0, 5)))
    return model
