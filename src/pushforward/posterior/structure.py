"""Who depends on whom: which coordinates of a log-density interact, and an order in which few diagonals are enough.

Two coordinates interact if the Hessian of the log-density has an entry for them that is not 0. Those that do not are
independent given all others, so a Gaussian fit has a sparse precision matrix. In most models a few coordinates, the
hubs, interact with many others: the global parameters of a hierarchical model. Without them, the rest falls into small
groups or chains, and in a suitable order its entries are near the diagonal.

References:
    Spantini, Bigoni and Marzouk, Inference via Low-Dimensional Couplings (2018): sparse maps for Markov posteriors.
    Cuthill and McKee, Reducing the Bandwidth of Sparse Symmetric Matrices (1969): the order of the rest.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import reverse_cuthill_mckee

from pushforward.posterior.curvature import ROWS_AT_A_TIME, LogDensity, hessian_products
from pushforward.training.compilation import jit_quick_compilation

# A pattern with a larger fraction of entries saves nothing.
MAX_DENSITY = 0.5
# An entry near the diagonal costs this many times as much as one of a dense matrix, because it is part of a recursion.
COST_OF_RECURSION = 10
# With more of a full matrix's numbers a fit was worse: far from a Gaussian they are of use.
MAX_SHARE = 0.25
# Up to this dimension, full matrices are as quick as sparse ones.
MAX_FULL_DIM = 512


class Structure(NamedTuple):
    """Which coordinates of a target interact.

    Attributes:
        names: the name of each coordinate, the path of its array in a draw and its index.
        pattern: True for each two coordinates that interact, and on the diagonal; None if most coordinates do.
        order: the coordinates, first the hubs, then the others so that those that interact are close.
        num_hubs: the number of hubs.
        bandwidth: the largest distance in this order between two other coordinates that interact.
    """

    names: tuple[str, ...]
    pattern: csr_array | None
    order: np.ndarray
    num_hubs: int
    bandwidth: int

    @property
    def dim(self) -> int:
        """The number of coordinates."""
        return len(self.order)

    @property
    def is_sparse(self) -> bool:
        """Whether an affine map in this order is much cheaper than one with a full matrix."""
        return self.pattern is not None and _cost(self.dim, self.num_hubs, self.bandwidth) < self.dim**2 / 2

    @property
    def has_few_entries(self) -> bool:
        """Whether an affine map in this order is better than one with a full matrix.

        In many dimensions it is if it is cheaper, in fewer if it has at most a quarter of the numbers.
        """
        if self.dim > MAX_FULL_DIM:
            return self.is_sparse
        rest = self.dim - self.num_hubs
        num = self.num_hubs**2 / 2 + self.num_hubs * rest + rest * (1 + self.bandwidth)
        return self.pattern is not None and num <= MAX_SHARE * self.dim**2 / 2

    def __str__(self) -> str:
        if self.pattern is None:
            return f"{self.dim} coordinates, most of which interact with most others"
        hubs = [self.names[i] for i in self.order[: self.num_hubs]]
        shown = ", ".join(hubs[:6]) + (", ..." if len(hubs) > 6 else "")
        parts = [f"{self.dim} coordinates, {self.pattern.nnz / self.dim**2:.2%} of whose pairs interact"]
        if hubs:
            parts.append(f"{len(hubs)} interact with many others ({shown})")
        if self.bandwidth == 0:
            parts.append("the others are independent of each other")
        else:
            parts.append(f"the others, in a suitable order, interact at distances of at most {self.bandwidth}")
        return "; ".join(parts)

    def plot(self) -> Any:
        """A Matplotlib figure of the pattern in the order of the structure; the line marks the end of the hubs."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6, 6), layout="constrained")
        axes = figure.add_subplot()
        if self.pattern is None:
            axes.imshow(np.ones((1, 1)), cmap="gray_r", extent=(0, self.dim, self.dim, 0), vmin=0, vmax=1)
        else:
            axes.spy(self.pattern[self.order][:, self.order].toarray(), markersize=max(0.5, 200 / self.dim))
        if self.num_hubs:
            axes.axhline(self.num_hubs - 0.5, linewidth=0.5)
            axes.axvline(self.num_hubs - 0.5, linewidth=0.5)
        axes.set_title(str(self), fontsize="small", wrap=True)
        return figure


def find_structure(target: LogDensity, points: Float[Array, "points dim"], names: Sequence[str]) -> Structure:
    """The structure of a log-density, from its Hessian at some points, as in `find_pattern`.

    Args:
        target: the log-density.
        points: where to compute the Hessian.
        names: the names of the coordinates.
    """
    return structure_of(find_pattern(target, points), names)


def find_pattern(
    target: LogDensity, points: Float[Array, "points dim"], scales: Float[np.ndarray, " dim"] | float = 1.0
) -> csr_array | None:
    """Which coordinates interact; None if most do.

    Entries of the Hessian that are exactly 0 at all points count as absent; those that are not finite count as present.
    The Hessian does not see what interacts through kinks, such as the absolute values of a median regression. So two
    coordinates interact also if a step along one changes the derivative along the other.

    The cost is about four times as many gradients as there are coordinates, for each point.

    Args:
        target: the log-density.
        points: where to compute the Hessian.
        scales: the length of the step along each coordinate.
    """
    steps = jnp.broadcast_to(jnp.asarray(scales, points.dtype), points.shape[1:])
    dim = points.shape[1]
    rows, columns, size = [], [], 0
    for first in range(0, dim, ROWS_AT_A_TIME):
        present = np.asarray(_nonzero(target, points, steps, jnp.array(first)))[: dim - first]
        row, column = np.nonzero(present)
        rows.append(row + first)
        columns.append(column)
        size += row.size
        if size > MAX_DENSITY * dim**2:
            return None
    diagonal = np.arange(dim)
    row, column = np.concatenate([*rows, diagonal]), np.concatenate([*columns, diagonal])
    # An entry may vanish by rounding on one side of the diagonal alone.
    row, column = np.concatenate([row, column]), np.concatenate([column, row])
    return coo_array((np.ones(row.size, bool), (row, column)), shape=(dim, dim)).tocsr()


@jit_quick_compilation
def _nonzero(target: LogDensity, points: Float[Array, "points dim"], steps: Array, first: Array) -> Array:
    """With which others some coordinates interact."""
    chosen = jnp.arange(min(ROWS_AT_A_TIME, points.shape[1])) + first

    def at(point):
        changes = jax.vmap(lambda i: _changes(target, point, steps, i))(chosen)
        return changes | (hessian_rows(target, point, chosen) != 0)

    return jax.lax.map(at, points).any(0)


def _changes(target: LogDensity, point: Float[Array, " dim"], steps: Array, i: Array) -> Array:
    """Which derivatives change by more than rounding if one coordinate does."""
    step = jnp.where(jnp.arange(point.size) == i, steps, 0)
    here, there = (jax.grad(target)(point + sign * step) for sign in (-1, 1))
    size, eps = jnp.maximum(jnp.abs(here), jnp.abs(there)), jnp.finfo(point.dtype).eps
    return jnp.abs(there - here) > eps**0.5 * size + 1e3 * eps * jnp.max(size)


def hessian_rows(target: LogDensity, point: Float[Array, " dim"], chosen: Array) -> Float[Array, "rows dim"]:
    """Some rows of the Hessian at a point; a row beyond the last one is zero.

    Args:
        target: the log-density.
        point: the point.
        chosen: the indices of the rows.
    """
    directions = (jnp.arange(point.size) == chosen[:, None]).astype(point.dtype)
    return hessian_products(target, point)(point, directions)


def structure_of(pattern: csr_array | None, names: Sequence[str], hubs: Sequence[int] = ()) -> Structure:
    """The structure with a pattern: it chooses the hubs that make an affine map in this order cheapest.

    Args:
        pattern: which coordinates interact, with the diagonal.
        names: the names of the coordinates.
        hubs: coordinates that are the first hubs in any case, in this order.
    """
    dim = len(names)
    if pattern is None:
        return Structure(tuple(names), None, np.arange(dim), 0, max(dim - 1, 0))
    degrees = np.diff(pattern.indptr).astype(float)
    first = np.array(hubs, int)
    natural = np.argsort(-degrees, kind="stable")
    by_degree = np.concatenate([first, natural[~np.isin(natural, first)]])
    best = None
    for num_hubs in sorted({len(np.union1d(first, natural[:num])) for num in _candidates(degrees[natural])}):
        rest = np.sort(by_degree[num_hubs:])
        part = pattern[rest][:, rest]
        order = reverse_cuthill_mckee(part, symmetric_mode=True)
        row, column = part[order][:, order].nonzero()
        bandwidth = int(np.abs(row - column).max(initial=0))
        cost = _cost(dim, num_hubs, bandwidth)
        if best is None or cost < best[0]:
            best = cost, np.concatenate([by_degree[:num_hubs], rest[order]]), num_hubs, bandwidth
    assert best is not None
    return Structure(tuple(names), pattern, *best[1:])


def _candidates(degrees: np.ndarray) -> list[int]:
    """Numbers of hubs to try: powers of two, and those after which the degree falls most."""
    dim = len(degrees)
    falls = np.argsort(degrees[1:] / degrees[:-1], kind="stable")[:8] + 1 if dim > 1 else np.zeros(0, int)
    powers = 2 ** np.arange(int(np.log2(dim)) + 1)
    return sorted({0, *(int(k) for k in (*falls, *powers) if 0 < k <= dim // 2)})


def _cost(dim: int, num_hubs: int, bandwidth: int) -> float:
    """The relative cost of an affine map."""
    rest = dim - num_hubs
    return num_hubs * (num_hubs + rest) + rest * (1 + COST_OF_RECURSION * bandwidth)
