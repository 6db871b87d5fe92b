"""Where the arrays of a bijection come from, and how they meet a batch.

Its inexact arrays are its parameters. Because a bijection is plain data, the optimizer, a conditioner and an encoder
all parametrize it in the same way: by `shift_arrays`.
"""

from collections.abc import Callable
from typing import TypeVar

import equinox as eqx
import jax
from jaxtyping import Array, Float, PyTree

T = TypeVar("T")


def parameters(tree: PyTree) -> PyTree[Array | None]:
    """The trainable part of a bijection: its inexact arrays (None elsewhere)."""
    return eqx.filter(tree, eqx.is_inexact_array)


def num_parameters(tree: PyTree) -> int:
    """The number of scalars in the inexact arrays of `tree`: the length of `shift_arrays`' vector."""
    return sum(leaf.size for leaf in jax.tree.leaves(parameters(tree)))


def shift_arrays(tree: T, vector: Float[Array, "n *batch"]) -> T:
    """Add a vector to the raveled inexact arrays of a pytree.

    This is how a network parametrises a bijection: the arrays that are there act as the bias of the network's last
    layer, so a network that gives zeros leaves the bijection as it is. Further axes of the vector become last axes of
    the arrays: as many bijections in one.
    """
    leaves, treedef = jax.tree.flatten(tree)
    start, shifted = 0, []
    for leaf in leaves:
        if eqx.is_inexact_array(leaf):
            part = vector[start : start + leaf.size].reshape(leaf.shape + vector.shape[1:])
            leaf, start = along(leaf, part) + part, start + leaf.size
        shifted.append(leaf)
    return jax.tree.unflatten(treedef, shifted)


def detach(tree: T) -> T:
    """`jax.lax.stop_gradient` for the inexact arrays of a pytree that holds other things too."""
    return jax.tree.map(lambda leaf: jax.lax.stop_gradient(leaf) if eqx.is_inexact_array(leaf) else leaf, tree)


def along(vector: Array, u: Array) -> Array:
    """A vector with as many axes as `u`, to go with its first; the batch, if any, is last."""
    return vector.reshape(vector.shape + (1,) * (u.ndim - vector.ndim))


def map_scalars(fn: Callable, scalars: PyTree, *arrays: Array):
    """Map `fn(scalar bijection, number, ...)` over all axes of the arrays, which are the last axes of the scalars'."""
    axes = jax.tree.map(lambda leaf: -1 if eqx.is_inexact_array(leaf) else None, scalars)
    for _ in range(arrays[0].ndim):
        fn = jax.vmap(fn, in_axes=(axes,) + (-1,) * len(arrays), out_axes=-1)
    return fn(scalars, *arrays)
