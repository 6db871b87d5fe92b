"""The latent values of draws, constrained to their supports, without what a model computes from them."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from pushforward.posterior.spaces.base import SupportSpace
from pushforward.posterior.target import Target
from pushforward.training.compilation import jit_quick_compilation

BATCH = 4096


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
    """The values of a function at points, in batches of one size, so that it is compiled once; as float64.

    Args:
        fn: a function of a batch of points.
        points: the points.
    """
    padded = np.concatenate([points, np.repeat(points[-1:], -len(points) % BATCH, 0)])
    parts = [np.asarray(fn(jnp.asarray(part)), float) for part in np.split(padded, len(padded) // BATCH)]
    return np.concatenate(parts)[: len(points)]


@jit_quick_compilation
def _constrained(target: Target, u: Float[Array, "batch dim"]) -> Array:
    return jax.vmap(lambda one: ravel_pytree(target.constrain(one))[0])(u)
