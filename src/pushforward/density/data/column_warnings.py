"""Warn of columns that suggest a mistake: few distinct values, extreme values, values at an end, functions."""

from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float, Int

from pushforward.density.data.columns import estimate_step, is_off_grid
from pushforward.density.data.splitting import distinct_rows
from pushforward.density.data.validation import USE_FLOAT64, jax_float, to_jax_float
from pushforward.training.data import evenly_spaced
from pushforward.user_warnings import warn

# A column seems discrete if the fraction of its distinct values is below the first of these, or if its values lie on a
# grid and the fraction of the rows whose value occurs twice or more is above the second. The second needs enough rows.
MIN_DISTINCT, MAX_REPEATED = 0.5, 0.1
MIN_ROWS = 50
# A single value is suspicious if more rows than both of these have it: this fraction of the rows, this number of rows.
MAX_FRACTION_OF_VALUE, MAX_ROWS_OF_VALUE = 0.002, 4
# A column seems to be a function of the condition if local regression predicts it with a median error below this
# fraction of its standard deviation, in this number of rows.
MAX_LOCAL_ERROR, NUM_LOCAL_FITS = 1e-3, 200
# Values are extreme if the central half of their column lies within this number of standard deviations.
MIN_CENTRAL_HALF = 0.1
# Neighbors are searched among this number of rows. In more dimensions than this, nearest neighbors are far away.
MAX_NEIGHBOR_ROWS, MAX_COND_DIM = 20_000, 8


def warn_if_coarse(x: Float[np.ndarray, "n dim"], steps: Float[np.ndarray, " dim"], labels: Sequence[str]) -> None:
    """Warn of columns that have few distinct values, or one frequent value, but are not declared discrete.

    Args:
        x: samples.
        steps: the step of each discrete column, 0 for others.
        labels: the labels of the columns in messages.
    """
    size, enough = len(x), len(x) >= MIN_ROWS
    # Copies of rows repeat the values of every column, so they are no evidence that a single column is discrete.
    distinct = x[distinct_rows((x,))] if x.shape[1] > 1 else x
    for i in np.flatnonzero(steps == 0).tolist():
        values, counts = np.unique(distinct[:, i], return_counts=True)
        step, mode = estimate_step(values), values[counts.argmax()]
        on_grid = np.isfinite(step) and not is_off_grid(values, step).any()
        repeated = enough and on_grid and counts[counts > 1].sum() > MAX_REPEATED * len(distinct)
        if len(values) < MIN_DISTINCT * len(distinct) or repeated:
            grid = f" on a grid of step {step:g}" if on_grid else ""
            warn(
                f"{labels[i]} of x has {len(values)} distinct values in {size} rows{grid}: the likelihood of a "
                f"density is unbounded on such data. If the column is discrete, declare it with discrete=[{i}]: its "
                "values are then dequantized. Otherwise leave it out."
            )
        elif enough and counts.max() > max(MAX_FRACTION_OF_VALUE * len(distinct), MAX_ROWS_OF_VALUE):
            warn(
                f"{labels[i]} of x has the value {mode:g} in {np.sum(x[:, i] == mode)} of {size} rows: the "
                "likelihood of a density is unbounded at this value; fit those rows separately."
            )


def warn_if_rounded_to_end(
    chunks: Iterable[tuple[Int[np.ndarray, " rows"], np.ndarray]],
    ends: Sequence[tuple[float, float]],
    steps: Float[np.ndarray, " dim"],
    labels: Sequence[str],
) -> None:
    """Warn of values inside their support that JAX's precision rounds to one of its ends.

    Args:
        chunks: all samples in parts, each with the indices of its rows.
        ends: the lower and upper end of the support of each column.
        steps: the step of each discrete column, 0 for others.
        labels: the labels of the columns in messages.
    """
    if jax_float() == np.float64:
        return
    counts = np.zeros(len(labels), int)
    first: dict[int, str] = {}
    for rows, x in chunks:
        rounded = to_jax_float(x)
        at_end = (steps == 0) & np.any([rounded == to_jax_float(end) for end in np.array(ends).T], axis=0)
        counts += at_end.sum(0)
        for i in set(np.flatnonzero(at_end.any(0)).tolist()) - set(first):
            row = at_end[:, i].argmax()
            first[i] = f"the first in row {rows[row]}, {np.format_float_positional(x[row, i])}"
    for i, where in first.items():
        warn(
            f"{labels[i]} of x has {counts[i]} values that {jax_float()} rounds to an end of their support, {where}: "
            f"they are replaced by the nearest number inside; {USE_FLOAT64} measure from that end."
        )


def warn_if_extreme(
    x: Float[np.ndarray, "n dim"],
    standardized: Float[np.ndarray, "n dim"],
    rows: Int[np.ndarray, " n"],
    labels: Sequence[str],
) -> None:
    """Warn of columns in which a few extreme values determine the scale: the other values are almost equal in it.

    Args:
        x: some rows of samples.
        standardized: the rows in units of the standard deviations of their columns, after their tail transforms.
        rows: the indices of these rows.
        labels: the labels of the columns in messages.
    """
    half = np.diff(np.quantile(standardized, (0.25, 0.75), axis=0), axis=0)[0]
    # Columns of repeated values have a warning of their own.
    distinct = np.diff(np.quantile(x, (0.25, 0.75), axis=0), axis=0)[0] > 0
    for i in np.flatnonzero((half < MIN_CENTRAL_HALF) & distinct).tolist():
        row = np.abs(standardized[:, i]).argmax()
        warn(
            f"{labels[i]} of x has extreme values, such as {x[row, i]:g} in row {rows[row]}: the central half of the "
            f"values extends over only {half[i]:.1g} standard deviations, so their density is not "
            "resolved. Remove such rows if they are errors, or fit the logarithm of the column."
        )


def warn_if_function_of_condition(
    residuals: Float[np.ndarray, "n dim"], condition: Float[np.ndarray, "n cond_dim"], labels: Sequence[str]
) -> None:
    """Warn of columns that local linear regression on the condition predicts almost exactly.

    Such a column has no conditional density, and the likelihood is unbounded.

    Args:
        residuals: the residuals of the columns after linear regression on the condition, in standard deviations.
        condition: the standardized condition.
        labels: the labels of the columns in messages.
    """
    from scipy.spatial import KDTree  # only here: it takes long to import

    residuals, condition = residuals[:MAX_NEIGHBOR_ROWS], condition[:MAX_NEIGHBOR_ROWS]
    # A copy of a row predicts it exactly, which is no evidence.
    distinct = distinct_rows((residuals, condition))
    residuals, condition = residuals[distinct], condition[distinct]
    cond_dim, num_neighbors = condition.shape[1], 2 * (condition.shape[1] + 1)
    if cond_dim > MAX_COND_DIM or len(residuals) < 4 * num_neighbors:
        return
    rows = evenly_spaced(len(residuals), NUM_LOCAL_FITS)

    # A balanced tree would split equal conditions again and again.
    tree = KDTree(condition, balanced_tree=False)
    neighbors = np.asarray(tree.query(condition[rows], num_neighbors + 1)[1])
    # Remove the row itself, which is not always the first of several equal conditions, or else the last neighbor.
    is_itself = neighbors == rows[:, None]
    is_itself[~is_itself.any(1), -1] = True
    neighbors = neighbors[~is_itself].reshape(len(rows), num_neighbors)
    offsets = condition[neighbors] - condition[rows][:, None]
    offsets /= np.maximum(np.abs(offsets).max((1, 2), keepdims=True), 1e-300)
    design = np.concatenate([np.ones((*neighbors.shape, 1)), offsets], axis=2)
    predicted = np.einsum("rk,rkd->rd", np.linalg.pinv(design, rcond=1e-6)[:, 0], residuals[neighbors])
    errors = np.median(np.abs(predicted - residuals[rows]), axis=0)
    for i in np.flatnonzero(errors < MAX_LOCAL_ERROR).tolist():
        warn(
            f"{labels[i]} of x seems to be a function of the condition: rows with similar conditions predict it with "
            f"an error of {errors[i]:.1g} standard deviations. A function of the condition has no density, and the "
            "likelihood is unbounded; leave the column out of x, or out of the condition."
        )
