"""All distributions of NumPyro, as priors and as likelihoods, and where each of them is refused."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Array
from numpyro.distributions import constraints

TWO = jnp.array([[1.0, 0.3], [0.3, 2.0]])
FACTOR = jnp.array([[1.0, 0.0], [0.3, 1.4]])
NEIGHBORS = jnp.array([[0.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
WEIGHTS = jnp.array([0.3, 0.7])
ANGLE = dist.VonMises(0.3, 2.0)
# Names of `numpyro.distributions` that are no distribution of their own.
OTHERS = {"Distribution", "biject_to", "constraints", "kl_divergence", "transforms"}


class Case(NamedTuple):
    """A distribution.

    Attributes:
        at: the distribution whose parameters depend on a number.
        value: an observation.
        prior: whether it can be a prior, for the documents.
        refused: what the error about the prior says, as a regular expression; None for priors that are taken.
        likelihood: whether it can be a likelihood, for the documents.
    """

    at: Callable[[Array], dist.Distribution]
    value: Any
    prior: str = "yes"
    refused: str | None = None
    likelihood: str = "yes"


def up(t: Array) -> Array:
    """A positive parameter."""
    return jnp.exp(0.3 * t)


def share(t: Array) -> Array:
    """A parameter between 0 and 1."""
    return 0.2 + 0.6 / (1 + jnp.exp(-t))


def both(t: Array) -> Array:
    """Two probabilities that depend on a number."""
    return jnp.stack([share(t), 1 - share(t)])


SUMMED, OBSERVED = "yes, summed out", "no: marginalize it, or observe it"
CENSORED, MASKED = "yes, improper where it is censored", "yes, improper where it is masked"
FIXED = "yes, with fixed concentrations"


def finite(at: Callable, value: Any) -> Case:
    """A discrete distribution whose values NumPyro enumerates."""
    return Case(at, value, SUMMED)


def infinite(at: Callable, value: Any) -> Case:
    """A discrete distribution whose values NumPyro does not enumerate."""
    return Case(at, value, OBSERVED, "x are discrete and cannot be enumerated")


DISTRIBUTIONS = {
    "AsymmetricLaplace": Case(lambda t: dist.AsymmetricLaplace(t, up(t), 0.7), 0.4),
    "AsymmetricLaplaceQuantile": Case(lambda t: dist.AsymmetricLaplaceQuantile(t, up(t), 0.7), 0.4),
    "Bernoulli": finite(lambda t: dist.Bernoulli(share(t)), 1),
    "BernoulliLogits": finite(lambda t: dist.BernoulliLogits(t), 1),
    "BernoulliProbs": finite(lambda t: dist.BernoulliProbs(share(t)), 1),
    "Beta": Case(lambda t: dist.Beta(up(t), 2.0), 0.4),
    "BetaBinomial": finite(lambda t: dist.BetaBinomial(up(t), 2.0, 5), 2),
    "BetaNegativeBinomial": infinite(lambda t: dist.BetaNegativeBinomial(up(t), 2.0, 3.0), 2),
    "BetaProportion": Case(lambda t: dist.BetaProportion(share(t), 3.0), 0.4),
    "Binomial": finite(lambda t: dist.Binomial(5, share(t)), 2),
    "BinomialLogits": finite(lambda t: dist.BinomialLogits(t, 5), 2),
    "BinomialProbs": finite(lambda t: dist.BinomialProbs(share(t), 5), 2),
    "CAR": Case(lambda t: dist.CAR(t * jnp.ones(3), 0.5, up(t), NEIGHBORS), [0.4, -1.0, 0.3]),
    "Categorical": finite(lambda t: dist.Categorical(both(t)), 1),
    "CategoricalLogits": finite(lambda t: dist.CategoricalLogits(jnp.stack([t, -t, 1.0])), 1),
    "CategoricalProbs": finite(lambda t: dist.CategoricalProbs(both(t)), 1),
    "Cauchy": Case(lambda t: dist.Cauchy(t, up(t)), 0.4),
    "Chi2": Case(lambda t: dist.Chi2(3 * up(t)), 1.4),
    "CirculantNormal": Case(
        lambda t: dist.CirculantNormal(t * jnp.ones(3), up(t) * jnp.array([1.0, 0.3, 0.3])), [0.4, -1.0, 0.3]
    ),
    "Dagum": Case(lambda t: dist.Dagum(up(t), 2.0, 1.5), 1.4),
    "Delta": Case(lambda t: dist.Delta(0.4, t), 0.4, "no: use `numpyro.deterministic`", "x are dist.Delta"),
    "Dirichlet": Case(lambda t: dist.Dirichlet(up(t) * jnp.array([1.0, 2.0, 3.0])), [0.2, 0.3, 0.5]),
    "DirichletMultinomial": infinite(lambda t: dist.DirichletMultinomial(up(t) * jnp.ones(3), 4), [1, 1, 2]),
    "DiscreteUniform": finite(lambda t: dist.DiscreteUniform(0, 4), 3),
    "DoublyTruncatedPowerLaw": Case(lambda t: dist.DoublyTruncatedPowerLaw(up(t), 0.5, 4.0), 1.4),
    "EulerMaruyama": Case(
        lambda t: dist.EulerMaruyama(jnp.linspace(0, 1, 4), lambda x, s: (-up(t) * x, up(t)), dist.Normal(0, 1)),
        [0.1, 0.4, -0.3, 0.2],
    ),
    "ExpandedDistribution": Case(lambda t: dist.ExpandedDistribution(dist.Normal(t, up(t)), (2,)), [0.4, -1.0]),
    "Exponential": Case(lambda t: dist.Exponential(up(t)), 1.4),
    "FoldedDistribution": Case(lambda t: dist.FoldedDistribution(dist.Normal(t, up(t))), 1.4),
    "Gamma": Case(lambda t: dist.Gamma(up(t), 2.0), 1.4),
    "GammaPoisson": infinite(lambda t: dist.GammaPoisson(up(t), 2.0), 2),
    "GaussianCopula": Case(lambda t: dist.GaussianCopula(dist.Gamma(up(t), 2.0), TWO / TWO[1, 1] ** 0.5), [1.4, 0.3]),
    "GaussianCopulaBeta": Case(
        lambda t: dist.GaussianCopulaBeta(jnp.ones(2), 2 * jnp.ones(2), jnp.eye(2) + 0.5 * share(t) * (1 - jnp.eye(2))),
        [0.4, 0.7],
        FIXED,
        likelihood=FIXED,
    ),
    "GaussianRandomWalk": Case(lambda t: dist.GaussianRandomWalk(up(t), 3), [0.4, -1.0, 0.3]),
    "GaussianStateSpace": Case(
        lambda t: dist.GaussianStateSpace(2, share(t) * jnp.eye(2), covariance_matrix=TWO), [[0.4, -1.0], [0.3, 0.1]]
    ),
    "Geometric": infinite(lambda t: dist.Geometric(share(t)), 2),
    "GeometricLogits": infinite(lambda t: dist.GeometricLogits(t), 2),
    "GeometricProbs": infinite(lambda t: dist.GeometricProbs(share(t)), 2),
    "Gompertz": Case(lambda t: dist.Gompertz(up(t), 2.0), 1.4),
    "Gumbel": Case(lambda t: dist.Gumbel(t, up(t)), 0.4),
    "HalfCauchy": Case(lambda t: dist.HalfCauchy(up(t)), 1.4),
    "HalfNormal": Case(lambda t: dist.HalfNormal(up(t)), 1.4),
    "HurdleDistribution": infinite(lambda t: dist.HurdleDistribution(dist.Poisson(up(t)), gate=share(t)), 2),
    "HurdleGamma": Case(lambda t: dist.HurdleGamma(share(t), up(t), 2.0), 1.4),
    "HurdleLogits": infinite(lambda t: dist.HurdleLogits(dist.Poisson(up(t)), t), 2),
    "HurdleLogNormal": Case(lambda t: dist.HurdleLogNormal(share(t), t, up(t)), 1.4),
    "HurdleNegativeBinomial2": infinite(lambda t: dist.HurdleNegativeBinomial2(share(t), up(t), 2.0), 2),
    "HurdlePoisson": infinite(lambda t: dist.HurdlePoisson(share(t), up(t)), 2),
    "HurdleProbs": infinite(lambda t: dist.HurdleProbs(dist.Poisson(up(t)), share(t)), 2),
    "ImproperUniform": Case(lambda t: dist.ImproperUniform(constraints.positive, (), ()), 1.4),
    "Independent": Case(lambda t: dist.Independent(dist.Normal(t * jnp.ones(2), up(t)), 1), [0.4, -1.0]),
    "InverseGamma": Case(lambda t: dist.InverseGamma(up(t), 2.0), 1.4),
    "InverseWishart": Case(lambda t: dist.InverseWishart(4 * up(t), scale_matrix=TWO), TWO),
    "InverseWishartCholesky": Case(lambda t: dist.InverseWishartCholesky(4 * up(t), scale_matrix=TWO), FACTOR),
    "IntervalCensoredDistribution": Case(
        lambda t: dist.IntervalCensoredDistribution(dist.Weibull(up(t), 2.0), jnp.array(False), jnp.array(True)),
        [0.4, 1.4],
        CENSORED,
    ),
    "Kumaraswamy": Case(lambda t: dist.Kumaraswamy(up(t), 2.0), 0.4),
    "Laplace": Case(lambda t: dist.Laplace(t, up(t)), 0.4),
    "LeftCensoredDistribution": Case(
        lambda t: dist.LeftCensoredDistribution(dist.Normal(t, up(t)), jnp.array([True, False])), [0.4, -1.0], CENSORED
    ),
    "LeftTruncatedDistribution": Case(lambda t: dist.LeftTruncatedDistribution(dist.Normal(t, up(t)), -1.0), 0.4),
    "LeftTruncatedGamma": Case(lambda t: dist.LeftTruncatedGamma(dist.Gamma(up(t), 2.0), 0.5), 1.4),
    "Levy": Case(lambda t: dist.Levy(-1.0, up(t)), 0.4),
    "LKJ": Case(lambda t: dist.LKJ(2, up(t)), [[1.0, 0.3], [0.3, 1.0]]),
    "LKJCholesky": Case(lambda t: dist.LKJCholesky(2, up(t)), [[1.0, 0.0], [0.6, 0.8]]),
    "Logistic": Case(lambda t: dist.Logistic(t, up(t)), 0.4),
    "LogNormal": Case(lambda t: dist.LogNormal(t, up(t)), 1.4),
    "LogUniform": Case(lambda t: dist.LogUniform(0.5, 4.0), 1.4),
    "LowerTruncatedPowerLaw": Case(lambda t: dist.LowerTruncatedPowerLaw(-1 - up(t), 0.5), 1.4),
    "LowRankMultivariateNormal": Case(
        lambda t: dist.LowRankMultivariateNormal(t * jnp.ones(2), jnp.ones((2, 1)), up(t) * jnp.ones(2)), [0.4, -1.0]
    ),
    "MaskedDistribution": Case(lambda t: dist.Normal(t, up(t)).mask(jnp.array([True, False])), [0.4, -1.0], MASKED),
    "MatrixNormal": Case(lambda t: dist.MatrixNormal(t * jnp.ones((2, 2)), FACTOR, FACTOR), [[0.4, -1.0], [0.3, 0.1]]),
    "Mixture": Case(lambda t: dist.Mixture(dist.Categorical(both(t)), dist.Normal(t * WEIGHTS, up(t))), 0.4),
    "MixtureGeneral": Case(
        lambda t: dist.MixtureGeneral(dist.Categorical(both(t)), [dist.Normal(t, 1.0), dist.Cauchy(t, up(t))]), 0.4
    ),
    "MixtureSameFamily": Case(
        lambda t: dist.MixtureSameFamily(dist.Categorical(both(t)), dist.Normal(t * WEIGHTS, up(t))), 0.4
    ),
    "Multinomial": infinite(lambda t: dist.Multinomial(4, both(t)), [1, 3]),
    "MultinomialLogits": infinite(lambda t: dist.MultinomialLogits(jnp.stack([t, -t]), 4), [1, 3]),
    "MultinomialProbs": infinite(lambda t: dist.MultinomialProbs(both(t), 4), [1, 3]),
    "MultivariateNormal": Case(lambda t: dist.MultivariateNormal(t, up(t) * TWO), [0.4, -1.0]),
    "MultivariateStudentT": Case(lambda t: dist.MultivariateStudentT(3 * up(t), t, FACTOR), [0.4, -1.0]),
    "NegativeBinomial": infinite(lambda t: dist.NegativeBinomial(3.0, share(t)), 2),
    "NegativeBinomial2": infinite(lambda t: dist.NegativeBinomial2(up(t), 2.0), 2),
    "NegativeBinomialLogits": infinite(lambda t: dist.NegativeBinomialLogits(3.0, t), 2),
    "NegativeBinomialProbs": infinite(lambda t: dist.NegativeBinomialProbs(3.0, share(t)), 2),
    "Normal": Case(lambda t: dist.Normal(t, up(t)), 0.4),
    "OrderedLogistic": finite(lambda t: dist.OrderedLogistic(t, jnp.array([-1.0, 0.5])), 1),
    "Pareto": Case(lambda t: dist.Pareto(0.5, up(t)), 1.4),
    "Poisson": infinite(lambda t: dist.Poisson(up(t)), 2),
    "ProjectedNormal": Case(
        lambda t: dist.ProjectedNormal(t * jnp.ones(2)),
        [0.6, 0.8],
        "no: use `ProjectedNormalReparam`",
        "spherical sample site 'x'",
    ),
    "RelaxedBernoulli": Case(lambda t: dist.RelaxedBernoulli(0.7, share(t)), 0.4),
    "RelaxedBernoulliLogits": Case(lambda t: dist.RelaxedBernoulliLogits(0.7, t), 0.4),
    "RightCensoredDistribution": Case(
        lambda t: dist.RightCensoredDistribution(dist.Normal(t, up(t)), jnp.array([True, False])), [0.4, -1.0], CENSORED
    ),
    "RightTruncatedDistribution": Case(lambda t: dist.RightTruncatedDistribution(dist.Normal(t, up(t)), 1.0), 0.4),
    "RightTruncatedGamma": Case(lambda t: dist.RightTruncatedGamma(dist.Gamma(up(t), 2.0), 4.0), 1.4),
    "SineBivariateVonMises": Case(lambda t: dist.SineBivariateVonMises(0.3, t, up(t), 2.0, 0.5), [0.4, -1.0]),
    "SineSkewed": Case(
        lambda t: dist.SineSkewed(ANGLE.expand([2]).to_event(1), jnp.stack([share(t), 0.1])), [0.4, -1.0]
    ),
    "SoftLaplace": Case(lambda t: dist.SoftLaplace(t, up(t)), 0.4),
    "StudentT": Case(lambda t: dist.StudentT(3 * up(t), t, up(t)), 0.4),
    "TransformedDistribution": Case(
        lambda t: dist.TransformedDistribution(dist.Normal(t, up(t)), dist.transforms.ExpTransform()), 1.4
    ),
    "TruncatedCauchy": Case(lambda t: dist.TruncatedCauchy(t, up(t), low=-1.0), 0.4),
    "TruncatedDistribution": Case(lambda t: dist.TruncatedDistribution(dist.StudentT(3.0, t, up(t)), -1.0, 2.0), 0.4),
    "TruncatedGamma": Case(lambda t: dist.TruncatedGamma(up(t), 2.0, low=0.5, high=4.0), 1.4),
    "TruncatedNormal": Case(lambda t: dist.TruncatedNormal(t, up(t), low=-1.0), 0.4),
    "TruncatedPolyaGamma": Case(lambda t: dist.TruncatedPolyaGamma(), 0.4),
    "TwoSidedTruncatedDistribution": Case(
        lambda t: dist.TwoSidedTruncatedDistribution(dist.Normal(t, up(t)), -1.0, 2.0), 0.4
    ),
    "TwoSidedTruncatedGamma": Case(lambda t: dist.TwoSidedTruncatedGamma(dist.Gamma(up(t), 2.0), 0.5, 4.0), 1.4),
    "Uniform": Case(lambda t: dist.Uniform(-1.0, 2.0), 0.4),
    "Unit": Case(
        lambda t: dist.Unit(t),
        jnp.zeros(0),
        "no: use `numpyro.factor`",
        r"example\['x'\] must be a real array that is not empty",
    ),
    "VonMises": Case(lambda t: dist.VonMises(t, up(t)), 0.4),
    "Weibull": Case(lambda t: dist.Weibull(up(t), 2.0), 1.4),
    "Wishart": Case(lambda t: dist.Wishart(4 * up(t), scale_matrix=TWO), TWO),
    "WishartCholesky": Case(lambda t: dist.WishartCholesky(4 * up(t), scale_matrix=TWO), FACTOR),
    "ZeroInflatedDistribution": infinite(
        lambda t: dist.ZeroInflatedDistribution(dist.Poisson(up(t)), gate=share(t)), 2
    ),
    "ZeroInflatedLogits": infinite(lambda t: dist.ZeroInflatedLogits(dist.Poisson(up(t)), t), 2),
    "ZeroInflatedNegativeBinomial2": infinite(
        lambda t: dist.ZeroInflatedNegativeBinomial2(up(t), 2.0, gate=share(t)), 2
    ),
    "ZeroInflatedPoisson": infinite(lambda t: dist.ZeroInflatedPoisson(share(t), up(t)), 2),
    "ZeroInflatedProbs": infinite(lambda t: dist.ZeroInflatedProbs(dist.Poisson(up(t)), share(t)), 2),
    "ZeroSumNormal": Case(lambda t: dist.ZeroSumNormal(up(t), (3,)), [0.4, -1.0, 0.6]),
}
