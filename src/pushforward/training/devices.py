"""Several devices: each has all parameters and its part of the draws or rows of a step, by JAX's own engine.

Programs that run inside `on_mesh` are compiled for all devices. `spread` and `replicate` are for use inside such
programs; without a mesh they do nothing. XLA finds the rest, such as where gradients are added up.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

T = TypeVar("T")


def check_mesh(mesh: Mesh | None, sizes: dict[str, int]) -> None:
    """Raise unless a mesh divides the draws or rows of a step.

    Args:
        mesh: the mesh, or None.
        sizes: the numbers of draws and of rows of a step, by name.

    Raises:
        TypeError: if it is no mesh.
        ValueError: if the number of its devices does not divide one of the numbers, or a device belongs to another
            process.
    """
    if mesh is None:
        return
    if not isinstance(mesh, Mesh):
        raise TypeError(
            f"mesh must be a jax.sharding.Mesh, such as jax.make_mesh((jax.device_count(),), ('devices',)), but is a "
            f"{type(mesh).__name__}."
        )
    if any(device.process_index != jax.process_index() for device in mesh.devices.flat):
        raise ValueError("the devices of the mesh belong to several processes, but all must belong to this one.")
    for name, size in sizes.items():
        _check_divides(mesh.size, size, name)


def on_mesh(mesh: Mesh | None) -> AbstractContextManager:
    """A context in which programs are compiled for the devices of a mesh, in one part if it is None.

    Args:
        mesh: the mesh; the axes and their types do not matter.
    """
    return nullcontext() if mesh is None else jax.set_mesh(_plain(mesh))


def spread(tree: T) -> T:
    """The arrays with their first axis distributed over the devices of the mesh.

    Args:
        tree: a pytree of arrays of draws or rows.

    Raises:
        ValueError: if the number of devices does not divide the length of an axis.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return tree
    for leaf in jax.tree.leaves(tree):
        _check_divides(mesh.size, leaf.shape[0], "draws or rows of a step")
    return jax.lax.with_sharding_constraint(tree, PartitionSpec(mesh.axis_names))


def replicate(tree: T) -> T:
    """The arrays on all devices of the mesh.

    Args:
        tree: a pytree of arrays.
    """
    if jax.sharding.get_abstract_mesh().empty:
        return tree
    return jax.lax.with_sharding_constraint(tree, PartitionSpec())


def place(tree: T, mesh: Mesh | None) -> T:
    """Copies of all JAX arrays on each device of a mesh, from outside of a program.

    Args:
        tree: any pytree.
        mesh: the mesh, or None.
    """
    if mesh is None:
        return tree
    sharding, placed = NamedSharding(_plain(mesh), PartitionSpec()), {}

    def copy(leaf: Any) -> Any:
        # Once, even if an array occurs several times.
        if id(leaf) not in placed:
            placed[id(leaf)] = jax.device_put(leaf, sharding)
        return placed[id(leaf)]

    arrays, others = eqx.partition(tree, eqx.is_array)
    return eqx.combine(jax.tree.map(copy, arrays), others)


def gather(tree: PyTree, mesh: Mesh | None) -> PyTree:
    """The arrays of parameters on the default device.

    Args:
        tree: a pytree of arrays.
        mesh: the mesh that they are on, or None.
    """
    return tree if mesh is None else jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)), tree)


def _plain(mesh: Mesh) -> Mesh:
    """The mesh with axes that XLA partitions automatically."""
    return Mesh(mesh.devices, mesh.axis_names)


def _check_divides(num_devices: int, size: int, name: str) -> None:
    if size % num_devices:
        raise ValueError(
            f"the mesh has {num_devices} devices, which do not divide the number of {name}, {size}; use another number "
            "of devices or another batch size."
        )
