"""Structures that users give: a matrix of interacting coordinates, or the parents of each array of a draw."""

import graphlib
import itertools
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from scipy.sparse import coo_array, csr_array

from pushforward.arguments import in_words
from pushforward.posterior.curvature import has_hessian
from pushforward.posterior.structure import Structure, hessian_rows, structure_of
from pushforward.posterior.target import Target
from pushforward.training.compilation import jit_quick_compilation

# A given structure is compared with this many columns of the Hessian, at one point: so far from the start, in units of
# unconstrained coordinates, that interactions show, or nearer if the density is not finite there.
NUM_CHECKED = 64
SCALES = (1.0, 0.1, 0.01)
# Rounding noise in square roots of the precision: that of derivatives through matrices that are nearly singular, and
# that of differences of gradients.
NOISE, NOISE_OF_DIFFERENCES = 10.0, 100.0


def given_structure(target: Target, given: Any) -> Structure:
    """The structure that a user gives, after a comparison with some columns of the Hessian.

    Args:
        target: the target.
        given: a square matrix of the coordinates that interact, from NumPy or SciPy; or a dict from the name of each
            array of a draw to the names of its parents, on which its prior depends. Further names may stand for data.
            A child interacts with its parents, and the parents with each other: arrays of the same shape entry by
            entry, others entirely.

    Raises:
        TypeError: if it is neither a matrix nor a dict.
        ValueError: if its shape or its names do not match the target, if it has a cycle, or if coordinates interact
            that do not according to it.
    """
    names, dim = target.coordinate_names(), target.dim
    if isinstance(given, Structure):
        pattern = given.pattern
    elif isinstance(given, Mapping):
        pattern = _pattern_of_parents(target, given)
    elif _is_matrix(given):
        pattern = given
    else:
        raise TypeError(
            f"structure must be a matrix of the coordinates that interact, of numbers or truth values, or a dict from "
            f"names to the names of their parents, but is {in_words(given)}."
        )
    if pattern is None:
        return structure_of(None, names)
    if pattern.shape != (dim, dim):
        raise ValueError(
            f"structure must have shape ({dim}, {dim}) for a target of {dim} dimensions, got {pattern.shape}."
        )
    pattern = csr_array(pattern).astype(bool)
    diagonal = coo_array((np.ones(dim, bool), (np.arange(dim), np.arange(dim))), shape=(dim, dim)).tocsr()
    pattern = (pattern + pattern.T + diagonal).astype(bool)
    _check_pattern(target, pattern, names)
    return structure_of(pattern, names)


def _is_matrix(given: Any) -> bool:
    is_array = hasattr(given, "toarray") or isinstance(given, np.ndarray | jax.Array)
    return is_array and np.dtype(given.dtype).kind in "biuf"


def _check_pattern(target: Target, pattern: csr_array, names: Sequence[str]) -> None:
    """Raise if a column of the Hessian has an entry that the pattern has not."""
    chosen_key, point_key = jr.split(jr.key(0))
    chosen = np.asarray(jr.permutation(chosen_key, target.dim)[:NUM_CHECKED])
    deviation = jr.normal(point_key, (target.dim,), target.start.dtype)
    for scale in SCALES:
        columns = np.asarray(_columns(target, target.start + scale * deviation, jnp.asarray(chosen)))
        if np.isfinite(columns).all():
            break
    noise = NOISE if has_hessian(target, target.start) else NOISE_OF_DIFFERENCES
    tolerance = (
        noise * np.finfo(columns.dtype).eps ** 0.5 * np.nanmax(np.abs(columns), axis=1, keepdims=True, initial=0.0)
    )
    wrong = np.argwhere((np.abs(columns) > tolerance) & ~pattern[chosen].toarray())
    if wrong.size:
        first, second = names[int(chosen[wrong[0, 0]])], names[int(wrong[0, 1])]
        raise ValueError(
            f"the structure does not match the log-density: {first} and {second} interact, but not in the structure."
        )


_columns = jit_quick_compilation(hessian_rows)  # the Hessian is symmetric


def _pattern_of_parents(target: Target, parents: Mapping[str, Collection[str]]) -> csr_array:
    """The pattern of a directed graph: each array interacts with its parents, and these with each other."""
    arrays, first = {}, 0
    for path, leaf in jax.tree.leaves_with_path(target.example):
        arrays[jax.tree_util.keystr(path, simple=True, separator=".")] = first + np.arange(leaf.size).reshape(
            leaf.shape
        )
        first += leaf.size
    for child, of in parents.items():
        if not isinstance(of, Collection):
            raise TypeError(
                f"structure must give the names of the parents of each array, but of {child!r} it gives {in_words(of)}."
            )
    parents = {child: [of] if isinstance(of, str) else list(of) for child, of in parents.items()}
    missing = [name for name in arrays if name not in parents]
    unknown = [name for of in parents.values() for name in of if name not in arrays]
    if missing or unknown:
        raise ValueError(
            f"structure must give the parents of each array of a draw, {list(arrays)}, among these; "
            + (f"it lacks {missing}." if missing else f"{unknown} are not.")
        )
    try:
        list(graphlib.TopologicalSorter(parents).static_order())
    except graphlib.CycleError as error:
        raise ValueError(f"structure has a cycle: {' -> '.join(map(str, error.args[1]))}.") from None
    rows, columns = [], []
    for child, of in parents.items():
        group = [arrays[name] for name in dict.fromkeys([child, *of]) if name in arrays]
        for one, other in itertools.product(group, group):
            # Arrays of the same shape interact entry by entry.
            pairs = (one, other) if one.shape == other.shape else np.meshgrid(one, other)
            rows.append(pairs[0].ravel())
            columns.append(pairs[1].ravel())
    row, column = np.concatenate(rows), np.concatenate(columns)
    return coo_array((np.ones(row.size, bool), (row, column)), shape=(first, first)).tocsr()
