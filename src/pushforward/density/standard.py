"""From whitened coordinates to samples: what is learned is only what is left."""

import math
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import ArrayLike, Float, PRNGKeyArray

from pushforward.bijections import AbstractBijection, Affine, Chain, Elementwise, OntoBox, SinhArcsinh, Triangular
from pushforward.density.source import Source
from pushforward.density.supports import Circle
from pushforward.density.tails import find_tails


def standardise(
    source: Source,
    steps: Float[np.ndarray, " dim"],
    to_support: OntoBox,
    circles: Sequence[Circle | None],
    columns: Sequence[str],
    key: PRNGKeyArray,
) -> Chain:
    """From coordinates of mean 0 and covariance 1, which for angles are those of [-pi, pi), to the samples.

    Columns with heavy tails are made lighter first.

    Args:
        source: the samples and their weights.
        steps: of discrete columns, 0 for others.
        to_support: from the whole space onto the box that the samples lie in.
        circles: the ends of the intervals of angles, None for others.
        columns: what messages call the columns.
        key: for values that are spread over their steps.

    Raises:
        ValueError: if columns are linearly dependent.
    """
    dim = len(circles)
    noise_key, part_key = jr.split(key)

    def carried(bijection, x, start):
        """Carried back by it, values of discrete columns spread over their steps."""
        spread = x + steps * np.asarray(jr.uniform(jr.fold_in(noise_key, start), x.shape)) if steps.any() else x
        return np.asarray(_inverse(bijection, spread), float)

    lighter = Chain([to_support])
    part, weights = source.part(part_key)
    locs, scales, tails = find_tails(carried(lighter, part, 0), weights)
    for i, circle in enumerate(circles):
        if circle is not None:
            locs[i], scales[i], tails[i] = 0, 1, 1
    if np.any(tails != 1):
        lighter = Chain([_each(SinhArcsinh, 0 * tails, tails), _each(Affine, locs, scales), to_support])

    total, squares, shift, sums, products, largest = 0.0, 0.0, 0.0, 0.0, 0.0, np.zeros(dim)
    for start, x in source.chunks():
        z = carried(lighter, x, start)
        weights = source.weights_of(start, len(x))
        largest = np.maximum(largest, np.abs(z).max(0))
        # Moments about a point nearby, for those about 0 lose digits.
        shift = shift if total else z.mean(0)
        z = z - shift
        total, squares = total + weights.sum(), squares + (weights**2).sum()
        sums, products = sums + weights @ z, products + (weights[:, None] * z).T @ z
    loc = np.asarray(shift + sums / total)
    covariance = np.asarray(products / total - np.outer(sums, sums) / total**2)
    scale = np.sqrt(np.diag(covariance))
    correlation = covariance / np.outer(scale, scale)
    for i, circle in enumerate(circles):
        if circle is not None:
            loc[i], scale[i] = sum(circle) / 2, (circle[1] - circle[0]) / (2 * math.pi)
            correlation[i] = correlation[:, i] = 0
            correlation[i, i] = 1
    _check_independent(correlation, largest / scale, columns)
    # A little of the identity where rows are hardly more than columns: then the least eigenvalues are too small.
    little = max(0.0, 2 - total**2 / squares / dim) / dim
    factor = np.linalg.cholesky((1 - little) * correlation + little * np.eye(dim))
    return Chain([Triangular(dim, matrix=jnp.asarray(factor)), _each(Affine, loc, scale), *lighter.bijections])


@eqx.filter_jit
def _inverse(bijection: AbstractBijection, x: ArrayLike):
    return jax.vmap(bijection.inverse)(jnp.asarray(x, float))


def _each(scalar: type, *arguments: Float[np.ndarray, " dim"]) -> Elementwise:
    """A scalar bijection for each coordinate, with arguments of its own."""
    scalars = eqx.filter_vmap(scalar)(*map(jnp.asarray, arguments))
    return eqx.tree_at(lambda b: b.scalars, Elementwise(scalar(), len(arguments[0])), scalars)


def _check_independent(
    correlation: Float[np.ndarray, "dim dim"], sizes: Float[np.ndarray, " dim"], columns: Sequence[str]
) -> None:
    """Raise if a combination of columns has no more spread than rounding gives it.

    Args:
        correlation: of the columns.
        sizes: their largest values, in standard deviations.
        columns: what messages call them.
    """
    values, vectors = np.linalg.eigh(correlation)
    rounding = float(jnp.finfo(jnp.result_type(float)).eps) * sizes.max()
    if values[0] < 1e-13 * len(columns) + 10 * rounding**2:
        share = np.abs(vectors[:, 0])
        together = [columns[i] for i in np.flatnonzero(share > 0.05 * share.max()).tolist()]
        raise ValueError(
            f"{', '.join(together)} of x are linearly dependent, to rounding: together they have no density; leave one "
            "out."
        )
