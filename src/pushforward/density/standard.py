"""From whitened coordinates to samples: what is learned is only what is left."""

import math
from collections.abc import Iterable, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Float, PRNGKeyArray

from pushforward.bijections import Affine, Chain, Elementwise, OntoBox, Triangular
from pushforward.density.supports import Circle


def standardise(
    chunks: Iterable[tuple[int, np.ndarray]],
    steps: Float[np.ndarray, " dim"],
    to_support: OntoBox,
    circles: Sequence[Circle | None],
    key: PRNGKeyArray,
) -> Chain:
    """From coordinates of mean 0 and covariance 1, which for angles are those of [-pi, pi), to the samples.

    Args:
        chunks: the samples, part by part.
        steps: of discrete columns, 0 for others.
        to_support: from the whole space onto the box that the samples lie in.
        circles: the ends of the intervals of angles, None for others.
        key: for values that are spread over their steps.
    """
    inverse = jax.jit(jax.vmap(to_support.inverse))
    size, shift, total, products = 0, 0.0, 0.0, 0.0
    for start, chunk in chunks:
        spread = chunk + steps * np.asarray(jr.uniform(jr.fold_in(key, start), chunk.shape)) if steps.any() else chunk
        z = np.asarray(inverse(spread), float)
        # Moments about a point nearby, for those about 0 lose digits.
        shift = shift if size else z.mean(0)
        z = z - shift
        size, total, products = size + len(z), total + z.sum(0), products + z.T @ z
    loc = np.asarray(shift + total / size)
    covariance = np.asarray(products / size - np.outer(total, total) / size**2)
    scale = np.sqrt(np.diag(covariance))
    correlation = covariance / np.outer(scale, scale)
    for i, circle in enumerate(circles):
        if circle is not None:
            loc[i], scale[i] = sum(circle) / 2, (circle[1] - circle[0]) / (2 * math.pi)
            correlation[i] = correlation[:, i] = 0
            correlation[i, i] = 1
    # A little of the identity where rows are few.
    little = min(1, len(loc) / size**2)
    factor = np.linalg.cholesky((1 - little) * correlation + little * np.eye(len(loc)))
    affine = eqx.filter_vmap(Affine)(jnp.asarray(loc), jnp.asarray(scale))
    affine = eqx.tree_at(lambda b: b.scalars, Elementwise(Affine(), len(loc)), affine)
    return Chain([Triangular(len(loc), matrix=jnp.asarray(factor)), affine, to_support])
