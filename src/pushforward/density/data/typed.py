"""The columns of a table file in their own types: whole numbers, such as indices of groups, stay whole."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pushforward.density.data.tables import BATCHES, DAMAGED, column_indices, open_batches, read
from pushforward.density.data.text import find_layout

WHOLE = re.compile(r"[+-]?\d+")
# Up to here, all whole numbers are floating-point numbers.
LARGEST = 2**53


def read_typed(path: str | Path, columns: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """Read the columns of a table, each as a vector, or the arrays of an .npz file, of any shapes.

    A column is whole if the file says so: the type of the array or of the Parquet or Arrow column, or, in text, digits
    without a decimal point in every cell. A column with missing values is not.

    Args:
        path: the file, as for `pushforward.density.data.tables.read`.
        columns: the names of the columns to read, in this order; all by default.

    Raises:
        ValueError: as `read` raises it.
    """
    path = Path(path)
    if path.suffix.lower() == ".npz":
        return _named_arrays(path, columns)
    names, values = read(path, columns)
    kinds = KINDS.get(path.suffix.lower(), _text_kinds)
    candidates = [name for name, column in zip(names, values.T, strict=True) if _is_whole(column)]
    found = kinds(path, candidates) if candidates else {}
    return {name: column.astype(found.get(name, float)) for name, column in zip(names, values.T, strict=True)}


def _named_arrays(path: Path, columns: Sequence[str] | None) -> dict[str, np.ndarray]:
    """The arrays of an .npz file, of any shapes."""
    if not path.is_file():
        raise ValueError(f"there is no file {path}.")
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive}
    except DAMAGED as error:
        raise ValueError(f"{path} is not an .npz file of numbers: {error}.") from None
    names = [*arrays] if columns is None else columns
    column_indices(names, [*arrays], path)
    return {name: arrays[name] for name in names}


def _is_whole(column: np.ndarray) -> bool:
    return bool(np.isfinite(column).all() and (column == np.trunc(column)).all() and (abs(column) < LARGEST).all())


def _text_kinds(path: Path, names: Sequence[str]) -> dict[str, Any]:
    """The cells decide, because 1.0 is not meant as an index."""
    layout = find_layout(path)
    left = {name: layout.names.index(name) for name in names}
    for cells, _, _ in layout.records():
        left = {name: i for name, i in left.items() if WHOLE.fullmatch(cells[i])}
        if not left:
            break
    return dict.fromkeys(left, int)


def _record_kinds(path: Path, names: Sequence[str]) -> dict[str, Any]:
    kind = np.load(path, mmap_mode="r", allow_pickle=False).dtype
    return _whole_kinds({name: kind if kind.names is None else kind[name] for name in names})


def _batch_kinds(path: Path, names: Sequence[str]) -> dict[str, Any]:
    schema, _ = open_batches(path)
    return _whole_kinds({name: np.dtype(schema.field(name).type.to_pandas_dtype()) for name in names})


def _whole_kinds(kinds: dict[str, np.dtype]) -> dict[str, Any]:
    return {name: kind for name, kind in kinds.items() if kind.kind in "biu"}


KINDS = {".npy": _record_kinds} | dict.fromkeys(BATCHES, _batch_kinds)
