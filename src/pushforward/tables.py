"""Tables of numbers in files: CSV, TSV, .npy, .npz and Parquet; what is no number is refused by its row and column."""

import csv
import warnings
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

SEPARATORS = {".tsv": "\t", ".tab": "\t"}


class Table(NamedTuple):
    """Names of columns, and the numbers in them."""

    names: list[str]
    values: Float[np.ndarray, "n dim"]

    def pick(self, names: Sequence[str], path: str | Path) -> Float[np.ndarray, "n picked"]:
        """The columns of these names."""
        return self.values[:, indices(names, self.names, path)]


def indices(names: Sequence[str], among: Sequence[str], path: str | Path) -> list[int]:
    """Where the columns of these names are; raise a ValueError if a name is not there or there twice."""
    for i, name in enumerate(names):
        if name not in among:
            raise ValueError(f"{path} has no column {name}; it has {', '.join(among)}.")
        if name in names[:i]:
            raise ValueError(f"the column {name} of {path} is named twice.")
    return [list(among).index(name) for name in names]


def read(path: str | Path, columns: Sequence[str] | None = None) -> Table:
    """Read a table.

    Text files may begin with a line of names; it is one if it holds something that is no number. Their separator is a
    tab in .tsv, and else the comma, semicolon or tab that the first line has. An .npy file holds an array of rows
    and columns, an .npz file such an array or one array for each column. Columns without names are called x0, x1, ...

    Args:
        path: the file, its kind told by its ending.
        columns: the names of the columns that are wanted, in order; all by default.

    Raises:
        ValueError: if there is no such file or column, or something is no number; the message says where.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"there is no file {path}.")
    readers: dict[str, Callable] = {".npy": _read_npy, ".npz": _read_npz, ".parquet": _read_parquet}
    try:
        table = readers.get(path.suffix.lower(), _read_text)(path, columns)
    except (OSError, UnicodeDecodeError, EOFError, zipfile.BadZipFile, csv.Error, AttributeError, TypeError) as error:
        raise ValueError(f"{path} cannot be read: {error}.") from None
    if not table.values.size:
        raise ValueError(f"{path} holds no rows of numbers.")
    return table


def _read_text(path: Path, columns: Sequence[str] | None) -> Table:
    with path.open(newline="", encoding="utf-8-sig") as file:
        line = next((line for line in file if line.strip()), "")
    separator = SEPARATORS.get(path.suffix.lower()) or max(",;\t", key=line.count)
    first = [cell.strip() for cell in next(csv.reader([line], delimiter=separator), [])]
    has_names = any(cell and _number(cell) is None for cell in first)
    names = first if has_names else [f"x{i}" for i in range(len(first))]
    wanted = list(range(len(names))) if columns is None else indices(columns, names, path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of a file without rows, which is refused later
            values = np.loadtxt(
                path, delimiter=separator, skiprows=int(has_names), ndmin=2, comments=None,
                usecols=None if columns is None else wanted,
                quotechar='"', encoding="utf-8-sig",
            )  # fmt: skip
    except ValueError:
        # Slower, and knows where.
        values = _read_carefully(path, separator, has_names, names, wanted)
    return Table([names[i] for i in wanted], values)


def _read_carefully(path: Path, separator: str, has_names: bool, names: list[str], wanted: list[int]) -> np.ndarray:
    rows = []
    with path.open(newline="", encoding="utf-8-sig") as file:
        lines = (cells for cells in csv.reader(file, delimiter=separator) if any(cell.strip() for cell in cells))
        for row, cells in enumerate(lines, start=-int(has_names)):
            if row < 0:
                continue
            if len(cells) != len(names):
                raise ValueError(f"{path}: row {row} has {len(cells)} cells, but there are {len(names)} columns.")
            numbers = [_number(cells[i].strip()) for i in wanted]
            if None in numbers:
                i = wanted[numbers.index(None)]
                what = f"{cells[i]!r} is no number" if cells[i].strip() else "the value is missing"
                raise ValueError(
                    f"{path}: row {row}, column {i} ({names[i]}): {what}; mend it, or choose other columns."
                )
            rows.append(numbers)
    return np.array(rows, float).reshape(len(rows), len(wanted))


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def _read_npy(path: Path, columns: Sequence[str] | None) -> Table:
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        raise ValueError(f"{path} is not an .npy file of numbers: {error}.") from None
    return _pick(_as_table(path, {"x": values}), columns, path)


def _read_npz(path: Path, columns: Sequence[str] | None) -> Table:
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive}
    except ValueError as error:
        raise ValueError(f"{path} is not an .npz file of numbers: {error}.") from None
    return _pick(_as_table(path, arrays), columns, path)


def _as_table(path: Path, arrays: dict[str, np.ndarray]) -> Table:
    """One array of rows and columns, or as many arrays as there are columns."""
    for name, array in arrays.items():
        if array.dtype.kind not in "bif":
            raise ValueError(f"{path}: {name} holds no numbers, but {array.dtype}.")
    if len(arrays) == 1:
        (values,) = arrays.values()
        values = values[:, None] if values.ndim == 1 else values
        if values.ndim != 2:
            raise ValueError(f"{path} must hold an array of rows and columns, but its shape is {values.shape}.")
        return Table([f"x{i}" for i in range(values.shape[1])], values)
    shapes = {array.shape for array in arrays.values()}
    if len(shapes) != 1 or len(next(iter(shapes))) != 1:
        raise ValueError(
            f"{path} must hold one array of rows and columns, or arrays of one length, a column each, but their shapes "
            f"are {', '.join(f'{name}: {array.shape}' for name, array in arrays.items())}."
        )
    return Table([*arrays], np.stack([*arrays.values()], axis=1).astype(float))


def _read_parquet(path: Path, columns: Sequence[str] | None) -> Table:
    try:
        import pandas

        frame: Any = pandas.read_parquet(path)
    except ImportError as error:
        raise ValueError(f"to read {path}, install pandas and pyarrow: {error}") from None
    names = [str(name) for name in frame.columns]
    wanted = range(len(names)) if columns is None else indices(columns, names, path)
    values = []
    for i in wanted:
        if frame.dtypes.iloc[i].kind not in "bif":
            raise ValueError(f"{path}: column {i} ({names[i]}) holds no numbers, but {frame.dtypes.iloc[i]}.")
        values.append(frame.iloc[:, i].to_numpy(float))
    return Table([names[i] for i in wanted], np.stack(values, axis=1))


def _pick(table: Table, columns: Sequence[str] | None, path: Path) -> Table:
    return table if columns is None else Table(list(columns), table.pick(columns, path))


def write(path: Path, columns: dict[str, Float[np.ndarray, " n"]]) -> None:
    """Write columns to a file, of the kind that its ending tells: .npy, .npz, .tsv, Parquet, or else CSV."""
    values = np.stack([*columns.values()], axis=1)
    kind = path.suffix.lower()
    if kind == ".npy":
        np.save(path, values)
    elif kind == ".npz":
        arrays: dict[str, Any] = dict(columns)
        np.savez(path, **arrays)
    elif kind == ".parquet":
        try:
            import pandas

            pandas.DataFrame(columns).to_parquet(path)
        except ImportError as error:
            raise ValueError(f"to write {path}, install pandas and pyarrow: {error}") from None
    else:
        with path.open("w", newline="", encoding="utf-8") as file:
            write_text(file, columns, SEPARATORS.get(kind, ","))


def write_text(file: Any, columns: dict[str, Float[np.ndarray, " n"]], separator: str = ",") -> None:
    """Write columns as text, with a line of names, all digits that tell numbers apart."""
    writer = csv.writer(file, delimiter=separator, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*(column.tolist() for column in columns.values()), strict=True))
