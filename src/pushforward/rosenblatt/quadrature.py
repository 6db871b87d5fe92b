r"""The Rosenblatt map of an unnormalised density in up to three dimensions, by quadrature.

The box is cut into panels along each axis, in each of which there are Gauss-Legendre nodes. The density of the first
coordinate, $g_1(x_1) = \int p$, is computed at its nodes once; that of each next one, at all its nodes given the
coordinates before. Between nodes $\log g_i$ is a polynomial in each panel, so that $g_i$ is positive; the density
itself, of the last coordinate, is not interpolated. A CDF is a sum of masses of panels and a part of one. All terms
are positive, so both tails keep their digits.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float
from numpyro.distributions import constraints
from numpyro.distributions.constraints import Constraint

from pushforward.bijections.arrays import Constant
from pushforward.bijections.splines import in_bin, pick
from pushforward.rosenblatt.base import AbstractLaw, AbstractSequentialRosenblatt, Number
from pushforward.rosenblatt.panels import LogDensity, gauss_legendre, lagrange, nodes_of, refine

# By dimension: Gauss-Legendre nodes in a panel.
ORDERS = {1: 16, 2: 16, 3: 10}
# Events of a batch at a time: each takes a panel's nodes times all panels.
EVENTS = 256


class PanelLaw(AbstractLaw):
    """A law on an interval that is cut into panels.

    Args:
        edges: of the panels.
        log_values: the log-density, up to a constant, at their nodes.
        density: maps a point to the log-density, up to the same constant; without it, it is interpolated.
    """

    edges: Float[Array, " panels+1"]
    log_values: Float[Array, "panels order"]
    density: Callable[[Number], Number] | None

    def _log_masses(self) -> Float[Array, " panels"]:
        _, weights = gauss_legendre(self.log_values.shape[1])
        log_widths = jnp.log(jnp.diff(self.edges) / 2)
        return log_widths + jax.nn.logsumexp(self.log_values, axis=1, b=jnp.asarray(weights, self.edges.dtype))

    def _log_density(self, points: Float[Array, " points"], here: Array) -> Float[Array, " points"]:
        """At points of one panel."""
        if self.density is not None:
            return jax.vmap(self.density)(points)
        order = self.log_values.shape[1]
        start, end = pick(here, self.edges[:-1]), pick(here, self.edges[1:])
        return lagrange(2 * (points - start) / (end - start) - 1, order) @ pick(here, self.log_values.T)

    def log_total(self) -> Number:
        """The logarithm of the integral."""
        return jax.nn.logsumexp(self._log_masses())

    def log_prob(self, x):
        return self._log_density(x[None], in_bin(x, self.edges[:-1]))[0] - self.log_total()

    def log_tails(self, x):
        here = in_bin(x, self.edges[:-1])
        masses, number = self._log_masses(), jnp.arange(here.size)
        index = jnp.sum(jnp.where(here, number, 0))
        nodes, weights = gauss_legendre(self.log_values.shape[1])
        nodes, weights = jnp.asarray(nodes, x.dtype), jnp.asarray(weights, x.dtype)

        def tail(from_, to, whole):
            """The mass of the panels that are whole, and of one from one point to another."""
            points = from_ + (to - from_) * (nodes + 1) / 2
            part = self._log_density(points, here)
            # A panel may be empty, as its edge may be x; so lengths are factors, and have no logarithm.
            whole_masses = jnp.where(whole, masses, -jnp.inf)
            log_size = jax.lax.stop_gradient(jnp.maximum(jnp.max(whole_masses), jnp.max(part)))
            mass = jnp.sum(jnp.exp(whole_masses - log_size))
            return log_size + jnp.log(mass + (to - from_) / 2 * jnp.sum(weights * jnp.exp(part - log_size)))

        below = tail(pick(here, self.edges[:-1]), x, number < index)
        above = tail(x, pick(here, self.edges[1:]), number > index)
        log_total = jnp.logaddexp(below, above)
        return below - log_total, above - log_total

    def from_line(self, t):
        lower, upper = self.edges[0], self.edges[-1]
        return jnp.clip(lower + (upper - lower) * jax.nn.sigmoid(t), lower, upper)


class _Slice(eqx.Module):
    """A log-density as a function of its last coordinate."""

    log_density: Constant
    before: Float[Array, " i"]

    def __call__(self, t: Number) -> Number:
        return self.log_density.value(jnp.append(self.before, t))


class QuadratureRosenblatt(AbstractSequentialRosenblatt):
    r"""The Rosenblatt map of a density on a box, known up to a constant, in one to three dimensions.

    $$u_1 = \int_{a_1}^{x_1} g_1(t)\,\mathrm dt \Big/ Z, \qquad
    u_2 = \int_{a_2}^{x_2} g_2(x_1, t)\,\mathrm dt \Big/ \int_{a_2}^{b_2} g_2(x_1, t)\,\mathrm dt, \;\dots$$
    where $g_i$ is the integral of the density over the coordinates after $i$. Panels are halved where the integrals or
    the polynomials that stand for $\log g_i$ are not precise enough. What is outside of the box is cut: it is no part
    of the density that is straightened.

    A point costs `order` times as many evaluations of the density as the last axis has panels, in three dimensions the
    square of that.

    Args:
        log_density: a function of an array (dim,), smooth but for lines that are parallel to axes. What it closes over
            is no parameter.
        lower: the lower ends of the box, shape (dim,).
        upper: the upper ends.
        tolerance: the error of each coordinate's distribution that is aimed at, as a share of all mass; by default
            1e-10 in float64 and 1e-5 in float32.
        order: the number of nodes in a panel.

    Attributes:
        log_normalizer: the logarithm of the density's integral over the box.
        error: what was reached of the tolerance. It is measured where the density was looked at: a peak so narrow
            that neither nodes nor thousands of points between them see it remains unknown.
        edge_density: the largest density of any coordinate at an end of the box, in units of the uniform density:
            how far the tails are cut.

    Raises:
        ValueError: where the density is not positive or not finite, or where its integral does not converge; the
            message says at which point.
    """

    log_density: Constant
    edges: tuple[Constant, ...]
    table: Constant
    log_normalizer: float = eqx.field(static=True)
    error: float = eqx.field(static=True)
    edge_density: float = eqx.field(static=True)
    box: tuple[tuple[float, ...], tuple[float, ...]] = eqx.field(static=True)
    dim: int = eqx.field(static=True)

    def __init__(
        self,
        log_density: LogDensity,
        lower: ArrayLike,
        upper: ArrayLike,
        *,
        tolerance: float | None = None,
        order: int | None = None,
    ):
        lower, upper = (np.asarray(end, float) for end in (lower, upper))
        if lower.shape != upper.shape or lower.ndim != 1 or lower.size not in ORDERS:
            raise ValueError(
                f"a box has lower and upper ends of shape (dim,), in 1 to {max(ORDERS)} dimensions, but they have "
                f"shapes {lower.shape} and {upper.shape}."
            )
        if not (np.all(np.isfinite(lower)) and np.all(np.isfinite(upper)) and np.all(lower < upper)):
            raise ValueError(f"a box has finite ends, the lower below the upper, but got {lower} and {upper}.")
        # A distribution's method would broadcast a point of another shape.
        owner = getattr(log_density, "__self__", None)
        shape = getattr(owner, "event_shape", getattr(owner, "shape", lower.shape))
        if isinstance(shape, tuple) and shape != lower.shape:
            raise ValueError(f"the log-density is one of arrays of shape {shape}, but the box has shape {lower.shape}.")
        self.dim, self.box = lower.size, (tuple(lower.tolist()), tuple(upper.tolist()))
        dtype = jnp.result_type(float)
        tolerance = (1e-10 if dtype == jnp.float64 else 1e-5) if tolerance is None else tolerance
        order = ORDERS[self.dim] if order is None else order
        if not 0 < tolerance < 1 or order < 2:
            raise ValueError(f"tolerance must be in (0, 1) and order 2 or more, but got {tolerance} and {order}.")
        grid = refine(log_density, lower, upper, tolerance, order)
        self.log_density = Constant(log_density)
        self.edges = tuple(Constant(jnp.asarray(edges, dtype)) for edges in grid.edges)
        self.table = Constant(jnp.asarray(grid.log_values, dtype))
        self.log_normalizer, self.error, self.edge_density = grid.log_normalizer, grid.error, grid.edge_density

    @property
    def domain(self) -> Constraint:
        return constraints.interval(*map(np.array, self.box))

    def law(self, before):
        axis = len(before)
        edges = self.edges[axis].value.astype(before.dtype)
        last = _Slice(self.log_density, before) if axis == self.dim - 1 else None
        if axis == 0:
            return PanelLaw(edges, self.table.value.astype(before.dtype), last)
        nodes = nodes_of(edges, self.table.value.shape[1])
        if last is not None:
            return PanelLaw(edges, jax.vmap(jax.vmap(last))(nodes), last)

        def integral(t):
            return self.law(jnp.append(before, t)).log_total()

        return PanelLaw(edges, jax.vmap(jax.vmap(integral))(nodes), None)

    def log_prob(self, x):
        return self.log_density.value(x) - self.log_normalizer

    def _map(self, method, arrays, condition, key):
        if arrays[0].ndim == 1:
            return method(*arrays, None, None)
        events = tuple(a.T for a in arrays)
        out = jax.lax.map(lambda event: method(*event, None, None), events, batch_size=EVENTS)
        return tuple(jnp.moveaxis(a, 0, -1) for a in out)
