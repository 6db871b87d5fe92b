"""NumPy's masked arrays, whose masks JAX and `numpy.asarray` do not see."""

import dataclasses
import types
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np


def has_masked(value: Any) -> bool:
    """Whether a masked array among some values has masked entries.

    Args:
        value: an array, or any containers.
    """
    return next(_masked("", value), None) is not None


def check_unmasked(name: str, value: Any, advice: str) -> None:
    """Raise if a masked array among some values has masked entries.

    Args:
        name: the name of the value, for messages.
        value: an array, or any containers.
        advice: what to do instead.

    Raises:
        ValueError: the message names the first such array.
    """
    for place, array in _masked(name, value):
        raise ValueError(
            f"{place} is a masked array with {np.ma.count_masked(array):,} masked entries, which would count as "
            f"observed: {advice}."
        )


def without_masks(value: Any) -> Any:
    """The same pytree, with plain arrays for masked arrays.

    Args:
        value: arrays without masked entries, in any containers.
    """
    return jax.tree.map(
        lambda leaf: np.asarray(leaf) if isinstance(leaf, np.ma.MaskedArray) else leaf, value, is_leaf=is_opaque
    )


def is_opaque(node: Any) -> bool:
    """Whether JAX cannot flatten a container: it sorts the keys of dicts.

    Args:
        node: a node of a pytree.
    """
    if not isinstance(node, dict):
        return False
    try:
        sorted(node)
    except TypeError:
        return True
    return False


def _masked(name: str, value: Any) -> Iterator[tuple[str, np.ma.MaskedArray]]:
    """The masked arrays with masked entries, with their places."""
    if isinstance(value, np.ma.MaskedArray):
        if np.ma.is_masked(value):
            yield name, value
        return
    # Names are found only where they are needed: long lists have many.
    if not any(map(_may_hold, jax.tree.leaves(value, is_leaf=is_opaque))):
        return
    for path, leaf in jax.tree.leaves_with_path(value, is_leaf=is_opaque):
        place = name + jax.tree_util.keystr(path)
        if isinstance(leaf, np.ma.MaskedArray):
            yield from _masked(place, leaf)
        elif isinstance(leaf, Mapping):
            for key, entry in leaf.items():
                yield from _masked(f"{place}[{key!r}]", entry)
        elif isinstance(leaf, np.ndarray):
            for index, entry in np.ndenumerate(leaf) if leaf.dtype == object else ():
                if _may_hold(entry):
                    yield from _masked(f"{place}[{', '.join(map(str, index))}]", entry)
        elif isinstance(leaf, set | frozenset):
            for entry in leaf:
                yield from _masked(place, entry)
        elif _may_hold(leaf):
            for key, entry in vars(leaf).items():
                yield from _masked(f"{place}.{key}", entry)


def _may_hold(leaf: Any) -> bool:
    """Whether a leaf is a masked array, or holds other values."""
    if isinstance(leaf, np.ndarray):
        return isinstance(leaf, np.ma.MaskedArray) or leaf.dtype == object
    is_record = dataclasses.is_dataclass(leaf) and not isinstance(leaf, type) and hasattr(leaf, "__dict__")
    return is_record or isinstance(leaf, Mapping | set | frozenset | types.SimpleNamespace)
