"""The latent values of draws, constrained to their supports, without what a model computes from them."""

from collections.abc import Callable, Iterator

import jax
import numpy as np
import numpyro.distributions as dist
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from pushforward.posterior.spaces.base import SupportSpace
from pushforward.posterior.target import Target
from pushforward.training.compilation import in_batches_of, jit_quick_compilation

# The number of points at a time, and the largest number of their coordinates: 32 MB in float64.
BATCH, MAX_NUMBERS = 4096, 1 << 22
# In any dimension.
MIN_BATCH = 256
# Inside a program, arrays that stay in the cache of a core: in 175 dimensions, 256 points at a time take half of the
# time of 4,096.
CACHED_NUMBERS, MIN_PART = 1 << 16, 64


def batch_size(dim: int) -> int:
    """The number of points at a time, a power of two, which limits the memory of computations in many dimensions.

    Args:
        dim: the dimension.
    """
    return max(MIN_BATCH, _power_of_two(MAX_NUMBERS // dim))


def part_size(dim: int) -> int:
    """The number of points at a time inside a program, a power of two: on CPUs as many as a cache holds.

    Args:
        dim: the dimension.
    """
    return max(MIN_PART, _power_of_two(CACHED_NUMBERS // dim)) if jax.default_backend() == "cpu" else batch_size(dim)


def _power_of_two(num: int) -> int:
    """The largest up to a number and to BATCH."""
    return min(BATCH, 1 << max(0, num.bit_length() - 1))


def without_density(target: Target) -> Target:
    """The target without the model's code, whose draws are the latent values; the target itself if it needs that code.

    Args:
        target: the target.
    """
    try:
        return target.detached()
    except ValueError:
        return target


def has_supports(target: Target) -> bool:
    """Whether a latent value has a support other than all real numbers, as far as is known without the model's code.

    Args:
        target: the target.
    """
    space = without_density(target).space
    return not isinstance(space, SupportSpace) or not all(map(_is_real, space.support))


def _is_real(constraint: dist.constraints.Constraint) -> bool:
    base = getattr(constraint, "base_constraint", None)
    return constraint is dist.constraints.real if base is None else _is_real(base)


def latent_values(target: Target, u: Float[np.ndarray, "draws dim"]) -> Float[np.ndarray, "draws scalars"]:
    """The scalars of the latent values at unconstrained vectors.

    Args:
        target: the target.
        u: unconstrained vectors.
    """
    target = without_density(target)
    return in_batches(lambda part: _constrained(target, part), u)


def in_batches(fn: Callable[[Array], Array], points: Float[np.ndarray, "points dim"]) -> np.ndarray:
    """The values of a function at points, in batches of `batch_size` points, as float64.

    Args:
        fn: a function of a batch of points.
        points: the points.
    """
    return in_batches_of(fn, points, batch_size(points.shape[1]))


def in_parts(points: Float[np.ndarray, "points dim"]) -> Iterator[Float[np.ndarray, "part dim"]]:
    """The points in parts of `batch_size`, for NumPy's computations, which limits their memory.

    Args:
        points: the points.
    """
    size = batch_size(points.shape[1])
    return (points[start : start + size] for start in range(0, len(points), size))


def map_parts(fn: Callable[[Array], PyTree[Array]], points: Float[Array, "points dim"]) -> PyTree[Array]:
    """The values of a function of several points, in parts of `part_size`, inside a compiled program.

    Args:
        fn: a function of some points, whose results have these as their first axis.
        points: the points.
    """
    num, dim = points.shape
    size = part_size(dim)
    if num <= size or num % size:
        return fn(points)
    results = jax.lax.map(fn, points.reshape(num // size, size, dim))
    return jax.tree.map(lambda leaf: leaf.reshape(num, *leaf.shape[2:]), results)


@jit_quick_compilation
def _constrained(target: Target, u: Float[Array, "batch dim"]) -> Array:
    return jax.vmap(lambda one: ravel_pytree(target.constrain(one))[0])(u)
