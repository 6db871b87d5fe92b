"""Arrays that are no parameters, and bijections that have none but such."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from pushforward.bijections.base import AbstractBijection, AbstractStandIn, check_bijections


class Constant(eqx.Module):
    """A pytree that no optimiser moves and no conditioner supplies.

    All inexact arrays of a bijection are its parameters. These are kept as integers of the same bits, so that they are
    none, and are still saved, compiled and mapped over as arrays are.

    Args:
        tree: arrays of real numbers, and anything that can be hashed, as functions. No gradient flows to the arrays.
    """

    arrays: tuple[Array | None, ...]
    dtypes: tuple[str | None, ...] = eqx.field(static=True)
    others: tuple[Any, ...] = eqx.field(static=True)
    structure: Any = eqx.field(static=True)

    def __init__(self, tree: PyTree):
        leaves, self.structure = jax.tree.flatten(tree)
        arrays = [jnp.asarray(leaf) if isinstance(leaf, (jax.Array, np.ndarray)) else None for leaf in leaves]
        self.others = tuple(leaf if a is None else None for leaf, a in zip(leaves, arrays, strict=True))
        self.dtypes = tuple(a.dtype.name if a is not None and eqx.is_inexact_array(a) else None for a in arrays)
        self.arrays = tuple(
            a if a is None or dtype is None else jax.lax.bitcast_convert_type(a, f"int{8 * a.dtype.itemsize}")
            for a, dtype in zip(arrays, self.dtypes, strict=True)
        )

    @property
    def value(self) -> Any:
        """The pytree."""
        arrays = [
            bits if bits is None or dtype is None else jax.lax.bitcast_convert_type(bits, dtype)
            for bits, dtype in zip(self.arrays, self.dtypes, strict=True)
        ]
        leaves = [other if a is None else a for a, other in zip(arrays, self.others, strict=True)]
        return jax.tree.unflatten(self.structure, leaves)


class Frozen(AbstractStandIn):
    """A bijection whose arrays are no parameters: training does not move them.

    Args:
        bijection: any.
    """

    constant: Constant

    def __init__(self, bijection: AbstractBijection):
        check_bijections("Frozen", bijection)
        self.constant = Constant(bijection)

    @property
    def bijection(self) -> AbstractBijection:
        """The bijection."""
        return self.constant.value
