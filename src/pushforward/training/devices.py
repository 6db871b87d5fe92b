"""Several devices: each has all parameters and its part of the draws or rows of a step, by JAX's own engine.

Programs that run inside `on_mesh` are compiled for all devices. `spread` and `replicate` are for use inside such
programs; without a mesh they do nothing. XLA finds the rest, such as where gradients are added up.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Int, PyTree

T = TypeVar("T")


def check_mesh(mesh: Mesh | None, sizes: dict[str, int]) -> None:
    """Raise unless a mesh divides the draws or rows of a step.

    Args:
        mesh: the mesh, or None.
        sizes: the numbers of draws and of rows of a step, by name.

    Raises:
        TypeError: if it is no mesh.
        ValueError: if the number of its devices does not divide one of the numbers, or they belong to other processes
            than this one, but not to all.
    """
    if mesh is None:
        return
    if not isinstance(mesh, Mesh):
        raise TypeError(
            f"mesh must be a jax.sharding.Mesh, such as jax.make_mesh((jax.device_count(),), ('devices',)), but is a "
            f"{type(mesh).__name__}."
        )
    processes = {device.process_index for device in mesh.devices.flat}
    if processes != {jax.process_index()} and processes != {*range(jax.process_count())}:
        raise ValueError(
            f"the devices of the mesh belong to the processes {sorted(processes)}, but must be those of this process, "
            f"{jax.process_index()}, or of all {jax.process_count()} processes."
        )
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
        if isinstance(leaf, jax.Array) and len(leaf.devices()) > 1:
            return leaf  # of `read_parts`
        # Once, even if an array occurs several times.
        if id(leaf) not in placed:
            placed[id(leaf)] = _copies(leaf, sharding)
        return placed[id(leaf)]

    arrays, others = eqx.partition(tree, eqx.is_array)
    return eqx.combine(jax.tree.map(copy, arrays), others)


def _copies(leaf: Any, sharding: NamedSharding) -> jax.Array:
    if sharding.is_fully_addressable:
        return jax.device_put(leaf, sharding)
    # Each process copies its own array to its own devices; `device_put` would compare them all.
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jr.wrap_key_data(_copies(jr.key_data(leaf), sharding), impl=jr.key_impl(leaf))
    values = np.asarray(leaf)
    return jax.make_array_from_callback(values.shape, sharding, lambda index: values[index])


def read_parts(
    read: Callable[[np.ndarray], np.ndarray], rows: Int[np.ndarray, " rows"], mesh: Mesh | None
) -> jax.Array | np.ndarray:
    """Rows from a file, of which each device has its own part, and each process reads those of its devices.

    Args:
        read: the function from the indices of rows to the rows.
        rows: the indices.
        mesh: the mesh; all rows are read if it is None, or if the number of devices does not divide theirs.
    """
    if mesh is None or len(rows) % mesh.size:
        return read(rows)
    shape = (len(rows), *read(rows[:1]).shape[1:])
    sharding = NamedSharding(_plain(mesh), PartitionSpec(mesh.axis_names))

    def part(index: tuple[slice, ...] | None) -> np.ndarray:
        return read(rows if index is None else rows[index[0]])

    return jax.make_array_from_callback(shape, sharding, part)


def each_reads_its_part(read: Callable[[Array], T], rows: Int[Array, " rows"]) -> T:
    """What a function reads at some indices inside a program, where each device of the mesh reads its own part of it.

    Args:
        read: the function from indices to a pytree of arrays with the same first axis.
        rows: the indices.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or rows.shape[0] % mesh.size:
        return read(rows)
    parts = PartitionSpec(mesh.axis_names)
    return jax.shard_map(read, in_specs=parts, out_specs=parts)(rows)


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
