"""A bijection from the whole space onto a box, the product of one interval for each coordinate."""

from collections.abc import Sequence
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from numpyro.distributions import constraints
from numpyro.distributions.constraints import Constraint

from pushforward.bijections.base import AbstractBijection
from pushforward.bijections.elementwise import bounded_exponent, strictly_inside
from pushforward.bijections.intervals import bounds


class OntoBox(AbstractBijection):
    r"""Maps the whole space onto $\prod_i (a_i, b_i)$, where ends may be infinite; increasing in every coordinate.

    $x = a + (b - a)\,\sigma(u)$ if both ends are finite, $a + e^u$ if only the lower one is, $b - e^{-u}$ if only the
    upper one is, and $u$ if none is.

    Args:
        intervals: one NumPyro constraint for each coordinate, an interval.
    """

    ends: tuple[tuple[float, float], ...] = eqx.field(static=True)
    cond_shape: ClassVar[None] = None
    vectorized: ClassVar[bool] = True

    def __init__(self, intervals: Sequence[Constraint]):
        self.ends = tuple((float(lower), float(upper)) for lower, upper in map(bounds, intervals))
        if not self.ends or any(not lower < upper for lower, upper in self.ends):
            raise ValueError(f"each interval of a box must have its lower end below its upper, but got {self.ends}.")

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.ends),)

    @property
    def codomain(self) -> Constraint:
        lower, upper = np.array(self.ends).T
        return constraints.real if np.isinf(self.ends).all() else constraints.interval(lower, upper)

    def _forward(self, u, condition, key):
        x = [_inside(_value(u_i, *ends), *ends) for u_i, ends in zip(u, self.ends, strict=True)]
        return jnp.stack(x), self._log_det(u)

    def _inverse(self, x, condition, key):
        u = jnp.stack([_root(_inside(x_i, *ends), *ends) for x_i, ends in zip(x, self.ends, strict=True)])
        return u, -self._log_det(u)

    def _log_det(self, u):
        return sum(_log_slope(u_i, *ends) for u_i, ends in zip(u, self.ends, strict=True))


def _inside(x, lower, upper):
    if np.isinf(lower) and np.isinf(upper):
        return x
    return strictly_inside(x, constraints.interval(lower, upper))


def _value(u, lower, upper):
    if np.isinf(lower) and np.isinf(upper):
        return u
    if np.isinf(upper):
        return lower + jnp.exp(bounded_exponent(u))
    if np.isinf(lower):
        return upper - jnp.exp(-bounded_exponent(u))
    return lower + (upper - lower) * jax.nn.sigmoid(u)


def _root(x, lower, upper):
    if np.isinf(lower) and np.isinf(upper):
        return x
    above = 0.0 if np.isinf(lower) else jnp.log(x - lower)
    below = 0.0 if np.isinf(upper) else jnp.log(upper - x)
    return above - below


def _log_slope(u, lower, upper):
    if np.isinf(lower) and np.isinf(upper):
        return jnp.zeros_like(u)
    if np.isinf(upper):
        return bounded_exponent(u)
    if np.isinf(lower):
        return -bounded_exponent(u)
    return np.log(upper - lower) - jax.nn.softplus(u) - jax.nn.softplus(-u)
