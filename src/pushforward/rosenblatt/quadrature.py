r"""The Rosenblatt map of an unnormalized density in up to three dimensions, by quadrature.

Each axis of the box is divided into panels with Gauss-Legendre nodes. The marginal density of the first coordinate,
$g_1(x_1) = \int p$, is computed once at its nodes; that of each later coordinate at its nodes for the given previous
coordinates. In each panel $\log g_i$ is interpolated by a polynomial, so $g_i$ is positive; for the last coordinate the
density itself is used without interpolation. A CDF is the sum of the masses of whole panels and of part of one. All
terms are positive, so both tails keep their relative precision.
"""

from collections.abc import Callable
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpyro.distributions import constraints
from numpyro.distributions.constraints import Constraint

from pushforward.arguments import MAX_COUNT, Range, checked
from pushforward.bijections.arrays import ArrayLike, Constant
from pushforward.bijections.splines import in_bin, pick
from pushforward.rosenblatt.base import AbstractSequentialRosenblatt, AbstractUnivariateDistribution, Number
from pushforward.rosenblatt.panels import LogDensity, gauss_legendre, lagrange, nodes_of, refine

# The number of Gauss-Legendre nodes in a panel, by dimension.
ORDERS = {1: 16, 2: 16, 3: 10}


class PanelDistribution(AbstractUnivariateDistribution):
    """A distribution on an interval that is divided into panels.

    Args:
        edges: the edges of the panels.
        log_values: the log-density, up to a constant, at the nodes.
        density: the log-density as a function of a point, up to the same constant; None to interpolate `log_values`.
    """

    edges: Float[Array, " edges"]
    log_values: Float[Array, "panels order"]
    density: Callable[[Number], Number] | None

    def _log_masses(self) -> Float[Array, " panels"]:
        _, weights = gauss_legendre(self.log_values.shape[1])
        log_widths = jnp.log(jnp.diff(self.edges) / 2)
        return log_widths + jax.nn.logsumexp(self.log_values, axis=1, b=jnp.asarray(weights, self.edges.dtype))

    def _log_density(self, points: Float[Array, " points"], here: Array) -> Float[Array, " points"]:
        """The log-density at points of one panel."""
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
            """The log-mass of all whole panels, and of part of one panel between two points."""
            points = from_ + (to - from_) * (nodes + 1) / 2
            part = self._log_density(points, here)
            # The part may have length 0, if x is an edge; so lengths are factors without a logarithm.
            whole_masses = jnp.where(whole, masses, -jnp.inf)
            log_size = jax.lax.stop_gradient(jnp.maximum(jnp.max(whole_masses), jnp.max(part)))
            mass = jnp.sum(jnp.exp(whole_masses - log_size))
            return log_size + jnp.log(mass + (to - from_) / 2 * jnp.sum(weights * jnp.exp(part - log_size)))

        below = tail(pick(here, self.edges[:-1]), x, number < index)
        above = tail(x, pick(here, self.edges[1:]), number > index)
        log_total = jnp.logaddexp(below, above)
        return below - log_total, above - log_total

    def from_real(self, t):
        lower, upper = self.edges[0], self.edges[-1]
        return jnp.clip(lower + (upper - lower) * jax.nn.sigmoid(t), lower, upper)


class _Slice(eqx.Module):
    """A log-density as a function of the last coordinate."""

    log_density: Constant
    before: Float[Array, " i"]

    def __call__(self, t: Number) -> Number:
        return self.log_density.value(jnp.append(self.before, t))


class QuadratureRosenblatt(AbstractSequentialRosenblatt):
    r"""The Rosenblatt map of a density on a box, known up to a constant, in one to three dimensions.

    $$u_1 = \int_{a_1}^{x_1} g_1(t)\,\mathrm dt \Big/ Z, \qquad
    u_2 = \int_{a_2}^{x_2} g_2(x_1, t)\,\mathrm dt \Big/ \int_{a_2}^{b_2} g_2(x_1, t)\,\mathrm dt, \;\dots$$
    where $g_i$ is the integral of the density over the coordinates after $i$. Panels are halved where the integrals or
    the interpolation of $\log g_i$ are not precise enough. The density is truncated to the box.

    A point costs one evaluation of the density at each node of the last axis, which has `order` nodes per panel; in
    three dimensions the square of that number.

    Args:
        log_density: a function of an array (dim,). It must be smooth, except for kinks at lines parallel to the axes.
            Values that it closes over are not trained.
        lower: the lower ends of the box, shape (dim,).
        upper: the upper ends of the box, shape (dim,).
        tolerance: the target error of each coordinate's distribution, as a fraction of the mass; by default 1e-10 in
            float64 and 1e-5 in float32.
        order: the number of nodes per panel.

    Attributes:
        log_normalizer: the logarithm of the density's integral over the box.
        error: the estimated error that was reached, at most the tolerance. A peak that is too narrow for the nodes
            and for thousands of points between them remains undetected.
        edge_density: the largest density of any coordinate near an end of the box, relative to the uniform density:
            it measures the truncation of the tails.

    Raises:
        ValueError: if the density is not positive or not finite, or if its integral does not converge; the message
            gives the point.
    """

    log_density: Constant
    edges: tuple[Constant, ...]
    table: Constant
    log_normalizer: float = eqx.field(static=True)
    error: float = eqx.field(static=True)
    edge_density: float = eqx.field(static=True)
    box: tuple[tuple[float, ...], tuple[float, ...]] = eqx.field(static=True)
    dim: int = eqx.field(static=True)
    # Each event needs all nodes of all panels.
    events_at_once: ClassVar[int] = 256

    @checked(tolerance=Range(0, 1, open=True), order=Range(2, MAX_COUNT))
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
                f"a box must have lower and upper ends of shape (dim,), in 1 to {max(ORDERS)} dimensions, but got "
                f"shapes {lower.shape} and {upper.shape}."
            )
        if not (np.all(np.isfinite(lower)) and np.all(np.isfinite(upper)) and np.all(lower < upper)):
            raise ValueError(f"a box must have finite ends, the lower below the upper, but got {lower} and {upper}.")
        # Checked, because a distribution's log_prob would broadcast a point of another shape.
        owner = getattr(log_density, "__self__", None)
        shape = getattr(owner, "event_shape", getattr(owner, "shape", lower.shape))
        if isinstance(shape, tuple) and shape != lower.shape:
            raise ValueError(f"the log-density takes arrays of shape {shape}, but the box has shape {lower.shape}.")
        self.dim, self.box = lower.size, (tuple(lower.tolist()), tuple(upper.tolist()))
        dtype = jnp.result_type(float)
        tolerance = (1e-10 if dtype == jnp.float64 else 1e-5) if tolerance is None else tolerance
        order = ORDERS[self.dim] if order is None else order
        grid = refine(log_density, lower, upper, tolerance, order)
        self.log_density = Constant(log_density)
        self.edges = tuple(Constant(jnp.asarray(edges, dtype)) for edges in grid.edges)
        self.table = Constant(jnp.asarray(grid.log_values, dtype))
        self.log_normalizer, self.error, self.edge_density = grid.log_normalizer, grid.error, grid.edge_density

    @property
    def domain(self) -> Constraint:
        return constraints.interval(*map(np.array, self.box))

    def conditional(self, before):
        axis = len(before)
        edges = self.edges[axis].value.astype(before.dtype)
        last = _Slice(self.log_density, before) if axis == self.dim - 1 else None
        if axis == 0:
            return PanelDistribution(edges, self.table.value.astype(before.dtype), last)
        nodes = nodes_of(edges, self.table.value.shape[1])
        if last is not None:
            return PanelDistribution(edges, jax.vmap(jax.vmap(last))(nodes), last)

        def integral(t):
            return self.conditional(jnp.append(before, t)).log_total()

        return PanelDistribution(edges, jax.vmap(jax.vmap(integral))(nodes), None)

    def log_prob(self, x):
        return self.log_density.value(x) - self.log_normalizer
