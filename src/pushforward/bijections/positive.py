"""Positive numbers, as functions of any real number: how scales and slopes are parametrised."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike

# Beyond, adding 1 to the square changes nothing.
LARGE = 1e9


@jax.custom_jvp
def log_positive(raw: Array) -> Array:
    r"""$\log p(r) = \operatorname{arsinh}(r/2)$, the logarithm of the positive number that a raw array stands for.

    $p(r) = (r + \sqrt{r^2 + 4}) / 2$ is 1 at 0, grows linearly, and $p(-r) = 1/p(r)$: halving is as easy to learn as
    doubling, and no step of an optimiser can make a scale explode or vanish as an exponential would.
    """
    size = jnp.log(_at_least_one(raw))
    return jnp.where(raw < 0, -size, size)


@jax.custom_jvp
def positive(raw: Array) -> Array:
    r"""$p(r) = (r + \sqrt{r^2 + 4})/2$, see `log_positive`."""
    large = _at_least_one(raw)
    return jnp.where(raw < 0, 1 / large, large)


def _at_least_one(raw: Array) -> Array:
    """$p(|r|)$: with a sum of positive numbers, nothing cancels. Twice as fast as arsinh and its exponential."""
    half = jnp.abs(raw) / 2
    return half + _root(half)


def _root(half: Array) -> Array:
    r"""$\sqrt{1 + h^2}$, also where the square overflows."""
    return jnp.where(half > LARGE, half, jnp.sqrt(1 + half**2))


def _log_slope(raw: Array) -> Array:
    return 0.5 / _root(jnp.abs(raw) / 2)


# The absolute value has no slope at 0, where parameters begin; p has.
log_positive.defjvps(lambda tangent, _, raw: tangent * _log_slope(raw))
positive.defjvps(lambda tangent, value, raw: tangent * value * _log_slope(raw))


def raw_positive(value: ArrayLike) -> Array:
    r"""The raw array that stands for a positive number: $r = p - 1/p$."""
    value = jnp.asarray(value)
    return value - 1 / value
