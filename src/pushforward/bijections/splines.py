r"""Monotone splines as scalar bijections of the whole line: a spline inside [-bound, bound], lines outside.

Knots $(u_k, x_k)$ divide the square $[-B, B]^2$ into boxes of widths $w_k$ and heights $h_k$. In each box the spline is
an increasing curve from corner to corner, which each family defines in the box's own units,
$$\xi = (u - u_k)/w_k, \quad \eta = (x - x_k)/h_k, \quad \eta = f(\xi;\, a, b, \dots), \quad
\log T'(u) = \log(h_k/w_k) + \log f'(\xi),$$
where $a = f'(0)$ and $b = f'(1)$ are the slopes at the two knots times $w_k/h_k$. Outside, $x$ continues with the slope
at the end knot. If all arrays are zero, the spline is the identity.
"""

import abc
import math
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from pushforward.bijections.base import AbstractBijection
from pushforward.bijections.checks import is_size
from pushforward.bijections.elementwise import clamp
from pushforward.bijections.positive import positive
from pushforward.bijections.solvers.monotone import invert_monotone

# The smallest width or height of a bin, as a fraction of an equal bin: it bounds the condition number of the inverse.
# Other fractions that a spline learns keep the same distance from 0 and 1.
MIN_FRACTION = 1e-2

Bins = tuple[Float[Array, " bins"], Float[Array, " bins"]]


def knots(raw: Float[Array, " bins"], bound: float) -> Bins:
    """The starts and sizes of bins that fill [-bound, bound]; equal raw numbers give equal bins."""
    sizes = 2 * bound * (MIN_FRACTION / raw.size + (1 - MIN_FRACTION) * jax.nn.softmax(raw))
    return starts_of(sizes, bound), sizes


def starts_of(sizes: Float[Array, " bins"], bound: float) -> Float[Array, " bins"]:
    """The starts of bins of these sizes; the first is -bound."""
    return jnp.concatenate([jnp.zeros(1, sizes.dtype), jnp.cumsum(sizes[:-1])]) - bound


def in_bin(value: Float[Array, ""], starts: Float[Array, " bins"]) -> Bool[Array, " bins"]:
    """The bin that contains the value, one-hot: selection by a mask and its gradient are faster than by an index."""
    above = value >= starts[1:]
    yes, no = jnp.ones(1, bool), jnp.zeros(1, bool)
    return jnp.concatenate([yes, above]) & ~jnp.concatenate([above, no])


def pick(here: Bool[Array, " bins"], values: Float[Array, "*more bins"]) -> Float[Array, "*more"]:
    """The values of the bin that `in_bin` found."""
    return jnp.sum(jnp.where(here, values, 0), -1)


def fraction(raw: Array, middle: float = 0.5) -> Array:
    """A number between `MIN_FRACTION` and 1 - `MIN_FRACTION`; it is `middle` if raw is 0."""
    middle = (middle - MIN_FRACTION) / (1 - 2 * MIN_FRACTION)
    shift = math.log(middle) - math.log1p(-middle)
    return MIN_FRACTION + (1 - 2 * MIN_FRACTION) * jax.nn.sigmoid(raw + shift)


class _Spline(AbstractBijection):
    """Shared by the splines: the search for the bin, and the lines outside. A family defines bins and one box."""

    bound: eqx.AbstractVar[float]
    shape: ClassVar[tuple[int, ...]] = ()
    cond_shape: ClassVar[None] = None

    @abc.abstractmethod
    def _bins(self) -> tuple[Bins, Bins, Float[Array, " knots"], tuple[Float[Array, " bins"], ...]]:
        """The bins of u, those of x, the slopes at all knots, and further values of each bin that the family needs."""

    @abc.abstractmethod
    def _rise(self, xi: Array, a: Array, b: Array, *others: Array) -> tuple[Array, Array]:
        r"""$\eta = f(\xi)$ and $\log f'(\xi)$."""

    @abc.abstractmethod
    def _run(self, eta: Array, a: Array, b: Array, *others: Array) -> Array:
        r"""$\xi = f^{-1}(\eta)$."""

    def _forward(self, u, condition, key):
        bins = self._bins()
        v, outside, excess, slope = self._clip(u, bins[2])
        u0, w, x0, h, *box = at_bin(v, bins[0][0], bins)
        eta, log_slope = self._rise(unit((v - u0) / w), *box)
        x = jnp.where(outside, u + (slope - 1) * excess, x0 + h * eta)
        return x, jnp.where(outside, jnp.log(slope), jnp.log(h / w) + log_slope)

    def _inverse(self, x, condition, key):
        bins = self._bins()
        y, outside, excess, slope = self._clip(x, bins[2])
        u0, w, x0, h, *box = at_bin(y, bins[1][0], bins)
        xi = unit(self._run(unit((y - x0) / h), *box))
        _, log_slope = self._rise(xi, *box)
        u = jnp.where(outside, x + (1 / slope - 1) * excess, u0 + w * xi)
        return u, -jnp.where(outside, jnp.log(slope), jnp.log(h / w) + log_slope)

    def _clip(self, value: Array, slopes: Array) -> tuple[Array, Array, Array, Array]:
        """The value clipped to [-bound, bound]; whether and how far it is outside, and the slope on that side.

        The unused branch of `where` must be finite too, because its gradient is multiplied by zero.
        """
        clipped = clamp(value, -self.bound, self.bound)
        # The largest finite number replaces infinity, because 0 times infinity is NaN.
        most = float(jnp.finfo(value.dtype).max)
        excess = jnp.clip(value, -most, most) - jax.lax.stop_gradient(clipped)
        return clipped, ~(jnp.abs(value) < self.bound), excess, jnp.where(value < 0, slopes[0], slopes[-1])


def at_bin(value: Array, starts: Array, bins: tuple) -> list[Array]:
    """The bin that contains the value: its start and size in u, the same in x, then a, b and the other values."""
    (u_starts, widths), (x_starts, heights), slopes, others = bins
    here = in_bin(value, starts)
    arrays = u_starts, widths, x_starts, heights, slopes[:-1], slopes[1:], *others
    u0, w, x0, h, left, right, *others = (pick(here, a) for a in arrays)
    return [u0, w, x0, h, left * w / h, right * w / h, *others]


def unit(fraction: Array) -> Array:
    """Clip to [0, 1], because rounding errors may lead outside, where roots may not exist; the derivative stays 1."""
    return fraction + jax.lax.stop_gradient(clamp(fraction, 0.0, 1.0) - fraction)


def _check(bins: int, bound: float, fewest: int = 2) -> None:
    """Raise unless bins and bound are valid. A single bin would fill the square and have nothing to learn."""
    numbers = jnp.finfo(jnp.result_type(float))
    # Products of a few lengths must not overflow or underflow.
    if not is_size(bins, fewest) or not float(numbers.tiny) ** 0.25 < bound < float(numbers.max) ** 0.25:
        raise ValueError(
            f"this spline needs bins >= {fewest} and a positive, finite bound, but got bins={bins}, bound={bound}."
        )


def _between_ones(slopes: Float[Array, " inner"]) -> Float[Array, " knots"]:
    one = jnp.ones(1, slopes.dtype)
    return jnp.concatenate([one, slopes, one])


class LinearSpline(_Spline):
    r"""A piecewise linear function on [-bound, bound] and the identity outside: $\eta = \xi$.

    The density jumps at the knots. The gradient of an expected log-density lacks the contribution of moving jumps, so
    prefer the smoother splines for training, and use this one for densities that are known to be piecewise constant.

    Args:
        bins: the number of bins, at least 2.
        bound: half the width of the interval.

    References:
        Müller et al., Neural Importance Sampling (2019), section 4.1, where all widths are equal.
        https://arxiv.org/abs/1808.03856
    """

    raw_widths: Float[Array, " bins"]
    raw_heights: Float[Array, " bins"]
    bound: float = eqx.field(static=True)

    def __init__(self, bins: int = 8, bound: float = 5.0):
        _check(bins, bound)
        self.raw_widths, self.raw_heights = jnp.zeros(bins), jnp.zeros(bins)
        self.bound = float(bound)

    def _bins(self):
        widths, heights = knots(self.raw_widths, self.bound), knots(self.raw_heights, self.bound)
        return widths, heights, _between_ones(jnp.ones_like(self.raw_widths[1:])), ()

    def _rise(self, xi, a, b):
        return xi, jnp.zeros_like(xi)

    def _run(self, eta, a, b):
        return eta


class QuadraticSpline(_Spline):
    r"""A quadratic spline on [-bound, bound] and the identity outside: its slope is piecewise linear, 1 at both ends.

    $\eta = a\xi + (b - a)\xi^2/2$, where $a + b = 2$: the heights follow from the slopes.

    Args:
        bins: the number of bins, at least 3: with two, the area under the slopes determines the only inner slope.
        bound: half the width of the interval.

    References:
        Müller et al., Neural Importance Sampling (2019), section 4.2. https://arxiv.org/abs/1808.03856
    """

    raw_widths: Float[Array, " bins"]
    raw_slopes: Float[Array, " inner"]
    bound: float = eqx.field(static=True)

    def __init__(self, bins: int = 8, bound: float = 5.0):
        _check(bins, bound, fewest=3)
        self.raw_widths, self.raw_slopes = jnp.zeros(bins), jnp.zeros(bins - 1)
        self.bound = float(bound)

    def _bins(self):
        u_starts, widths = knots(self.raw_widths, self.bound)
        # The area under the slopes must be 2 bound. The end slopes are fixed, so the inner slopes are scaled.
        inner, ends = positive(self.raw_slopes), (widths[0] + widths[-1]) / 2
        inner *= (2 * self.bound - ends) / jnp.sum(inner * (widths[:-1] + widths[1:]) / 2)
        slopes = _between_ones(inner)
        heights = widths * (slopes[:-1] + slopes[1:]) / 2
        return (u_starts, widths), (starts_of(heights, self.bound), heights), slopes, ()

    def _rise(self, xi, a, b):
        return xi * (a + (b - a) * xi / 2), jnp.log(a * (1 - xi) + b * xi)

    def _run(self, eta, a, b):
        # The form of the root without cancellation: its denominator is a sum of positive numbers.
        return 2 * eta / (a + jnp.sqrt(a**2 * (1 - eta) + b**2 * eta))


class CubicSpline(_Spline):
    r"""A cubic spline on [-bound, bound] with continuous slope; it continues along its end tangents outside.

    $\eta = a\xi(1 - \xi)^2 + (3 - b)\xi^2(1 - \xi) + \xi^3$. The inner slopes follow from widths and heights by
    Steffen's rule, which keeps the spline monotone; the end slopes are learned. The inverse is numerical, because
    closed forms of cubic roots lose digits to cancellation.

    Args:
        bins: the number of bins, at least 2.
        bound: half the width of the interval.

    References:
        Durkan et al., Cubic-Spline Flows (2019), section 3.1 and appendix A. https://arxiv.org/abs/1906.02145
        Steffen, A Simple Method for Monotonic Interpolation in One Dimension (1990), equations 8 to 11.
    """

    raw_widths: Float[Array, " bins"]
    raw_heights: Float[Array, " bins"]
    raw_ends: Float[Array, "2"]
    bound: float = eqx.field(static=True)
    numerical_inverse: ClassVar[bool] = True

    def __init__(self, bins: int = 8, bound: float = 5.0):
        _check(bins, bound)
        self.raw_widths, self.raw_heights, self.raw_ends = jnp.zeros(bins), jnp.zeros(bins), jnp.zeros(2)
        self.bound = float(bound)

    def _bins(self):
        u_starts, w = knots(self.raw_widths, self.bound)
        x_starts, h = knots(self.raw_heights, self.bound)
        secants = h / w
        before, after = secants[:-1], secants[1:]
        parabola = (before * w[1:] + after * w[:-1]) / (w[:-1] + w[1:])
        inner = jnp.minimum(2 * jnp.minimum(before, after), parabola)
        # An end slope may be up to three times the slope of its secant.
        first, last = 3 * fraction(self.raw_ends, 1 / 3) * jnp.stack([secants[0], secants[-1]])
        return (u_starts, w), (x_starts, h), jnp.concatenate([first[None], inner, last[None]]), ()

    def _rise(self, xi, a, b):
        top = 1 - xi
        slope = a * top**2 + 2 * (3 - a - b) * xi * top + b * xi**2
        return _cubic(xi, (a, b)), jnp.log(slope)

    def _run(self, eta, a, b):
        return invert_monotone(_cubic, eta, (a, b), lower=0.0, upper=1.0)


def _cubic(xi: Array, ends: tuple[Array, Array]) -> Array:
    (a, b), top = ends, 1 - xi
    return xi * (a * top**2 + (3 - b) * xi * top + xi**2)


class RationalQuadraticSpline(_Spline):
    r"""A monotone rational-quadratic spline on [-bound, bound] and the identity outside, with continuous slope.

    $$\eta = \frac{\xi^2 + a\,\xi(1-\xi)}{1 + (a + b - 2)\,\xi(1-\xi)}.$$

    Args:
        bins: the number of bins, at least 2.
        bound: half the width of the interval.

    References:
        Durkan et al., Neural Spline Flows (2019), equations 4 to 8. https://arxiv.org/abs/1906.04032
    """

    raw_widths: Float[Array, " bins"]
    raw_heights: Float[Array, " bins"]
    raw_slopes: Float[Array, " inner"]
    bound: float = eqx.field(static=True)

    def __init__(self, bins: int = 8, bound: float = 5.0):
        _check(bins, bound)
        self.raw_widths, self.raw_heights = jnp.zeros(bins), jnp.zeros(bins)
        self.raw_slopes = jnp.zeros(bins - 1)
        self.bound = float(bound)

    def _bins(self):
        widths, heights = knots(self.raw_widths, self.bound), knots(self.raw_heights, self.bound)
        return widths, heights, _between_ones(positive(self.raw_slopes)), ()

    def _rise(self, xi, a, b):
        return rational_quadratic(xi, a, b)

    def _run(self, eta, a, b):
        return rational_quadratic_root(eta, a, b)


def rational_quadratic(xi: Array, a: Array, b: Array) -> tuple[Array, Array]:
    r"""$\eta$ and its log-slope in a box, see `RationalQuadraticSpline`."""
    mixed = xi * (1 - xi)
    bottom = 1 + (a + b - 2) * mixed
    top = b * xi**2 + 2 * mixed + a * (1 - xi) ** 2
    return (xi**2 + a * mixed) / bottom, jnp.log(top) - 2 * jnp.log(bottom)


def rational_quadratic_root(eta: Array, a: Array, b: Array) -> Array:
    r"""$\xi$ for which `rational_quadratic` is $\eta$."""
    # Equations 6 to 8 without cancellation: the discriminant and both parts of the ratio are sums of positive numbers.
    g = a * (1 - eta) - b * eta
    root = jnp.sqrt(g**2 + 4 * eta * (1 - eta))
    top = jnp.where(g > 0, 2 * eta, root - g)
    return top / (top + jnp.where(g > 0, root + g, 2 * (1 - eta)))


class LinearRationalSpline(_Spline):
    r"""A monotone linear-rational spline on [-bound, bound] and the identity outside, with continuous slope.

    Each bin has two pieces that meet at $\xi = \lambda$ with the same slope. The first is
    $$\eta = \frac{\lambda a\,\xi}{\lambda + (c - 1)\,\xi}, \qquad
    c = \sqrt a\,(\lambda\sqrt a + (1 - \lambda)\sqrt b),$$
    and the second its mirror image: $1 - \eta$ for $1 - \xi$ with $b, a, 1 - \lambda$. Both directions are ratios of
    linear functions, without roots.

    Args:
        bins: the number of bins, at least 2.
        bound: half the width of the interval.

    References:
        Dolatabadi et al., Invertible Generative Modeling using Linear Rational Splines (2020), algorithm 1, with
        $y_m$ and the weights eliminated. https://arxiv.org/abs/2001.05168
    """

    raw_widths: Float[Array, " bins"]
    raw_heights: Float[Array, " bins"]
    raw_slopes: Float[Array, " inner"]
    raw_meets: Float[Array, " bins"]
    bound: float = eqx.field(static=True)

    def __init__(self, bins: int = 8, bound: float = 5.0):
        _check(bins, bound)
        self.raw_widths, self.raw_heights, self.raw_meets = jnp.zeros(bins), jnp.zeros(bins), jnp.zeros(bins)
        self.raw_slopes = jnp.zeros(bins - 1)
        self.bound = float(bound)

    def _bins(self):
        widths, heights = knots(self.raw_widths, self.bound), knots(self.raw_heights, self.bound)
        return widths, heights, _between_ones(positive(self.raw_slopes)), (fraction(self.raw_meets),)

    def _rise(self, xi, a, b, meet):
        p, q = jnp.sqrt(a), jnp.sqrt(b)
        middle = meet * p + (1 - meet) * q
        first = xi < meet
        xi, p, meet = (jnp.where(first, one, other) for one, other in ((xi, 1 - xi), (p, q), (meet, 1 - meet)))
        steep = meet * p / (meet - xi + p * middle * xi)
        eta = steep * p * xi
        return jnp.where(first, eta, 1 - eta), 2 * jnp.log(steep)

    def _run(self, eta, a, b, meet):
        p, q = jnp.sqrt(a), jnp.sqrt(b)
        middle = meet * p + (1 - meet) * q
        first = eta * middle < meet * p
        eta, p, meet = (jnp.where(first, one, other) for one, other in ((eta, 1 - eta), (p, q), (meet, 1 - meet)))
        xi = meet * eta / (eta + p * (meet * p - middle * eta))
        return jnp.where(first, xi, 1 - xi)
