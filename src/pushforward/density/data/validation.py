"""What data must be for a density to be fitted to them; messages name rows and columns."""

from collections.abc import Iterable, Sequence
from numbers import Real
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, Bool, Float, Int

from pushforward.bijections.base import is_size
from pushforward.density.data.arrays import as_matrix, column_labels
from pushforward.density.data.columns import OFF_GRID
from pushforward.density.whitening.moments import effective_sample_size

# Values of a column that lie within so many numbers of the precision in use are hardly told apart.
FEWEST_NUMBERS = 1000
WIDER = 'call jax.config.update("jax_enable_x64", True) at first, or'


def check_options(key: Any, validation: Any, learning_rate: Any, **counts: Any) -> None:
    """Raise unless there is a key, a share of the rows, a positive rate, and all others are whole and positive."""
    if not _is_key(key):
        raise ValueError(f"key must be a random key, as jax.random.key(0), but is {key!r}.")
    if not _is_number(validation) or not 0 < validation < 1:
        given = f"is an array of shape {np.shape(validation)}" if np.ndim(validation) else f"is {validation!r}"
        raise ValueError(
            f"validation must be the share of rows to hold out, 0 < validation < 1, as 0.1, but {given}. Rows of one's "
            "own choice cannot be given; judge the flow by them afterwards, with its log_prob."
        )
    if not _is_number(learning_rate) or not 0 < learning_rate < np.inf:
        raise ValueError(f"learning_rate must be a positive number, but is {learning_rate!r}.")
    for name, value in counts.items():
        if not is_size(value):
            raise ValueError(f"{name} must be a whole number of 1 or more, but is {value!r}.")


def check_samples(
    chunks: Iterable[tuple[Int[np.ndarray, " rows"], np.ndarray]], shape: tuple[int, ...], columns: Sequence[str]
) -> None:
    """Raise unless the samples, which come in parts with the numbers of their rows, can have a density."""
    size, dim = shape
    if size < 2 or size <= dim:
        raise ValueError(f"a density needs more rows than columns, and two at least, but x has shape {shape}.")
    low, high = np.full(dim, np.inf), np.full(dim, -np.inf)
    rounded = np.zeros(dim, bool)
    # Which column each equals so far: the first of its kind.
    twins = [0] * dim
    for rows, x in chunks:
        check_finite("x", x, columns, rows)
        rounded |= _is_rounded(x)
        low, high = np.minimum(low, x.min(0)), np.maximum(high, x.max(0))
        # Zero is added, for -0 equals 0.
        kinds = [(x[:, i] + 0.0).tobytes() for i in range(dim)]
        pairs = [(twins[i], kinds.index(kinds[i])) for i in range(dim)]
        twins = [pairs.index(pair) for pair in pairs]
    for i in np.flatnonzero(low == high).tolist():
        raise ValueError(f"{columns[i]} of x is constant, {low[i] + 0.0:g}: it has no density; leave it out.")
    _check_spread("x", low, high, rounded, columns)
    for i, twin in enumerate(twins):
        if twin < i:
            raise ValueError(f"{columns[i]} of x equals {columns[twin]}: together they have no density; leave one out.")


def check_inside(
    x: Float[np.ndarray, "n dim"],
    ends: Sequence[tuple[float, float]],
    steps: Float[np.ndarray, " dim"],
    columns: Sequence[str],
    rows: Int[np.ndarray, " n"],
) -> None:
    """Raise unless all is between the ends; a value of a discrete column begins a step, which must lie between them."""
    lower, upper = np.array(ends).T
    stepped = steps > 0
    outside = (x <= lower) & ~stepped | (x < lower) | (x >= upper) | stepped & (x + steps > upper + OFF_GRID * steps)
    bad = np.argwhere(outside)
    if len(bad):
        row, column = bad[0].tolist()
        # A discrete value may begin at the lower end.
        on_end = not stepped[column] and x[row, column] in (lower[column], upper[column])
        advice = "; the ends are excluded: fit the rows that lie on one apart, or widen the support" if on_end else ""
        width = f", with its step of {steps[column]:g}," if stepped[column] else ""
        raise ValueError(
            f"x has {len(bad)} values that are not inside their support, the first in row {rows[row]}, "
            f"{columns[column]}: {x[row, column]:g}{width} is not between {lower[column]:g} and "
            f"{upper[column]:g}{advice}."
        )


def check_condition(
    condition: ArrayLike,
    size: int,
    names: Sequence[str] | None = None,
    weights: Float[np.ndarray, " n"] | None = None,
) -> Float[np.ndarray, "n cond_dim"]:
    """The condition as a matrix; raise unless it goes with so many rows."""
    condition = as_matrix("condition", condition, names)
    if len(condition) != size:
        raise ValueError(f"x and condition must have as many rows, but have {size} and {len(condition)}.")
    named = column_labels(condition.shape[1], names)
    rows = np.arange(size) if weights is None else np.flatnonzero(weights)
    counting = condition[rows]
    check_finite("condition", counting, named, rows)
    for i in np.flatnonzero(np.ptp(counting, axis=0) == 0):
        where = "" if weights is None else " where weights are positive"
        raise ValueError(f"{named[i]} of condition is constant{where}, {counting[0, i]:g}; leave it out.")
    _check_spread("condition", counting.min(0), counting.max(0), _is_rounded(counting), named)
    return condition


def check_weights(weights: ArrayLike, size: int, dim: int) -> Float[np.ndarray, " n"]:
    """The weights, the largest of them 1; raise unless there is one for each row, and enough for so many columns."""
    try:
        found = np.asarray(weights, float)
    except (TypeError, ValueError) as error:
        raise ValueError(f"weights must be an array of numbers: {error}") from error
    if found.shape != (size,):
        raise ValueError(f"weights must have shape ({size},), one for each row, but have shape {found.shape}.")
    if not np.all(np.isfinite(found)) or np.any(found < 0) or not np.any(found):
        raise ValueError("weights must be finite and not negative, and not all zero.")
    # Only their ratios matter; what is nothing beside the largest, in JAX's precision, is nothing.
    found = found / found.max()
    found[found < np.finfo(dtype_of_jax()).tiny] = 0
    if np.sum(found > 0) <= dim:
        raise ValueError(
            f"too few weights are positive: {np.sum(found > 0)}, but a density needs more rows than columns, and two "
            f"at least; there are {dim} columns."
        )
    # As many rows of equal weight would do, up to rounding.
    if (telling := effective_sample_size(found)) < (dim + 1) * (1 - 1e-6):
        raise ValueError(
            f"weights are too unequal: they are worth {telling:.3g} rows of equal weight, (sum w)^2 / sum w^2, but a "
            f"density of {dim} columns needs {dim + 1} at least; the largest is that of row {found.argmax()}."
        )
    return found


def check_finite(
    name: str, values: Float[np.ndarray, "n dim"], columns: Sequence[str], rows: Int[np.ndarray, " n"]
) -> None:
    """Raise where values, in rows of these numbers, are not finite, or would not be in JAX's precision."""
    kinds = ((values, "are NaN or infinite", "remove or impute those rows"),)
    if values.dtype != dtype_of_jax():
        kinds += ((to_dtype_of_jax(values), f"{dtype_of_jax()} cannot hold", f"{WIDER} choose another unit"),)
    for found, what, advice in kinds:
        bad = np.argwhere(~np.isfinite(found))
        if len(bad):
            row, column = bad[0]
            value = f", {values[row, column]:g}" if np.isfinite(values[row, column]) else ""
            raise ValueError(
                f"{name} has {len(bad)} values that {what}, the first in row {rows[row]}, {columns[column]}{value}; "
                f"{advice}."
            )


def _is_key(key: Any) -> bool:
    if not isinstance(key, jax.Array | np.ndarray):
        return False
    if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        return key.shape == ()
    return key.dtype == np.uint32 and key.ndim == 1


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def dtype_of_jax() -> np.dtype:
    """Of floating-point numbers, as JAX is set."""
    return np.dtype(jnp.result_type(float))


def to_dtype_of_jax(values: np.ndarray) -> np.ndarray:
    """The values in JAX's precision; those that it cannot hold become infinite."""
    with np.errstate(over="ignore"):
        return values.astype(dtype_of_jax())


def _is_rounded(values: Float[np.ndarray, "n dim"]) -> Bool[np.ndarray, " dim"]:
    """Which columns JAX's precision rounds."""
    return np.any(to_dtype_of_jax(values) != values, axis=0)


def _check_spread(
    name: str,
    low: Float[np.ndarray, " dim"],
    high: Float[np.ndarray, " dim"],
    rounded: Bool[np.ndarray, " dim"],
    columns: Sequence[str],
) -> None:
    """Raise where columns, which lie between these numbers, are too narrow for the precision that rounds them."""
    largest, span = np.maximum(np.abs(low), np.abs(high)), high - low
    near = rounded & (span < FEWEST_NUMBERS * np.spacing(largest.astype(dtype_of_jax())))
    for i in np.flatnonzero(near).tolist():
        raise ValueError(
            f"{columns[i]} of {name} has values as large as {largest[i]:g} that differ by {span[i]:.2g} at most, which "
            f"{dtype_of_jax()} hardly tells apart; {WIDER} subtract an offset or choose another unit."
        )
