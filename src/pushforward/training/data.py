"""Sources of batches: no data, rows in memory (drawn with replacement, or by epochs), or rows that are read again."""

import abc
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Int, PRNGKeyArray, PyTree, UInt32

from pushforward.arguments import checked
from pushforward.bijections.arrays import ArrayLike


def evenly_spaced(num_rows: int, most: int) -> Int[np.ndarray, " rows"]:
    """The indices of some rows, evenly spaced, the first and the last one with them.

    Args:
        num_rows: the number of all rows.
        most: the largest number of indices.
    """
    return np.linspace(0, num_rows - 1, min(num_rows, most)).astype(int)


class AbstractBatches(eqx.Module):
    """A source of batches.

    `begin` and `next` are part of the compiled loop. `at` runs in Python between compiled chunks of steps.
    """

    def on(self, mesh: Mesh | None) -> "AbstractBatches":
        """The source for the devices of a mesh: what it reads may already be distributed over them.

        Args:
            mesh: the mesh, or None.
        """
        return self

    def at(self, step: int) -> "AbstractBatches":
        """The source to use from this step on, until `at` is called again.

        Args:
            step: the index of the next step.
        """
        return self

    def begin(self, key: PRNGKeyArray, step: Int[Array, ""]) -> Any:
        """The initial carry of a compiled loop.

        Args:
            key: the same for all steps of a training.
            step: the index of the first step of the loop.
        """
        return None

    @abc.abstractmethod
    def next(self, carry: Any, key: PRNGKeyArray, step: Int[Array, ""]) -> tuple[Any, PyTree]:
        """The new carry and the batch of a step.

        Args:
            carry: that of the step before, or of `begin`.
            key: the same for all steps of a training.
            step: the index of the step.
        """


class NoBatches(AbstractBatches):
    """For objectives that need no data: each batch is None."""

    def next(self, carry, key, step):
        return carry, None


class Rows(AbstractBatches):
    """Rows in memory, drawn with replacement. A batch is `(values, weights)`.

    Args:
        values: a pytree of arrays with one length along the first axis.
        weights: the weights of the rows, not negative, of shape (n,). A row is drawn with a probability proportional
            to its weight, and the weights of the batch are None: this is less noisy than to multiply log-likelihoods by
            weights.
        batch_size: rows per step. None for all rows in every batch, together with their weights.

    Raises:
        ValueError: if the lengths of the arrays differ, or weights have another shape, are not finite, are negative
            or are all 0.
    """

    values: PyTree[Array]
    weights: Array | None
    batch_size: int | None = eqx.field(static=True)
    # The cumulative weights in units of 2^-32 of their sum: single precision is not exact enough for millions of rows.
    cumulative: UInt32[Array, " n"] | None

    @checked()
    def __init__(self, values: PyTree[ArrayLike], weights: ArrayLike | None = None, batch_size: int | None = None):
        self.values = _with_one_length(values)
        self.weights = None if weights is None else jnp.asarray(weights)
        self.batch_size, self.cumulative = batch_size, None
        if weights is not None:
            exact = np.asarray(weights, float)
            _check_weights(exact, len(self))
            sums = np.cumsum(exact)
            self.cumulative = jnp.asarray((sums / sums[-1] * (2**32 - 1)).astype(np.uint32))

    def __len__(self) -> int:
        return jax.tree.leaves(self.values)[0].shape[0]

    def next(self, carry, key, step):
        if self.batch_size is None:
            return carry, (self.values, self.weights)
        return carry, (self.draw(jr.fold_in(key, step), self.batch_size), None)

    def draw(self, key: PRNGKeyArray, size: int) -> PyTree[Array]:
        """Rows, drawn with replacement, with probabilities proportional to their weights.

        Args:
            key: the key for the draws.
            size: the number of rows.
        """
        if self.cumulative is None:
            rows = jr.randint(key, (size,), 0, len(self))
        else:
            bits = jr.bits(key, (size,), jnp.uint32)
            rows = jnp.minimum(jnp.searchsorted(self.cumulative, bits, side="right"), len(self) - 1)
        return jax.tree.map(lambda a: a[rows], self.values)


class Epochs(AbstractBatches):
    """Rows in memory, each used once per epoch, in an order that is random in every epoch. A batch is a pytree of rows.

    The last rows of an epoch's order are left out where the batch size does not divide the number of rows.

    Args:
        values: a pytree of arrays with one length n along the first axis.
        batch_size: rows per step.

    Raises:
        ValueError: if the lengths of the arrays differ, or the batch size does not lie between 1 and n.
    """

    values: PyTree[Array]
    batch_size: int = eqx.field(static=True)

    @checked()
    def __init__(self, values: PyTree[ArrayLike], batch_size: int):
        self.values = _with_one_length(values)
        self.batch_size = batch_size
        if batch_size > len(self):
            raise ValueError(f"batch_size must lie between 1 and the number of rows, {len(self)}, but is {batch_size}.")

    def __len__(self) -> int:
        return jax.tree.leaves(self.values)[0].shape[0]

    @property
    def steps_per_epoch(self) -> int:
        """The number of batches in an epoch."""
        return len(self) // self.batch_size

    def begin(self, key, step):
        return jr.permutation(jr.fold_in(key, step // self.steps_per_epoch), len(self))

    def next(self, carry, key, step):
        index = step % self.steps_per_epoch
        order = jax.lax.cond(index == 0, lambda: self.begin(key, step), lambda: carry)
        rows = jax.lax.dynamic_slice_in_dim(order, index * self.batch_size, self.batch_size)
        return order, jax.tree.map(lambda a: a[rows], self.values)


def _with_one_length(values: PyTree[ArrayLike]) -> PyTree[Array]:
    """The arrays, checked: where the rows of one end, JAX would repeat its last row."""
    arrays = jax.tree.map(jnp.asarray, values)
    shapes = [array.shape for array in jax.tree.leaves(arrays)]
    if () in shapes or len({shape[0] for shape in shapes}) != 1:
        raise ValueError(f"values must be arrays with one length along the first axis, but have shapes {shapes}.")
    return arrays


def _check_weights(weights: np.ndarray, num_rows: int) -> None:
    if weights.shape != (num_rows,):
        raise ValueError(f"weights must have shape ({num_rows},), one for each row, but have {weights.shape}.")
    if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.any()):
        raise ValueError(
            "weights must be finite and not negative, and at least one must be positive, but the smallest is "
            f"{weights.min():g} and the largest {weights.max():g}."
        )


class Reread(AbstractBatches):
    """Rows that are read again before each compiled chunk of steps, for example from a file that exceeds memory.

    Args:
        read: maps the index of a step to the source to use from this step on.
    """

    read: Callable[[int], AbstractBatches] = eqx.field(static=True)

    def at(self, step):
        return self.read(step)

    def next(self, carry, key, step):
        raise TypeError("the batches of Reread come from the source that its method `at` returns.")
