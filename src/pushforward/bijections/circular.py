r"""Bijections of circles.

A bijection of angles is a map of the real line that commutes with full turns, $T(u + 2\pi) = T(u) + 2\pi$.

Such maps are chained and conditioned like any other; `OntoCircles` turns them into a map onto circles and lines.
"""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr, ndtri
from jax.typing import ArrayLike
from jaxtyping import Array, Float
from numpyro.distributions import constraints
from numpyro.distributions.constraints import Constraint

from pushforward.bijections.arrays import along
from pushforward.bijections.base import AbstractBijection
from pushforward.bijections.checks import check_bijections, is_size
from pushforward.bijections.elementwise import clamp
from pushforward.bijections.intervals import bounds
from pushforward.bijections.positive import positive
from pushforward.bijections.splines import at_bin, knots, rational_quadratic, rational_quadratic_root, unit
from pushforward.bijections.wrappers import AbstractWrapper

TURN = 2 * math.pi


class CircularSpline(AbstractBijection):
    r"""A rational-quadratic spline of the circle, followed by a rotation.

    On $[-\pi, \pi)$ it is the spline of `RationalQuadraticSpline`, but both ends share one learned slope, so that the
    slope is continuous on the circle. The rotation can move the point at which the circle is cut.

    Args:
        bins: the number of bins, at least 2.

    References:
        Rezende et al., Normalizing Flows on Tori and Spheres (2020), section 2.1.2. https://arxiv.org/abs/2002.02428
    """

    raw_widths: Float[Array, " bins"]
    raw_heights: Float[Array, " bins"]
    raw_slopes: Float[Array, " bins"]
    rotation: Float[Array, ""]
    shape: ClassVar[tuple[int, ...]] = ()
    cond_shape: ClassVar[None] = None

    def __init__(self, bins: int = 8):
        if not is_size(bins, 2):
            raise ValueError(f"CircularSpline needs bins >= 2, but got bins={bins}.")
        self.raw_widths, self.raw_heights, self.raw_slopes = jnp.zeros(bins), jnp.zeros(bins), jnp.zeros(bins)
        self.rotation = jnp.zeros(())

    def _bins(self):
        widths, heights = knots(self.raw_widths, math.pi), knots(self.raw_heights, math.pi)
        slopes = positive(self.raw_slopes)
        return widths, heights, jnp.concatenate([slopes, slopes[:1]]), ()

    def _forward(self, u, condition, key):
        bins = self._bins()
        v = to_circle(u, -math.pi, TURN)
        u0, w, x0, h, *box = at_bin(v, bins[0][0], bins)
        eta, log_slope = rational_quadratic(unit((v - u0) / w), *box)
        return u + (x0 + h * eta - v) + self.rotation, jnp.log(h / w) + log_slope

    def _inverse(self, x, condition, key):
        bins = self._bins()
        y = x - self.rotation
        v = to_circle(y, -math.pi, TURN)
        u0, w, x0, h, *box = at_bin(v, bins[1][0], bins)
        xi = unit(rational_quadratic_root(unit((v - x0) / h), *box))
        return y + (u0 + w * xi - v), -jnp.log(h / w) - rational_quadratic(xi, *box)[1]


def to_circle(x: Array | np.ndarray, lower: ArrayLike, period: ArrayLike) -> Any:
    """The same angle in [lower, lower + period)."""
    # JAX would round NumPy's double precision.
    floor = np.floor if isinstance(x, np.ndarray) else jnp.floor
    return x - period * floor((x - lower) / period)


class OntoCircles(AbstractWrapper):
    r"""Maps the whole space onto circles and lines: $x = T(2\pi\,\Phi(u) - \pi)$, wrapped onto its circle, in the
    coordinates that are angles, and $x = T(u)$ in the others.

    With a standard normal base, the angles that $T$ takes are uniform. So the density is continuous where the circle
    is cut, if $T$ is: if it adds a full circle when an angle grows by $2\pi$, and does not change otherwise. In the
    inverse, $u$ is clipped to the range in which $\Phi$ can be inverted in the dtype.

    Args:
        bijection: $T$.
        circles: for each coordinate, the ends of the interval that its angle lies in, or None if it is not an angle.

    References:
        Rezende et al., Normalizing Flows on Tori and Spheres (2020), section 2.1. https://arxiv.org/abs/2002.02428
    """

    bijection: AbstractBijection
    circles: tuple[tuple[float, float] | None, ...] = eqx.field(static=True)
    vectorized: ClassVar[bool] = True

    def __init__(self, bijection: AbstractBijection, circles: Sequence[tuple[float, float] | None]):
        check_bijections("OntoCircles", bijection)
        self.bijection, self.circles = bijection, tuple(circles)
        if bijection.shape != (len(self.circles),):
            raise ValueError(f"there must be one entry of circles for each coordinate of shape {bijection.shape}.")
        if not all(c is None or (len(c) == 2 and -math.inf < c[0] < c[1] < math.inf) for c in self.circles):
            raise ValueError(f"a circle must have two finite ends, the lower one first, but got {self.circles}.")

    @property
    def angles(self) -> tuple[bool, ...]:
        """Which coordinates are angles."""
        return tuple(circle is not None for circle in self.circles)

    @property
    def cond_shape(self) -> tuple[int, ...] | None:
        return self.bijection.cond_shape

    @property
    def codomain(self) -> Constraint:
        if not any(self.angles):
            return self.bijection.codomain
        ends = [bounds(self.bijection.codomain), zip(*(circle or (0, 0) for circle in self.circles), strict=True)]
        lower, upper = (np.where(self.angles, circle, line) for line, circle in zip(*ends, strict=True))
        return constraints.interval(lower, upper)

    def _turned(self, u: Array) -> tuple[Array, Array]:
        """The input of T, and the log-determinant."""
        angles = along(jnp.array(self.angles), u)
        log_slope = math.log(TURN) - 0.5 * u**2 - 0.5 * math.log(TURN)
        return jnp.where(angles, TURN * (ndtr(u) - 0.5), u), jnp.where(angles, log_slope, 0).sum(0)

    def _turned_back(self, t: Array) -> tuple[Array, Array]:
        angles = along(jnp.array(self.angles), t)
        eps = jnp.finfo(t.dtype).eps
        fraction = clamp(to_circle(jnp.where(angles, t, 0), -math.pi, TURN) / TURN + 0.5, eps, 1 - eps)
        u = jnp.where(angles, ndtri(fraction), t)
        log_slope = 0.5 * math.log(TURN) - 0.5 * u**2
        return u, -jnp.where(angles, log_slope, 0).sum(0)

    def _wrapped(self, x: Array) -> Array:
        lower, upper = np.array([circle or (0.0, 1.0) for circle in self.circles]).T
        angles, lower, period = (along(a, x) for a in (np.array(self.angles), lower, upper - lower))
        return jnp.where(angles, to_circle(x, lower, period), x).astype(x.dtype)

    def _forward(self, u, condition, key):
        t, first = self._turned(u)
        x, log_det = self.bijection.forward_batch(t, condition, key)
        return self._wrapped(x), first + log_det

    def _inverse(self, x, condition, key):
        t, log_det = self.bijection.inverse_batch(x, condition, key)
        u, last = self._turned_back(t)
        return u, log_det + last
