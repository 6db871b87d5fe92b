r"""Adaptive quadrature of a density on a box: panels along each axis are halved until integrals are precise enough."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
from jaxtyping import Array, Float

LogDensity = Callable[[Float[Array, " dim"]], Float[Array, ""]]

FIRST_PANELS = 8
# The maximum number of panels of an axis, by dimension.
MAX_PANELS = {1: 2000, 2: 200, 3: 24}
# The number of points at which the density is evaluated at a time.
CHUNK = 1 << 16
# The number of points, in addition to the nodes, at which the density is checked, by dimension; and the largest
# fraction of the mass that the nodes may miss at one of them.
PROBES = {1: CHUNK, 2: 1 << 14, 3: 1 << 12}
MAX_MISSED_MASS = 1e-3


class Grid(NamedTuple):
    """Panels and their results, see `QuadratureRosenblatt`.

    Attributes:
        edges: the edges of the panels of each axis.
        log_values: the log-density of the first coordinate at its nodes, of shape (panels, order), up to a constant.
        log_normalizer: the logarithm of the density's integral over the box.
        error: the estimated error of the worst axis, as a fraction of the mass.
        edge_density: the largest density of any coordinate near an end, in units of the uniform density.
    """

    edges: list[np.ndarray]
    log_values: np.ndarray
    log_normalizer: float
    error: float
    edge_density: float


@functools.cache
def gauss_legendre(order: int) -> tuple[np.ndarray, np.ndarray]:
    """The nodes in [-1, 1] and the weights of a Gauss-Legendre rule.

    Args:
        order: the number of nodes.
    """
    return np.polynomial.legendre.leggauss(order)


def nodes_of(edges: Any, order: int) -> Any:
    """The nodes of panels, of shape (panels, order), as a NumPy or JAX array like the edges.

    Args:
        edges: the edges of the panels, in increasing order.
        order: the number of nodes per panel.
    """
    nodes = gauss_legendre(order)[0].astype(edges.dtype)
    return edges[:-1, None] + (edges[1:] - edges[:-1])[:, None] * (nodes + 1) / 2


def lagrange(xi: Any, order: int) -> Any:
    """The Lagrange polynomials of the nodes at points in [-1, 1], of shape (points, order).

    Args:
        xi: the points, a NumPy or JAX array.
        order: the number of Gauss-Legendre nodes.
    """
    numpy = jnp if isinstance(xi, jax.Array) else np
    nodes, other = gauss_legendre(order)[0], ~np.eye(order, dtype=bool)
    scales = np.where(other, nodes[:, None] - nodes, 1).prod(1).astype(xi.dtype)
    factors = numpy.where(other, xi[:, None, None] - nodes.astype(xi.dtype), 1)
    return numpy.prod(factors, axis=-1) / scales


def refine(log_density: LogDensity, lower: np.ndarray, upper: np.ndarray, tolerance: float, order: int) -> Grid:
    """Halve panels until the error of each coordinate's distribution, given those before, is below the tolerance.

    Args:
        log_density: the log-density, up to a constant.
        lower: the lower ends of the box.
        upper: the upper ends of the box.
        tolerance: the target error, as a fraction of the mass.
        order: the number of nodes per panel.

    Raises:
        ValueError: if the density is not positive or not finite, or if its integral does not converge.
    """
    evaluate_at = _evaluator(log_density, lower.size)

    def evaluate(nodes):
        sizes = [a.size for a in nodes]
        values = np.empty(int(np.prod(sizes)))
        for start in range(0, values.size, CHUNK):
            indices = np.unravel_index(np.arange(start, min(start + CHUNK, values.size)), sizes)
            values[start : start + CHUNK] = evaluate_at(
                np.stack([a[i] for a, i in zip(nodes, indices, strict=True)], axis=1)
            )
        return values.reshape(sizes)

    edges = [np.linspace(a, b, FIRST_PANELS + 1) for a, b in zip(lower, upper, strict=True)]
    while True:
        values = evaluate([nodes_of(e, order).ravel() for e in edges])
        log_weights = [_log_weights(e, order) for e in edges]
        log_total = _integrate(values, log_weights, range(values.ndim))
        errors = []
        for axis in range(values.ndim):
            halved = np.sort(np.concatenate([edges[axis], (edges[axis][1:] + edges[axis][:-1]) / 2]))
            finer = [halved if a == axis else e for a, e in enumerate(edges)]
            fine_values = evaluate([nodes_of(e, order).ravel() for e in finer])
            errors.append(_errors(values, fine_values, log_weights, np.diff(edges[axis]), axis, order))
        worst = max(range(values.ndim), key=lambda axis: errors[axis].sum())
        error = float(errors[worst].sum())
        if error <= tolerance:
            errors = _missed(evaluate_at, values, edges, float(log_total), order)
            if not any(e.any() for e in errors):
                break
        for axis, (e, panel_errors) in enumerate(zip(edges, errors, strict=True)):
            split = panel_errors > tolerance / (2 * panel_errors.size)
            middles = (e[1:] + e[:-1])[split] / 2
            edges[axis] = np.unique(np.concatenate([e, middles]))
            if (edges[axis].size == e.size and (split.any() or not np.isfinite(error))) or (
                edges[axis].size > MAX_PANELS[lower.size]
            ):
                _refuse(e, panel_errors, axis, tolerance)
    first = _integrate(values, log_weights, range(1, values.ndim)).reshape(-1, order)
    return Grid(edges, first, float(log_total), error, _edge_density(values, log_weights, log_total, lower, upper))


def _refuse(edges: np.ndarray, errors: np.ndarray, axis: int, tolerance: float) -> None:
    worst = int(np.argmax(np.nan_to_num(errors, nan=np.inf)))
    place = (edges[worst] + edges[worst + 1]) / 2
    raise ValueError(
        f"the integral of the density does not converge near x[{axis}] = {place:.6g}: with {errors.size} panels its "
        f"error is {errors.sum():.2g} of the mass, but the tolerance is {tolerance:.2g}; is the density integrable "
        "there? If it is, but has kinks that are not parallel to the axes, use a larger tolerance."
    )


def _evaluator(log_density: LogDensity, dim: int) -> Callable[[np.ndarray], np.ndarray]:
    """A function that evaluates the log-density at up to CHUNK points."""
    found = jax.eval_shape(log_density, jnp.zeros(dim))
    shape = found.shape if isinstance(found, jax.ShapeDtypeStruct) else None
    if shape != ():
        what = type(found).__name__ if shape is None else f"shape {shape}"
        raise ValueError(f"log_density must return one number for an array of shape ({dim},), but returns {what}.")
    run = jax.jit(jax.vmap(log_density))

    def evaluate_at(points):
        # Padded, because only one size is compiled; always in double precision, because this is done only once.
        filled = np.concatenate([points, np.broadcast_to(points[:1], (CHUNK - len(points), dim))])
        with jax.enable_x64(True):
            log_values = np.asarray(run(filled), float)[: len(points)]
        _check(log_values, points)
        return log_values

    return evaluate_at


def _missed(evaluate_at, values, edges, log_total: float, order: int) -> list[np.ndarray]:
    """For each axis, 1 for panels in which quasi-random points find mass that the nodes miss: a peak between them."""
    dim = values.ndim
    lower, upper = np.array([e[0] for e in edges]), np.array([e[-1] for e in edges])
    from scipy.stats import qmc  # imported here because it is slow to import

    halton = qmc.Halton(dim, seed=0).random(PROBES[dim])  # pyright: ignore[reportCallIssue]
    points = lower + (upper - lower) * halton
    panels = [
        np.clip(np.searchsorted(e, p, side="right") - 1, 0, e.size - 2) for e, p in zip(edges, points.T, strict=True)
    ]
    expected = values.reshape([n for e in edges for n in (e.size - 1, order)])
    expected = expected.transpose([*range(0, 2 * dim, 2), *range(1, 2 * dim, 2)])[tuple(panels)]
    for e, p, i in zip(edges, points.T, panels, strict=True):
        xi = 2 * (p - e[i]) / (e[i + 1] - e[i]) - 1
        expected = np.einsum("pn,pn...->p...", lagrange(xi, order), expected)
    # Each point has the same weight: the volume of the box divided by the number of points.
    log_weight = np.log(upper - lower).sum() - np.log(len(points)) - log_total
    found = evaluate_at(points)
    missed = np.exp(np.minimum(found + log_weight, 0.0)) - np.exp(np.minimum(expected + log_weight, 0.0))
    bad = missed > MAX_MISSED_MASS
    return [np.minimum(np.bincount(i[bad], minlength=e.size - 1), 1.0) for e, i in zip(edges, panels, strict=True)]


def _check(log_values: np.ndarray, points: np.ndarray) -> None:
    bad = ~np.isfinite(log_values)
    if bad.any():
        value, point = log_values[bad][0], points[bad][0]
        what = "positive" if np.isneginf(value) else "finite"
        raise ValueError(
            f"the density must be positive and finite on the box, but is not {what} at {point}, where its logarithm is "
            f"{value}" + ("; if it is integrable there, choose a box with an end there." if value > 0 else ".")
        )


def _log_weights(edges: np.ndarray, order: int) -> np.ndarray:
    return np.log(np.diff(edges)[:, None] / 2 * gauss_legendre(order)[1]).ravel()


def _integrate(log_values: np.ndarray, log_weights: list[np.ndarray], axes) -> Any:
    """The logarithm of the integral over some axes."""
    for axis in axes:
        log_values = log_values + np.expand_dims(log_weights[axis], [a for a in range(log_values.ndim) if a != axis])
    return scipy.special.logsumexp(log_values, axis=tuple(axes)) if len(axes) else log_values


def _errors(
    values, fine_values, log_weights: list[np.ndarray], widths: np.ndarray, axis: int, order: int
) -> np.ndarray:
    """The error of each panel of an axis, in its integral and its interpolation, as a fraction of the mass."""
    dim, panels = values.ndim, widths.size
    later = range(axis + 1, dim)
    # (outer nodes, panels, nodes of a panel); the fine nodes are those of both halves.
    coarse = _integrate(values, log_weights, later).reshape(-1, panels, order)
    fine = _integrate(fine_values, log_weights, later).reshape(-1, panels, 2 * order)
    outer = np.zeros(1)
    for before in log_weights[:axis]:
        outer = np.add.outer(outer, before).ravel()
    widths = widths[:, None]
    nodes, weights = gauss_legendre(order)
    size = max((outer[:, None, None] + part).max() for part in (coarse, fine))
    masses = np.exp(outer[:, None, None] + coarse - size) * (weights * widths / 2)
    fine_masses = np.exp(outer[:, None, None] + fine - size) * (np.tile(weights, 2) * widths / 4)
    wrong = np.abs(masses.sum(-1) - fine_masses.sum(-1))
    if axis < dim - 1:
        halves = np.concatenate([(nodes - 1) / 2, (nodes + 1) / 2])
        between = coarse @ lagrange(halves, order).T
        # The cap avoids overflow; such a panel is split in any case.
        ratio = np.exp(np.minimum(between - fine, 100.0))
        wrong = wrong + np.sum(fine_masses * np.abs(ratio - 1), -1)
    return wrong.sum(0) / max(masses.sum(), fine_masses.sum())


def _edge_density(values: np.ndarray, log_weights: list[np.ndarray], log_total: float, lower, upper) -> float:
    """The largest density of a coordinate at its first or last node, in units of the uniform density."""
    ends = []
    for axis in range(values.ndim):
        marginal = _integrate(values, log_weights, [a for a in range(values.ndim) if a != axis])
        ends += [marginal[end] + np.log(upper[axis] - lower[axis]) for end in (0, -1)]
    return float(np.exp(max(ends) - log_total))
