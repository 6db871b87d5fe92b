"""The arrays of a bijection: which of them are parameters, who sets them, and how they broadcast with a batch.

Because a bijection is a pytree, the optimizer, a conditioner and an encoder all set its parameters in the same way, by
`shift_arrays`.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree
from numpyro.distributions import Distribution

from pushforward.arguments import checked

T = TypeVar("T")


@runtime_checkable
class SupportsArray(Protocol):
    """What NumPy can make an array of, such as a data frame."""

    def __array__(self) -> np.ndarray: ...


# Data as users have them.
ArrayLike = jax.typing.ArrayLike | Sequence | SupportsArray


class _Static(eqx.Module):
    """A leaf that is not an array, such as a function."""

    value: Any = eqx.field(static=True)


class Constant(eqx.Module):
    """A pytree whose arrays are data: they are not trained, and no conditioner sets them.

    Args:
        tree: a pytree of arrays and of hashable objects, such as functions. The arrays get no gradients.
    """

    tree: PyTree

    def __init__(self, tree: PyTree):
        self.tree = jax.tree.map(
            lambda leaf: jnp.asarray(leaf) if isinstance(leaf, (jax.Array, np.ndarray)) else _Static(leaf), tree
        )

    @property
    def value(self) -> Any:
        """The pytree."""
        return jax.tree.map(
            lambda leaf: leaf.value if isinstance(leaf, _Static) else detach(leaf),
            self.tree,
            is_leaf=lambda node: isinstance(node, _Static),
        )


def trainable(tree: PyTree) -> PyTree[bool]:
    """Which leaves are parameters: inexact arrays, except those of NumPyro distributions and of each `Constant`."""
    return jax.tree.map(eqx.is_inexact_array, tree, is_leaf=lambda node: isinstance(node, (Distribution, Constant)))


def parameters(tree: T) -> T:
    """The pytree with None in place of everything that is not trained."""
    return eqx.filter(tree, trainable(tree))


def num_parameters(tree: PyTree) -> int:
    """The number of scalars in the parameters: the length of the vector that `shift_arrays` takes.

    Args:
        tree: any pytree; `trainable` says which of its arrays are parameters.
    """
    return sum(leaf.size for leaf in jax.tree.leaves(parameters(tree)))


@checked()
def shift_arrays(tree: T, vector: Float[Array, "n *batch"]) -> T:
    """Add a vector to the raveled parameters of a pytree.

    A network parametrizes a bijection in this way: the bijection's own arrays act as the bias of the network's last
    layer, so a network that returns zeros does not change the bijection. Batch axes of the vector become the last axes
    of the arrays: a batch of bijections.

    Args:
        tree: any pytree; `trainable` says which of its arrays are parameters.
        vector: one number for each scalar in the parameters.

    Raises:
        TypeError: if the vector is no array.
        ValueError: if it has another size.
    """
    moving, fixed = eqx.partition(tree, trainable(tree))
    leaves, structure = jax.tree.flatten(moving)
    size, shape = sum(leaf.size for leaf in leaves), np.shape(vector)
    if shape[:1] != (size,):
        raise ValueError(f"vector must have {size} numbers along its first axis, but has shape {shape}.")
    vector = jnp.asarray(vector)
    start, shifted = 0, []
    for leaf in leaves:
        part = vector[start : start + leaf.size].reshape(leaf.shape + vector.shape[1:])
        shifted.append(along(leaf, part) + part)
        start += leaf.size
    return eqx.combine(jax.tree.unflatten(structure, shifted), fixed)


def detach(tree: T) -> T:
    """`jax.lax.stop_gradient` of the inexact arrays of a pytree; other leaves stay the same."""
    return jax.tree.map(lambda leaf: jax.lax.stop_gradient(leaf) if eqx.is_inexact_array(leaf) else leaf, tree)


def along(vector: Any, u: Array) -> Any:
    """Append axes of size 1 to the vector, so that it broadcasts along the first axes of `u`; batch axes are last."""
    return vector.reshape(vector.shape + (1,) * (u.ndim - vector.ndim))


def map_scalars(fn: Callable, scalars: PyTree, *arrays: Array, shared: int = 0) -> Any:
    """Map `fn(scalar bijection, number, ...)` over all axes of the arrays, the last axes of the parameters.

    The parameters do not have the last `shared` axes of the arrays, so what depends on parameters alone, such as the
    knots of a spline, is computed once for all entries along these.
    """
    axes = jax.tree.map(lambda moving: -1 if moving else None, trainable(scalars))
    for axis in range(arrays[0].ndim):
        inner = axis < shared
        place = -1 if inner else -1 - shared
        fn = jax.vmap(fn, in_axes=(None if inner else axes, *[place] * len(arrays)), out_axes=place)
    return fn(scalars, *arrays)
