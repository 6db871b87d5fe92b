"""Affine maps with sparse precision matrices: banded ones, and arrows, in which a few coordinates touch all others."""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pushforward.bijections.arrays import ArrayLike, along
from pushforward.bijections.base import AbstractBijection, no_log_det
from pushforward.bijections.checks import check_sizes, is_known
from pushforward.bijections.linear import Triangular
from pushforward.bijections.positive import log_positive, positive, raw_positive

# Steps of the recursion that are compiled as one.
UNROLL = 4


class Banded(AbstractBijection):
    r"""$x = B^{-T} u + b$ with $B$ lower triangular, a positive diagonal and few diagonals below it.

    If u is standard normal, x has the precision matrix $B B^T$, which is banded: given the coordinates after it, each
    coordinate depends on the next few alone, as in an autoregressive process. $\log|\det| = -\sum_i \log B_{ii}$. Time
    and memory are proportional to the dimension times the number of diagonals. If all arrays are zero, it is the
    identity.

    Args:
        dim: the dimension.
        loc: $b$, by default 0.
        bands: the diagonals of $B$, first the main diagonal, then those below it: `bands[j, i]` is $B_{i+j,i}$. Entries
            outside of $B$ are ignored. By default, the identity's only diagonal.

    References:
        Rue and Held, Gaussian Markov Random Fields (2005), section 2.4: sampling by banded back substitution.
    """

    loc: Float[Array, " dim"]
    raw_diagonal: Float[Array, " dim"]
    below: Float[Array, "bandwidth dim"]
    cond_shape: ClassVar[None] = None
    vectorized: ClassVar[bool] = True

    def __init__(self, dim: int, loc: ArrayLike | None = None, bands: ArrayLike | None = None):
        check_sizes(dim=dim)
        loc = jnp.zeros(dim) if loc is None else jnp.asarray(loc, dtype=float)
        bands = jnp.ones((1, dim)) if bands is None else jnp.asarray(bands, dtype=float)
        if loc.shape != (dim,) or bands.ndim != 2 or bands.shape[1] != dim or not 1 <= len(bands) <= dim:
            raise ValueError(
                f"with dim={dim}, loc must have shape ({dim},) and bands (1 to {dim}, {dim}), but they have "
                f"{loc.shape} and {bands.shape}."
            )
        if any(is_known(a) and not np.isfinite(a).all() for a in (loc, bands)):
            raise ValueError("loc and bands must be finite.")
        if is_known(bands) and not np.all(bands[0] >= np.finfo(bands.dtype).tiny):
            raise ValueError("the main diagonal, bands[0], must be positive.")
        self.loc, self.raw_diagonal, self.below = loc, raw_positive(bands[0]), bands[1:]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.loc.shape

    def _forward(self, u, condition, key):
        x = _solve_transposed(positive(self.raw_diagonal), self.below, u)
        return x + along(self.loc, x), no_log_det(self, u) - log_positive(self.raw_diagonal).sum()

    def _inverse(self, x, condition, key):
        shifted = x - along(self.loc, x)
        u = along(positive(self.raw_diagonal), x) * shifted
        for j, band in enumerate(self.below, 1):
            u = u.at[:-j].add(along(band[:-j], x) * shifted[j:])
        return u, no_log_det(self, x) + log_positive(self.raw_diagonal).sum()

    def _push_score(self, u, score, condition):
        diagonal, below = jax.lax.stop_gradient((positive(self.raw_diagonal), self.below))
        pushed = along(diagonal, score) * score
        for j, band in enumerate(below, 1):
            pushed = pushed.at[j:].add(along(band[:-j], score) * score[:-j])
        return *self._forward(u, None, None), pushed


def _solve_transposed(diagonal: Array, below: Array, u: Array) -> Array:
    """The solution y of B^T y = u, from the last coordinate to the first."""
    if not len(below):
        return u / along(diagonal, u)

    def step(later, row):
        entry, diagonal, below = row
        new = (entry - jnp.tensordot(below, later, 1)) / diagonal
        return jnp.concatenate([new[None], later[:-1]]), new

    # Beyond the last coordinate there are zeros, so entries of the bands outside of B have no effect.
    later = jnp.zeros((len(below), *u.shape[1:]), u.dtype)
    return jax.lax.scan(step, later, (u, diagonal, below.T), reverse=True, unroll=UNROLL)[1]


class Arrow(AbstractBijection):
    r"""An affine map whose precision matrix is an arrow: dense for the first coordinates, banded for the others.

    $x_1 = L u_1 + b_1$ with $L$ lower triangular, and $x_2 = C u_1 + B^{-T} u_2 + b_2$ with a banded $B$: the Gaussian
    of a hierarchical model in which local coordinates, given the global ones, are independent or depend on their
    neighbors. If all arrays are zero, it is the identity.

    Args:
        head: the map of the first coordinates.
        tail: the map of the others.
        cross: $C$, by default 0.

    References:
        Tan and Nott, Gaussian Variational Approximation with Sparse Precision Matrices (2018).
    """

    head: Triangular
    tail: Banded
    cross: Float[Array, "tail head"]
    cond_shape: ClassVar[None] = None
    vectorized: ClassVar[bool] = True

    def __init__(self, head: Triangular, tail: Banded, cross: ArrayLike | None = None):
        for name, part, kind in (("head", head, Triangular), ("tail", tail, Banded)):
            if not isinstance(part, kind):
                raise TypeError(f"{name} must be a {kind.__name__}, but is {type(part).__name__}.")
        shape = (*tail.shape, *head.shape)
        cross = jnp.zeros(shape) if cross is None else jnp.asarray(cross, dtype=float)
        if cross.shape != shape:
            raise ValueError(f"cross must have shape {shape}, but has {cross.shape}.")
        if is_known(cross) and not np.isfinite(cross).all():
            raise ValueError("cross must be finite.")
        self.head, self.tail, self.cross = head, tail, cross

    @property
    def shape(self) -> tuple[int, ...]:
        return (sum(self.cross.shape),)

    def _forward(self, u, condition, key):
        first, rest = self._split(u)
        x1, log_det1 = self.head._forward(first, None, None)
        x2, log_det2 = self.tail._forward(rest, None, None)
        return jnp.concatenate([x1, x2 + self.cross @ first]), log_det1 + log_det2

    def _inverse(self, x, condition, key):
        first, rest = self._split(x)
        u1, log_det1 = self.head._inverse(first, None, None)
        u2, log_det2 = self.tail._inverse(rest - self.cross @ u1, None, None)
        return jnp.concatenate([u1, u2]), log_det1 + log_det2

    def _push_score(self, u, score, condition):
        (u1, u2), (score1, score2) = self._split(u), self._split(score)
        x2, log_det2, score2 = self.tail._push_score(u2, score2, None)
        score1 = score1 - jax.lax.stop_gradient(self.cross).T @ score2
        x1, log_det1, score1 = self.head._push_score(u1, score1, None)
        x = jnp.concatenate([x1, x2 + self.cross @ u1])
        return x, log_det1 + log_det2, jnp.concatenate([score1, score2])

    def _split(self, u: Array) -> tuple[Array, Array]:
        num = self.head.dim
        return u[:num], u[num:]
