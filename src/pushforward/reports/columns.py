"""Draws as columns of numbers, by name."""

from typing import Any

import jax
import numpy as np
from jaxtyping import Float, PyTree


def named(draws: PyTree) -> dict[str, Any]:
    """The arrays of a pytree by name; names of nested arrays are joined by dots, and a bare array is called x.

    Args:
        draws: a pytree of arrays, or of their shapes and types.
    """

    def entry(key: Any) -> str:
        return str(getattr(key, "key", getattr(key, "idx", getattr(key, "name", key))))

    return {".".join(map(entry, path)) or "x": value for path, value in jax.tree.leaves_with_path(draws)}


def by_scalar(draws: PyTree) -> dict[str, Float[np.ndarray, " n"]]:
    """One column for each scalar of the draws, named as in `theta[2]`.

    Args:
        draws: a pytree of arrays with the draws along the first axis.
    """
    columns = {}
    for name, value in named(draws).items():
        value = np.asarray(value, float)
        for index in np.ndindex(*value.shape[1:]):
            label = f"{name}[{','.join(map(str, index))}]" if index else name
            columns[label] = value[(slice(None), *index)]
    return columns
