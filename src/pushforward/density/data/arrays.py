"""Arrays of numbers, from whatever holds some; what is none is named by its column."""

import math
from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np
from jaxtyping import ArrayLike, Float


def column_labels(dim: int, names: Sequence[str] | None) -> list[str]:
    """What messages call the columns."""
    if names is not None and len(names) != dim:
        raise ValueError(f"names must have one entry for each of {dim} columns, but has {len(names)}.")
    return [f"column {i}" if names is None else f"column {i} ({names[i]})" for i in range(dim)]


def column_index(column: int | str, names: Sequence[str] | None, columns: Sequence[str], what: str) -> int:
    """Which column an index or a name stands for; raise unless there is one. `what` is what names it."""
    if isinstance(column, str):
        if column not in (names or ()):
            raise ValueError(f"{what}: there is no column {column}; there are {', '.join(names or columns)}.")
        if list(names or ()).count(column) > 1:
            raise ValueError(f"{what}: there are several columns {column}; give them names of their own, or an index.")
        return list(names or ()).index(column)
    if isinstance(column, bool | np.bool_) or not isinstance(column, Integral) or not 0 <= column < len(columns):
        raise ValueError(f"{what} names column {column!r}, but there are {len(columns)} columns, the first of them 0.")
    return int(column)


def column_names(values: Any) -> list[str] | None:
    """The names of the columns of a data frame."""
    return [str(name) for name in values.columns] if hasattr(values, "columns") else None


def as_floats(values: np.ndarray) -> Float[np.ndarray, "..."]:
    """As precise as they are, in this machine's order of bytes."""
    return values if values.dtype in (np.float32, np.float64) else values.astype(float)


def as_matrix(name: str, values: ArrayLike, names: Sequence[str] | None = None) -> Float[np.ndarray, "n dim"]:
    """The values as an array of rows and columns, as precise as they are.

    Args:
        name: what messages call them.
        values: an array, or what NumPy makes one of, as a data frame.
        names: of the columns, if they have some.

    Raises:
        ValueError: for other shapes and for what is no number, by its row and column where these are known.
    """
    if np.ma.is_masked(values):
        raise ValueError(f"{name} has masked values; remove or impute those rows.")
    try:
        found = np.asarray(values)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be an array of numbers: {error}") from error
    if found.ndim == 0:
        hint = f"; {name}.toarray() makes an array of it" if hasattr(values, "toarray") else ""
        raise ValueError(f"{name} must be an array of numbers, but is of type {type(values).__name__}{hint}.")
    if found.ndim != 2 or 0 in found.shape:
        one = f"{name}.to_frame()" if hasattr(values, "to_frame") else f"{name}[:, None]"
        hint = f"; {one} makes one column of it" if found.ndim == 1 else ""
        raise ValueError(f"{name} must have shape (rows, columns), neither of them 0, but has {found.shape}{hint}.")
    if found.dtype.kind in "biuf":
        return as_floats(found)
    columns = column_labels(found.shape[1], names)
    return np.stack([_column(column, f"{columns[i]} of {name}") for i, column in enumerate(found.T)], axis=1)


def _column(values: np.ndarray, called: str) -> Float[np.ndarray, " n"]:
    """Numbers that came as objects, or as text."""
    try:
        # Dates would become the nanoseconds since 1970, and of complex numbers the imaginary part would be lost.
        if values.dtype.kind in "OSU":
            missing = [_is_missing(value) for value in values]
            return np.where(missing, np.array(math.nan, values.dtype), values).astype(float)
    except (TypeError, ValueError):
        pass
    row, value = next((row, value) for row, value in enumerate(values) if not _is_number(value))
    raise ValueError(
        f"{called} holds {str(value)!r} in row {row}, a {type(value).__name__} and no number; make numbers of it, as "
        "days since a date or one column of 0 and 1 for each category, or leave it out."
    )


def _is_missing(value: Any) -> bool:
    """Whether it is pandas' NA, which is no number, as None becomes one."""
    return type(value).__name__ == "NAType"


def _is_number(value: Any) -> bool:
    if value is None or _is_missing(value):
        return True
    try:
        return not isinstance(value, np.datetime64 | np.timedelta64 | np.complexfloating) and float(value) is not None
    except (TypeError, ValueError):
        return False
