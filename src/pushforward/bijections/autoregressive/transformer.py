"""Transformers: scalar bijections applied to each coordinate, with arrays from a conditioner."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pushforward.bijections.arrays import detach, map_scalars, num_parameters, shift_arrays
from pushforward.bijections.base import AbstractBijection, push_score_scalar
from pushforward.bijections.checks import check_sizes, check_transformer

# The raveled arrays of a transformer for each coordinate.
Shifts = Float[Array, "parameters *dim_and_batch"]


def transform(transformer: AbstractBijection, shifts: Shifts, u: Array, *, inverse: bool = False):
    """Apply the transformer to each coordinate; return the values and the log-derivatives, unsummed."""

    def one(bijection, u):
        return bijection._inverse(u, None, None) if inverse else bijection._forward(u, None, None)

    return map_scalars(one, shift_arrays(transformer, shifts), u)


def transform_score(transformer: AbstractBijection, shifts: Shifts, u: Array, score: Array):
    """`push_score` of the transformer for each coordinate."""
    return map_scalars(push_score_scalar, shift_arrays(transformer, shifts), u, score)


def shift_cotangents(transformer: AbstractBijection, shifts: Shifts, u: Array, score: Array) -> Shifts:
    """The gradient of score . x + log-derivatives with respect to the shifts, with all else fixed."""
    transformer, shifts, u = detach((transformer, shifts, u))
    _, pull = jax.vjp(lambda p: transform(transformer, p, u), shifts)
    return pull((score, jnp.ones_like(score)))[0]


def check_parts(transformer: AbstractBijection, dim: int, cond_dim: int | None) -> None:
    """Raise unless the transformer has arrays that a conditioner can set, and sizes are positive."""
    check_transformer(transformer)
    if not num_parameters(transformer):
        name = type(transformer).__name__
        raise ValueError(
            f"a conditioner sets the arrays of its transformer, but {name} has none; use "
            f"Elementwise({name}(), dim) or, as the transformer, Chain([Affine(), {name}()])."
        )
    check_sizes(dim=dim, cond_dim=cond_dim)


def indices_where(mask: np.ndarray) -> slice | np.ndarray:
    """The indices where a mask is True, as a slice if they are consecutive."""
    return as_slice(np.flatnonzero(mask))


def as_slice(indices: np.ndarray) -> slice | np.ndarray:
    """The indices as a slice if they are consecutive: XLA copies slices, but gathers indices element by element."""
    if indices.size and np.array_equal(indices, np.arange(indices[0], indices[0] + indices.size)):
        return slice(int(indices[0]), int(indices[0]) + indices.size)
    return indices
