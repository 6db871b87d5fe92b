"""Bijections that wrap another: its inverse, or the same bijection with fixed arrays."""

from typing import ClassVar

import equinox as eqx
from numpyro.distributions.constraints import Constraint

from pushforward.bijections.arrays import Constant
from pushforward.bijections.base import AbstractBijection
from pushforward.bijections.checks import check_bijections


class AbstractWrapper(AbstractBijection):
    """A bijection that wraps another and maps between the same spaces."""

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
    """A bijection that maps as another does, but stores it differently."""

    vectorized: ClassVar[bool] = True

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

    def _forward(self, u, condition, key):
        return self.bijection.forward_batch(u, condition, key)

    def _inverse(self, x, condition, key):
        return self.bijection.inverse_batch(x, condition, key)

    def _push_score(self, u, score, condition):
        return self.bijection.push_score_batch(u, score, condition)


class Invert(AbstractWrapper):
    """The inverse of a bijection: its two directions are swapped.

    Args:
        bijection: the bijection to invert.
    """

    bijection: AbstractBijection
    vectorized: ClassVar[bool] = True

    def __init__(self, bijection: AbstractBijection):
        check_bijections("Invert", bijection)
        self.bijection = bijection

    @property
    def numerical_inverse(self) -> bool:
        # The inverse of this is the forward direction of the bijection; only a double inversion is numerical.
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

    def _forward(self, u, condition, key):
        return self.bijection.inverse_batch(u, condition, key)

    def _inverse(self, x, condition, key):
        return self.bijection.forward_batch(x, condition, key)


class Frozen(AbstractStandIn):
    """A bijection whose arrays are data: they are not trained, and no conditioner sets them.

    Args:
        bijection: the bijection to freeze.
    """

    constant: Constant

    def __init__(self, bijection: AbstractBijection):
        check_bijections("Frozen", bijection)
        self.constant = Constant(bijection)

    @property
    def bijection(self) -> AbstractBijection:
        """The bijection that was frozen."""
        return self.constant.value
