"""Bijections that hold one other: its inverse, or the same with its arrays held fixed."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree
from numpyro.distributions.constraints import Constraint

from pushforward.bijections.base import AbstractBijection
from pushforward.bijections.checks import check_bijections


class AbstractWrapper(AbstractBijection):
    """A bijection about another, between the same spaces."""

    bijection: eqx.AbstractVar[AbstractBijection]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.bijection.shape

    @property
    def domain(self) -> Constraint:
        return self.bijection.domain

    @property
    def codomain(self) -> Constraint:
        return self.bijection.codomain


class AbstractStandIn(AbstractWrapper):
    """A bijection that does just what another does, and holds it in a way of its own."""

    @property
    def cond_shape(self) -> tuple[int, ...] | None:
        return self.bijection.cond_shape

    @property
    def keeps_intervals(self) -> bool:
        return self.bijection.keeps_intervals

    @property
    def stochastic(self) -> bool:
        return self.bijection.stochastic

    @property
    def numerical_inverse(self) -> bool:
        return self.bijection.numerical_inverse

    def forward_and_log_det(self, u, condition=None, *, key=None):
        return self.bijection.forward_and_log_det(u, condition, key=key)

    def inverse_and_log_det(self, x, condition=None, *, key=None):
        return self.bijection.inverse_and_log_det(x, condition, key=key)

    def push_score(self, u, score, condition=None):
        return self.bijection.push_score(u, score, condition)

    def batched(self, method, arrays, condition=None, condition_axis=None, *, key=None):
        return self.bijection.batched(method, arrays, condition, condition_axis, key=key)


class Invert(AbstractWrapper):
    """The inverse of a bijection, as a bijection: its two directions change places."""

    bijection: AbstractBijection

    def __init__(self, bijection: AbstractBijection):
        check_bijections("Invert", bijection)
        self.bijection = bijection

    @property
    def numerical_inverse(self) -> bool:
        # Forward is direct, but for what is inverted itself.
        return isinstance(self.bijection, Invert) and self.bijection.bijection.numerical_inverse

    @property
    def cond_shape(self) -> tuple[int, ...] | None:
        return self.bijection.cond_shape

    @property
    def domain(self) -> Constraint:
        return self.bijection.codomain

    @property
    def codomain(self) -> Constraint:
        return self.bijection.domain

    def forward_and_log_det(self, u, condition=None, *, key=None):
        return self.bijection.inverse_and_log_det(u, condition, key=key)

    def inverse_and_log_det(self, x, condition=None, *, key=None):
        return self.bijection.forward_and_log_det(x, condition, key=key)

    def batched(self, method, arrays, condition=None, condition_axis=None, *, key=None):
        other = {"forward_and_log_det": "inverse_and_log_det", "inverse_and_log_det": "forward_and_log_det"}
        if method not in other:
            return super().batched(method, arrays, condition, condition_axis)
        return self.bijection.batched(other[method], arrays, condition, condition_axis, key=key)


class Constant(eqx.Module):
    """A pytree that no optimiser moves and no conditioner supplies.

    All inexact arrays of a bijection are its parameters. These are kept as integers of the same bits, so that they are
    none, and are still saved, compiled and mapped over as arrays are.

    Args:
        tree: arrays of real numbers, and anything that can be hashed, as functions. No gradient flows to the arrays.
    """

    arrays: tuple[Array | None, ...]
    dtypes: tuple[str | None, ...] = eqx.field(static=True)
    others: tuple[Any, ...] = eqx.field(static=True)
    structure: Any = eqx.field(static=True)

    def __init__(self, tree: PyTree):
        leaves, self.structure = jax.tree.flatten(tree)
        arrays = [jnp.asarray(leaf) if isinstance(leaf, (jax.Array, np.ndarray)) else None for leaf in leaves]
        self.others = tuple(leaf if a is None else None for leaf, a in zip(leaves, arrays, strict=True))
        self.dtypes = tuple(a.dtype.name if a is not None and eqx.is_inexact_array(a) else None for a in arrays)
        self.arrays = tuple(
            a if a is None or dtype is None else jax.lax.bitcast_convert_type(a, f"int{8 * a.dtype.itemsize}")
            for a, dtype in zip(arrays, self.dtypes, strict=True)
        )

    @property
    def value(self) -> Any:
        """The pytree."""
        arrays = [
            bits if bits is None or dtype is None else jax.lax.bitcast_convert_type(bits, dtype)
            for bits, dtype in zip(self.arrays, self.dtypes, strict=True)
        ]
        leaves = [other if a is None else a for a, other in zip(arrays, self.others, strict=True)]
        return jax.tree.unflatten(self.structure, leaves)


class Frozen(AbstractStandIn):
    """A bijection whose arrays are no parameters: training does not move them.

    Args:
        bijection: any.
    """

    constant: Constant

    def __init__(self, bijection: AbstractBijection):
        check_bijections("Frozen", bijection)
        self.constant = Constant(bijection)

    @property
    def bijection(self) -> AbstractBijection:
        """The bijection."""
        return self.constant.value
