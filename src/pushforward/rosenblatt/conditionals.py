r"""The Rosenblatt map of a chain of NumPyro distributions: $x_0 \sim d_0$, $x_1 \sim d_1(x_0)$, ..."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.core import Tracer
from jax.scipy.special import betainc, erf, gammainc, gammaincc, log_ndtr
from jaxtyping import Array, Float
from numpyro.distributions import constraints
from numpyro.distributions.constraints import Constraint

from pushforward.arguments import checked
from pushforward.bijections.arrays import Constant
from pushforward.bijections.elementwise import clamp
from pushforward.rosenblatt.base import AbstractSequentialRosenblatt, AbstractUnivariateDistribution, Number

Conditional = Callable[[Float[Array, " i"]], dist.Distribution]

# log F of symmetric families, standardized: the upper tail at z is the lower tail at -z.
SYMMETRIC: dict[type, Callable[[Any, Number], Number]] = {
    dist.Normal: lambda d, z: log_ndtr(z),
    dist.Logistic: lambda d, z: -jax.nn.softplus(-z),
    dist.Cauchy: lambda d, z: jnp.log(jnp.arctan2(1.0, -z) / jnp.pi),
    dist.Laplace: lambda d, z: jnp.where(
        z < 0, jnp.minimum(z, 0) - jnp.log(2.0), jnp.log1p(-0.5 * jnp.exp(-jnp.maximum(z, 0)))
    ),
    dist.StudentT: lambda d, z: _student_log_cdf(d.df, z),
}


@eqx.filter_custom_jvp
def _student_log_cdf(df: Number | float, z: Number) -> Number:
    return _safe_log(dist.StudentT(df).cdf(z))


@_student_log_cdf.def_jvp
def _student_log_cdf_jvp(primals, tangents):
    # The automatic derivative at 0 is 0 times infinity.
    (df, z), (df_tangent, z_tangent) = primals, tangents
    if df_tangent is not None:
        raise NotImplementedError(
            "the derivative of StudentT's CDF with respect to its degrees of freedom is not implemented."
        )
    log_cdf = _student_log_cdf(df, z)
    return log_cdf, None if z_tangent is None else z_tangent * jnp.exp(dist.StudentT(df).log_prob(z) - log_cdf)


# log F and log(1 - F) of asymmetric families, without differences of numbers near 1.
TAILS: dict[type, Callable[[Any, Number], tuple[Number, Number]]] = {
    dist.Exponential: lambda d, x: (_safe_log(-jnp.expm1(-d.rate * x)), -d.rate * x),
    dist.Weibull: lambda d, x: _tails_of_hazard((x / d.scale) ** d.concentration),
    dist.Gumbel: lambda d, x: _swapped(*_tails_of_hazard(jnp.exp(-(x - d.loc) / d.scale))),
    dist.HalfNormal: lambda d, x: (_safe_log(erf(x / d.scale / 2**0.5)), jnp.log(2.0) + log_ndtr(-x / d.scale)),
    dist.HalfCauchy: lambda d, x: (
        _safe_log(2 / jnp.pi * jnp.arctan(x / d.scale)),
        _safe_log(2 / jnp.pi * jnp.arctan2(1.0, x / d.scale)),
    ),
    dist.Gamma: lambda d, x: _tails_of_gamma(d.concentration, d.rate * x),
    dist.Chi2: lambda d, x: _tails_of_gamma(0.5 * d.df, 0.5 * x),
    dist.Beta: lambda d, x: (
        _safe_log(betainc(d.concentration1, d.concentration0, x)),
        _safe_log(betainc(d.concentration0, d.concentration1, 1 - x)),
    ),
    dist.Uniform: lambda d, x: (_safe_log((x - d.low) / (d.high - d.low)), _safe_log((d.high - x) / (d.high - d.low))),
}


def _tails_of_gamma(concentration: Number | float, x: Number) -> tuple[Number, Number]:
    return _safe_log(gammainc(concentration, x)), _safe_log(gammaincc(concentration, x))


def _tails_of_hazard(hazard: Number) -> tuple[Number, Number]:
    """The tails of the distribution with this cumulative hazard: its upper tail is exp(-hazard)."""
    return _safe_log(-jnp.expm1(-hazard)), -hazard


def _swapped(below: Number, above: Number) -> tuple[Number, Number]:
    return above, below


def log_tails(d: Any, x: Number) -> tuple[Number, Number]:
    r"""$\log F(x)$ and $\log(1 - F(x))$.

    Both are precise for the families in the tables above and for monotone transformations of them. Other families have
    only NumPyro's CDF: their upper tail is truncated where the CDF reaches $1 - \epsilon$, the largest number below 1.

    Args:
        d: a univariate NumPyro distribution with the CDF $F$.
        x: a point.
    """
    kind = type(d)
    if kind in SYMMETRIC:
        z = (x - d.loc) / d.scale
        return SYMMETRIC[kind](d, z), SYMMETRIC[kind](d, -z)
    if kind in TAILS:
        return TAILS[kind](d, x)
    if _is_transformed(d):
        sign = 1
        for transform in reversed(d.transforms):
            sign, x = sign * transform.sign, transform.inv(x)
        below, above = log_tails(d.base_dist, x)
        return jnp.where(sign > 0, below, above), jnp.where(sign > 0, above, below)
    cdf = jnp.minimum(d.cdf(x), 1 - jnp.finfo(x.dtype).epsneg)
    return _safe_log(cdf), jnp.log1p(-cdf)


def _is_transformed(d: Any) -> bool:
    return isinstance(d, dist.TransformedDistribution) and type(d).cdf is dist.TransformedDistribution.cdf


def _has_accurate_tails(d: Any) -> bool:
    """Whether `log_tails` is accurate in both tails: for families in the tables above, and transformations of them."""
    return type(d) in SYMMETRIC or type(d) in TAILS or (_is_transformed(d) and _has_accurate_tails(d.base_dist))


def _safe_log(probability: Number) -> Number:
    return jnp.log(jnp.maximum(probability, jnp.finfo(probability.dtype).tiny))


def _ends(support: Any) -> tuple[Any, Any]:
    """The ends of an interval, which may depend on other coordinates; None for a missing end."""
    lower, upper = (getattr(support, name, None) for name in ("lower_bound", "upper_bound"))
    if support.is_discrete or (support is not constraints.real and lower is None and upper is None):
        raise ValueError(f"the support of a conditional distribution must be an interval, but is {support}.")
    return lower, upper


class UnivariateNumPyro(AbstractUnivariateDistribution):
    """A univariate NumPyro distribution with a CDF."""

    distribution: dist.Distribution

    def log_tails(self, x):
        return log_tails(self.distribution, x)

    def log_prob(self, x):
        lower, upper = _ends(self.distribution.support)
        log_prob = self.distribution.log_prob(x)
        inside = (True if lower is None else x >= lower) & (True if upper is None else x <= upper)
        return jnp.where(inside, log_prob, -jnp.inf)

    def quantile(self, y):
        if not _has_accurate_tails(self.distribution):
            # The tail is truncated there, see `log_tails`.
            eps = float(jnp.finfo(y.dtype).epsneg)
            y = clamp(y, -jnp.inf, -math.log(2 * eps))
        return super().quantile(y)

    def from_real(self, t):
        lower, upper = jax.lax.stop_gradient(_ends(self.distribution.support))
        if lower is not None and upper is not None:
            return lower + (upper - lower) * jax.nn.sigmoid(t)
        if lower is not None:
            return lower + jnp.exp(t)
        if upper is not None:
            return upper - jnp.exp(-t)
        loc, scale = (getattr(self.distribution, name, default) for name, default in (("loc", 0.0), ("scale", 1.0)))
        return jax.lax.stop_gradient(loc) + jax.lax.stop_gradient(scale) * t


class _Always(eqx.Module):
    """A conditional that always returns the same distribution."""

    distribution: dist.Distribution

    def __call__(self, before: Array) -> dist.Distribution:
        return self.distribution


class ConditionalRosenblatt(AbstractSequentialRosenblatt):
    """The Rosenblatt map of a chain of distributions.

    Args:
        conditionals: one function for each coordinate i. It maps the coordinates before, an array of shape (i,), to a
            univariate, continuous NumPyro distribution on an interval with a CDF. A distribution instead of a function
            is that of an independent coordinate. Values that a function closes over are not trained.
    """

    conditionals: Constant
    dim: int = eqx.field(static=True)
    intervals: tuple[tuple[float, float], ...] = eqx.field(static=True)

    @checked()
    def __init__(self, conditionals: Sequence[Conditional]):
        conditionals = [_Always(c) if isinstance(c, dist.Distribution) else c for c in conditionals]
        if not conditionals or not all(callable(conditional) for conditional in conditionals):
            raise ValueError(
                "conditionals must be functions, one for each coordinate, that map the previous coordinates to a "
                f"NumPyro distribution, but got {conditionals!r}."
            )
        self.conditionals, self.dim = Constant(tuple(conditionals)), len(conditionals)
        for i in range(self.dim):
            self._check(i)
        self.intervals = tuple(self._interval(i) for i in range(self.dim))

    def _check(self, i: int) -> None:
        """Raise unless conditional i is valid, without running it."""

        def trace(before):
            d = self.conditionals.value[i](before)
            if not isinstance(d, dist.Distribution) or d.event_shape or d.batch_shape:
                shape = getattr(d, "shape", lambda: "?")()
                raise ValueError(
                    f"conditional {i} must return a univariate NumPyro distribution, but returns "
                    f"{type(d).__name__} of shape {shape}."
                )
            _ends(d.support)
            try:
                return d.cdf(jnp.zeros(()))
            except NotImplementedError as error:
                raise ValueError(f"conditional {i}, {type(d).__name__}, has no CDF.") from error

        jax.eval_shape(trace, jnp.zeros(i))

    def _interval(self, i: int) -> tuple[float, float]:
        """The interval of a coordinate; an end that depends on other coordinates is infinite."""
        found: list[float] = []

        def evaluate_ends(before):
            # Exactly the values that depend on `before` are tracers here.
            support = self.conditional(before).distribution.support
            for end, infinite in zip(_ends(support), (-np.inf, np.inf), strict=True):
                found.append(infinite if end is None or isinstance(end, Tracer) else float(end))
            return before

        before = jnp.zeros(i)
        jax.jvp(evaluate_ends, (before,), (before,))
        return found[0], found[1]

    @property
    def domain(self) -> Constraint:
        lower, upper = np.array(self.intervals).T
        if np.isinf(lower).all() and np.isinf(upper).all():
            return constraints.real
        return constraints.interval(lower, upper)

    def conditional(self, before):
        return UnivariateNumPyro(self.conditionals.value[len(before)](before))

    def log_prob(self, x):
        return jnp.sum(jnp.stack([self.conditional(x[:i]).log_prob(x[i]) for i in range(self.dim)]))
