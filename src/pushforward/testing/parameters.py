"""Parameters far from their initial values, and points of any domain."""

from typing import TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, PRNGKeyArray, PyTree
from numpyro.distributions.constraints import Constraint

from pushforward.bijections import Elementwise, Scan
from pushforward.bijections.arrays import ArrayLike, trainable
from pushforward.bijections.intervals import bounds

T = TypeVar("T")


def randomize(tree: T, key: PRNGKeyArray, scale: float) -> T:
    """Add normal noise with standard deviation `scale` to all parameters, to move them far from their initial values.

    The noise of a matrix is divided by the square root of the size of its last axis, as in initializers, so that
    `scale` means the same for networks of any width. Axes that stack layers (`Scan`) or coordinates (`Elementwise`)
    are ignored.

    Args:
        tree: any pytree, such as a bijection or a flow.
        key: the key for the noise.
        scale: the standard deviation.

    Returns:
        The pytree with perturbed parameters.
    """
    arrays, static = eqx.partition(tree, trainable(tree))
    leaves, treedef = jax.tree.flatten(arrays)
    noise = jax.tree.leaves(noise_like(arrays, key))
    moved = [
        leaf + scale / max(width, 1) ** 0.5 * move
        for leaf, move, width in zip(leaves, noise, _widths(arrays), strict=True)
    ]
    return eqx.combine(jax.tree.unflatten(treedef, moved), static)


def noise_like(arrays: PyTree, key: PRNGKeyArray) -> PyTree:
    """Standard normal noise with the shapes and dtypes of a pytree of arrays.

    Args:
        arrays: the pytree.
        key: the key for the noise.
    """
    leaves, treedef = jax.tree.flatten(arrays)
    keys = jr.split(key, max(len(leaves), 1))
    noise = [jr.normal(k, leaf.shape, leaf.dtype) for k, leaf in zip(keys, leaves, strict=False)]
    return jax.tree.unflatten(treedef, noise)


def _widths(tree: PyTree, before: int = 0, after: int = 0) -> list[int]:
    """The size of each matrix's last axis, and 1 for other arrays, ignoring stacked axes before and after its own."""
    widths = []
    for node in jax.tree.leaves(tree, is_leaf=lambda node: isinstance(node, (Scan, Elementwise))):
        if isinstance(node, Scan):
            widths += _widths(node.stacked, before + 1, after)
        elif isinstance(node, Elementwise):
            widths += _widths(node.scalars, before, after + 1)
        else:
            own = node.shape[before : node.ndim - after]
            widths.append(own[-1] if len(own) > 1 else 1)
    return widths


def map_to_domain(domain: Constraint, z: ArrayLike) -> Array:
    """Map points of the whole space to a domain, coordinate by coordinate.

    Args:
        domain: an interval, a NumPyro constraint; its ends may be arrays.
        z: points of the whole space.
    """
    z = jnp.asarray(z)
    lower, upper = (jnp.asarray(end, z.dtype) for end in bounds(domain))
    low, high = jnp.where(jnp.isfinite(lower), lower, 0), jnp.where(jnp.isfinite(upper), upper, 0)
    one_end = jnp.where(jnp.isfinite(lower), low + jnp.exp(z), jnp.where(jnp.isfinite(upper), high - jnp.exp(z), z))
    return jnp.where(jnp.isfinite(lower) & jnp.isfinite(upper), low + (high - low) * jax.nn.sigmoid(z), one_end)
