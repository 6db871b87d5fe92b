"""Supports that targets take, and models that they refuse, with the reason."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import jax.random as jr
import numpyro
import numpyro.distributions as dist
from numpyro import handlers
from numpyro.distributions import constraints
from numpyro.infer.reparam import CircularReparam

import pushforward as pf

SUPPORTS: dict[str, tuple[constraints.Constraint, Any]] = {
    "all real numbers": (constraints.real, 0.3),
    "positive numbers": (constraints.positive, 1.5),
    "numbers above or below a bound": (constraints.less_than(2.0), 1.0),
    "an interval, also of arrays": (constraints.interval(-1.0, jnp.array([2.0, 3.0])), [0.5, 1.0]),
    "angles": (constraints.circular, 0.5),
    "simplex (probabilities that sum to one)": (constraints.simplex, [0.2, 0.3, 0.5]),
    "ordered vectors": (constraints.ordered_vector, [-1.0, 0.5, 2.0]),
    "ordered vectors of positive numbers": (constraints.positive_ordered_vector, [0.5, 1.0, 2.0]),
    "vectors that sum to zero": (constraints.zero_sum(1), [1.0, -0.5, -0.5]),
    "factors of correlation matrices": (constraints.corr_cholesky, [[1.0, 0.0], [0.6, 0.8]]),
    "correlation matrices": (constraints.corr_matrix, [[1.0, 0.3], [0.3, 1.0]]),
    "lower triangular matrices with a positive diagonal": (constraints.lower_cholesky, [[1.0, 0.0], [0.3, 2.0]]),
    "positive definite matrices": (constraints.positive_definite, [[1.0, 0.3], [0.3, 2.0]]),
}


class Refused(NamedTuple):
    """A kind of model that is refused.

    Attributes:
        kind: what is special about it, for the documents.
        instead: what to do instead, for the documents.
        build: a function that tries to make the target.
        error: the type of the error.
        words: what the error says, as a regular expression.
    """

    kind: str
    instead: str
    build: Callable[[], Any]
    error: type[Exception]
    words: str


def hidden_count():
    number = numpyro.sample("number", dist.Poisson(numpyro.sample("rate", dist.Gamma(2, 1))))
    numpyro.sample("y", dist.Normal(number, 1.0), obs=1.0)


def sequential():
    numpyro.sample("m", dist.Normal(0, 1))
    numpyro.sample("k", dist.Bernoulli(0.3), infer={"enumerate": "sequential"})


def without_plate():
    m = numpyro.sample("m", dist.Normal(0, 1))
    k = numpyro.sample("k", dist.Bernoulli(0.3))
    numpyro.sample("y", dist.Normal(m + k, 1.0), obs=jnp.arange(3.0))


def only_discrete():
    numpyro.sample("k", dist.Bernoulli(0.3))


def pymc_target(fill: Callable[[Any], None]) -> pf.Target:
    import pymc

    with pymc.Model() as model:
        fill(pymc)
    return pf.Target.from_pymc(model)


def black_box(pm):
    import pytensor.tensor as pt
    from pytensor.compile.ops import wrap_py

    likelihood = wrap_py(itypes=[pt.dscalar], otypes=[pt.dscalar])(lambda loc: -(loc**2))
    pm.Potential("likelihood", likelihood(pm.Normal("loc")))


@handlers.reparam(config={"angle": CircularReparam()})
def around_the_circle():
    numpyro.sample("angle", dist.VonMises(2.5, 2.0))


def copula():
    shape = numpyro.sample("shape", dist.Gamma(2, 1))
    numpyro.sample("y", dist.GaussianCopulaBeta(shape, jnp.ones(2), jnp.eye(2)), obs=jnp.array([0.3, 0.6]))


REFUSED = {
    "infinite": Refused(
        "NumPyro: a discrete site with infinitely many values (Poisson)", "marginalize it, or observe it",
        lambda: pf.Target.from_numpyro(hidden_count), ValueError, "number are discrete and cannot be enumerated",
    ),
    "sequential": Refused(
        'NumPyro: `infer={"enumerate": "sequential"}`', 'mark the site `"parallel"`',
        lambda: pf.Target.from_numpyro(sequential), ValueError, "k must be marked",
    ),
    "without a plate": Refused(
        "NumPyro: a discrete site next to observations without a plate", "use a `numpyro.plate` for each dimension",
        lambda: pf.Target.from_numpyro(without_plate), ValueError, "has no plate",
    ),
    "only discrete": Refused(
        "NumPyro: only discrete latent sites", "there is nothing to fit; enumerate them",
        lambda: pf.Target.from_numpyro(only_discrete), ValueError, "k",
    ),
    "circular": Refused(
        "NumPyro: `CircularReparam`", "leave it out",
        lambda: pf.Target.from_numpyro(around_the_circle), ValueError, "sites angle have numpyro's CircularReparam",
    ),
    "incomplete beta": Refused(
        "NumPyro: incomplete beta functions of a parameter (concentrations of `GaussianCopulaBeta`, degrees of freedom "
        "of a truncated `StudentT`)", "fix the parameter: JAX does not have this derivative",
        lambda: pf.fit_posterior(pf.Target.from_numpyro(copula), key=jr.key(0)),
        ValueError, "cannot be differentiated by jax.grad.*Betainc gradient",
    ),
    "no real number": Refused(
        "Python: a log-density that is no real number", "return a scalar of floating-point numbers",
        lambda: pf.Target(lambda x: jnp.array(1), jnp.zeros(2)), TypeError, "one real number",
    ),
    "pymc discrete": Refused(
        "PyMC: discrete free variables", "marginalize them with `pymc_extras`",
        lambda: pymc_target(lambda pm: pm.Normal("y", pm.Poisson("k", 3.0), observed=1.0)),
        ValueError, "k are discrete",
    ),
    "pymc simulator": Refused(
        "PyMC: `pm.Simulator`", "`pf.fit_amortized` on simulated data sets",
        lambda: pymc_target(
            lambda pm: pm.Simulator("y", lambda rng, m, size: rng.normal(m), pm.Normal("m"), observed=[1.0])
        ), ValueError, "simulation",
    ),
    "pymc random potential": Refused(
        "PyMC: a potential or a deterministic variable that draws random numbers", "a variable with a name",
        lambda: pymc_target(lambda pm: pm.Potential("p", pm.Normal.dist(pm.Normal("m")))),
        ValueError, "p draw random numbers",
    ),
    "pymc minibatch": Refused(
        "PyMC: `pm.Minibatch` of an observed variable without `total_size`", "`total_size=len(data)`",
        lambda: pymc_target(
            lambda pm: pm.Normal("y", pm.Normal("m"), observed=pm.Minibatch(jnp.arange(9.0).__array__(), batch_size=3))
        ), ValueError, "y depends on a pm.Minibatch, but has no total_size",
    ),
    "pymc black box": Refused(
        "PyMC: functions of NumPy without a version in JAX", "write them with PyTensor's operations",
        lambda: pymc_target(black_box), ValueError, "no version in JAX",
    ),
}  # fmt: skip
