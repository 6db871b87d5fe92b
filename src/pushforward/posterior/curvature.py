"""Hessians of log-densities, and triangular factors of covariances."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.extend.core import ClosedJaxpr, Jaxpr
from jaxtyping import Array, Float

from pushforward.printable import cause

ROWS_AT_A_TIME = 256

LogDensity = Callable[[Array], Float[Array, ""]]
# From a point and directions, one a row, to the products of the Hessian with them.
HessianProducts = Callable[[Array, Array], Float[Array, "directions dim"]]


def check_gradient(target: LogDensity, u: Float[Array, " dim"]) -> None:
    """Raise unless many points at a time have a density and a gradient, which is found by tracing alone.

    Args:
        target: the log-density.
        u: any point.

    Raises:
        ValueError: if JAX cannot differentiate the log-density, or cannot evaluate it at many points at a time.
    """
    needs = {
        "be evaluated at many points at a time, by jax.vmap": target,
        "be differentiated by jax.grad, which the search and the training need": jax.grad(target),
    }
    for need, fn in needs.items():
        try:
            jax.eval_shape(jax.vmap(fn), u[None])
        except Exception as error:
            raise ValueError(f"the log-density cannot {need}: {_advice(error)}") from error


def _advice(error: Exception) -> str:
    text = cause(error)
    if "callback" in text:
        text += " A function outside of JAX needs a vmap_method of jax.pure_callback, and jax.custom_vjp."
    return text


def hessian(products: HessianProducts, dim: int) -> Callable[[Array], Float[Array, "dim dim"]]:
    """The function that computes the Hessian, at most ROWS_AT_A_TIME rows at a time, which limits the memory.

    Args:
        products: the function that computes products of the Hessian.
        dim: the dimension.
    """
    num_parts = -(-dim // ROWS_AT_A_TIME)
    num_rows = -(-dim // num_parts)

    def hessian_at(u):
        directions = jnp.eye(num_parts * num_rows, dim, dtype=u.dtype).reshape(num_parts, num_rows, dim)
        rows = jax.lax.map(lambda part: products(u, part), directions)
        return rows.reshape(-1, dim)[:dim]

    return hessian_at


def hessian_products(target: LogDensity, u: Float[Array, " dim"]) -> HessianProducts:
    """The function that computes products of the Hessian at a point with some directions.

    It differentiates the gradient in forward mode, which is the fastest, or in reverse mode, which also serves
    functions with `jax.custom_vjp`. Some functions have only a gradient: the solutions of most differential equations,
    and special functions of which JAX knows one derivative. For them it takes differences of gradients.

    Args:
        target: the log-density.
        u: any point.
    """
    gradient = jax.grad(target)

    def differences(u, v):
        step = _difference_step(u, v)
        return (gradient(u + step * v) - gradient(u - step * v)) / (2 * step)

    return jax.vmap(_derivative(target, u) or differences, in_axes=(None, 0))


def has_hessian(target: LogDensity, u: Float[Array, " dim"]) -> bool:
    """Whether the products of `hessian_products` are derivatives, not differences.

    Args:
        target: the log-density.
        u: any point.
    """
    return _derivative(target, u) is not None


def _derivative(target: LogDensity, u: Float[Array, " dim"]) -> Callable[[Array, Array], Array] | None:
    """The function that differentiates the gradient at a point along a direction, if JAX can."""
    gradient = jax.grad(target)

    def forward(u, v):
        return jax.jvp(gradient, (u,), (v,))[1]

    def reverse(u, v):
        return jax.vjp(gradient, u)[1](v)[0]

    return next((fn for fn in (forward, reverse) if _is_possible(fn, u)), None)


def _is_possible(product: Callable[[Array, Array], Array], u: Array) -> bool:
    """Whether JAX knows the derivatives, which is found by tracing alone."""
    try:
        program = jax.make_jaxpr(jax.vmap(product, in_axes=(None, 0)))(u, u[None])
    except Exception:  # each function without a derivative raises another one
        return False
    return not _leaks(program.jaxpr)


def _leaks(jaxpr: Jaxpr) -> bool:
    """Whether an inner function has a traced constant, which cannot be compiled.

    The second derivative of some functions of JAX can be traced only, such as that of `jax.scipy.special.exp1`: it is
    an inner function with values of the outer one.
    """
    for equation in jaxpr.eqns:
        for part in jax.tree.leaves(equation.params, is_leaf=lambda p: isinstance(p, ClosedJaxpr | Jaxpr)):
            if isinstance(part, ClosedJaxpr) and any(isinstance(const, Tracer) for const in part.consts):
                return True
            inner = part.jaxpr if isinstance(part, ClosedJaxpr) else part
            if isinstance(inner, Jaxpr) and _leaks(inner):
                return True
    return False


def _difference_step(u: Array, v: Array) -> Array:
    """How many times v to move from u, so that coordinates of order one move by the fourth root of the precision.

    Adaptive solvers have noisy gradients, so the step is longer than the cube root, which suits exact gradients. At
    large values of u it is long enough to be resolved.
    """
    eps, longest = jnp.finfo(u.dtype).eps, jnp.max(jnp.abs(v))
    longest = jnp.where(longest > 0, longest, 1)
    return (eps**0.25 + eps**0.75 * jnp.max(jnp.abs(u * v)) / longest) / longest


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
