"""Convert arrays and data frames to matrices of floating-point numbers; errors name the column and row at fault."""

import math
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from pushforward.bijections.arrays import ArrayLike
from pushforward.masked import has_masked


def column_labels(dim: int, names: Sequence[str] | None) -> list[str]:
    """The labels of the columns in messages: "column 0 (name)", or "column 0" without names.

    Args:
        dim: the number of columns.
        names: the names of the columns, or None.

    Raises:
        ValueError: if the number of names is not the number of columns.
    """
    if names is not None and len(names) != dim:
        raise ValueError(f"names must have one entry for each of {dim} columns, but has {len(names)}.")
    return [f"column {i}" if names is None else f"column {i} ({names[i]})" for i in range(dim)]


def column_index(
    column: int | np.integer | str, names: Sequence[str] | None, labels: Sequence[str], argument: str
) -> int:
    """The index of a column that an argument refers to by index or name.

    Args:
        column: the index or the name.
        names: the names of the columns, or None.
        labels: the labels of the columns in messages.
        argument: the name of the argument, for messages.

    Raises:
        ValueError: if there is no such column.
    """
    if isinstance(column, str):
        if column not in (names or ()):
            raise ValueError(f"{argument}: there is no column {column}; the columns are {', '.join(names or labels)}.")
        return list(names or ()).index(column)
    if isinstance(column, bool | np.bool_) or not isinstance(column, Integral) or not 0 <= column < len(labels):
        raise ValueError(
            f"{argument} refers to column {column!r}, but a column is a name or an index from 0 to {len(labels) - 1}."
        )
    return int(column)


def column_names(values: Any) -> list[str] | None:
    """The names of the columns of a data frame, an Arrow table, records or a labeled array; None for other values.

    Args:
        values: any object.
    """
    if (names := getattr(getattr(values, "dtype", None), "names", None)) is None:
        # The `columns` of an Arrow table are their values.
        names = getattr(values, "column_names", getattr(values, "columns", None))
    if names is None and len(dims := getattr(values, "dims", None) or ()) == 2 and hasattr(values, "coords"):
        # xarray numbers the rows and columns of dimensions without coordinates.
        names = np.asarray(values.coords[dims[1]]) if dims[1] in values.coords else None
    return None if names is None else [str(name) for name in names]


def column_arrays(values: Any) -> list[np.ndarray] | None:
    """The columns of an array of records or of an Arrow table; None for other values.

    Args:
        values: any object.
    """
    if getattr(getattr(values, "dtype", None), "names", None) is not None:
        return [values[name] for name in values.dtype.names]
    if hasattr(values, "column_names") and hasattr(values, "columns"):
        return [np.asarray(column) for column in values.columns]
    return None


def as_floats(values: np.ndarray) -> Float[np.ndarray, "..."]:
    """Convert numbers to floating point: single precision is kept, and all other types become double precision.

    Args:
        values: an array of numbers, of either byte order.
    """
    return values if values.dtype in (np.float32, np.float64) else values.astype(float)


def as_matrix(name: str, values: ArrayLike, names: Sequence[str] | None = None) -> Float[np.ndarray, "n dim"]:
    """Convert values to a matrix of floating-point numbers; missing values become NaN.

    Args:
        name: the name of the argument, for messages.
        values: an array, or anything that NumPy converts to one, such as a data frame; an Arrow table; or records.
        names: the names of the columns, or None.

    Raises:
        ValueError: if the shape is not (rows, columns), or a value is not a number; the message names its row and
            column.
    """
    if has_masked(values):
        raise ValueError(f"{name} has masked values; remove or impute those rows.")
    columns = column_arrays(values)
    if columns and all(column.ndim == 1 for column in columns):
        return _from_columns(name, columns, names)
    if hasattr(values, "data_vars"):
        raise ValueError(
            f"{name} must be an array of numbers, but is a Dataset; convert it with {name}.to_dataframe()."
        )
    try:
        array = np.asarray(values)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be an array of numbers: {error}") from error
    if array.ndim == 0:
        hint = f"; convert it with {name}.toarray()" if hasattr(values, "toarray") else ""
        hint = f"; convert it with pandas.DataFrame({name})" if isinstance(values, Mapping) else hint
        raise ValueError(f"{name} must be an array of numbers, but is of type {type(values).__name__}{hint}.")
    if array.ndim != 2 or 0 in array.shape:
        conversion = f"{name}.to_frame()" if hasattr(values, "to_frame") else f"{name}[:, None]"
        if array.size and isinstance(array.flat[0], Mapping):
            raise ValueError(
                f"{name} must be an array of numbers, but holds dicts; convert it with pandas.DataFrame({name})."
            )
        hint = f"; {conversion} converts it to one column" if array.ndim == 1 else ""
        raise ValueError(f"{name} must have shape (rows, columns), both positive, but has shape {array.shape}{hint}.")
    if _is_numeric(array.dtype):
        return as_floats(array)
    return _from_columns(name, array.T, names)


def _from_columns(name: str, columns: Iterable[np.ndarray], names: Sequence[str] | None) -> Float[np.ndarray, "n dim"]:
    columns = list(columns)
    labels = column_labels(len(columns), names)
    return np.stack([_parse_column(column, f"{labels[i]} of {name}") for i, column in enumerate(columns)], axis=1)


def _parse_column(values: np.ndarray, label: str) -> Float[np.ndarray, " n"]:
    """Convert a column of numbers, Python objects or text to floating-point numbers."""
    if _is_numeric(values.dtype):
        return as_floats(values)
    try:
        # Only these types: NumPy would turn dates into nanoseconds, and drop the imaginary part of complex numbers.
        if values.dtype.kind in "OSU":
            missing = [_is_pandas_na(value) for value in values]
            return np.where(missing, np.array(math.nan, values.dtype), values).astype(float)
    except (TypeError, ValueError):
        pass
    row, value = next((row, value) for row, value in enumerate(values) if not _is_number(value))
    raise ValueError(
        f"{label} holds {str(value)!r} in row {row}, which is a {type(value).__name__}, not a number; convert the "
        "column, for example to days since a date or to one column of 0 and 1 per category, or leave it out."
    )


def _is_numeric(dtype: np.dtype) -> bool:
    """Whether values are real numbers; NumPy does not know JAX's types, such as bfloat16, as such."""
    return dtype.kind in "biuf" or jnp.issubdtype(dtype, jnp.floating)


def _is_pandas_na(value: Any) -> bool:
    """Whether the value is pandas' NA, which NumPy does not convert to NaN (as it converts None)."""
    return type(value).__name__ == "NAType"


def _is_number(value: Any) -> bool:
    if value is None or _is_pandas_na(value):
        return True
    try:
        return not isinstance(value, np.datetime64 | np.timedelta64 | np.complexfloating) and float(value) is not None
    except (TypeError, ValueError):
        return False
