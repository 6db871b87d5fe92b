"""Linear bijections in factored form: determinants cost O(dim), and inverses need no factorization."""

from collections.abc import Sequence
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.core import Tracer
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Float, Int, PRNGKeyArray

from pushforward.bijections.arrays import ArrayLike, along
from pushforward.bijections.base import AbstractBijection, no_log_det
from pushforward.bijections.checks import check_sizes, is_known
from pushforward.bijections.positive import log_positive, positive, raw_positive

# The number of reflections that are applied at once.
BLOCK = 32


class Permutation(AbstractBijection):
    """$x_i = u_{p(i)}$ for a fixed permutation; the log-determinant is 0.

    Args:
        order: the permutation $p$, a sequence that contains each of 0, ..., dim - 1 once.
    """

    order: Int[Array, " dim"]
    back: Int[Array, " dim"]
    cond_shape: ClassVar[None] = None
    keeps_intervals: ClassVar[bool] = True
    vectorized: ClassVar[bool] = True

    def __init__(self, order: Sequence[int] | Int[Array | np.ndarray, " dim"]):
        if isinstance(order, Tracer):  # under vmap, for example, the values cannot be checked
            self.order, self.back = order, jnp.argsort(order)
            return
        order = np.asarray(order)
        if order.ndim != 1 or order.dtype.kind not in "iu" or sorted(order.tolist()) != list(range(order.size)):
            raise ValueError(f"a permutation must contain each of 0, ..., dim - 1 once, but got {order.tolist()}.")
        self.order, self.back = jnp.asarray(order), jnp.asarray(np.argsort(order))

    @property
    def shape(self) -> tuple[int, ...]:
        return self.order.shape

    def _forward(self, u, condition, key):
        return _permute(u, self.order, self.back), no_log_det(self, u)

    def _inverse(self, x, condition, key):
        return _permute(x, self.back, self.order), no_log_det(self, x)

    def _push_score(self, u, score, condition):
        return *self._forward(u, None, None), _permute(score, self.order, self.back)


def _permute(x, order, back):
    """`x[order]` with the transpose `x[back]`, a gather: XLA would use a scatter, which is slow on CPU.

    JAX accepts a custom transpose for linear solves, and the result y solves `y[back] = x`.
    """
    return jax.lax.custom_linear_solve(lambda y: y[back], x, lambda _, x: x[order], lambda _, x: x[back])


class Triangular(AbstractBijection):
    r"""$x = L u + b$ with $L$ lower triangular with a positive diagonal; $\log|\det| = \sum_i \log L_{ii}$.

    The inverse is one triangular solve. If all arrays are zero, it is the identity.

    Args:
        dim: the dimension.
        loc: $b$, by default 0.
        matrix: $L$, by default the identity; lower triangular with a positive diagonal.
    """

    loc: Float[Array, " dim"]
    lower: Float[Array, " entries"]
    raw_diagonal: Float[Array, " dim"]
    dim: int = eqx.field(static=True)
    cond_shape: ClassVar[None] = None
    vectorized: ClassVar[bool] = True

    def __init__(self, dim: int, loc: ArrayLike | None = None, matrix: ArrayLike | None = None):
        check_sizes(dim=dim)
        loc = jnp.zeros(dim) if loc is None else jnp.asarray(loc, dtype=float)
        matrix = jnp.eye(dim) if matrix is None else jnp.asarray(matrix, dtype=float)
        if loc.shape != (dim,) or matrix.shape != (dim, dim):
            raise ValueError(
                f"with dim={dim}, loc must have shape ({dim},) and matrix ({dim}, {dim}), but they have "
                f"{loc.shape} and {matrix.shape}."
            )
        tiny = np.finfo(matrix.dtype).tiny
        if is_known(matrix) and (np.any(np.triu(matrix, 1)) or not np.all(np.diag(matrix) >= tiny)):
            raise ValueError("the matrix must be lower triangular with a positive diagonal.")
        if any(is_known(a) and not np.isfinite(a).all() for a in (loc, matrix)):
            raise ValueError("loc and matrix must be finite.")
        self.dim, self.loc = dim, loc
        self.lower = matrix[np.tril_indices(dim, -1)]
        self.raw_diagonal = raw_positive(jnp.diag(matrix))

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.dim,)

    @property
    def matrix(self) -> Float[Array, "dim dim"]:
        """$L$."""
        return with_entries_below(jnp.diag(positive(self.raw_diagonal)), self.lower)

    def _forward(self, u, condition, key):
        x = self.matrix @ u + along(self.loc, u)
        return x, no_log_det(self, u) + log_positive(self.raw_diagonal).sum()

    def _inverse(self, x, condition, key):
        u = solve_triangular(self.matrix, x - along(self.loc, x), lower=True)
        return u, no_log_det(self, x) - log_positive(self.raw_diagonal).sum()

    def _push_score(self, u, score, condition):
        matrix = jax.lax.stop_gradient(self.matrix)
        score = solve_triangular(matrix, score, lower=True, trans="T")
        return *self._forward(u, None, None), score


class PLU(AbstractBijection):
    r"""$x = P L U u + b$ with a fixed permutation $P$, $L$ unit lower triangular and $U$ upper triangular with a
    positive diagonal; $\log|\det| = \sum_i \log U_{ii}$.

    It can represent exactly the matrices $A$ for which all leading principal minors of $P^{-1} A$ are positive.
    Both directions cost two triangular products or solves. If all arrays are zero, it is the permutation.

    Args:
        dim: the dimension.
        order: the permutation $p$ that $P$ applies, $(P y)_i = y_{p(i)}$; by default a random one.
        key: the key for the random permutation; needed unless `order` is given.

    References:
        Kingma and Dhariwal, Glow (2018), section 3.2. https://arxiv.org/abs/1807.03039
    """

    loc: Float[Array, " dim"]
    # In LAPACK's layout: L below the diagonal, U above it, and the raw diagonal of U on it.
    factors: Float[Array, "dim dim"]
    permutation: Permutation
    cond_shape: ClassVar[None] = None
    vectorized: ClassVar[bool] = True

    def __init__(
        self,
        dim: int,
        *,
        key: PRNGKeyArray | None = None,
        order: Sequence[int] | Int[Array | np.ndarray, " dim"] | None = None,
    ):
        check_sizes(dim=dim)
        if order is None:
            if key is None:
                raise ValueError("PLU needs a key to draw its permutation, or the permutation as order.")
            self.permutation = Permutation(jr.permutation(key, dim))
        else:
            self.permutation = Permutation(order)
        if self.permutation.shape != (dim,):
            raise ValueError(f"with dim={dim}, order must have {dim} entries, but has {self.permutation.shape[0]}.")
        self.loc, self.factors = jnp.zeros(dim), jnp.zeros((dim, dim))

    @property
    def shape(self) -> tuple[int, ...]:
        return self.loc.shape

    @property
    def matrix(self) -> Float[Array, "dim dim"]:
        """$PLU$."""
        lower = jnp.tril(self.factors, -1) + jnp.eye(len(self.factors))
        return self.permutation.forward_batch(lower @ _upper(self.factors))[0]

    def _forward(self, u, condition, key):
        x = _upper(self.factors) @ u
        x = x + jnp.tril(self.factors, -1) @ x
        x, _ = self.permutation.forward_batch(x)
        return x + along(self.loc, u), no_log_det(self, u) + _log_diagonal(self.factors)

    def _inverse(self, x, condition, key):
        u, _ = self.permutation.inverse_batch(x - along(self.loc, x))
        u = solve_triangular(self.factors, u, lower=True, unit_diagonal=True)
        return solve_triangular(_upper(self.factors), u), no_log_det(self, x) - _log_diagonal(self.factors)

    def _push_score(self, u, score, condition):
        factors = jax.lax.stop_gradient(self.factors)
        score = solve_triangular(_upper(factors), score, trans="T")
        score = solve_triangular(factors, score, lower=True, unit_diagonal=True, trans="T")
        return *self._forward(u, None, None), self.permutation.forward_batch(score)[0]


class QR(AbstractBijection):
    r"""$x = Q R u + b$ with a rotation $Q$, see `rotate`, and $R$ upper triangular with a positive diagonal;
    $\log|\det| = \sum_i \log R_{ii}$.

    It can represent almost every matrix with a positive determinant. It starts as a random rotation; if all arrays are
    zero, it is the identity.

    Args:
        dim: the dimension.
        key: the key for the initial rotation.

    References:
        Hoogeboom et al., Emerging Convolutions for Generative Normalizing Flows (2019).
        https://arxiv.org/abs/1901.11137
    """

    loc: Float[Array, " dim"]
    # In LAPACK's layout: the reflectors below the diagonal, R above it, and the raw diagonal of R on it.
    factors: Float[Array, "dim dim"]
    cond_shape: ClassVar[None] = None
    vectorized: ClassVar[bool] = True

    def __init__(self, dim: int, *, key: PRNGKeyArray):
        check_sizes(dim=dim)
        self.loc, self.factors = jnp.zeros(dim), jnp.tril(jr.normal(key, (dim, dim)), -1)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.loc.shape

    @property
    def matrix(self) -> Float[Array, "dim dim"]:
        """$QR$."""
        return rotate(self.factors, _upper(self.factors))

    def _forward(self, u, condition, key):
        x = rotate(self.factors, _upper(self.factors) @ u) + along(self.loc, u)
        return x, no_log_det(self, u) + _log_diagonal(self.factors)

    def _inverse(self, x, condition, key):
        u = solve_triangular(_upper(self.factors), rotate(self.factors, x - along(self.loc, x), back=True))
        return u, no_log_det(self, x) - _log_diagonal(self.factors)

    def _push_score(self, u, score, condition):
        factors = jax.lax.stop_gradient(self.factors)
        score = rotate(factors, solve_triangular(_upper(factors), score, trans="T"))
        return *self._forward(u, None, None), score


class Orthogonal(AbstractBijection):
    r"""$x = Q u$ with a rotation $Q$, a product of Householder reflections, see `rotate`; the log-determinant is 0.

    It starts as a random rotation; if all arrays are zero, it is the identity.

    Args:
        dim: the dimension.
        num_reflections: at most `dim`, the default, which can represent almost every rotation; fewer cost less.
        key: the key for the initial rotation.

    References:
        Tomczak and Welling, Improving Variational Auto-Encoders using Householder Flow (2016).
        https://arxiv.org/abs/1611.09630
    """

    below: Float[Array, " n"]
    dim: int = eqx.field(static=True)
    num_reflections: int = eqx.field(static=True)
    cond_shape: ClassVar[None] = None
    vectorized: ClassVar[bool] = True

    def __init__(self, dim: int, num_reflections: int | None = None, *, key: PRNGKeyArray):
        num_reflections = dim if num_reflections is None else num_reflections
        check_sizes(dim=dim, num_reflections=num_reflections)
        if num_reflections > dim:
            raise ValueError(
                f"num_reflections must be in 1, ..., dim, but got num_reflections={num_reflections}, dim={dim}."
            )
        self.dim, self.num_reflections = dim, num_reflections
        self.below = jr.normal(key, np.tril_indices(dim, -1, num_reflections)[0].shape)

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.dim,)

    @property
    def reflectors(self) -> Float[Array, "dim reflections"]:
        """The reflections, for `rotate`."""
        return unpack_reflectors(self.below, self.dim, self.num_reflections)

    @property
    def matrix(self) -> Float[Array, "dim dim"]:
        """$Q$."""
        return rotate(self.reflectors, jnp.eye(self.dim))

    def _forward(self, u, condition, key):
        return rotate(self.reflectors, u), no_log_det(self, u)

    def _inverse(self, x, condition, key):
        return rotate(self.reflectors, x, back=True), no_log_det(self, x)

    def _push_score(self, u, score, condition):
        return *self._forward(u, None, None), rotate(jax.lax.stop_gradient(self.reflectors), score)


def rotate(
    reflectors: Float[Array, "dim m"], u: Float[Array, "dim *batch"], *, back: bool = False
) -> Float[Array, "dim *batch"]:
    r"""$Q u$, or $Q^\top u$ if `back`, for $Q = H_1 \cdots H_m D$ with $H_k = I - 2 v_k v_k^\top / \|v_k\|^2$ and
    $D$ the diagonal signs that make $Q$ the identity if all reflectors are zero.

    $v_k$ is 0 above entry k, 1 at entry k, and equal to column k of `reflectors` below it; the other entries of
    `reflectors` are ignored. So $v_k$ is never zero, and Q is orthogonal and smooth for any arrays. The product is
    applied in blocks of reflections, $I - V T V^\top$ with unit $v_k$ and
    $T^{-1} = \tfrac12 I + \mathrm{striu}(V^\top V)$: $O(dm)$ per vector, after $O(dm)$ times the size of a block.

    Args:
        reflectors: $v_k$ below the diagonal, as columns.
        u: a vector, or a batch along the last axes.
        back: whether to apply the inverse $Q^\top$.

    References:
        Joffrain et al., Accumulating Householder Transformations, Revisited (2006).
    """
    dim, m = reflectors.shape
    v = jnp.tril(reflectors, -1) + jnp.eye(dim, m, dtype=reflectors.dtype)
    v = v / jnp.linalg.norm(v, axis=0)
    signs = along(jnp.where(np.arange(dim) < m, -1, 1).astype(v.dtype), u)
    # The reflectors of a block are zero above its first row.
    blocks = [(start, v[start:, start : start + BLOCK]) for start in range(0, m, BLOCK)]
    if back:
        for start, block in blocks:
            u = _reflect(block, u, start, back)
        return signs * u
    u = signs * u
    for start, block in blocks[::-1]:
        u = _reflect(block, u, start, back)
    return u


def _reflect(v: Float[Array, "rest m"], u: Float[Array, "dim *batch"], start: int, back: bool) -> Array:
    """Apply a block of reflections to the coordinates from `start` on."""
    inverse_t = jnp.triu(v.T @ v, 1) + 0.5 * jnp.eye(v.shape[1], dtype=v.dtype)
    rest = u[start:]
    rest = rest - v @ solve_triangular(inverse_t, v.T @ rest, trans="T" if back else "N")
    return rest if start == 0 else jnp.concatenate([u[:start], rest])


def unpack_reflectors(below: Float[Array, " n"], dim: int, num_reflections: int) -> Float[Array, "dim m"]:
    """A matrix for `rotate` from its entries below the diagonal, row by row."""
    return with_entries_below(jnp.zeros((dim, num_reflections), below.dtype), below)


def with_entries_below(
    matrix: Float[Array, "dim m"], entries: Float[Array | np.ndarray, " n"]
) -> Float[Array, "dim m"]:
    """The matrix with other entries below the diagonal, row by row.

    Without the promise, XLA checks a large matrix's indices when it compiles, for seconds.
    """
    below = matrix.at[np.tril_indices(len(matrix), -1, matrix.shape[1])]
    return below.set(entries, mode="promise_in_bounds", indices_are_sorted=True, unique_indices=True)


def _upper(factors: Float[Array, "dim dim"]) -> Float[Array, "dim dim"]:
    return jnp.triu(factors, 1) + jnp.diag(positive(jnp.diag(factors)))


def _log_diagonal(factors: Float[Array, "dim dim"]) -> Float[Array, ""]:
    return log_positive(jnp.diag(factors)).sum()
