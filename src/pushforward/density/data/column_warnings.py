"""Columns that follow from the condition: no density has them, and the likelihood is unbounded."""

import warnings
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import KDTree

from pushforward.density.data.columns import likely_step, off_grid
from pushforward.density.data.splitting import distinct_rows
from pushforward.density.data.validation import WIDER, dtype_of_jax, to_dtype_of_jax

# A column with fewer distinct values than this share of its rows is suspiciously coarse; and one whose values are steps
# apart if this share of the rows, when they are enough, have values that other rows have.
COARSE_SHARE, REPEATED_SHARE = 0.5, 0.1
FEWEST_FOR_COARSE = 50
# And a value that so many rows have is an atom, not a coincidence of rounding.
SPIKE_SHARE, FEWEST_IN_SPIKE = 0.002, 4
# A local fit must leave so little of a column's spread for it to be named, at half of so many rows.
LITTLE_LEFT, NUM_ROWS = 1e-3, 200
# Neighbours are looked for among so many rows; with more numbers to a condition they are far.
MOST_ROWS, MOST_GIVEN = 20_000, 8


def warn_of_coarse(x: Float[np.ndarray, "n dim"], steps: Float[np.ndarray, " dim"], columns: Sequence[str]) -> None:
    """Warn of columns that have few values and are not said to be discrete."""
    size, enough = len(x), len(x) >= FEWEST_FOR_COARSE
    # Copies of rows repeat the values of all columns, and say nothing of one.
    distinct = x[distinct_rows((x,))] if x.shape[1] > 1 else x
    for i in np.flatnonzero(steps == 0).tolist():
        values, counts = np.unique(distinct[:, i], return_counts=True)
        step, most = likely_step(values), values[counts.argmax()]
        on_grid = np.isfinite(step) and not off_grid(values, step).any()
        repeated = enough and on_grid and counts[counts > 1].sum() > REPEATED_SHARE * len(distinct)
        if len(values) < COARSE_SHARE * len(distinct) or repeated:
            apart = f", {step:g} apart or multiples of it" if on_grid else ""
            warnings.warn(
                f"{columns[i]} of x has {len(values)} distinct values in {size} rows{apart}: the likelihood of a "
                f"density is unbounded on such data. If its values are steps apart, say so, discrete=[{i}]: then they "
                "are spread over the steps; else leave it out.",
                stacklevel=3,
            )
        elif enough and counts.max() > max(SPIKE_SHARE * len(distinct), FEWEST_IN_SPIKE):
            warnings.warn(
                f"{columns[i]} of x has the value {most:g} in {np.sum(x[:, i] == most)} of {size} rows: the "
                "likelihood of a density is unbounded there; fit those rows apart.",
                stacklevel=3,
            )


def warn_of_merged(
    chunks: Iterable[tuple[Int[np.ndarray, " rows"], np.ndarray]],
    ends: Sequence[tuple[float, float]],
    steps: Float[np.ndarray, " dim"],
    columns: Sequence[str],
) -> None:
    """Warn of values inside their support that JAX's precision takes for one of its ends."""
    if dtype_of_jax() == np.float64:
        return
    found = np.zeros(len(columns), int)
    first: dict[int, str] = {}
    for rows, x in chunks:
        seen = to_dtype_of_jax(x)
        merged = (steps == 0) & np.any([seen == to_dtype_of_jax(end) for end in np.array(ends).T], axis=0)
        found += merged.sum(0)
        for i in set(np.flatnonzero(merged.any(0)).tolist()) - set(first):
            row = merged[:, i].argmax()
            first[i] = f"the first in row {rows[row]}, {np.format_float_positional(x[row, i])}"
    for i, where in first.items():
        warnings.warn(
            f"{columns[i]} of x has {found[i]} values that {dtype_of_jax()} takes for an end of their "
            f"support, {where}: they are fitted as the nearest number inside; {WIDER} count from that end.",
            stacklevel=3,
        )


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
    distinct = distinct_rows((left, condition))
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
