"""Bijections whose arrays depend on a condition, and the standardization of conditions."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from pushforward.bijections.arrays import ArrayLike, Constant, along, num_parameters, shift_arrays
from pushforward.bijections.base import AbstractBijection
from pushforward.bijections.checks import check_bijections, is_known, is_size
from pushforward.bijections.composition import merge_cond_shapes
from pushforward.bijections.wrappers import AbstractStandIn, AbstractWrapper


class Amortized(AbstractWrapper):
    r"""A bijection whose arrays depend on the condition: $x = T(u;\, \theta + g(c))$.

    Args:
        bijection: the template; its arrays are $\theta$.
        network: $g$; maps a condition to a vector with one entry for each scalar in the template's arrays.
        cond_shape: the shape of the condition.
    """

    bijection: AbstractBijection
    network: Callable[[Array], Float[Array, " n"]]
    cond_shape: tuple[int, ...] = eqx.field(static=True)

    def __init__(
        self,
        bijection: AbstractBijection,
        network: Callable[[Array], Float[Array, " n"]],
        cond_shape: tuple[int, ...],
    ):
        check_bijections("Amortized", bijection)
        if not isinstance(cond_shape, Sequence) or not all(map(is_size, cond_shape)):
            raise ValueError(f"cond_shape must be a tuple of sizes, as in (2,), but got {cond_shape!r}.")
        self.bijection, self.network, self.cond_shape = bijection, network, tuple(cond_shape)
        merge_cond_shapes([self, bijection])
        given, expected = (
            eqx.filter_eval_shape(network, jnp.zeros(cond_shape)).shape,
            num_parameters(bijection),
        )
        if given != (expected,):
            raise ValueError(
                f"the network must return one number for each of the {expected} scalars in the arrays of "
                f"{type(bijection).__name__}, shape ({expected},), but returns shape {given}."
            )

    def at(self, condition: Any) -> AbstractBijection:
        """The bijection at one condition."""
        return shift_arrays(self.bijection, self.network(condition))

    def _forward(self, u, condition, key):
        return self.at(condition).forward_batch(u, condition, key)

    def _inverse(self, x, condition, key):
        return self.at(condition).inverse_batch(x, condition, key)

    def _push_score(self, u, score, condition):
        return self.at(condition).push_score_batch(u, score, condition)


class RescaledCondition(AbstractWrapper):
    r"""Passes a standardized condition to a bijection: $(c - m) / s$, or $\operatorname{arsinh}((c - m) / s)$.

    Args:
        bijection: a conditional bijection.
        loc: $m$, of the condition's shape; not trained.
        scale: $s$, of the condition's shape, positive; not trained.
        arsinh: True for the entries of the condition to which arsinh is applied, which helps networks with
            heavy-tailed conditions; one boolean for all, or one for each entry.
    """

    bijection: AbstractBijection
    moments: Constant
    arsinh: Bool[Array, "..."] | None = None
    vectorized: ClassVar[bool] = True

    def __init__(self, bijection: AbstractBijection, loc: ArrayLike, scale: ArrayLike, arsinh: ArrayLike | None = None):
        check_bijections("RescaledCondition", bijection)
        loc, scale = (jnp.asarray(a, dtype=float) for a in (loc, scale))
        if bijection.cond_shape is None or {loc.shape, scale.shape} != {tuple(bijection.cond_shape)}:
            raise ValueError(
                f"loc and scale must have the condition's shape {bijection.cond_shape}, but have {loc.shape} and "
                f"{scale.shape}."
            )
        if is_known(loc, scale) and not (np.isfinite(loc).all() and np.isfinite(scale).all() and np.all(scale > 0)):
            raise ValueError(f"loc must be finite, and scale positive and finite, but they are {loc} and {scale}.")
        self.bijection, self.moments = bijection, Constant((loc, scale))
        self.arsinh = None if arsinh is None else jnp.broadcast_to(jnp.asarray(arsinh, bool), loc.shape)

    @property
    def cond_shape(self) -> tuple[int, ...] | None:
        return self.bijection.cond_shape

    def _rescaled(self, condition: Any) -> Array:
        loc, scale = (along(a.astype(condition.dtype), condition) for a in self.moments.value)
        rescaled = (condition - loc) / scale
        if self.arsinh is None:
            return rescaled
        largest = jnp.finfo(rescaled.dtype).max
        near = jnp.arcsinh(jnp.clip(rescaled, -largest, largest))
        return jnp.where(along(self.arsinh, condition), near, rescaled)

    def _forward(self, u, condition, key):
        return self.bijection.forward_batch(u, self._rescaled(condition), key)

    def _inverse(self, x, condition, key):
        return self.bijection.inverse_batch(x, self._rescaled(condition), key)

    def _push_score(self, u, score, condition):
        return self.bijection.push_score_batch(u, score, self._rescaled(condition))


class AtCondition(AbstractStandIn):
    r"""A conditional bijection at one condition: $x = T(u;\, c)$ for a fixed $c$.

    Args:
        bijection: a conditional bijection.
        condition: $c$, of the bijection's condition shape; not trained.
    """

    bijection: AbstractBijection
    condition: Constant
    cond_shape: ClassVar[None] = None

    def __init__(self, bijection: AbstractBijection, condition: ArrayLike):
        check_bijections("AtCondition", bijection)
        condition = jnp.asarray(condition, dtype=float)
        if bijection.cond_shape != condition.shape:
            raise ValueError(
                f"the condition must have the bijection's condition shape {bijection.cond_shape}, but has shape "
                f"{condition.shape}."
            )
        self.bijection, self.condition = bijection, Constant(condition)

    @staticmethod
    def upgraded_fields(fields: dict[str, Any]) -> dict[str, Any]:
        """The fields of version 0.1.0, whose condition was an array.

        Args:
            fields: the fields in the file.
        """
        condition = fields["condition"]
        return fields | {"condition": condition if isinstance(condition, Constant) else Constant(condition)}

    def _forward(self, u, condition, key):
        return self.bijection.forward_batch(u, self.condition.value, key)

    def _inverse(self, x, condition, key):
        return self.bijection.inverse_batch(x, self.condition.value, key)

    def _push_score(self, u, score, condition):
        return self.bijection.push_score_batch(u, score, self.condition.value)
