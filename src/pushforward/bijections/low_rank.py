r"""Low-rank bijections, which change few directions: Sylvester, planar and radial.

Sylvester and planar bijections are $x = u + V \sigma(W^\top u + b)$ with $V, W \in \mathbb R^{d \times m}$ and an
increasing $\sigma$. So $J = I_d + V S W^\top$ with $S = \mathrm{diag}(\sigma')$ and, by the matrix determinant lemma,
$\det J = \det(I_m + S M)$ with $M = W^\top V$. They differ in how they keep it positive for all parameters.

Their inverse solves $a + M \sigma(a) = W^\top x + b$ for $a = W^\top u + b$, only $m$ equations for any $d$; then
$u = x - V \sigma(a)$. It is exact up to rounding, but forward costs less.
"""

import abc
import math
from collections.abc import Callable
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Float, PRNGKeyArray

from pushforward.bijections.activations import Activation, steepest_slope, value_and_slope
from pushforward.bijections.arrays import along, detach
from pushforward.bijections.base import AbstractBijection
from pushforward.bijections.checks import check_sizes, is_size
from pushforward.bijections.linear import rotate, unpack_reflectors
from pushforward.bijections.positive import positive
from pushforward.bijections.solvers.monotone import invert_monotone
from pushforward.bijections.solvers.newton import invert_newton


class _LowRank(AbstractBijection):
    r"""Shared by all bijections $x = u + V \sigma(W^\top u + b)$."""

    dim: eqx.AbstractVar[int]
    bias: eqx.AbstractVar[Float[Array, " m"]]
    activation: eqx.AbstractVar[Activation]
    cond_shape: ClassVar[None] = None
    vectorized: ClassVar[bool] = True
    numerical_inverse: ClassVar[bool] = True

    @property
    @abc.abstractmethod
    def factors(self) -> tuple[Float[Array, "dim m"], Float[Array, "dim m"], Float[Array, "m m"]]:
        r"""$V$, $W$ and $M = W^\top V$."""

    @abc.abstractmethod
    def log_det(self, slopes: Float[Array, "m *batch"], m: Float[Array, "m m"]) -> Float[Array, "*batch"]:
        r"""$\log\det(I_m + S M)$."""

    @abc.abstractmethod
    def preactivation(self, target: Float[Array, " m"], m: Float[Array, "m m"]) -> Float[Array, " m"]:
        r"""The solution $a$ of $a + M \sigma(a) =$ target."""

    @abc.abstractmethod
    def solve(self, matrix: Float[Array, "m m"], vector: Float[Array, " m"]) -> Float[Array, " m"]:
        r"""Solve a linear system; its matrix has the zeros of $M^\top$."""

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.dim,)

    def _forward(self, u, condition, key):
        v, w, m = self.factors
        values, slopes = value_and_slope(self.activation, w.T @ u + along(self.bias, u))
        return u + v @ values, self.log_det(slopes, m)

    def _inverse(self, x, condition, key):
        v, w, m = self.factors
        a = _each_event(lambda target: self.preactivation(target, m), w.T @ x + along(self.bias, x))
        values, slopes = value_and_slope(self.activation, a)
        return x - v @ values, -self.log_det(slopes, m)

    def _push_score(self, u, score, condition):
        x, log_det = self._forward(u, None, None)
        frozen, u = detach((self, u))
        v, w, m = frozen.factors
        a = w.T @ u + along(frozen.bias, u)

        def slopes(a):
            return value_and_slope(self.activation, a)[1]

        def solve(vector, slopes):
            return self.solve(jnp.eye(*m.shape, dtype=m.dtype) + m.T * slopes, vector)

        score = score - w @ jax.grad(lambda a: self.log_det(slopes(a), m).sum())(a)
        # By Woodbury, the inverse of J^T = I + W S V^T is I - W S (I + M^T S)^-1 V^T.
        return x, log_det, score - w @ (slopes(a) * _each_event(solve, v.T @ score, slopes(a)))


def _each_event(fn: Callable, *arrays: Array) -> Array:
    return fn(*arrays) if arrays[0].ndim == 1 else jax.vmap(fn, in_axes=-1, out_axes=-1)(*arrays)


class Sylvester(_LowRank):
    r"""$x = u + V \sigma(W^\top u + b)$ with $m \le d$ units; $\log\det = \log\det(I_m + S W^\top V)$ in $O(m^3 + dm)$.

    With slopes of $\sigma$ in $(0, s]$ it is a diffeomorphism of $\mathbb R^d$ if $M = W^\top V$ satisfies
    $M + M^\top \succ -\tfrac{2}{s} I$.
    *Proof.* For slopes $S \succ 0$, the symmetric part of $S^{-1} + M$ is at least $\tfrac1s I + \tfrac12(M + M^\top)
    \succ 0$, so its determinant is never 0, and it is positive as $S \to 0$; hence
    $\det J = \det S \det(S^{-1} + M)$ is positive. If some slopes are 0, the same holds for the rows and columns of the
    others. So $J^{-1}$ is bounded over the compact cube $[0, s]^m$ of slopes, and by Hadamard's theorem the map is a
    diffeomorphism. ∎

    The unconstrained arrays `v` and `w`, of shape (dim, m), parametrize such pairs $(V, W)$: almost all of them if
    $m < d$, and those with $\det W > 0$ if $m = d$, because $Q$ is a rotation. They are
    $W = Q \begin{bmatrix} R \\ 0 \end{bmatrix}$ with a rotation $Q$ and a triangular $R$ with a positive diagonal, both
    stored in `w` in LAPACK's layout, and
    $V = Q \begin{bmatrix} R^{-\top} M \\ B \end{bmatrix}$, $M = \tfrac1s (L D L^\top - I) + K - K^\top$, where `v`
    holds the unit lower triangular $L$ below the diagonal, the raw diagonal of $D$ on it, the strictly upper triangular
    $K$ above it, and $B$ from row $m$ on. The condition holds because $L D L^\top \succ 0$. It starts at $v = 0$, as
    the identity. The inverse is Newton's method in $m$ dimensions.

    Args:
        dim: the dimension $d$.
        num_units: $m$, at most `dim`.
        activation: $\sigma$, increasing and smooth; a module-level function.
        max_slope: $s = \sup \sigma'$; needed if the library does not know the activation.
        key: the key for the initial directions $W$.

    References:
        van den Berg et al., Sylvester Normalizing Flows for Variational Inference (2018), section 3.
        https://arxiv.org/abs/1803.05649
        Papamakarios et al. (2021), section 3.2.2.
    """

    v: Float[Array, "dim m"]
    w: Float[Array, "dim m"]
    bias: Float[Array, " m"]
    dim: int = eqx.field(static=True)
    activation: Activation = eqx.field(static=True)
    max_slope: float = eqx.field(static=True)

    def __init__(
        self,
        dim: int,
        num_units: int,
        *,
        key: PRNGKeyArray,
        activation: Activation = jnp.tanh,
        max_slope: float | None = None,
    ):
        _check_units(dim, num_units)
        self.dim, self.activation = dim, activation
        self.max_slope = steepest_slope(activation, max_slope, increasing=True)
        self.v, self.bias = jnp.zeros((dim, num_units)), jnp.zeros(num_units)
        self.w = jnp.tril(jr.normal(key, (dim, num_units)), -1)

    @property
    def factors(self):
        m = len(self.bias)
        top, eye = self.v[:m], jnp.eye(m, dtype=self.v.dtype)
        lower, skew = jnp.tril(top, -1) + eye, jnp.triu(top, 1)
        inner = ((lower * positive(jnp.diag(top))) @ lower.T - eye) / self.max_slope + skew - skew.T
        r = jnp.triu(self.w[:m], 1) + jnp.diag(positive(jnp.diag(self.w[:m])))
        v = rotate(self.w, jnp.concatenate([solve_triangular(r, inner, trans="T"), self.v[m:]]))
        return v, rotate(self.w, jnp.concatenate([r, jnp.zeros_like(self.v[m:])])), inner

    def log_det(self, slopes, m):
        return jnp.linalg.slogdet(jnp.eye(*m.shape, dtype=m.dtype) + jnp.moveaxis(slopes, 0, -1)[..., None] * m)[1]

    def preactivation(self, target, m):
        activation = self.activation
        return invert_newton(lambda a, m: a + m @ activation(a), target, m)

    def solve(self, matrix, vector):
        return jnp.linalg.solve(matrix, vector)


class _UpperTriangular(_LowRank):
    """Low-rank maps with an upper triangular $M$: its diagonal gives the determinant; back substitution inverts."""

    def log_det(self, slopes, m):
        return jnp.log1p(slopes * along(jnp.diag(m), slopes)).sum(0)

    def preactivation(self, target, m):
        activation = self.activation

        def last_first(values, row):
            i, target, m = row
            a = invert_monotone(lambda a, slope: a + slope * activation(a), target - m @ values, m[i])
            return values.at[i].set(activation(a)), a

        return jax.lax.scan(last_first, jnp.zeros_like(target), (np.arange(len(m)), target, m), reverse=True)[1]

    def solve(self, matrix, vector):
        return solve_triangular(matrix, vector, lower=True)


class TriangularSylvester(_UpperTriangular):
    r"""$x = u + V \sigma(W^\top u + b)$ with $V = QU$, $W = QL$, $Q^\top Q = I_m$, $U$ upper and $L$ lower triangular;
    $\log\det = \sum_{i=1}^m \log(1 + \sigma'_i L_{ii} U_{ii})$.

    Both directions cost $O(dm)$ per event, after $O(dm^2)$ per batch for the matrices. It is a diffeomorphism if all
    $L_{ii} U_{ii} > -1/s$, $s = \sup \sigma'$: $W^\top V = L^\top U$ is upper triangular, so each equation of the
    inverse is one of an increasing scalar function. This holds for all parameters, because
    $L_{ii} = p(l_i) > 0$ and $U_{ii} = (p(u_i) - 1) / (s L_{ii})$ with a positive $p$. $Q$ is a product of
    Householder reflections, see `rotate`. It starts as the identity.

    Args:
        dim: the dimension $d$.
        num_units: $m$, at most `dim`.
        num_reflections: the number of reflections in $Q$, by default $m$, which can represent almost all $m$ columns;
            with 0, $Q$ is the identity.
        activation: $\sigma$, increasing and smooth; a module-level function.
        max_slope: $s = \sup \sigma'$; needed if the library does not know the activation.
        key: the key for the initial $Q$.

    References:
        van den Berg et al. (2018), sections 3.1 and 3.2. https://arxiv.org/abs/1803.05649
    """

    # L below the diagonal, l on it, and U above it.
    triangles: Float[Array, "m m"]
    raw_gains: Float[Array, " m"]
    below: Float[Array, " n"]
    bias: Float[Array, " m"]
    dim: int = eqx.field(static=True)
    num_reflections: int = eqx.field(static=True)
    activation: Activation = eqx.field(static=True)
    max_slope: float = eqx.field(static=True)

    def __init__(
        self,
        dim: int,
        num_units: int,
        *,
        key: PRNGKeyArray,
        num_reflections: int | None = None,
        activation: Activation = jnp.tanh,
        max_slope: float | None = None,
    ):
        _check_units(dim, num_units)
        self.num_reflections = num_units if num_reflections is None else num_reflections
        if not is_size(self.num_reflections, 0) or self.num_reflections > dim:
            raise ValueError(f"num_reflections must be in 0, ..., dim, but got {num_reflections}, dim={dim}.")
        self.dim, self.activation = dim, activation
        self.max_slope = steepest_slope(activation, max_slope, increasing=True)
        self.triangles, self.raw_gains = jnp.zeros((num_units, num_units)), jnp.zeros(num_units)
        self.below = jr.normal(key, np.tril_indices(dim, -1, self.num_reflections)[0].shape)
        self.bias = jnp.zeros(num_units)

    @property
    def factors(self):
        m = len(self.bias)
        diagonal, gains = positive(jnp.diag(self.triangles)), (positive(self.raw_gains) - 1) / self.max_slope
        lower = jnp.tril(self.triangles, -1) + jnp.diag(diagonal)
        upper = jnp.triu(self.triangles, 1) + jnp.diag(gains / diagonal)
        # The diagonal of L^T U is set directly, because rounding in the product could violate the bound.
        inner = jnp.triu(lower.T @ upper, 1) + jnp.diag(gains)
        both = jnp.eye(self.dim, m, dtype=lower.dtype) @ jnp.concatenate([upper, lower], axis=1)
        if self.num_reflections:
            both = rotate(unpack_reflectors(self.below, self.dim, self.num_reflections), both)
        return both[:, :m], both[:, m:], inner


class Planar(_UpperTriangular):
    r"""$x = u + \hat v\, \sigma(w^\top u + b)$ with $\log\det = \log(1 + \sigma' w^\top \hat v)$: one Sylvester unit.

    It is a diffeomorphism because $w^\top \hat v > -1/s$, $s = \sup \sigma'$, for all $v$ and $w$: with
    $\hat v = v + \big(\tfrac1s (\mathrm{softplus}(w^\top v) - 1) - w^\top v\big) w / \|w\|^2$,
    $w^\top \hat v = \tfrac1s (\mathrm{softplus}(w^\top v) - 1)$. If $w = 0$, then $\hat v = v$, and it is a shift.
    (For $w^\top v = 10$ and tanh, $w^\top \hat v \approx 9.00$.) The inverse finds one scalar root.
    It starts as the identity.

    Args:
        dim: the dimension.
        activation: $\sigma$, increasing and smooth; a module-level function.
        max_slope: $s = \sup \sigma'$; needed if the library does not know the activation.
        key: the key for the initial direction $w$.

    References:
        Rezende and Mohamed, Variational Inference with Normalizing Flows (2015), equations 10 to 12 and appendix A.1.
        https://arxiv.org/abs/1505.05770
    """

    v: Float[Array, " dim"]
    w: Float[Array, " dim"]
    bias: Float[Array, " 1"]
    dim: int = eqx.field(static=True)
    activation: Activation = eqx.field(static=True)
    max_slope: float = eqx.field(static=True)

    def __init__(
        self, dim: int, *, key: PRNGKeyArray, activation: Activation = jnp.tanh, max_slope: float | None = None
    ):
        check_sizes(dim=dim)
        self.dim, self.activation = dim, activation
        self.max_slope = steepest_slope(activation, max_slope, increasing=True)
        self.w, self.bias = jr.normal(key, (dim,)), jnp.zeros(1)
        # softplus(w v) = 1 gives the identity.
        self.v = math.log(math.e - 1) * self.w / jnp.sum(self.w**2)

    @property
    def factors(self):
        square, product = jnp.sum(self.w**2), self.w @ self.v
        # The floor keeps the gain above -1/s where softplus - 1 rounds to -1.
        floor = jnp.finfo(product.dtype).eps ** 0.5
        gain = (jnp.maximum(jax.nn.softplus(product), floor) - 1) / self.max_slope
        nonzero = square > 0
        v = self.v + jnp.where(nonzero, gain - product, 0) * self.w / jnp.where(nonzero, square, 1)
        return v[:, None], self.w[:, None], jnp.where(nonzero, gain, 0)[None, None]


class Radial(AbstractBijection):
    r"""$x = u + \frac{\beta}{\alpha + r} (u - u_0)$ with $r = \|u - u_0\|$;
    $\det = \big(1 + \tfrac{\alpha\beta}{(\alpha + r)^2}\big) \big(1 + \tfrac{\beta}{\alpha + r}\big)^{d-1}$.

    It is a diffeomorphism for all parameters, because $\alpha = p(\alpha') > 0$ and
    $\beta = \alpha\,(p(\beta') - 1) > -\alpha$ with a positive $p$. The distance of $x$ from $u_0$ is
    $r (r + \alpha p(\beta')) / (r + \alpha)$, so the inverse is the root of a quadratic: both directions have closed
    forms. It starts as the identity.

    Args:
        dim: the dimension.
        key: the key for the initial center $u_0$.

    References:
        Rezende and Mohamed (2015), equation 14 and appendix A.2. https://arxiv.org/abs/1505.05770
    """

    center: Float[Array, " dim"]
    raw_alpha: Float[Array, ""]
    raw_beta: Float[Array, ""]
    cond_shape: ClassVar[None] = None
    vectorized: ClassVar[bool] = True

    def __init__(self, dim: int, *, key: PRNGKeyArray):
        check_sizes(dim=dim)
        self.center = jr.normal(key, (dim,))
        self.raw_alpha, self.raw_beta = jnp.zeros(()), jnp.zeros(())

    @property
    def shape(self) -> tuple[int, ...]:
        return self.center.shape

    @property
    def alpha(self) -> Array:
        return positive(self.raw_alpha)

    @property
    def beta(self) -> Array:
        return self.alpha * (positive(self.raw_beta) - 1)

    def _forward(self, u, condition, key):
        offset = u - along(self.center, u)
        stretch, log_det = self._stretch(_length(offset))
        return along(self.center, u) + stretch * offset, log_det

    def _inverse(self, x, condition, key):
        offset = x - along(self.center, x)
        length = _length(offset)
        # r^2 + (alpha p - length) r - alpha length = 0, solved by the formula without cancellation.
        half = (self.alpha * positive(self.raw_beta) - length) / 2
        rest = self.alpha * length
        unit = _unit(half)
        root = unit * jnp.sqrt((half / unit) ** 2 + rest / unit / unit)
        r = jnp.where(half > 0, rest / jnp.where(half > 0, half + root, 1), root - half)
        stretch, log_det = self._stretch(r)
        return along(self.center, x) + offset / stretch, -log_det

    def _stretch(self, r: Array) -> tuple[Array, Array]:
        """|x - center| / r, and the log-determinant, without cancellation."""
        alpha, p = self.alpha, positive(self.raw_beta)
        near, far = alpha / (r + alpha), jnp.where(jnp.isinf(r), 1, r / (r + alpha))
        stretch = far + near * p
        return stretch, (self.center.size - 1) * jnp.log(stretch) + jnp.log(far * (far + 2 * near) + near**2 * p)


def _length(vector: Float[Array, "dim *batch"]) -> Float[Array, "*batch"]:
    """The Euclidean norm, with the gradient 0 at 0."""
    unit = _unit(jnp.max(jnp.abs(vector), 0))
    square = jnp.sum((vector / unit) ** 2, 0)
    return unit * jnp.where(square == 0, 0, jnp.sqrt(jnp.where(square == 0, 1, square)))


def _unit(size: Array) -> Array:
    """The unit in which numbers of this size, which may be infinite, can be squared without overflow."""
    return jax.lax.stop_gradient(jnp.clip(jnp.abs(size), 1, float(jnp.finfo(size.dtype).max) ** 0.5))


def _check_units(dim: int, num_units: int) -> None:
    if not (is_size(dim) and is_size(num_units) and num_units <= dim):
        raise ValueError(f"num_units must be in 1, ..., dim, with dim positive; got num_units={num_units}, dim={dim}.")
