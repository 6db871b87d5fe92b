"""Functions that JAX differentiates in forward mode only, such as `jax.lax.while_loop`: a gradient for reverse mode.

Everything that fits takes gradients in reverse mode. Here the gradient of such a function is computed by one product
with the Jacobian for each coordinate, and reverse mode gets it as a derivative rule.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def needs_forward_mode(fn: Callable[[Array], Float[Array, ""]], u: Float[Array, " dim"]) -> bool:
    """Whether JAX knows the derivative in forward mode but not in reverse mode, which is found by tracing alone.

    Args:
        fn: a function from a vector to a scalar.
        u: any point.
    """
    return not _is_possible(jax.grad(fn), u) and _is_possible(jax.jacfwd(fn), u)


def _is_possible(derivative: Callable, u: Array) -> bool:
    try:
        jax.eval_shape(jax.vmap(derivative), u[None])
    except Exception:  # each function without a derivative raises another one
        return False
    return True


class ForwardMode(eqx.Module):
    """A function whose gradient is taken in forward mode.

    Args:
        fn: the function from a vector to a scalar.
    """

    fn: Callable[[Array], Float[Array, ""]]

    def __call__(self, u: Float[Array, " dim"]) -> Float[Array, ""]:
        return _with_gradient(u, self.fn)


@eqx.filter_custom_vjp
def _with_gradient(u, fn):
    return fn(u)


@_with_gradient.def_fwd
def _value_and_gradient(perturbed, u, fn):
    del perturbed
    products = jax.vmap(lambda direction: jax.jvp(fn, (u,), (direction,)), out_axes=(None, 0))
    return products(jnp.eye(u.size, dtype=u.dtype))


@_with_gradient.def_bwd
def _pull_back(gradient, cotangent, perturbed, u, fn):
    del perturbed, u, fn
    return cotangent * gradient
