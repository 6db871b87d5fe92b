"""Autoregressive affine maps whose shifts are quadratic and whose log-scales are linear functions."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Float

from pushforward.bijections.arrays import along, detach
from pushforward.bijections.base import AbstractBijection
from pushforward.bijections.checks import check_sizes

# Where the inputs of the polynomials, and where log-scales level off. Normal draws hardly reach the first.
LARGEST, LARGEST_LOG_SCALE = 6.0, 12.0


class QuadraticAutoregressive(AbstractBijection):
    r"""$x_i = e^{s_i} u_i + m_i$ with log-scales and shifts that are polynomials of the coordinates before:

    $s_i = 12 \tanh(\sum_{j<i} B_{ij} z_j / 12)$ and
    $m_i = \sum_{j<i} L_{ij} z_j + \sum_{j,k<i} Q_{ijk} (z_j z_k - \delta_{jk})$ with symmetric $Q_i$;
    $\log|\det| = \sum_i s_i$. The inputs $z_j = u_j (1 + (u_j/6)^4)^{-1/4}$ equal $u_j$ where normal draws are, and
    never exceed 6, so that polynomials cannot explode in the tails.

    Of a density near a Gaussian, such a map after a transformation of each coordinate has all terms of first order:
    skewness, dependences of scales, and curved ridges. It has no hidden layers, and $d^3 / 6$ coefficients of highest
    order in $d$ dimensions. It starts as the identity. The inverse solves for one coordinate after the other, in closed
    form.

    Args:
        dim: the dimension $d$.

    References:
        Marzouk et al., Sampling via Measure Transport: An Introduction (2016), section 4: triangular polynomial maps.
        https://arxiv.org/abs/1602.05023
    """

    # Without the first row, which has no coordinates before it, and the last column, which is before no other.
    linear: Float[Array, "rest rest"]
    log_scale_linear: Float[Array, "rest rest"]
    quadratic: Float[Array, "rest rest rest"]
    dim: int = eqx.field(static=True)
    cond_shape: ClassVar[None] = None
    vectorized: ClassVar[bool] = True

    def __init__(self, dim: int):
        check_sizes(dim=dim)
        self.dim, rest = dim, dim - 1
        self.linear, self.log_scale_linear = jnp.zeros((rest, rest)), jnp.zeros((rest, rest))
        self.quadratic = jnp.zeros((rest, rest, rest))

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.dim,)

    def _forward(self, u, condition, key):
        linear, log_scale_linear, quadratic = self._coefficients()
        z = _inputs(u)[0]
        log_scales = _bounded(log_scale_linear @ z)[0]
        squares = (jnp.tensordot(quadratic, z, 1) * z).sum(1)
        shifts = linear @ z + squares - along(jnp.trace(quadratic, axis1=1, axis2=2), u)
        return jnp.exp(log_scales) * u + shifts, log_scales.sum(0)

    def _inverse(self, x, condition, key):
        def step(carry, row):
            (u, z), (i, entry, linear, log_scale_linear, quadratic) = carry, row
            # The coordinates that are not known yet have no coefficients.
            shift = linear @ z + jnp.sum(z * (quadratic @ z), 0) - jnp.trace(quadratic)
            log_scale = _bounded(log_scale_linear @ z)[0]
            new = (entry - shift) * jnp.exp(-log_scale)
            return (u.at[i].set(new), z.at[i].set(_inputs(new)[0])), log_scale

        rows = jnp.arange(len(x)), x, *self._coefficients()
        (u, _), log_scales = jax.lax.scan(step, (jnp.zeros_like(x), jnp.zeros_like(x)), rows)
        return u, -log_scales.sum(0)

    def _push_score(self, u, score, condition):
        # XLA computes the products that the forward pass has too only once.
        frozen, fixed = detach((self, u))
        linear, log_scale_linear, quadratic = frozen._coefficients()
        z, slopes = _inputs(fixed)
        log_scales, bends = _bounded(log_scale_linear @ z)
        scales = jnp.exp(log_scales)
        products = jnp.tensordot(quadratic, z, 1)
        by_scales = along(log_scale_linear, products) * (bends * scales * fixed)[:, None]
        by_inputs = along(linear, products) + 2 * products + by_scales
        jacobian = along(jnp.eye(len(u), dtype=u.dtype), products) * scales[:, None] + by_inputs * slopes
        owed = score - (log_scale_linear.T @ bends) * slopes
        first = jnp.moveaxis(jacobian, (0, 1), (-2, -1)), jnp.moveaxis(owed, 0, -1)[..., None]
        pushed = solve_triangular(*first, lower=True, trans="T")[..., 0]
        return *self._forward(u, None, None), jnp.moveaxis(pushed, -1, 0)

    def _coefficients(self) -> tuple[Array, Array, Array]:
        """$L$, $B$ and $Q$ with zeros where coordinates are not before others."""
        before = jnp.tril(jnp.ones_like(self.linear))
        symmetric = (self.quadratic + jnp.swapaxes(self.quadratic, 1, 2)) / 2
        quadratic = before[:, :, None] * before[:, None, :] * symmetric
        linear, log_scale_linear = (jnp.pad(before * a, ((1, 0), (0, 1))) for a in (self.linear, self.log_scale_linear))
        return linear, log_scale_linear, jnp.pad(quadratic, ((1, 0), (0, 1), (0, 1)))


def _inputs(u: Array) -> tuple[Array, Array]:
    """The inputs of the polynomials, and their derivatives."""
    # Beyond, 1 is nothing next to the fourth power, which must not overflow.
    inside = jnp.clip(u, -1e9 * LARGEST, 1e9 * LARGEST)
    power = (inside / LARGEST) ** 4
    shrunk = (1 + power) ** -0.25
    return inside * shrunk, shrunk / (1 + power)


def _bounded(log_scales: Array) -> tuple[Array, Array]:
    """Log-scales that level off, and their derivatives."""
    bounded = jnp.tanh(log_scales / LARGEST_LOG_SCALE)
    return LARGEST_LOG_SCALE * bounded, 1 - bounded**2
