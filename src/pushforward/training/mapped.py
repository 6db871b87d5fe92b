"""Arrays of which some are memory-mapped files: their rows are read when they are needed, also in compiled programs."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Int, PyTree

from pushforward.training.devices import each_reads_its_part


class Mapped:
    """Arrays with one length along the first axis, some of them memory-mapped, as one static object.

    Args:
        values: a pytree of arrays.
        convert: what is done with rows that were read; the result has JAX's dtype for the rows' dtype, or for floats.
        real: whether the rows become floating-point numbers.
    """

    def __init__(
        self,
        values: PyTree[np.ndarray],
        convert: Callable[[np.ndarray], np.ndarray] = np.asarray,
        *,
        real: bool = False,
    ):
        self.leaves, self.structure = jax.tree.flatten(values)
        self.dtypes = [jax.dtypes.canonicalize_dtype(float if real else a.dtype) for a in self.leaves]
        self.convert = convert

    @property
    def num_rows(self) -> int:
        """The number of rows."""
        return len(self.leaves[0])

    def map(self, fn: Callable[[np.ndarray, Any], Any]) -> PyTree:
        """The results of a function of each array and its dtype in JAX.

        Args:
            fn: the function.
        """
        return jax.tree.unflatten(self.structure, [fn(*each) for each in zip(self.leaves, self.dtypes, strict=True)])

    def read(self, indices: Any) -> PyTree[np.ndarray]:
        """The rows of some indices, in memory.

        Args:
            indices: the indices, an array of any shape.
        """
        indices = np.asarray(indices)
        return self.map(lambda array, dtype: np.asarray(self.convert(array[indices]), dtype))

    def at(self, indices: Int[Array, " rows"]) -> PyTree[Array]:
        """The rows of some indices, which may be traced; each device of a mesh reads its own.

        Args:
            indices: the indices.
        """

        def read(indices):
            shapes = self.map(lambda array, dtype: jax.ShapeDtypeStruct((len(indices), *array.shape[1:]), dtype))
            return jax.pure_callback(self.read, shapes, indices)

        return each_reads_its_part(read, indices)
