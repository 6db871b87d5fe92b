"""Densities with large data: a prior, and a likelihood that is a sum over rows and is computed in chunks of them."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from pushforward.posterior.spaces.base import AbstractSpace, Draw, UnavailablePrediction, Unconstrained
from pushforward.posterior.spaces.rows import AbstractDataRows

DEFAULT_BATCH_SIZE = 1000
# A likelihood of one number for each row changes by rounding only when the other rows change.
ROUNDING = 1e3


class LargeDataSpace(AbstractSpace):
    r"""A space with the log-density $\log p(z) + \sum_i \ell(z, x_i)$ over the rows $x_i$ of a data set.

    Args:
        prior: the space of the prior.
        log_likelihood: the function from a draw and some rows to the log-likelihood of each of them.
        rows: the data.
        batch_size: the number of rows of a training batch, and of those that are in use at a time in a sum over all.
    """

    prior: AbstractSpace
    log_likelihood: Callable[[Draw, PyTree], Float[Array, " rows"]]
    rows: AbstractDataRows
    batch_size: int = eqx.field(static=True)

    @property
    def num_rows(self) -> int:
        """The number of rows."""
        return self.rows.num_rows

    def log_prior(self, z: Unconstrained) -> Float[Array, ""]:
        """The log-density without the likelihood, including the log-volume of `constrain`.

        Args:
            z: unconstrained values.
        """
        return self.prior.log_density(z)

    def log_likelihoods(self, z: Unconstrained, rows: PyTree) -> Float[Array, " rows"]:
        """The log-likelihood of each of some rows.

        Args:
            z: unconstrained values.
            rows: the rows.
        """
        return self.log_likelihood(self.constrain(z), rows)

    def log_density(self, z):
        draw = self.constrain(z)

        def of_chunk(rows, mask):
            return jnp.sum(jnp.where(mask, self.log_likelihood(draw, rows), 0.0))

        return self.log_prior(z) + self.rows.total(of_chunk, self.batch_size)

    def constrain(self, z):
        return self.prior.constrain(z)

    def unconstrain(self, draw):
        return self.prior.unconstrain(draw)

    def latent(self, draw):
        return self.prior.latent(draw)

    def log_volume(self, z):
        return self.prior.log_volume(z)

    def labels(self):
        return self.prior.labels()

    def pointwise_log_likelihood(self, draw):
        raise UnavailablePrediction(
            f"no pointwise log-likelihoods: there would be one for each draw and each of {self.num_rows:,} rows; "
            "compute those of some rows from the model and the draws."
        )

    def replicate(self, draw, key):
        raise UnavailablePrediction(
            f"no posterior predictive: the {self.num_rows:,} rows of large data have a log-likelihood here, but are "
            "not drawn; draw them from the model and the draws."
        )

    def detached(self):
        return self.prior.detached()


def rounding(values: np.ndarray) -> dict[str, float]:
    """The tolerances of likelihoods of a row that were computed together with different rows.

    Args:
        values: the likelihoods.
    """
    tolerance = ROUNDING * float(np.finfo(values.dtype).eps) if values.dtype.kind == "f" else 0.0
    return {"rtol": tolerance, "atol": tolerance}


def with_likelihood(
    prior: AbstractSpace, log_likelihood: Callable, rows: AbstractDataRows, batch_size: int | None, draw: Draw
) -> LargeDataSpace:
    """The space of a prior and a likelihood, checked at two draws.

    Args:
        prior: the space of the prior.
        log_likelihood: the function from a draw and some rows to the log-likelihood of each of them.
        rows: the data.
        batch_size: the number of rows of a batch; None for 1,000, or all if there are fewer.
        draw: a draw.

    Raises:
        ValueError: if the batch size is not between 1 and the number of rows, or the likelihood does not give one
            number for each row.
    """
    size = min(DEFAULT_BATCH_SIZE, rows.num_rows) if batch_size is None else batch_size
    if not 1 <= size <= rows.num_rows:
        raise ValueError(
            f"batch_size must be an integer between 1 and the number of rows of data, {rows.num_rows:,}, but is "
            f"{size!r}."
        )
    space = LargeDataSpace(prior, log_likelihood, rows, int(size))
    for point in checked_draws(prior, draw):
        _check_likelihood(space, point)
    return space


def checked_draws(prior: AbstractSpace, draw: Draw) -> tuple[Draw, Draw]:
    """A draw, and another one near it: at zeros a likelihood may not show on what it depends.

    Args:
        prior: the space of the prior.
        draw: a draw.
    """
    vector, unravel = ravel_pytree(prior.unconstrain(draw))
    return draw, prior.constrain(unravel(vector + jr.normal(jr.key(0), vector.shape, vector.dtype)))


def _check_likelihood(space: LargeDataSpace, draw: Draw) -> None:
    fn, size = space.log_likelihood, space.batch_size
    some = space.rows.at(jnp.arange(size))
    found: Any = eqx.filter_eval_shape(fn, draw, some)
    shape = getattr(found, "shape", None)
    if shape != (size,):
        what = "it must not sum over rows" if shape == () else "one number for each row"
        raise ValueError(
            f"log_likelihood(draw, rows) must return the log-likelihood of each row, of shape ({size},) for {size} "
            f"rows, but has shape {shape}: {what}."
        )
    if size == 1:
        return
    # The first half of the rows must have the same likelihood if the first half is repeated instead of the second.
    half = size // 2
    repeated = jax.tree.map(lambda a: jnp.concatenate([a[:half], a[: size - half]]), some)
    before, after = (np.asarray(eqx.filter_jit(fn)(draw, rows))[:half] for rows in (some, repeated))
    if not np.allclose(before, after, **rounding(before), equal_nan=True):
        raise ValueError(
            "log_likelihood(draw, rows) must return the log-likelihood of each row, but its value for a row depends on "
            "the other rows: it must not sum, average or normalize over rows."
        )
