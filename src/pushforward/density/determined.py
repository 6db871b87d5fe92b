"""Columns that follow from the condition: no density has them, and the likelihood is unbounded."""

import warnings
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy.spatial import KDTree

from pushforward.density.split import without_copies

# A local fit must leave so little of a column's spread for it to be named, at half of so many rows.
LITTLE_LEFT, NUM_ROWS = 1e-3, 200
# Neighbours are looked for among so many rows; with more numbers to a condition they are far.
MOST_ROWS, MOST_GIVEN = 20_000, 8


def warn_of_determined(
    left: Float[np.ndarray, "n dim"], condition: Float[np.ndarray, "n cond_dim"], columns: Sequence[str]
) -> None:
    """Warn of columns that affine functions of the condition, fitted to the nearest rows, predict.

    Args:
        left: what a linear function of the condition leaves of each column, in standard deviations.
        condition: standardised.
        columns: what messages call the columns.
    """
    left, condition = left[:MOST_ROWS], condition[:MOST_ROWS]
    # Copies are near to each other and tell nothing.
    distinct = without_copies((left, condition))
    left, condition = left[distinct], condition[distinct]
    cond_dim, neighbours = condition.shape[1], 2 * (condition.shape[1] + 1)
    if cond_dim > MOST_GIVEN or len(left) < 4 * neighbours:
        return
    rows = np.linspace(0, len(left) - 1, min(NUM_ROWS, len(left))).astype(int)
    # Unbalanced, for equal conditions cannot be parted.
    near = np.asarray(KDTree(condition, balanced_tree=False).query(condition[rows], neighbours + 1)[1])
    # All but the row itself, which among equal conditions may be anywhere.
    itself = near == rows[:, None]
    itself[~itself.any(1), -1] = True
    near = near[~itself].reshape(len(rows), neighbours)
    offsets = condition[near] - condition[rows][:, None]
    offsets /= np.maximum(np.abs(offsets).max((1, 2), keepdims=True), 1e-300)
    design = np.concatenate([np.ones((*near.shape, 1)), offsets], axis=2)
    predicted = np.einsum("rk,rkd->rd", np.linalg.pinv(design, rcond=1e-6)[:, 0], left[near])
    errors = np.median(np.abs(predicted - left[rows]), axis=0)
    for i in np.flatnonzero(errors < LITTLE_LEFT).tolist():
        warnings.warn(
            f"{columns[i]} of x seems to be a function of the condition: rows with nearly the same condition tell it "
            f"to {errors[i]:.1g} of its spread. If it is one there is no density, and the likelihood is unbounded; "
            "leave it out, of x or of the condition.",
            stacklevel=4,
        )
