"""Hessians of log-densities, and triangular factors of covariances."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

ROWS_AT_A_TIME = 256

LogDensity = Callable[[Array], Float[Array, ""]]


def has_forward_mode(target: LogDensity, u: Float[Array, " dim"]) -> bool:
    """Whether the gradient can be differentiated in forward mode, which is faster; `jax.custom_vjp` forbids it.

    Args:
        target: the log-density.
        u: any point.
    """
    return "custom_vjp_call" not in str(jax.make_jaxpr(target)(u))


def hessian(target: LogDensity, u: Float[Array, " dim"]) -> Callable[[Array], Float[Array, "dim dim"]]:
    """The function that computes the Hessian, at most ROWS_AT_A_TIME rows at a time, which limits the memory.

    Args:
        target: the log-density.
        u: any point.
    """
    products = hessian_products(target, u)
    num_parts = -(-u.size // ROWS_AT_A_TIME)
    num_rows = -(-u.size // num_parts)
    directions = jnp.eye(num_parts * num_rows, u.size, dtype=u.dtype).reshape(num_parts, num_rows, u.size)

    def hessian_at(u):
        rows = jax.lax.map(lambda part: products(u, part), directions)
        return rows.reshape(-1, u.size)[: u.size]

    return hessian_at


def hessian_products(
    target: LogDensity, u: Float[Array, " dim"]
) -> Callable[[Array, Array], Float[Array, "directions dim"]]:
    """The function that computes products of the Hessian at a point with some directions.

    Args:
        target: the log-density.
        u: any point.
    """
    forward, gradient = has_forward_mode(target, u), jax.grad(target)

    def products(u, directions):
        def product(v):
            return jax.jvp(gradient, (u,), (v,))[1] if forward else jax.vjp(gradient, u)[1](v)[0]

        return jax.vmap(product)(directions)

    return products


def lower_factor(root: Float[Array, "dim dim"]) -> Float[Array, "dim dim"]:
    """The lower triangular L with a positive diagonal and $L L^T = R R^T$.

    Args:
        root: $R$.
    """
    upper = jnp.linalg.qr(root.T, mode="r")
    return (upper * jnp.where(jnp.diag(upper) < 0, -1, 1)[:, None]).T


def inverse_factor(hessian: Float[Array, "dim dim"]) -> Float[Array, "dim dim"]:
    """A lower triangular L with L L^T = |H|^-1, where |H| has the absolute eigenvalues of H.

    H is scaled to a unit diagonal first, so that coordinates of very different scales lose no digits.

    Args:
        hessian: H, symmetric.
    """
    dtype = hessian.dtype
    diagonal = jnp.abs(jnp.diag(hessian))
    scale = jax.lax.rsqrt(jnp.maximum(diagonal, jnp.max(diagonal) * jnp.finfo(dtype).eps ** 2 + jnp.finfo(dtype).tiny))
    values, vectors = jnp.linalg.eigh(scale[:, None] * hessian * scale)
    values = jnp.abs(values)
    # A direction without curvature becomes far wider than the others, but not infinitely wide.
    values = jnp.maximum(values, jnp.max(values) * 10 * jnp.finfo(dtype).eps ** 0.5)
    return lower_factor(scale[:, None] * vectors * jax.lax.rsqrt(values))
