"""The arguments of a model: which are arrays that JAX traces, and which are constants of the model."""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from pushforward.masked import check_unmasked, is_opaque, without_masks

# Values that are compared by value; all other constants only equal themselves.
PLAIN = (bool, int, float, complex, str, bytes)

ADVICE_ON_MASKS = (
    "leave out the masked rows, or give the model the values y.filled(0) and the mask ~y.mask as two arguments, for "
    "obs= and obs_mask= of numpyro.sample"
)


def unmasked(model: Callable, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
    """The arguments of a model without masked arrays, none of whose entries may be masked.

    Args:
        model: the model.
        args: its positional arguments.
        kwargs: its keyword arguments.

    Raises:
        ValueError: if an entry is masked; the message names the argument.
    """
    try:
        named = inspect.signature(model).bind(*args, **kwargs).arguments
    except (TypeError, ValueError):  # the model itself raises a better error
        named = {"args": args, "kwargs": kwargs}
    for name, value in named.items():
        check_unmasked(f"the argument {name}", value, ADVICE_ON_MASKS)
    return without_masks((args, kwargs))


@jax.tree_util.register_pytree_node_class
class Fixed:
    """A value inside a pytree that JAX does not look into: text, a data frame, a set, a date, an array of sizes.

    Args:
        value: the value.
    """

    def __init__(self, value: Any):
        self.value = value

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Fixed) or type(self.value) is not type(other.value):
            return False
        return self.value is other.value or (type(self.value) in PLAIN and self.value == other.value)

    def __hash__(self) -> int:
        return hash(self.value) if type(self.value) in PLAIN else id(self.value)

    def tree_flatten(self):
        """No leaves; the value is part of the structure."""
        return (), self

    @classmethod
    def tree_unflatten(cls, structure, leaves):
        """The same object."""
        return structure


def bind(arguments: PyTree, traceable: Callable[[PyTree], bool]) -> PyTree:
    """The arguments with arrays as leaves where possible, and everything else in `Fixed`.

    Programs are compiled once for all values of traced arrays. An array stays a constant of the program if the model's
    Python code needs its values, for example as a size. Such arrays are found by halving: if the arrays of a group
    cannot be traced together, each half is tried.

    Args:
        arguments: the arguments, in any containers.
        traceable: whether the model can be traced with bound arguments.
    """
    leaves, structure = jax.tree.flatten(arguments, is_leaf=is_opaque)

    def bound(traced: list[int]) -> PyTree:
        return structure.unflatten(
            jnp.asarray(leaf) if index in traced else Fixed(_constant(leaf)) for index, leaf in enumerate(leaves)
        )

    def found(group: list[int]) -> list[int]:
        if not group or traceable(bound(group)):
            return group
        half = len(group) // 2
        return found(group[:half]) + found(group[half:]) if half else []

    arrays = [index for index, leaf in enumerate(leaves) if _is_array(leaf)]
    traced = found(arrays)
    if traced is not arrays and not traceable(bound(traced)):
        traced = []  # each half can be traced, but not both together
    return bound(traced)


def unbind(arguments: PyTree) -> PyTree:
    """The arguments for the model: the values of `Fixed`, and all other leaves as they are.

    Args:
        arguments: the result of `bind`.
    """
    return jax.tree.map(
        lambda leaf: leaf.value if isinstance(leaf, Fixed) else leaf,
        arguments,
        is_leaf=lambda node: isinstance(node, Fixed) or is_opaque(node),
    )


def has_constants(arguments: PyTree) -> bool:
    """Whether some of the arguments are constants.

    Args:
        arguments: the result of `bind`.
    """
    return any(isinstance(leaf, Fixed) for leaf in jax.tree.leaves(arguments, is_leaf=lambda n: isinstance(n, Fixed)))


def _is_array(leaf: Any) -> bool:
    """Whether a leaf can be traced. Integers of NumPy are sizes, as Python's are; subclasses have their own meaning."""
    if isinstance(leaf, jax.Array):
        return True
    numeric = isinstance(leaf, np.generic) or type(leaf) is np.ndarray
    return numeric and leaf.dtype.kind in "biufc" and not (leaf.ndim == 0 and leaf.dtype.kind in "iu")


def _constant(leaf: Any) -> Any:
    """The value of a leaf for Python code: operations on NumPy arrays have values during tracing."""
    if isinstance(leaf, jax.Array) and not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return np.asarray(leaf)
    if isinstance(leaf, np.integer) or (isinstance(leaf, np.ndarray) and leaf.ndim == 0 and leaf.dtype.kind in "iu"):
        return int(leaf)
    return leaf
