"""Scalar bijections in closed form, which serve as transformers of autoregressive bijections."""

import abc
import math
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float
from numpyro.distributions import constraints
from numpyro.distributions.constraints import Constraint

from pushforward.bijections.base import AbstractBijection
from pushforward.bijections.checks import is_known
from pushforward.bijections.intervals import bounds
from pushforward.bijections.positive import log_positive, positive, raw_positive

# The powers of Yeo and Johnson stay this far inside (0, 2): at the ends the image is not the whole line.
MIN_POWER = 1e-2


def one_number(name: str, value: ArrayLike, *, positive: bool = False) -> Float[Array, ""]:
    """An argument of a scalar bijection as an array; raise a ValueError unless it is one finite number."""
    if np.shape(value) != ():
        raise ValueError(
            f"{name} of a scalar bijection must be one number, but has shape {np.shape(value)}; for a vector use "
            "Elementwise."
        )
    # Checked in the dtype of the parameter, in which it may be 0 or infinite.
    with np.errstate(over="ignore"):
        number = jnp.asarray(value, dtype=float)
    if is_known(number) and not (np.isfinite(number) and (number >= np.finfo(number.dtype).tiny or not positive)):
        raise ValueError(
            f"{name} must be {'positive and ' if positive else ''}finite, got {name}={value} in {number.dtype}."
        )
    return number


class Affine(AbstractBijection):
    r"""$x = \mathrm{scale} \cdot u + \mathrm{loc}$ with a positive scale; $\log|T'| = \log \mathrm{scale}$.

    Args:
        loc: the image of 0.
        scale: the slope, positive.
    """

    loc: Float[Array, ""]
    raw_scale: Float[Array, ""]
    shape: ClassVar[tuple[int, ...]] = ()
    cond_shape: ClassVar[None] = None

    def __init__(self, loc: ArrayLike = 0.0, scale: ArrayLike = 1.0):
        self.loc = one_number("loc", loc)
        self.raw_scale = raw_positive(one_number("scale", scale, positive=True))

    @property
    def scale(self) -> Array:
        return positive(self.raw_scale)

    def _forward(self, u, condition, key):
        return u * self.scale + self.loc, log_positive(self.raw_scale)

    def _inverse(self, x, condition, key):
        return (x - self.loc) / self.scale, -log_positive(self.raw_scale)


class Shift(AbstractBijection):
    r"""$x = u + \mathrm{loc}$; $\log|T'| = 0$.

    Args:
        loc: the image of 0.
    """

    loc: Float[Array, ""]
    shape: ClassVar[tuple[int, ...]] = ()
    cond_shape: ClassVar[None] = None

    def __init__(self, loc: ArrayLike = 0.0):
        self.loc = one_number("loc", loc)

    def _forward(self, u, condition, key):
        return u + self.loc, jnp.zeros_like(u)

    def _inverse(self, x, condition, key):
        return x - self.loc, jnp.zeros_like(x)


def strictly_inside(x: Array, constraint: Constraint) -> Array:
    """The nearest floating-point number inside the open interval: rounding must not put a value on an end."""
    tiny, infinity = np.asarray(jnp.finfo(x.dtype).tiny), np.asarray(np.inf, x.dtype)
    lower, upper = (end.astype(x.dtype) for end in bounds(constraint))
    lower, upper = np.nextafter(lower, infinity), np.nextafter(upper, -infinity)
    # Next to 0 are subnormal numbers, which some devices flush to 0.
    lower, upper = np.where(np.abs(lower) < tiny, tiny, lower), np.where(np.abs(upper) < tiny, -tiny, upper)
    return clamp(x, lower, upper)


def clamp(x: Array, lower: ArrayLike, upper: ArrayLike) -> Array:
    """`jnp.clip`, but with slope 1 at the ends, where the slope of `jnp.clip` is one half."""
    return jnp.where(x < lower, lower, jnp.where(x > upper, upper, x))


def largest_exponent(dtype: jnp.dtype) -> float:
    """A number such that its exponential and that of its negative are finite and not subnormal."""
    return -(1 - 1e-4) * math.log(float(jnp.finfo(dtype).tiny))


def bounded_exponent(x: Array) -> Array:
    """Clip x to `largest_exponent`: an infinite exponential would make the gradients of other events NaN."""
    limit = largest_exponent(x.dtype)
    return clamp(x, -limit, limit)


class _Fixed(AbstractBijection):
    """A bijection without arrays, defined by its value, its inverse and its log-slope, all functions of one number."""

    shape: ClassVar[tuple[int, ...]] = ()
    cond_shape: ClassVar[None] = None

    @abc.abstractmethod
    def _value(self, u: Array) -> Array:
        """$T(u)$."""

    @abc.abstractmethod
    def _root(self, x: Array) -> Array:
        """$T^{-1}(x)$."""

    @abc.abstractmethod
    def _log_slope(self, u: Array) -> Array:
        r"""$\log T'(u)$."""

    def _forward(self, u, condition, key):
        return _forward(self, u), self._log_slope(u)

    def _inverse(self, x, condition, key):
        u = self._root(strictly_inside(x, self.codomain))
        return u, -self._log_slope(u)


@eqx.filter_custom_jvp
def _forward(bijection: _Fixed, u: Array) -> Array:
    return strictly_inside(bijection._value(u), bijection.codomain)


@_forward.def_jvp
def _forward_jvp(primals, tangents):
    # From the log-slope, which stays exact where the value saturates and its automatic derivative rounds to 0.
    (bijection, u), (_, tangent) = primals, tangents
    return _forward(bijection, u), None if tangent is None else tangent * jnp.exp(bijection._log_slope(u))


class Exp(_Fixed):
    r"""$x = e^u$, from the real line onto the positive numbers; $\log T' = u$. The logarithm is `Invert(Exp())`."""

    codomain: ClassVar[Constraint] = constraints.positive

    def _value(self, u):
        return jnp.exp(self._log_slope(u))

    def _root(self, x):
        return jnp.log(x)

    def _log_slope(self, u):
        return bounded_exponent(u)


class Softplus(_Fixed):
    r"""$x = \log(1 + e^u)$, from the real line onto the positive numbers; $\log T' = -\log(1 + e^{-u})$.

    It grows linearly, unlike the exponential.
    """

    codomain: ClassVar[Constraint] = constraints.positive

    def _value(self, u):
        return jax.nn.softplus(u)

    def _root(self, x):
        return x + jnp.log(-jnp.expm1(-x))

    def _log_slope(self, u):
        return -jax.nn.softplus(-u)


class Sigmoid(_Fixed):
    r"""$x = 1/(1 + e^{-u})$, from the real line onto (0, 1); $\log T' = -\log(1 + e^u) - \log(1 + e^{-u})$.

    Results are also inside (0, 1) in floating point, but near 1 these numbers are coarse: in float32 the inverse
    recovers u with an absolute error of about $10^{-7} e^u$, and cannot recover u > 17.
    """

    codomain: ClassVar[Constraint] = constraints.unit_interval

    def _value(self, u):
        return jax.nn.sigmoid(u)

    def _root(self, x):
        return jnp.log(x) - jnp.log1p(-x)

    def _log_slope(self, u):
        return -jax.nn.softplus(u) - jax.nn.softplus(-u)


class Tanh(_Fixed):
    r"""$x = \tanh u$, from the real line onto (-1, 1); $\log T' = 2(\log 2 - u - \log(1 + e^{-2u}))$.

    Results are also inside (-1, 1) in floating point, but near the ends these numbers are coarse: in float32 the
    inverse recovers u with an absolute error of about $10^{-8} e^{2|u|}$, and cannot recover |u| > 9.
    """

    codomain: ClassVar[Constraint] = constraints.open_interval(-1.0, 1.0)

    def _value(self, u):
        return jnp.tanh(u)

    def _root(self, x):
        return 0.5 * (jnp.log1p(x) - jnp.log1p(-x))

    def _log_slope(self, u):
        return -2 * _log_cosh(u)


class Arctan(_Fixed):
    r"""$x = \arctan u$, from the real line onto $(-\pi/2, \pi/2)$; $\log T' = -\log(1 + u^2)$."""

    codomain: ClassVar[Constraint] = constraints.open_interval(-math.pi / 2, math.pi / 2)

    def _value(self, u):
        return jnp.arctan(u)

    def _root(self, x):
        return jnp.tan(x)

    def _log_slope(self, u):
        return -2 * _log_cosh(jnp.arcsinh(u))  # because the square could overflow


class LeakyReLU(_Fixed):
    r"""$x = u$ for $u \ge 0$ and $x = s u$ for $u < 0$; the density is discontinuous at 0.

    Args:
        slope: $s$, positive.
    """

    slope: float = eqx.field(static=True)

    def __init__(self, slope: float = 0.1):
        one_number("slope", slope, positive=True)
        self.slope = float(slope)

    def _value(self, u):
        return jnp.where(u < 0, u * self.slope, u)

    def _root(self, x):
        return jnp.where(x < 0, x / self.slope, x)

    def _log_slope(self, u):
        return jnp.where(u < 0, math.log(self.slope), jnp.zeros_like(u))


class Power(AbstractBijection):
    r"""$x = u^p$ on the positive numbers; $\log T' = \log p + (p - 1) \log u$.

    Args:
        exponent: $p$, positive.
    """

    raw_exponent: Float[Array, ""]
    shape: ClassVar[tuple[int, ...]] = ()
    cond_shape: ClassVar[None] = None
    domain: ClassVar[Constraint] = constraints.positive
    codomain: ClassVar[Constraint] = constraints.positive

    def __init__(self, exponent: ArrayLike = 1.0):
        self.raw_exponent = raw_positive(one_number("exponent", exponent, positive=True))

    @property
    def exponent(self) -> Array:
        return positive(self.raw_exponent)

    def _forward(self, u, condition, key):
        log_u = jnp.log(strictly_inside(u, self.domain))
        log_x = bounded_exponent(self.exponent * log_u)
        return jnp.exp(log_x), log_positive(self.raw_exponent) + log_x - log_u

    def _inverse(self, x, condition, key):
        log_x = jnp.log(strictly_inside(x, self.codomain))
        # Not divided by p: XLA turns two divisions, here and in the derivative of the logarithm, into one by p x, which
        # underflows at the smallest x.
        log_u = bounded_exponent(log_x * positive(-self.raw_exponent))
        return jnp.exp(log_u), -log_positive(self.raw_exponent) + log_u - log_x


class YeoJohnson(AbstractBijection):
    r"""The Yeo-Johnson transformation, a power on each side of 0: adds skewness; its slope is continuous, and 1 at 0.

    $$x = \frac{(1 + u)^\lambda - 1}{\lambda} \quad (u \ge 0), \qquad
    x = -\frac{(1 - u)^{2 - \lambda} - 1}{2 - \lambda} \quad (u < 0),$$
    with $0 < \lambda < 2$; $\log T' = \pm(\lambda - 1) \log(1 + |u|)$.

    Args:
        power: $\lambda$; 1 gives the identity.

    References:
        Yeo and Johnson, A New Family of Power Transformations to Improve Normality or Symmetry (2000), equation 2.1.
    """

    raw_power: Float[Array, ""]
    shape: ClassVar[tuple[int, ...]] = ()
    cond_shape: ClassVar[None] = None

    def __init__(self, power: float = 1.0):
        if not MIN_POWER < power < 2 - MIN_POWER:
            raise ValueError(f"the power must lie in ({MIN_POWER}, {2 - MIN_POWER}), got power={power}.")
        fraction = (power - MIN_POWER) / (2 - 2 * MIN_POWER)
        self.raw_power = jnp.asarray(math.log(fraction) - math.log1p(-fraction), dtype=float)

    @property
    def power(self) -> Array:
        return self._power(jnp.ones(()))

    def _power(self, side: Array) -> Array:
        """The power on the side of 0 that `side` is on."""
        raw = jnp.where(side < 0, -self.raw_power, self.raw_power)
        return MIN_POWER + (2 - 2 * MIN_POWER) * jax.nn.sigmoid(raw)

    def _forward(self, u, condition, key):
        power, log_size = self._power(u), jnp.log1p(jnp.where(u < 0, -u, u))
        x = jnp.expm1(_at_most(power * log_size, largest_exponent(u.dtype))) / power
        return jnp.where(u < 0, -x, x), (power - 1) * log_size

    def _inverse(self, x, condition, key):
        power = self._power(x)
        log_size = _at_most(jnp.log1p(power * jnp.where(x < 0, -x, x)) / power, largest_exponent(x.dtype))
        u = jnp.expm1(log_size)
        return jnp.where(x < 0, -u, u), (1 - power) * log_size


def _at_most(x: Array, upper: float) -> Array:
    return jnp.where(x > upper, upper, x)


class SinhArcsinh(AbstractBijection):
    r"""$x = \sinh(t \operatorname{arsinh} u + s)$: $s$ adds skewness; $t > 1$ makes tails heavier, $t < 1$ lighter.

    $\log T' = \log t + \log\cosh(t \operatorname{arsinh} u + s) - \log\cosh(\operatorname{arsinh} u)$.

    Args:
        skew: $s$.
        tail: $t$, positive.

    References:
        Jones and Pewsey, Sinh-arcsinh Distributions (2009), section 2; their map from data to a normal is the inverse,
        with $\delta = 1/t$ and $\epsilon = s/t$.
    """

    skew: Float[Array, ""]
    raw_tail: Float[Array, ""]
    shape: ClassVar[tuple[int, ...]] = ()
    cond_shape: ClassVar[None] = None

    def __init__(self, skew: ArrayLike = 0.0, tail: ArrayLike = 1.0):
        self.skew = one_number("skew", skew)
        self.raw_tail = raw_positive(one_number("tail", tail, positive=True))

    @property
    def tail(self) -> Array:
        return positive(self.raw_tail)

    def _forward(self, u, condition, key):
        before = jnp.arcsinh(u)
        after = bounded_exponent(self.tail * before + self.skew)
        return jnp.sinh(after), self._log_slope(before, after)

    def _inverse(self, x, condition, key):
        after = jnp.arcsinh(x)
        before = bounded_exponent((after - self.skew) / self.tail)
        return jnp.sinh(before), -self._log_slope(before, after)

    def _log_slope(self, before: Array, after: Array) -> Array:
        return log_positive(self.raw_tail) + _log_cosh(after) - _log_cosh(before)


def _log_cosh(x: Array) -> Array:
    return jnp.logaddexp(x, -x) - math.log(2)
