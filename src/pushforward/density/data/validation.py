"""Check the arguments of `fit_density`; errors name the row and column at fault."""

from collections.abc import Iterable, Sequence
from numbers import Real
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from pushforward.bijections.arrays import ArrayLike
from pushforward.bijections.checks import is_size
from pushforward.density.data.arrays import as_matrix, column_labels
from pushforward.density.data.columns import GRID_TOLERANCE
from pushforward.masked import check_unmasked
from pushforward.weights import effective_sample_size

# The values of a column must extend over at least this many floating-point numbers of JAX's precision.
MIN_DISTINCT_NUMBERS = 1000
USE_FLOAT64 = 'call jax.config.update("jax_enable_x64", True) first, or'


def check_options(key: Any, validation: Any, learning_rate: Any, **counts: Any) -> None:
    """Check the arguments of `fit_density` that are not data.

    Args:
        key: must be one random key.
        validation: must be a number between 0 and 1.
        learning_rate: must be a positive number.
        counts: must be positive integers, by the names of their arguments.

    Raises:
        ValueError: for other values.
    """
    if not _is_key(key):
        raise ValueError(f"key must be a random key, such as jax.random.key(0), but is {key!r}.")
    if not _is_number(validation) or not 0 < validation < 1:
        actual = f"is an array of shape {np.shape(validation)}" if np.ndim(validation) else f"is {validation!r}"
        raise ValueError(
            f"validation must be the fraction of validation rows, 0 < validation < 1, such as 0.1, but {actual}. The "
            "validation rows cannot be chosen; to score your own rows, call log_prob after the fit."
        )
    if not _is_number(learning_rate) or not 0 < learning_rate < np.inf:
        raise ValueError(f"learning_rate must be a positive number, but is {learning_rate!r}.")
    for name, value in counts.items():
        if not is_size(value):
            raise ValueError(f"{name} must be a whole number of 1 or more, but is {value!r}.")


def check_samples(
    chunks: Iterable[tuple[Int[np.ndarray, " rows"], np.ndarray]], shape: tuple[int, ...], labels: Sequence[str]
) -> None:
    """Check that samples are finite and not too large, and that no column is constant, a copy, or too narrow.

    Too large or narrow is what JAX's precision cannot compute with.

    Args:
        chunks: all samples in parts, each with the indices of its rows.
        shape: (number of rows, number of columns).
        labels: the labels of the columns in messages.

    Raises:
        ValueError: if the samples have no density; the message names the column, and the row if there is one.
    """
    size, dim = shape
    if size < 2:
        raise ValueError(f"a density needs at least two rows, but x has shape {shape}.")
    low, high = np.full(dim, np.inf), np.full(dim, -np.inf)
    rounded = np.zeros(dim, bool)
    # The first column that each column has been equal to in all chunks so far.
    equal_to = [0] * dim
    for rows, x in chunks:
        check_finite("x", x, labels, rows)
        _check_magnitude("x", x, labels, rows)
        rounded |= _is_rounded(x)
        low, high = np.minimum(low, x.min(0)), np.maximum(high, x.max(0))
        # Adding 0 turns -0 into 0, which it equals.
        contents = [(x[:, i] + 0.0).tobytes() for i in range(dim)]
        pairs = [(equal_to[i], contents.index(contents[i])) for i in range(dim)]
        equal_to = [pairs.index(pair) for pair in pairs]
    for i in np.flatnonzero(low == high).tolist():
        raise ValueError(f"{labels[i]} of x is constant, {low[i] + 0.0:g}: it has no density; leave it out.")
    _check_spread("x", low, high, rounded, labels)
    for i, other in enumerate(equal_to):
        if other < i:
            raise ValueError(f"{labels[i]} of x equals {labels[other]}: together they have no density; leave one out.")


def check_inside(
    x: Float[np.ndarray, "n dim"],
    ends: Sequence[tuple[float, float]],
    steps: Float[np.ndarray, " dim"],
    labels: Sequence[str],
    rows: Int[np.ndarray, " n"],
) -> None:
    """Check that samples lie inside their support; for a discrete value, that its whole step does.

    Args:
        x: some rows of samples.
        ends: the lower and upper end of the support of each column.
        steps: the step of each discrete column, 0 for others.
        labels: the labels of the columns in messages.
        rows: the indices of these rows.

    Raises:
        ValueError: if a value does not; the message names the first.
    """
    lower, upper = np.array(ends).T
    discrete = steps > 0
    outside = (
        ((x <= lower) & ~discrete) | (x < lower) | (x >= upper)
        | (discrete & (x + steps > upper + GRID_TOLERANCE * steps))
    )  # fmt: skip
    bad = np.argwhere(outside)
    if len(bad):
        row, column = bad[0].tolist()
        # The step of a discrete value may start at the lower end.
        is_end = not discrete[column] and x[row, column] in (lower[column], upper[column])
        advice = "; the ends are excluded: fit the rows at an end separately, or widen the support" if is_end else ""
        width = f", with its step of {steps[column]:g}," if discrete[column] else ""
        raise ValueError(
            f"x has {len(bad)} values that are not inside their support, the first in row {rows[row]}, "
            f"{labels[column]}: {x[row, column]:g}{width} is not between {lower[column]:g} and "
            f"{upper[column]:g}{advice}."
        )


def check_condition(
    condition: ArrayLike,
    size: int,
    names: Sequence[str] | None = None,
    weights: Float[np.ndarray, " n"] | None = None,
) -> Float[np.ndarray, "n cond_dim"]:
    """Convert the condition to a matrix and check it where the weights are positive.

    Args:
        condition: the condition of each row.
        size: the number of rows of the samples.
        names: the names of its columns, or None.
        weights: the weights of the rows, or None.

    Returns:
        The condition as a matrix.

    Raises:
        ValueError: if it has another number of rows, values that are not finite, or constant columns.
    """
    condition = as_matrix("condition", condition, names)
    if len(condition) != size:
        raise ValueError(f"x and condition must have the same number of rows, but have {size} and {len(condition)}.")
    labels = column_labels(condition.shape[1], names)
    rows = np.arange(size) if weights is None else np.flatnonzero(weights)
    weighted = condition[rows]
    check_finite("condition", weighted, labels, rows)
    _check_magnitude("condition", weighted, labels, rows)
    for i in np.flatnonzero(np.ptp(weighted, axis=0) == 0):
        where = "" if weights is None else " where weights are positive"
        raise ValueError(f"{labels[i]} of condition is constant{where}, {weighted[0, i]:g}; leave it out.")
    _check_spread("condition", weighted.min(0), weighted.max(0), _is_rounded(weighted), labels)
    return condition


def check_weights(weights: ArrayLike, size: int, dim: int) -> Float[np.ndarray, " n"]:
    """Convert the weights of rows to an array whose largest value is 1, and check them.

    Args:
        weights: a weight for each row.
        size: the number of rows.
        dim: the number of columns.

    Returns:
        The weights as an array. Weights that underflow to 0 in JAX's precision, relative to the largest weight, are 0.

    Raises:
        ValueError: if they are negative or not finite, if there is not one for each row, or if the effective sample
            size is too small for this number of columns.
    """
    check_unmasked("weights", weights, "give weight 0 to rows that do not count")
    try:
        values = np.asarray(weights, float)
    except (TypeError, ValueError) as error:
        raise ValueError(f"weights must be an array of numbers: {error}") from error
    if values.shape != (size,):
        raise ValueError(f"weights must have shape ({size},), one for each row, but have shape {values.shape}.")
    if not np.all(np.isfinite(values)) or np.any(values < 0) or not np.any(values):
        raise ValueError("weights must be finite and not negative, and not all zero.")
    values = values / values.max()
    values[values < np.finfo(jax_float()).tiny] = 0
    if (positive := np.sum(values > 0)) < 2:
        raise ValueError("too few weights are positive: 1, but a density needs at least 2 rows of positive weight.")
    # Of fewer rows than columns, only the scales and shrunk correlations are estimated.
    needed = dim + 1 if positive > dim else 2
    # Rounding errors may make the effective sample size of equal weights slightly smaller than their number.
    if (effective := effective_sample_size(values)) < needed * (1 - 1e-6):
        raise ValueError(
            f"weights are too unequal: their effective sample size (sum w)^2 / sum w^2 is {effective:.3g}, but a "
            f"density of {dim} columns needs at least {needed}; the largest weight is that of row {values.argmax()}."
        )
    return values


def check_finite(
    name: str, values: Float[np.ndarray, "n dim"], labels: Sequence[str], rows: Int[np.ndarray, " n"]
) -> None:
    """Check that values are finite, also after conversion to JAX's precision.

    Args:
        name: the name of the argument, for messages.
        values: some rows of the argument.
        labels: the labels of the columns in messages.
        rows: the indices of these rows.

    Raises:
        ValueError: if a value is not; the message names the first.
    """
    checks = [(values, "are NaN or infinite", "remove or impute those rows")]
    if values.dtype != jax_float():
        checks.append((to_jax_float(values), f"{jax_float()} cannot hold", f"{USE_FLOAT64} choose another unit"))
    for converted, problem, advice in checks:
        bad = np.argwhere(~np.isfinite(converted))
        if len(bad):
            row, column = bad[0]
            value = f", {values[row, column]:g}" if np.isfinite(values[row, column]) else ""
            raise ValueError(
                f"{name} has {len(bad)} values that {problem}, the first in row {rows[row]}, {labels[column]}{value}; "
                f"{advice}."
            )


def jax_float() -> np.dtype:
    """The type of floating-point numbers that JAX is set to: single or double precision."""
    return np.dtype(jnp.result_type(float))


def to_jax_float(values: np.ndarray) -> np.ndarray:
    """Convert values to JAX's precision; those that are too large become infinite.

    Args:
        values: numbers in any precision.
    """
    with np.errstate(over="ignore"):
        return values.astype(jax_float())


def _check_magnitude(
    name: str, values: Float[np.ndarray, "n dim"], labels: Sequence[str], rows: Int[np.ndarray, " n"]
) -> None:
    """Raise if sums of values, or draws further out, may overflow."""
    limits = np.finfo(jax_float())
    limit = float(limits.max) * float(limits.eps)
    bad = np.argwhere(np.abs(values) > limit)
    if len(bad):
        row, column = bad[0]
        advice = f"{USE_FLOAT64} choose" if jax_float() == np.float32 else "choose"
        raise ValueError(
            f"{name} has {len(bad)} values beyond {limit:.0e}, too large for computations in {jax_float()}, the first "
            f"in row {rows[row]}, {labels[column]}, {values[row, column]:g}; remove those rows if the values are "
            f"errors, or {advice} another unit."
        )


def _is_rounded(values: Float[np.ndarray, "n dim"]) -> Bool[np.ndarray, " dim"]:
    """Which columns have values that change in JAX's precision."""
    return np.any(to_jax_float(values) != values, axis=0)


def _check_spread(
    name: str,
    low: Float[np.ndarray, " dim"],
    high: Float[np.ndarray, " dim"],
    rounded: Bool[np.ndarray, " dim"],
    labels: Sequence[str],
) -> None:
    """Raise if a column between `low` and `high` is too narrow for the precision that rounds it."""
    largest, span = np.maximum(np.abs(low), np.abs(high)), high - low
    narrow = rounded & (span < MIN_DISTINCT_NUMBERS * np.spacing(largest.astype(jax_float())))
    # JAX replaces numbers below the smallest normal one by 0.
    narrow |= span < MIN_DISTINCT_NUMBERS * float(np.finfo(jax_float()).tiny)
    advice = "subtract an offset or choose another unit"
    if jax_float() == np.float32:
        advice = f"{USE_FLOAT64} {advice}"
    for i in np.flatnonzero(narrow).tolist():
        raise ValueError(
            f"{labels[i]} of {name} has values as large as {largest[i]:g} that differ by at most {span[i]:.2g}, which "
            f"is too little for {jax_float()}; {advice}."
        )


def _is_key(key: Any) -> bool:
    if not isinstance(key, jax.Array | np.ndarray):
        return False
    if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        return key.shape == ()
    return key.dtype == np.uint32 and key.ndim == 1


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
