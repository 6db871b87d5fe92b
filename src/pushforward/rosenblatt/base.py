r"""The Rosenblatt map, which transforms any positive density to a uniform one by its conditional CDFs.

$F$ with $u_i = P(x'_i \le x_i \mid x'_{<i} = x_{<i})$ maps a density $p$ to the uniform density on the open cube, and
$\det J_F = p(x)$. The bijections here map onto the whole space, $y_i = \operatorname{logit} u_i$, which is precise in
both tails: near 1 floating-point numbers are too coarse for $u_i$, but $\log u_i$ and $\log(1 - u_i)$ are precise.

References:
    Rosenblatt, Remarks on a Multivariate Transformation (1952), Ann. Math. Statist. 23, 470-472.
    Papamakarios et al., Normalizing Flows for Probabilistic Modeling and Inference (2021), section 2.2.
    https://arxiv.org/abs/1912.02762
"""

import abc
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from pushforward.bijections.base import AbstractBijection
from pushforward.bijections.elementwise import strictly_inside
from pushforward.bijections.solvers.monotone import invert_monotone

Number = Float[Array, ""]


class AbstractUnivariateDistribution(eqx.Module):
    """A univariate distribution: its log-density, CDF and quantiles, as the Rosenblatt map needs them."""

    @abc.abstractmethod
    def log_tails(self, x: Number) -> tuple[Number, Number]:
        r"""$\log P(x' \le x)$ and $\log P(x' > x)$; both probabilities have a small relative error.

        Args:
            x: a point of the support.
        """

    @abc.abstractmethod
    def log_prob(self, x: Number) -> Number:
        """The log-density.

        Args:
            x: a point of the support.
        """

    @abc.abstractmethod
    def from_real(self, t: Number) -> Number:
        """An increasing bijection from the real line onto the support; `quantile` solves for its argument.

        Args:
            t: a real number.
        """

    def logit(self, x: Number) -> Number:
        """The logit of the CDF.

        Args:
            x: a point of the support.
        """
        return _logit(self, x)

    def quantile(self, y: Number) -> Number:
        """The point at which the logit of the CDF is `y`; NaN if the search fails.

        Args:
            y: the logit of a probability.
        """
        return self.from_real(invert_monotone(lambda t, d: d.logit(d.from_real(t)), y, self))


@eqx.filter_custom_jvp
def _logit(distribution: AbstractUnivariateDistribution, x: Number) -> Number:
    below, above = distribution.log_tails(x)
    return below - above


@_logit.def_jvp
def _logit_jvp(primals, tangents):
    # Uses the density, which is exact; the derivative of a computed CDF may not be.
    (distribution, x), (distribution_tangent, x_tangent) = primals, tangents
    y, tangent = _logit(distribution, x), 0.0
    if jax.tree.leaves(distribution_tangent):
        (below, above) = eqx.filter_jvp(lambda d: d.log_tails(x), (distribution,), (distribution_tangent,))[1]
        tangent = below - above
    if x_tangent is not None:
        tangent = tangent + x_tangent * jnp.exp(distribution.log_prob(x) + _log_slope_of_logit(y))
    return y, tangent


def _log_slope_of_logit(y: Array) -> Array:
    r"""$-\log u(1 - u)$ at $u = \sigma(y)$."""
    return jax.nn.softplus(y) + jax.nn.softplus(-y)


class AbstractRosenblatt(AbstractBijection):
    r"""$y_i = \operatorname{logit} P(x'_i \le x_i \mid x'_{<i} = x_{<i})$, from a density's support onto $\mathbb R^d$.

    The Jacobian is lower triangular, and $\log\det = \log p(x) - \sum_i \log u_i (1 - u_i)$.
    """

    dim: eqx.AbstractVar[int]
    cond_shape: ClassVar[None] = None

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.dim,)

    @abc.abstractmethod
    def log_prob(self, x: Float[Array, " dim"]) -> Number:
        r"""$\log p(x)$, normalized.

        Args:
            x: a point of the support.
        """

    @abc.abstractmethod
    def logits(self, x: Float[Array, " dim"]) -> Float[Array, " dim"]:
        """$y$, the logits of the conditional CDFs.

        Args:
            x: a point of the support.
        """

    @abc.abstractmethod
    def quantiles(self, y: Float[Array, " dim"]) -> Float[Array, " dim"]:
        """$x$, solved for one coordinate after the other.

        Args:
            y: the logits of the conditional CDFs.
        """

    def _forward(self, u, condition, key):
        x = strictly_inside(u, self.domain)
        y = self.logits(x)
        return y, self._log_det(x, y)

    def _inverse(self, x, condition, key):
        u = self.quantiles(x)
        return u, -self._log_det(u, x)

    def _log_det(self, x, y):
        return self.log_prob(x) + jnp.sum(_log_slope_of_logit(y))


class AbstractSequentialRosenblatt(AbstractRosenblatt):
    """A Rosenblatt map with a separate distribution of each coordinate given those before it."""

    @abc.abstractmethod
    def conditional(self, before: Float[Array, " i"]) -> AbstractUnivariateDistribution:
        """The conditional distribution of the next coordinate, given those before it.

        Args:
            before: the coordinates before it.
        """

    def logits(self, x):
        return jnp.stack([self.conditional(x[:i]).logit(x[i]) for i in range(self.dim)])

    def quantiles(self, y):
        x = y[:0]
        for i in range(self.dim):
            x = jnp.append(x, self.conditional(x).quantile(y[i]))
        return x
