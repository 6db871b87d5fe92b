"""Pickling and copying of flows and results."""

import copy
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import numpy as np

from pushforward.serialization.file import from_bytes, to_bytes


class Picklable(eqx.Module):
    """A module that pickle stores as the file that `pushforward.save` would write.

    Flows hold functions, such as activations, that pickle itself cannot store; files store them by name.
    """

    def as_saved(self) -> "Picklable":
        """What a file or a pickle keeps of the object."""
        return self

    def __reduce__(self) -> tuple[Callable, tuple[bytes]]:
        return from_bytes, (to_bytes(self.as_saved()),)

    def __copy__(self) -> "Picklable":
        return jax.tree.map(lambda leaf: leaf, self)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Picklable":
        # JAX arrays and functions do not change, so only NumPy arrays are copied.
        return jax.tree.map(lambda leaf: copy.deepcopy(leaf, memo) if isinstance(leaf, np.ndarray) else leaf, self)
