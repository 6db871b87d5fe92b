"""Activation functions and their Lipschitz constants, which low-rank and residual bijections need to be invertible."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

Activation = Callable[[Array], Array]


def lipswish(x: Array) -> Array:
    r"""LipSwish, $x\,\sigma(x) / 1.1$: smooth, slopes between -0.1 and 1, curved where the slope is close to 1.

    References:
        Chen et al., Residual Flows for Invertible Generative Modeling (2019), section 3.3.
        https://arxiv.org/abs/1906.02735
    """
    return jax.nn.silu(x) / 1.1


# sup |slope| of the increasing activations ...
INCREASING: dict[Activation, float] = {
    jnp.tanh: 1.0,
    jax.nn.tanh: 1.0,
    jnp.arctan: 1.0,
    jnp.arcsinh: 1.0,
    jax.nn.sigmoid: 0.25,
    jax.nn.soft_sign: 1.0,
    jax.nn.softplus: 1.0,
    jax.scipy.special.erf: 2 / np.pi**0.5,
}
# ... and of the others.
OTHERS: dict[Activation, float] = {lipswish: 1.0, jax.nn.silu: 1.1, jnp.sin: 1.0, jnp.cos: 1.0}


def steepest_slope(activation: Activation, given: float | None = None, *, increasing: bool = False) -> float:
    """The largest absolute slope of an activation: from the tables, or `given` and checked at many points.

    Args:
        activation: a smooth elementwise function.
        given: a bound on the absolute slope, for activations that are not in the tables. It is checked only on a grid
            of [-20, 20] and at powers of ten.
        increasing: whether the slope must be nonnegative.

    Raises:
        ValueError: if the activation breaks the bound, decreases somewhere, or has no known bound.
    """
    name = getattr(activation, "__name__", str(activation))
    known = INCREASING if increasing else INCREASING | OTHERS
    if given is None:
        if activation not in known:
            tables = ", ".join(sorted({f.__name__ for f in known}))
            raise ValueError(
                f"the steepest slope of activation {name} is not known: give it as max_slope, or use one of {tables}."
            )
        return known[activation]
    if not 0 < given < math.inf:
        raise ValueError(f"max_slope must be positive and finite, but is {given}.")
    with jax.ensure_compile_time_eval():  # also inside jit
        far = 10.0 ** jnp.arange(2, 9)
        points = jnp.concatenate([jnp.linspace(-20.0, 20.0, 4001), far, -far])
        slopes = np.asarray(jax.vmap(jax.grad(activation))(points))
    lowest, highest = slopes.min(), np.abs(slopes).max()
    if not highest <= given * (1 + 1e-5) or (increasing and lowest < 0):
        wanted = "from 0 to" if increasing else "of absolute value at most"
        raise ValueError(
            f"the activation {name} must have slopes {wanted} max_slope={given}, but has {lowest:.4g} to "
            f"{slopes.max():.4g}."
        )
    return float(given)


def value_and_slope(activation: Activation, x: Array) -> tuple[Array, Array]:
    """An elementwise function and its derivative."""
    return jax.jvp(activation, (x,), (jnp.ones_like(x),))
