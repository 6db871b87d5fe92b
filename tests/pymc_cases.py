"""The distributions of PyMC, as priors and as likelihoods, and where each of them is refused."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

COVARIANCE = np.array([[1.0, 0.3], [0.3, 2.0]])
NEIGHBORS = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]])
# Names of `pymc.distributions` that are no distribution of their own.
OTHERS = {"Continuous", "Discrete", "Distribution", "SymbolicRandomVariable", "DensityDist", "Lognormal"}


class Case(NamedTuple):
    """A distribution.

    Attributes:
        make: adds a variable to a model, from PyMC, a number on which its parameters depend, and its name and options.
        value: an observation.
        prior: whether it can be a prior, for the documents.
        refused: what the error about the prior says, as a regular expression; None for priors that are taken.
        likelihood: whether it can be a likelihood, for the documents.
        unobserved: what the error about the likelihood says; None for likelihoods that are taken.
    """

    make: Callable[..., Any]
    value: Any
    prior: str = "yes"
    refused: str | None = None
    likelihood: str = "yes"
    unobserved: str | None = None


def discrete(make: Callable[..., Any], value: Any) -> Case:
    """A discrete distribution."""
    return Case(make, value, "no: marginalize it, or observe it", "x are discrete")


def up(pm: Any, t: Any) -> Any:
    """A positive parameter."""
    return pm.math.exp(0.3 * t)


def share(pm: Any, t: Any) -> Any:
    """A parameter between 0 and 1."""
    return 0.2 + 0.6 * pm.math.sigmoid(t)


def both(pm: Any, t: Any) -> Any:
    """Two probabilities."""
    return pm.math.stack([share(pm, t), 1 - share(pm, t)])


LACKING = ("no: it has no version in JAX", "no version in JAX") * 2
SIMULATED = ("no: `pf.fit_amortized` on simulated data", "is a simulation") * 2
DISTRIBUTIONS = {
    "AR": Case(
        lambda pm, t, **o: pm.AR(rho=[share(pm, t)], sigma=1.0, init_dist=pm.Normal.dist(), steps=3, **o),
        [0.1, 0.4, -0.3, 0.2],
    ),
    "AsymmetricLaplace": Case(lambda pm, t, **o: pm.AsymmetricLaplace(kappa=0.7, mu=t, b=up(pm, t), **o), 0.4),
    "Bernoulli": discrete(lambda pm, t, **o: pm.Bernoulli(p=share(pm, t), **o), 1),
    "Beta": Case(lambda pm, t, **o: pm.Beta(alpha=up(pm, t), beta=2.0, **o), 0.4),
    "BetaBinomial": discrete(lambda pm, t, **o: pm.BetaBinomial(n=5, alpha=up(pm, t), beta=2.0, **o), 2),
    "Binomial": discrete(lambda pm, t, **o: pm.Binomial(n=5, p=share(pm, t), **o), 2),
    "CAR": Case(
        lambda pm, t, **o: pm.CAR(mu=t * np.ones(3), W=NEIGHBORS, alpha=0.5, tau=up(pm, t), **o), [0.4, -1.0, 0.3]
    ),
    "Categorical": discrete(lambda pm, t, **o: pm.Categorical(p=both(pm, t), **o), 1),
    "Cauchy": Case(lambda pm, t, **o: pm.Cauchy(alpha=t, beta=up(pm, t), **o), 0.4),
    "Censored": Case(
        lambda pm, t, **o: pm.Censored(dist=pm.Normal.dist(t, up(pm, t)), lower=-1.0, upper=1.0, **o), [0.4, 1.0]
    ),
    "ChiSquared": Case(lambda pm, t, **o: pm.ChiSquared(nu=3 * up(pm, t), **o), 1.4),
    "CustomDist": Case(
        lambda pm, t, **o: pm.CustomDist(o.pop("name"), t, logp=lambda v, t: -((v - t) ** 2) - pm.math.exp(v - t), **o),
        0.4,
    ),
    "DiracDelta": discrete(lambda pm, t, **o: pm.DiracDelta(c=2, **o), 2),
    "Dirichlet": Case(lambda pm, t, **o: pm.Dirichlet(a=up(pm, t) * np.array([1.0, 2.0, 3.0]), **o), [0.2, 0.3, 0.5]),
    "DirichletMultinomial": discrete(
        lambda pm, t, **o: pm.DirichletMultinomial(n=4, a=up(pm, t) * np.ones(3), **o), [1, 1, 2]
    ),
    "DiscreteUniform": discrete(lambda pm, t, **o: pm.DiscreteUniform(lower=0, upper=4, **o), 3),
    "DiscreteWeibull": discrete(lambda pm, t, **o: pm.DiscreteWeibull(q=share(pm, t), beta=1.5, **o), 2),
    "EulerMaruyama": Case(
        lambda pm, t, **o: pm.EulerMaruyama(
            o.pop("name"), 0.3, lambda x, rate: (-rate * x, 1.0), (up(pm, t),), init_dist=pm.Normal.dist(), steps=3, **o
        ),
        [0.1, 0.4, -0.3, 0.2],
    ),
    "ExGaussian": Case(lambda pm, t, **o: pm.ExGaussian(mu=t, sigma=1.0, nu=up(pm, t), **o), 0.4),
    "Exponential": Case(lambda pm, t, **o: pm.Exponential(lam=up(pm, t), **o), 1.4),
    "Flat": Case(lambda pm, t, **o: pm.Flat(**o), 0.4),
    "GARCH11": Case(
        lambda pm, t, **o: pm.GARCH11(omega=up(pm, t), alpha_1=0.3, beta_1=0.4, initial_vol=1.0, steps=3, **o),
        [0.1, 0.4, -0.3, 0.2],
    ),
    "Gamma": Case(lambda pm, t, **o: pm.Gamma(alpha=up(pm, t), beta=2.0, **o), 1.4),
    "GaussianRandomWalk": Case(
        lambda pm, t, **o: pm.GaussianRandomWalk(mu=t, sigma=up(pm, t), init_dist=pm.Normal.dist(), steps=2, **o),
        [0.4, -1.0, 0.3],
    ),
    "Geometric": discrete(lambda pm, t, **o: pm.Geometric(p=share(pm, t), **o), 2),
    "Gumbel": Case(lambda pm, t, **o: pm.Gumbel(mu=t, beta=up(pm, t), **o), 0.4),
    "HalfCauchy": Case(lambda pm, t, **o: pm.HalfCauchy(beta=up(pm, t), **o), 1.4),
    "HalfFlat": Case(lambda pm, t, **o: pm.HalfFlat(**o), 1.4),
    "HalfNormal": Case(lambda pm, t, **o: pm.HalfNormal(sigma=up(pm, t), **o), 1.4),
    "HalfStudentT": Case(lambda pm, t, **o: pm.HalfStudentT(nu=3.0, sigma=up(pm, t), **o), 1.4),
    "HurdleGamma": Case(lambda pm, t, **o: pm.HurdleGamma(psi=share(pm, t), alpha=up(pm, t), beta=2.0, **o), 1.4),
    "HurdleLogNormal": Case(lambda pm, t, **o: pm.HurdleLogNormal(psi=share(pm, t), mu=t, sigma=1.0, **o), 1.4),
    "HurdleNegativeBinomial": discrete(
        lambda pm, t, **o: pm.HurdleNegativeBinomial(psi=share(pm, t), mu=up(pm, t), alpha=2.0, **o), 2
    ),
    "HurdlePoisson": discrete(lambda pm, t, **o: pm.HurdlePoisson(psi=share(pm, t), mu=up(pm, t), **o), 2),
    "HyperGeometric": discrete(lambda pm, t, **o: pm.HyperGeometric(N=20, k=8, n=5, **o), 2),
    "ICAR": Case(lambda pm, t, **o: pm.ICAR(W=NEIGHBORS, sigma=up(pm, t), **o), [0.4, -1.0, 0.6]),
    "Interpolated": Case(
        lambda pm, t, **o: pm.Interpolated(
            x_points=np.linspace(-2, 2, 5), pdf_points=np.array([0.1, 0.4, 0.8, 0.4, 0.1]), **o
        ),
        0.4,
        *LACKING[:2],
    ),
    "InverseGamma": Case(lambda pm, t, **o: pm.InverseGamma(alpha=up(pm, t), beta=2.0, **o), 1.4),
    "KroneckerNormal": Case(
        lambda pm, t, **o: pm.KroneckerNormal(mu=t * np.ones(4), covs=[COVARIANCE, COVARIANCE], sigma=0.5, **o),
        [0.4, -1.0, 0.3, 0.1],
    ),
    "Kumaraswamy": Case(lambda pm, t, **o: pm.Kumaraswamy(a=up(pm, t), b=2.0, **o), 0.4),
    "LKJCholeskyCov": Case(
        lambda pm, t, **o: pm.LKJCholeskyCov(eta=2.0, n=2, sd_dist=pm.Exponential.dist(1.0), **o), None, likelihood="–"
    ),
    "LKJCorr": Case(lambda pm, t, **o: pm.LKJCorr(eta=2.0, n=2, **o), None, "yes, with a fixed `eta`", likelihood="–"),
    "Laplace": Case(lambda pm, t, **o: pm.Laplace(mu=t, b=up(pm, t), **o), 0.4),
    "LogNormal": Case(lambda pm, t, **o: pm.LogNormal(mu=t, sigma=up(pm, t), **o), 1.4),
    "Logistic": Case(lambda pm, t, **o: pm.Logistic(mu=t, s=up(pm, t), **o), 0.4),
    "LogitNormal": Case(lambda pm, t, **o: pm.LogitNormal(mu=t, sigma=up(pm, t), **o), 0.4),
    "MatrixNormal": Case(
        lambda pm, t, **o: pm.MatrixNormal(mu=t * np.ones((2, 2)), rowcov=COVARIANCE, colcov=COVARIANCE, **o),
        [[0.4, -1.0], [0.3, 0.1]],
    ),
    "Mixture": Case(
        lambda pm, t, **o: pm.Mixture(w=both(pm, t), comp_dists=[pm.Normal.dist(t), pm.Cauchy.dist(t, 2.0)], **o), 0.4
    ),
    "Moyal": Case(lambda pm, t, **o: pm.Moyal(mu=t, sigma=up(pm, t), **o), 0.4),
    "Multinomial": discrete(lambda pm, t, **o: pm.Multinomial(n=4, p=both(pm, t), **o), [1, 3]),
    "MvGaussianRandomWalk": Case(
        lambda pm, t, **o: pm.MvGaussianRandomWalk(
            mu=t * np.ones(2), cov=COVARIANCE, init_dist=pm.MvNormal.dist(np.zeros(2), COVARIANCE), steps=2, **o
        ),
        [[0.4, -1.0], [0.3, 0.1], [0.2, 0.2]],
    ),
    "MvNormal": Case(lambda pm, t, **o: pm.MvNormal(mu=t * np.ones(2), cov=up(pm, t) * COVARIANCE, **o), [0.4, -1.0]),
    "MvStudentT": Case(lambda pm, t, **o: pm.MvStudentT(nu=3.0, mu=t * np.ones(2), scale=COVARIANCE, **o), [0.4, -1.0]),
    "MvStudentTRandomWalk": Case(
        lambda pm, t, **o: pm.MvStudentTRandomWalk(
            nu=3.0,
            mu=t * np.ones(2),
            scale=COVARIANCE,
            init_dist=pm.MvNormal.dist(np.zeros(2), COVARIANCE),
            steps=2,
            **o,
        ),
        [[0.4, -1.0], [0.3, 0.1], [0.2, 0.2]],
    ),
    "NegativeBinomial": discrete(lambda pm, t, **o: pm.NegativeBinomial(mu=up(pm, t), alpha=2.0, **o), 2),
    "Normal": Case(lambda pm, t, **o: pm.Normal(mu=t, sigma=up(pm, t), **o), 0.4),
    "NormalMixture": Case(
        lambda pm, t, **o: pm.NormalMixture(w=both(pm, t), mu=np.array([-1.0, 1.0]), sigma=1.0, **o), 0.4
    ),
    "OrderedLogistic": discrete(
        lambda pm, t, **o: pm.OrderedLogistic(eta=t, cutpoints=np.array([-1.0, 0.5]), compute_p=False, **o), 1
    ),
    "OrderedMultinomial": discrete(
        lambda pm, t, **o: pm.OrderedMultinomial(eta=t, cutpoints=np.array([-1.0, 0.5]), n=4, compute_p=False, **o),
        [1, 1, 2],
    ),
    "OrderedProbit": discrete(
        lambda pm, t, **o: pm.OrderedProbit(eta=t, cutpoints=np.array([-1.0, 0.5]), compute_p=False, **o), 1
    ),
    "Pareto": Case(lambda pm, t, **o: pm.Pareto(alpha=up(pm, t), m=0.5, **o), 1.4),
    "Poisson": discrete(lambda pm, t, **o: pm.Poisson(mu=up(pm, t), **o), 2),
    "PolyaGamma": Case(lambda pm, t, **o: pm.PolyaGamma(h=1.0, z=t, **o), 0.4, *LACKING),
    "RandomWalk": Case(
        lambda pm, t, **o: pm.RandomWalk(
            innovation_dist=pm.StudentT.dist(nu=3.0, mu=t), init_dist=pm.Normal.dist(), steps=2, **o
        ),
        [0.4, -1.0, 0.3],
    ),
    "Rice": Case(lambda pm, t, **o: pm.Rice(nu=up(pm, t), sigma=1.0, **o), 1.4),
    "Simulator": Case(
        lambda pm, t, **o: pm.Simulator(o.pop("name"), lambda rng, t, size: rng.normal(t, size=size), t, **o),
        [0.4],
        *SIMULATED,
    ),
    "SkewNormal": Case(lambda pm, t, **o: pm.SkewNormal(mu=t, sigma=up(pm, t), alpha=2.0, **o), 0.4),
    "SkewStudentT": Case(lambda pm, t, **o: pm.SkewStudentT(a=2.0, b=3.0, mu=t, sigma=up(pm, t), **o), 0.4),
    "StickBreakingWeights": Case(
        lambda pm, t, **o: pm.StickBreakingWeights(alpha=up(pm, t), K=2, **o), [0.2, 0.3, 0.5]
    ),
    "StudentT": Case(lambda pm, t, **o: pm.StudentT(nu=3 * up(pm, t), mu=t, sigma=up(pm, t), **o), 0.4),
    "Triangular": Case(lambda pm, t, **o: pm.Triangular(lower=-1.0, c=0.2, upper=2.0, **o), 0.4),
    "Truncated": Case(
        lambda pm, t, **o: pm.Truncated(dist=pm.Gamma.dist(up(pm, t), 1.0), lower=0.5, upper=4.0, **o), 1.4
    ),
    "TruncatedNormal": Case(lambda pm, t, **o: pm.TruncatedNormal(mu=t, sigma=up(pm, t), lower=-1.0, **o), 0.4),
    "Uniform": Case(lambda pm, t, **o: pm.Uniform(lower=-1.0, upper=2.0, **o), 0.4),
    "VonMises": Case(lambda pm, t, **o: pm.VonMises(mu=t, kappa=up(pm, t), **o), 0.4),
    "Wald": Case(lambda pm, t, **o: pm.Wald(mu=up(pm, t), lam=2.0, **o), 1.4),
    "Weibull": Case(lambda pm, t, **o: pm.Weibull(alpha=up(pm, t), beta=2.0, **o), 1.4),
    "Wishart": Case(
        lambda pm, t, **o: pm.Wishart(nu=4.0, V=COVARIANCE, **o),
        COVARIANCE,
        "no: use `LKJCholeskyCov`",
        "x are a pm.Wishart",
    ),
    "WishartBartlett": Case(lambda pm, t, **o: pm.WishartBartlett(o["name"], COVARIANCE, 4), None, likelihood="–"),
    "ZeroInflatedBinomial": discrete(lambda pm, t, **o: pm.ZeroInflatedBinomial(psi=share(pm, t), n=5, p=0.4, **o), 2),
    "ZeroInflatedNegativeBinomial": discrete(
        lambda pm, t, **o: pm.ZeroInflatedNegativeBinomial(psi=share(pm, t), mu=up(pm, t), alpha=2.0, **o), 2
    ),
    "ZeroInflatedPoisson": discrete(lambda pm, t, **o: pm.ZeroInflatedPoisson(psi=share(pm, t), mu=up(pm, t), **o), 2),
    "ZeroSumNormal": Case(lambda pm, t, **o: pm.ZeroSumNormal(sigma=up(pm, t), shape=3, **o), [0.4, -1.0, 0.6]),
}
