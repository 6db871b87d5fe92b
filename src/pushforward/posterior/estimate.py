r"""Unbiased estimates of log-densities with large data from some of the rows, with control variates.

The log-likelihood of all n rows is estimated from b of them as

$$ Q(u) + \frac{n}{b} \sum_{i \in \text{batch}} \left( \ell_i(u) - q_i(u) \right), $$

where $q_i$ is the Taylor expansion of $\ell_i$ about a mode, to the second or the first order, and $Q$ the sum of
$q_i$ over all rows. With much data the posterior is narrow, $\ell_i - q_i$ is tiny there, and so is the noise. If the
posterior is wide in some directions, a lower order may have less noise; so the order is chosen by a measurement.

References:
    Bardenet, Doucet and Holmes, On Markov Chain Monte Carlo Methods for Tall Data (2017), section 4.3: Taylor
    expansions of the log-likelihood as control variates. https://jmlr.org/papers/v18/15-205.html
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from pushforward.posterior.curvature import hessian, hessian_products
from pushforward.posterior.spaces.large import LargeDataSpace
from pushforward.posterior.target import Target
from pushforward.training.compilation import jit_low_concurrency
from pushforward.training.data import AbstractBatches

# The number of groups of rows whose estimates are compared.
NUM_GROUPS = 10


Derivatives = tuple[Float[Array, " points"], Float[Array, "points dim"], Float[Array, "points dim dim"] | None]


def derivatives(fn: Callable, locs: Float[Array, "points dim"], order: int) -> Derivatives:
    """The values, gradients and, for order 2, Hessians of a function at some points.

    Args:
        fn: the function from a vector to a scalar.
        locs: the points.
        order: 1 or 2.
    """
    values, gradients = jax.lax.map(jax.value_and_grad(fn), locs)
    hessian_at = hessian(hessian_products(fn, locs[0]), locs.shape[1])
    return values, gradients, jax.lax.map(hessian_at, locs) if order == 2 else None


class Expansions(eqx.Module):
    """Taylor expansions of one function about some points; each is used near its own point.

    Args:
        locs: the points.
        scales: the scales of the coordinates, for distances.
        derivatives: the values, the gradients, and the Hessians or None for order 1.
    """

    locs: Float[Array, "points dim"]
    scales: Float[Array, " dim"]
    derivatives: Derivatives

    @property
    def order(self) -> int:
        """The order of the expansions, 1 or 2."""
        return 1 if self.derivatives[2] is None else 2

    def first_order(self) -> "Expansions":
        """The same expansions without Hessians."""
        return Expansions(self.locs, self.scales, (*self.derivatives[:2], None))

    def minus(self, other: Derivatives, factor: float) -> "Expansions":
        """The expansions of the function minus a multiple of another.

        Args:
            other: the derivatives of the other function at the same points.
            factor: the factor of the other function.
        """
        new = jax.tree.map(lambda a, b: a - factor * b, self.derivatives, other)
        return Expansions(self.locs, self.scales, new)

    def __call__(self, u: Float[Array, " dim"]) -> Float[Array, ""]:
        deltas = u - self.locs
        values, gradients, hessians = self.derivatives
        values = values + jnp.sum(gradients * deltas, 1)
        if hessians is not None:
            values = values + 0.5 * jnp.sum(deltas * jnp.einsum("kij,kj->ki", hessians, deltas), 1)
        # All of them, because an index for each draw would copy a Hessian for each draw.
        return values[jnp.argmin(jnp.sum((deltas / self.scales) ** 2, 1))]


class Estimate(eqx.Module):
    """The estimate of a target's log-density from some of its rows.

    Args:
        target: the target, with large data.
        rows: the rows.
        expansions: those of the log-likelihood of all rows; None for no control variates.
        correction: the expansions of the log-likelihood of all rows minus those of the estimate from these rows.
        key: for the choice of rows of a file for training.
    """

    target: Target
    rows: PyTree[Array]
    expansions: Expansions | None
    correction: Expansions | None
    key: PRNGKeyArray

    def __init__(self, target: Target, rows: PyTree[Array], expansions: Expansions | None, key: PRNGKeyArray):
        self.target, self.rows, self.expansions, self.correction = target, rows, expansions, None
        self.key = key
        if expansions is not None:
            of_rows = derivatives(self._likelihood, expansions.locs, expansions.order)
            self.correction = expansions.minus(of_rows, self.factor)

    @property
    def space(self) -> LargeDataSpace:
        """The space of the target."""
        space: Any = self.target.space
        return space

    @property
    def dim(self) -> int:
        """The number of unconstrained dimensions."""
        return self.target.dim

    @property
    def batches(self) -> AbstractBatches:
        """The source of batches for training."""
        return self.space.rows.batches(self.space.batch_size, self.key)

    @property
    def factor(self) -> float:
        """The number of rows of the data for each row of the estimate."""
        return self.space.num_rows / jax.tree.leaves(self.rows)[0].shape[0]

    def on(self, rows: PyTree[Array]) -> "Estimate":
        """The estimate from other rows.

        Args:
            rows: the rows.
        """
        return Estimate(self.target, rows, self.expansions, self.key)

    def _likelihood(self, u: Array) -> Array:
        return jnp.sum(self.space.log_likelihoods(self.target.unravel(u), self.rows))

    def __call__(self, u: Float[Array, " dim"]) -> Float[Array, ""]:
        value = self.space.log_prior(self.target.unravel(u)) + self.factor * self._likelihood(u)
        return value if self.correction is None else value + self.correction(u)


@jit_low_concurrency
def noise(estimate: Estimate, draws: Float[Array, "draws dim"]) -> Float[Array, ""]:
    """The mean variance of the estimate over groups of its rows, at some draws, apart from a constant.

    Args:
        estimate: the estimate.
        draws: draws, as unconstrained vectors.
    """
    rows = jax.tree.leaves(estimate.rows)[0].shape[0]
    num = min(NUM_GROUPS, rows)
    size = rows // num
    groups = jax.tree.map(lambda a: a[: num * size].reshape(num, size, *a.shape[1:]), estimate.rows)
    values = jax.lax.map(lambda rows: jax.vmap(estimate.on(rows))(draws), groups)
    return jnp.mean(jnp.var(values - values.mean(1, keepdims=True), axis=0))
