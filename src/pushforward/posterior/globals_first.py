"""Coordinates of order one in which global ones come first."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from pushforward.bijections import Affine, Arrow, Banded, Chain, Elementwise, Permutation, Triangular
from pushforward.posterior.curvature import lower_factor
from pushforward.posterior.estimate import Estimate
from pushforward.posterior.search.sparse_gaussian import sparse_map
from pushforward.posterior.structure import Structure, structure_of
from pushforward.posterior.target import Target, Whitened

# The largest part of a full matrix's numbers with which a sparse one is better.
MAX_SHARE = 0.25


def globals_first(
    target: Target | Estimate,
    affine: Triangular,
    order: Int[np.ndarray, " dim"],
    num_global: int,
    structure: Structure | None = None,
) -> tuple[Whitened, Triangular | Arrow | Banded]:
    """The target in these coordinates, and the map from N(0, I) to the Gaussian in them.

    Args:
        target: the target.
        affine: the map from N(0, I) to the Gaussian near the target.
        order: the coordinates, global ones first.
        num_global: the number of global coordinates.
        structure: which coordinates interact. If that leaves few numbers, the map has a sparse precision matrix, and
            the coordinates after the global ones are in another order.
    """
    if structure is not None:
        structure = structure_of(structure.pattern, structure.names, order[:num_global].tolist())
        # Far from a Gaussian, the numbers of a full matrix are of use.
        structure = structure if structure.num_entries <= MAX_SHARE * len(order) ** 2 / 2 else None
    order = order if structure is None else structure.order
    loc, matrix = np.asarray(affine.loc)[order], np.asarray(affine.matrix)[order]
    scales = np.linalg.norm(matrix, axis=1)
    matrix = matrix / scales[:, None]
    whitened = Whitened(target, Chain([Elementwise.each(Affine, loc, scales), Permutation(np.argsort(order))]))
    if structure is not None:
        return whitened, sparse_map(matrix.astype(float), structure)
    # Without squaring the matrix, which float32 may not bear.
    return whitened, Triangular(len(order), matrix=lower_factor(jnp.asarray(matrix)))
