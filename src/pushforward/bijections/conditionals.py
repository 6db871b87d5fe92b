r"""The Rosenblatt map of a chain of NumPyro distributions: $x_0 \sim d_0$, $x_1 \sim d_1(x_0)$, ..."""

from collections.abc import Callable, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.scipy.special import log_ndtr
from jaxtyping import Array, Float
from numpyro.distributions import constraints
from numpyro.distributions.constraints import Constraint

from pushforward.bijections.constant import Constant
from pushforward.bijections.rosenblatt import AbstractLaw, AbstractSequentialRosenblatt, Number

Conditional = Callable[[Float[Array, " i"]], dist.Distribution]

# How many points the supports are looked at: they may depend on the coordinates before.
PROBES = 3

# log F of symmetric families, standardised: the upper tail is the lower one of -z.
SYMMETRIC: dict[type, Callable[[dist.Distribution, Number], Number]] = {
    dist.Normal: lambda d, z: log_ndtr(z),
    dist.Logistic: lambda d, z: -jax.nn.softplus(-z),
    dist.Cauchy: lambda d, z: jnp.log(jnp.arctan2(1.0, -z) / jnp.pi),
    dist.Laplace: lambda d, z: jnp.where(
        z < 0, jnp.minimum(z, 0) - jnp.log(2.0), jnp.log1p(-0.5 * jnp.exp(-jnp.maximum(z, 0)))
    ),
    dist.StudentT: lambda d, z: _student_log_cdf(d.df, z),
}


@eqx.filter_custom_jvp
def _student_log_cdf(df: Number, z: Number) -> Number:
    return _log(dist.StudentT(df).cdf(z))


@_student_log_cdf.def_jvp
def _student_log_cdf_jvp(primals, tangents):
    # At 0 the automatic derivative is 0 times infinity.
    (df, z), (df_tangent, z_tangent) = primals, tangents
    if df_tangent is not None:
        raise NotImplementedError("the CDF of StudentT has no derivative by its degrees of freedom.")
    log_cdf = _student_log_cdf(df, z)
    return log_cdf, None if z_tangent is None else z_tangent * jnp.exp(dist.StudentT(df).log_prob(z) - log_cdf)


def log_tails(d: dist.Distribution, x: Number) -> tuple[Number, Number]:
    r"""$\log F(x)$ and $\log(1 - F(x))$.

    Both are precise for symmetric families, exponential laws, and monotone transformations of those. Others tell their
    CDF only: what is left of the upper tail beyond $1 - \epsilon$, the rounding of numbers near 1, is cut.
    """
    kind = type(d)
    if kind in SYMMETRIC:
        z = (x - d.loc) / d.scale
        return SYMMETRIC[kind](d, z), SYMMETRIC[kind](d, -z)
    if kind is dist.Exponential:
        return _log(-jnp.expm1(-d.rate * x)), -d.rate * x
    if isinstance(d, dist.TransformedDistribution) and type(d).cdf is dist.TransformedDistribution.cdf:
        sign = 1
        for transform in reversed(d.transforms):
            sign, x = sign * transform.sign, transform.inv(x)
        below, above = log_tails(d.base_dist, x)
        return jnp.where(sign > 0, below, above), jnp.where(sign > 0, above, below)
    cdf = jnp.minimum(d.cdf(x), 1 - jnp.finfo(x.dtype).epsneg)
    return _log(cdf), jnp.log1p(-cdf)


def _log(probability: Number) -> Number:
    return jnp.log(jnp.maximum(probability, jnp.finfo(probability.dtype).tiny))


def _ends(support: Constraint) -> tuple[Array | None, Array | None]:
    """The ends of an interval, which may hang on other coordinates; None where it has none."""
    lower, upper = (getattr(support, name, None) for name in ("lower_bound", "upper_bound"))
    if support.is_discrete or (support is not constraints.real and lower is None and upper is None):
        raise ValueError(f"a conditional distribution must have an interval for support, but its support is {support}.")
    return lower, upper


class NumPyroLaw(AbstractLaw):
    """A NumPyro distribution of one number, with a CDF."""

    distribution: dist.Distribution

    def log_tails(self, x):
        return log_tails(self.distribution, x)

    def log_prob(self, x):
        lower, upper = _ends(self.distribution.support)
        log_prob = self.distribution.log_prob(x)
        inside = (True if lower is None else x >= lower) & (True if upper is None else x <= upper)
        return jnp.where(inside, log_prob, -jnp.inf)

    def from_line(self, t):
        lower, upper = jax.lax.stop_gradient(_ends(self.distribution.support))
        if lower is not None and upper is not None:
            return lower + (upper - lower) * jax.nn.sigmoid(t)
        if lower is not None:
            return lower + jnp.exp(t)
        if upper is not None:
            return upper - jnp.exp(-t)
        loc, scale = (getattr(self.distribution, name, default) for name, default in (("loc", 0.0), ("scale", 1.0)))
        return jax.lax.stop_gradient(loc) + jax.lax.stop_gradient(scale) * t


class ConditionalRosenblatt(AbstractSequentialRosenblatt):
    """The Rosenblatt map of a chain of distributions.

    Args:
        conditionals: functions that map the coordinates before, an array of shape (i,), to the NumPyro distribution of
            coordinate i: of one number, continuous, on an interval, with a CDF. What such a function closes over is no
            parameter.
    """

    conditionals: Constant
    dim: int = eqx.field(static=True)
    intervals: tuple[tuple[float, float], ...] = eqx.field(static=True)

    def __init__(self, conditionals: Sequence[Conditional]):
        if not conditionals or not all(callable(conditional) for conditional in conditionals):
            raise ValueError(
                "conditionals must be functions, one for each coordinate, that map the coordinates before to a NumPyro "
                f"distribution, but got {conditionals!r}."
            )
        self.conditionals, self.dim = Constant(tuple(conditionals)), len(conditionals)
        for i in range(self.dim):
            self._check(i)
        self.intervals = self._intervals()

    def _check(self, i: int) -> None:
        """Before anything is computed."""

        def look(before):
            d = self.conditionals.value[i](before)
            if not isinstance(d, dist.Distribution) or d.event_shape or d.batch_shape:
                shape = getattr(d, "shape", lambda: "?")()
                raise ValueError(
                    f"conditional {i} must return a NumPyro distribution of one number, but returns "
                    f"{type(d).__name__} of shape {shape}."
                )
            _ends(d.support)
            try:
                return d.cdf(jnp.zeros(()))
            except NotImplementedError as error:
                raise ValueError(f"conditional {i}, {type(d).__name__}, has no CDF.") from error

        jax.eval_shape(look, jnp.zeros(i))

    def _intervals(self) -> tuple[tuple[float, float], ...]:
        """Where each coordinate lies, the whole line where that hangs on others."""

        def probe(y):
            x = self.quantiles(y)
            ends = [_ends(self.law(x[:i]).distribution.support) for i in range(self.dim)]
            infinite = (-jnp.inf, jnp.inf)
            return jnp.stack(
                [
                    jnp.asarray(other if end is None else end, y.dtype)
                    for pair in ends
                    for end, other in zip(pair, infinite, strict=True)
                ]
            ).reshape(self.dim, 2)

        found = np.asarray(jax.jit(jax.vmap(probe))(jax.random.normal(jax.random.key(0), (PROBES, self.dim))))
        same = (found == found[:1]).all(0)
        return tuple(map(tuple, np.where(same, found[0], [-np.inf, np.inf]).tolist()))

    @property
    def domain(self) -> Constraint:
        lower, upper = np.array(self.intervals).T
        if np.isinf(lower).all() and np.isinf(upper).all():
            return constraints.real
        return constraints.interval(lower, upper)

    def law(self, before):
        return NumPyroLaw(self.conditionals.value[len(before)](before))

    def log_prob(self, x):
        return jnp.sum(jnp.stack([self.law(x[:i]).log_prob(x[i]) for i in range(self.dim)]))
