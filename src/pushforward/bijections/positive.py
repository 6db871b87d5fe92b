"""The parametrization of positive numbers, such as scales and slopes, by real numbers."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from pushforward.bijections.arrays import ArrayLike

# For larger numbers, adding 1 to the square changes nothing.
LARGE = 1e9


@jax.custom_jvp
def log_positive(raw: Array | np.ndarray) -> Array:
    r"""$\log p(r) = \operatorname{arsinh}(r/2)$, the logarithm of the positive number $p$ of a raw array $r$.

    $p(r) = (r + \sqrt{r^2 + 4}) / 2$ is 1 at 0, grows linearly, and $p(-r) = 1/p(r)$: halving is as easy to learn as
    doubling, and one optimizer step cannot make a scale explode or vanish, unlike with an exponential.
    """
    size = jnp.log(_at_least_one(raw))
    return jnp.where(raw < 0, -size, size)


@jax.custom_jvp
def positive(raw: Array | np.ndarray) -> Array:
    r"""$p(r) = (r + \sqrt{r^2 + 4})/2$, see `log_positive`."""
    large = _at_least_one(raw)
    return jnp.where(raw < 0, 1 / large, large)


def _at_least_one(raw: Array | np.ndarray) -> Array:
    """$p(|r|)$, a sum of positive numbers without cancellation. Twice as fast as the exponential of arsinh."""
    half = jnp.abs(raw) / 2
    return half + _root(half)


def _root(half: Array) -> Array:
    r"""$\sqrt{1 + h^2}$, also if the square overflows."""
    return jnp.where(half > LARGE, half, jnp.sqrt(1 + half**2))


def _log_slope(raw: Array | np.ndarray) -> Array:
    return 0.5 / _root(jnp.abs(raw) / 2)


# The absolute value is not differentiable at 0, where parameters start, but p is.
log_positive.defjvps(lambda tangent, _, raw: tangent * _log_slope(raw))
positive.defjvps(lambda tangent, value, raw: tangent * value * _log_slope(raw))


def raw_positive(value: ArrayLike) -> Array:
    r"""The raw array of a positive number: $r = p - 1/p$."""
    value = jnp.asarray(value)
    return value - 1 / value
