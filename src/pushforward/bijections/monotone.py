r"""Monotone networks as scalar bijections of the real line: mixtures of sigmoids, positive weights, integrals.

All start as the identity. Their units must still differ, because equal units would get equal gradients and stay equal.
So each unit $m + a(u - m)$ has its own fixed pivot $m$, and the gradients of the slopes $a$ differ.
"""

import math
from collections.abc import Callable, Sequence
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from pushforward.bijections.activations import Activation, steepest_slope, value_and_slope
from pushforward.bijections.base import AbstractBijection, push_score_scalar
from pushforward.bijections.checks import is_size
from pushforward.bijections.elementwise import clamp, one_number
from pushforward.bijections.positive import log_positive, positive
from pushforward.bijections.solvers.monotone import invert_monotone
from pushforward.bijections.splines import in_bin, pick, unit

# The smallest weight of a monotone network, as a fraction of an equal weight, so that sums of slopes cannot underflow.
MIN_WEIGHT = 1e-2

Number = Float[Array, ""]


def _pivots(units: int, spread: float, dtype: jnp.dtype) -> np.ndarray:
    return np.linspace(-spread, spread, units, dtype=dtype)


def _check_units(units: Sequence[int], spread: float) -> None:
    sizes = isinstance(units, Sequence) and len(units) > 0 and all(is_size(n, 2) for n in units)
    if not sizes or not 0 < spread < math.inf:
        raise ValueError(
            f"a monotone network needs layers of 2 or more units and a positive, finite spread, but got units "
            f"{units} and spread={spread}."
        )


class _Monotone(AbstractBijection):
    """Shared by the three: the inverse is numerical, and scores are pushed forward without it."""

    shape: ClassVar[tuple[int, ...]] = ()
    cond_shape: ClassVar[None] = None
    numerical_inverse: ClassVar[bool] = True

    def _push_score(self, u, score, condition):
        return push_score_scalar(self, u, score)


class DeepSigmoidal(_Monotone):
    r"""The logit of a mixture of sigmoids: a map of the real line with one step for each unit.

    $$x = \operatorname{logit} \sum_j w_j\, \sigma(a_j u + b_j), \qquad
    w = \operatorname{softmax}, \quad a_j > 0, \quad b_j = \beta_j + (1 - a_j) m_j.$$
    With $z_j = a_j u + b_j$, $P_j \propto w_j\sigma(z_j)$ and $Q_j \propto w_j\sigma(-z_j)$,
    $$x = \log\sum_j w_j \sigma(z_j) - \log\sum_j w_j \sigma(-z_j), \qquad
    T' = \sum_j a_j \left(P_j\,\sigma(-z_j) + Q_j\,\sigma(z_j)\right),$$
    computed in the log domain without cancellation or underflow. The tails are lines, with the slope of the
    flattest unit. The inverse is numerical.

    It starts as the identity, $a = 1$ and $\beta = 0$. The pivots $m$ are fixed.

    Args:
        num_units: the number of sigmoids, at least 2.
        spread: the pivots are equally spaced from -spread to spread.

    References:
        Huang et al., Neural Autoregressive Flows (2018), equation 8. https://arxiv.org/abs/1804.00779
    """

    raw_weights: Float[Array, " units"]
    raw_slopes: Float[Array, " units"]
    shifts: Float[Array, " units"]
    spread: float = eqx.field(static=True)

    def __init__(self, num_units: int = 8, *, spread: float = 2.0):
        _check_units((num_units,), spread)
        self.raw_weights, self.raw_slopes, self.shifts = (jnp.zeros(num_units) for _ in range(3))
        self.spread = float(spread)

    def _mixture(self) -> tuple[Array, Array, Array]:
        r"""$\log w$, $a$ and $b$."""
        a = positive(self.raw_slopes)
        b = self.shifts + (1 - a) * _pivots(a.size, self.spread, a.dtype)
        return jax.nn.log_softmax(self.raw_weights), a, b

    def _log_slope(self, u: Number, mixture: tuple[Array, Array, Array]) -> Number:
        log_sides, log_parts = _log_sigmoids(u, mixture)
        # Normalize before adding: in the tails both terms are large and differ by little.
        log_shares = jax.nn.log_softmax(log_parts, axis=-1)
        return jax.nn.logsumexp(log_positive(self.raw_slopes) + log_shares + log_sides[::-1])

    def _forward(self, u, condition, key):
        mixture = self._mixture()
        return _logit_of_mixture(u, mixture), self._log_slope(u, mixture)

    def _inverse(self, x, condition, key):
        mixture = self._mixture()
        u = invert_monotone(_logit_of_mixture, x, mixture)
        return u, -self._log_slope(u, mixture)


def _log_sigmoids(u: Number, mixture: tuple[Array, Array, Array]) -> tuple[Float[Array, "2 units"], ...]:
    r"""$\log\sigma(z)$ and $\log\sigma(-z)$, without and with the weights."""
    log_w, a, b = mixture
    z = a * u + b
    log_sides = -jax.nn.softplus(jnp.stack([-z, z]))
    return log_sides, log_w + log_sides


def _logit_of_mixture(u: Number, mixture: tuple[Array, Array, Array]) -> Number:
    on, off = jax.nn.logsumexp(_log_sigmoids(u, mixture)[1], axis=-1)
    return on - off


class _Layer(eqx.Module):
    """Units that average their inputs with positive weights that sum to one; the first layer has only one input."""

    raw_weights: Float[Array, "units inputs"] | None
    raw_slopes: Float[Array, " units"]
    biases: Float[Array, " units"]
    raw_bends: Float[Array, " units"]

    def __init__(self, units: int, inputs: int):
        self.raw_weights = jnp.zeros((units, inputs)) if inputs > 1 else None
        self.raw_slopes, self.biases, self.raw_bends = jnp.zeros(units), jnp.zeros(units), jnp.zeros(units)

    def constrained(self) -> tuple[Array | None, Array, Array, Array]:
        """Weights, slopes, biases and bends."""
        weights = None if self.raw_weights is None else _weights(self.raw_weights)
        return weights, positive(self.raw_slopes), self.biases, positive(self.raw_bends)


def _weights(raw: Float[Array, "*units inputs"]) -> Float[Array, "*units inputs"]:
    return MIN_WEIGHT / raw.shape[-1] + (1 - MIN_WEIGHT) * jax.nn.softmax(raw)


def _average(weights: Array | None, values: Array) -> Array:
    """A sum of products; with a batch on the last axis it is faster than a matrix product."""
    return values if weights is None else jnp.sum(weights * values, -1)


class MonotoneNetwork(_Monotone):
    r"""A network with positive weights and strictly increasing activations, a map of the real line onto itself.

    From $y = u$, each unit $i$ of a layer averages the units of the layer before, applies an affine map around its
    pivot, and a nonlinearity; the output is also an average:
    $$z_i = a_i \left(\textstyle\sum_j w_{ij} y_j - m_i\right) + b_i, \qquad
    y_i \leftarrow m_i + z_i + (p_i - 1)\,\psi(z_i), \qquad x = \mathrm{loc} + \textstyle\sum_j w_j y_j,$$
    where $\psi$ is increasing with slopes up to 1. So the slope of a nonlinearity is between 1 and $p_i > 0$, which it
    reaches where $\psi$ is steepest. It is never 0, and the map is onto the real line. The log-derivative is computed
    layer by layer, $\log y_i' = \log a_i + \log(1 - \psi' + p_i\psi') + \log\sum_j w_{ij} y_j'$. The inverse is
    numerical.

    It starts as the identity, $a = p = 1$ and $b = 0$. The pivots $m$ are fixed.

    Args:
        hidden: the widths of the hidden layers, at least 2 each.
        activation: $\psi$ up to a factor, smooth and increasing; a module-level function.
        max_slope: the largest slope of the activation; needed if `steepest_slope` does not know it.
        spread: the pivots of a layer are equally spaced from -spread to spread.

    References:
        Papamakarios et al. (2021), section 3.1.1.
        Huang et al. (2018), section 3, for positive weights and increasing activations.
    """

    layers: tuple[_Layer, ...]
    raw_weights: Float[Array, " units"]
    loc: Float[Array, ""]
    activation: Activation = eqx.field(static=True)
    max_slope: float = eqx.field(static=True)
    spread: float = eqx.field(static=True)

    def __init__(
        self,
        hidden: Sequence[int] = (8, 8),
        *,
        activation: Activation = jnp.tanh,
        max_slope: float | None = None,
        spread: float = 2.0,
    ):
        _check_units(hidden, spread)
        self.layers = tuple(_Layer(units, inputs) for units, inputs in zip(hidden, (1, *hidden), strict=False))
        self.raw_weights, self.loc = jnp.zeros(hidden[-1]), jnp.zeros(())
        self.activation, self.spread = activation, float(spread)
        self.max_slope = steepest_slope(activation, max_slope, increasing=True)

    def _constrained(self) -> tuple[list, Array, Array]:
        return [layer.constrained() for layer in self.layers], _weights(self.raw_weights), self.loc

    def _activate(self, z: Array) -> tuple[Array, Array]:
        value, slope = value_and_slope(self.activation, z)
        return value / self.max_slope, slope / self.max_slope

    def _pass(self, u: Number, arrays: tuple[list, Array, Array]) -> tuple[Number, Number]:
        """The value and the log-derivative."""
        layers, out, loc = arrays
        y, log_slopes = u[None], jnp.zeros_like(u)[None]
        for weights, a, b, bends in layers:
            pivots = _pivots(a.size, self.spread, a.dtype)
            z = a * (_average(weights, y) - pivots) + b
            value, slope = self._activate(z)
            y = pivots + z + (bends - 1) * value
            log_slopes = jnp.log(a * (1 - slope + bends * slope)) + _log_average(weights, log_slopes)
        return _average(out, y) + loc, _log_average(out, log_slopes)

    def _forward(self, u, condition, key):
        return self._pass(u, self._constrained())

    def _inverse(self, x, condition, key):
        arrays = self._constrained()
        u = invert_monotone(lambda u, arrays: self._pass(u, arrays)[0], x, arrays)
        return u, -self._pass(u, arrays)[1]


def _log_average(weights: Array | None, logs: Array) -> Array:
    """The logarithm of an average of positive numbers, given by their logarithms."""
    most = jax.lax.stop_gradient(jnp.max(logs))
    return most + jnp.log(_average(weights, jnp.exp(logs - most)))


class IntegralNetwork(_Monotone):
    r"""The integral of a positive network, $x = \mathrm{loc} + \int_0^u s(t)\,\mathrm dt$ with $s \approx f > 0$.

    $$f(t) = p\left(c + \textstyle\sum_j v_j\, \psi(a_j t + b_j)\right), \qquad
    s(t) = \textstyle\sum_k f(t_k)\, B\left(\frac{t - t_k}{h}\right),$$
    where $p(r) = (r + \sqrt{r^2 + 4})/2$, $t_k$ are the centers of cells of width $h$ that fill [-bound, bound], and
    $B$ is the quadratic B-spline. Outside, $s$ is constant, so the tails are lines.

    Quadrature of $f$ gives a sum whose derivative is not exactly $f(u)$, and which may decrease when $f$ is sharper
    than the nodes can resolve. Here the quadrature defines the map: $s$ is the variation diminishing spline of $f$. It
    is positive, oscillates no more than $f$, and its integral is exact. So the log-determinant is exactly that of the
    computed map, for all parameters, and the network is evaluated at `nodes` points for any $u$. For a smooth $f$,
    $s - f = O(h^2)$. The inverse is numerical within one cell.

    It starts as the identity if $\mathrm{loc} = 0$, with $v = c = 0$.

    Args:
        num_units: the width of the network's only hidden layer, which can approximate any function of one number.
        nodes: the number of cells, even, so that 0 is an edge of two cells.
        bound: half the width of the interval.
        activation: $\psi$; a module-level function.
        loc: the image of 0.

    References:
        Wehenkel and Louppe, Unconstrained Monotonic Neural Networks (2019), section 2, which integrates by quadrature
        from 0 to u. https://arxiv.org/abs/1908.05164
        Schoenberg, On Spline Functions (1967), in Shisha (ed.), Inequalities, for the variation diminishing spline.
    """

    slopes: Float[Array, " units"]
    biases: Float[Array, " units"]
    weights: Float[Array, " units"]
    offset: Float[Array, ""]
    loc: Float[Array, ""]
    nodes: int = eqx.field(static=True)
    bound: float = eqx.field(static=True)
    activation: Callable[[Array], Array] = eqx.field(static=True)

    def __init__(
        self,
        num_units: int = 8,
        *,
        nodes: int = 32,
        bound: float = 5.0,
        activation: Callable[[Array], Array] = jnp.tanh,
        loc: ArrayLike = 0.0,
    ):
        if not is_size(num_units) or not is_size(nodes, 2) or nodes % 2 or not 0 < bound < math.inf:
            raise ValueError(
                f"an integral network needs num_units >= 1, an even number of nodes and a positive, finite bound, got "
                f"num_units={num_units}, nodes={nodes}, bound={bound}."
            )
        # Each unit varies on its own part of the interval.
        self.slopes = jnp.full(num_units, num_units / (2 * bound))
        self.biases = -self.slopes * _centres(num_units, bound, self.slopes.dtype)
        self.weights, self.offset, self.loc = jnp.zeros(num_units), jnp.zeros(()), one_number("loc", loc)
        self.nodes, self.bound, self.activation = nodes, float(bound), activation

    def _integrand(self, t: Float[Array, " nodes"]) -> Float[Array, " nodes"]:
        """$f$, with sums of products, see `_average`."""
        features = self.activation(self.slopes[:, None] * t + self.biases[:, None])
        return positive(self.offset + jnp.sum(self.weights[:, None] * features, 0))

    def _cells(self) -> tuple[Array, Array, Array, Array]:
        """The starts of cells in u and in x, the end of the last in x, and three samples for each cell: those of its
        left neighbor, of itself and of its right neighbor.
        """
        f = self._integrand(jnp.asarray(_centres(self.nodes, self.bound, self.slopes.dtype)))
        # The end samples are repeated outside, so the derivative of the slope is 0 at both ends.
        left, right = jnp.concatenate([f[:1], f[:-1]]), jnp.concatenate([f[1:], f[-1:]])
        areas = (left + 4 * f + right) * (self.bound / (3 * self.nodes))
        # Summed from 0 toward both ends, where errors matter less.
        below, above = jnp.cumsum(areas[: self.nodes // 2][::-1])[::-1], jnp.cumsum(areas[self.nodes // 2 :])
        knots = self.loc + jnp.concatenate([-below, jnp.zeros(1, f.dtype), above])
        starts = np.linspace(-self.bound, self.bound, self.nodes + 1, dtype=f.dtype)[:-1]
        return jnp.asarray(starts), knots[:-1], knots[-1], jnp.stack([left, f, right])

    def _forward(self, u, condition, key):
        u_starts, x_starts, _, samples = self._cells()
        v = clamp(u, -self.bound, self.bound)
        here, width = in_bin(v, u_starts), 2 * self.bound / self.nodes
        u0, x0, box = pick(here, u_starts), pick(here, x_starts), pick(here, samples)
        xi = (v - u0) / width
        slope = _slope(xi, box)
        # Outside, the map continues along the tangent. Inside, u - v and its derivative are 0.
        return x0 + width * _area(xi, box) + slope * (u - v), jnp.log(slope)

    def _inverse(self, x, condition, key):
        u_starts, x_starts, end, samples = self._cells()
        y = clamp(x, x_starts[0], end)
        here, width = in_bin(y, x_starts), 2 * self.bound / self.nodes
        u0, x0, box = pick(here, u_starts), pick(here, x_starts), pick(here, samples)
        box_area = _area(jnp.ones_like(y), box)
        fraction = unit((y - x0) / (width * box_area))
        xi = invert_monotone(_area, fraction, box / box_area, lower=0.0, upper=1.0)
        slope = _slope(xi, box)
        return u0 + width * xi + (x - y) / slope, -jnp.log(slope)


def _centres(cells: int, bound: float, dtype: jnp.dtype) -> np.ndarray:
    """The centers of equal cells that fill [-bound, bound]."""
    return _pivots(cells, bound * (1 - 1 / cells), dtype)


def _slope(xi: Number, box: Float[Array, "3"]) -> Number:
    """The quadratic B-spline on one cell, xi from 0 to 1: a weighted mean of three samples."""
    left, middle, right = box
    return left * (1 - xi) ** 2 / 2 + middle * (0.5 + xi * (1 - xi)) + right * xi**2 / 2


def _area(xi: Number, box: Float[Array, "3"]) -> Number:
    """The integral of `_slope` from 0."""
    left, middle, right = box
    early = xi * (1 - xi * (1 - xi / 3))
    return left * early / 2 + middle * xi * (0.5 + xi * (0.5 - xi / 3)) + right * xi**3 / 6
