"""Coordinates of order one in which global ones come first."""

import contextlib

import jax.numpy as jnp
import numpy as np
from jaxtyping import Int
from scipy.linalg import LinAlgError

from pushforward.bijections import Affine, Arrow, Banded, Chain, Elementwise, Permutation, Triangular
from pushforward.posterior.curvature import lower_factor
from pushforward.posterior.estimate import Estimate
from pushforward.posterior.search.sparse_gaussian import SparseMap, sparse_map
from pushforward.posterior.structure import structure_of
from pushforward.posterior.target import Target, Whitened


def globals_first(
    target: Target | Estimate,
    affine: Triangular,
    order: Int[np.ndarray, " dim"],
    num_global: int,
    sparse: SparseMap | None = None,
) -> tuple[Whitened, Triangular | Arrow | Banded]:
    """The target in these coordinates, and the map from N(0, I) to the Gaussian in them.

    Args:
        target: the target.
        affine: the map from N(0, I) to the Gaussian near the target.
        order: the coordinates, global ones first.
        num_global: the number of global coordinates.
        sparse: the same Gaussian with a sparse precision matrix, if it has one. If the global coordinates leave few
            entries, the map has one too, and the coordinates after the global ones are in another order.
    """
    factor, scales = None, np.linalg.norm(np.asarray(affine.matrix), axis=1)
    if sparse is not None:
        structure = structure_of(sparse.pattern, [str(i) for i in range(len(order))], order[:num_global].tolist())
        if structure.has_few_entries:
            # Rounding may make a matrix that is nearly singular indefinite.
            with contextlib.suppress(LinAlgError):
                precision = sparse.precision(scales.astype(float))
                factor = sparse_map(precision[np.ix_(structure.order, structure.order)], structure)
                order = structure.order
    if factor is None:
        # Without squaring the matrix, which float32 may not bear.
        matrix = np.asarray(affine.matrix)[order] / scales[order, None]
        factor = Triangular(len(order), matrix=lower_factor(jnp.asarray(matrix)))
    place = Elementwise.each(Affine, np.asarray(affine.loc)[order], scales[order])
    return Whitened(target, Chain([place, Permutation(np.argsort(order))])), factor
