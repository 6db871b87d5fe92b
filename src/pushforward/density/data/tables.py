"""Read and write tables of numbers: CSV, TSV, .npy, .npz and Parquet files.

CSV is parsed here, with NumPy's `loadtxt` where the text is regular, because errors should name the row and column of
each cell that is not a number, and files larger than memory are read in blocks.
"""

import csv
import itertools
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from pushforward.files import replacing
from pushforward.user_warnings import warn

ROWS_PER_BLOCK = 100_000
# Common marks of missing values, in lower case.
MISSING = ("na", "n/a", "null", "none", "?", "-")
SEPARATORS = {".tsv": "\t", ".tab": "\t"}

Blocks = Iterator[Float[np.ndarray, "rows dim"]]


class Table(NamedTuple):
    """A table of numbers.

    Args:
        names: the names of the columns.
        values: the rows.
    """

    names: list[str]
    values: Float[np.ndarray, "n dim"]

    def pick(self, names: Sequence[str], path: str | Path) -> Float[np.ndarray, "n picked"]:
        """Some of the columns.

        Args:
            names: the names of the columns to return.
            path: the file of the table, for messages.
        """
        return self.values[:, column_indices(names, self.names, path)]


def column_indices(names: Sequence[str], all_names: Sequence[str], path: str | Path) -> list[int]:
    """The indices of columns by their names.

    Args:
        names: the names of some columns.
        all_names: the names of all columns of the table.
        path: the file of the table, for messages.

    Raises:
        ValueError: if there is no column of a name, or several; or if a name is repeated.
    """
    for i, name in enumerate(names):
        if name not in all_names:
            raise ValueError(f"{path} has no column {name}; it has {', '.join(all_names)}.")
        if list(all_names).count(name) > 1:
            raise ValueError(f"{path} has several columns {name}; rename them.")
        if name in names[:i]:
            raise ValueError(f"the column {name} of {path} is listed twice.")
    return [list(all_names).index(name) for name in names]


def read(path: str | Path, columns: Sequence[str] | None = None) -> Table:
    """Read a table into memory.

    The first line of a text file holds the names of the columns if it has a cell that is not a number. Columns with an
    empty name are left out, with a warning. The separator is a tab in .tsv files; in others it is the most frequent
    of comma, semicolon and tab in the first line. An .npy file holds an array of rows and columns; an .npz file holds
    such an array, or one array for each column. Columns without names are named x0, x1, ...

    Args:
        path: the file; its suffix determines the format.
        columns: the names of the columns to read, in this order; all by default.

    Raises:
        ValueError: if the file or a column does not exist, or a value is not a number; the message names its place.
    """
    return _read(Path(path), columns, _gather)


def open_mapped(path: str | Path) -> Table:
    """Open a table that may be larger than memory: like `read`, but the values are a `numpy.memmap`.

    An .npy file is mapped without a copy. CSV, TSV and Parquet files are copied, block by block, to an unnamed
    temporary file with 8 bytes per number, which is deleted with the array. An .npz file is always read into memory.

    Args:
        path: the file; its suffix determines the format.

    Raises:
        ValueError: if the file does not exist, or a value is not a number; the message names its place.
    """
    return _read(Path(path), None, _map)


def _gather(blocks: Blocks, num_columns: int) -> np.ndarray:
    return np.concatenate([np.empty((0, num_columns)), *blocks])


def _map(blocks: Blocks, num_columns: int) -> np.ndarray:
    rows = 0
    file = tempfile.TemporaryFile()  # noqa: SIM115 (it lives as long as the array)
    for block in blocks:
        np.ascontiguousarray(block, float).tofile(file)
        rows += len(block)
    if not rows:
        return np.empty((0, num_columns))
    file.flush()
    return np.memmap(file, float, "r", shape=(rows, num_columns))


def _read(path: Path, columns: Sequence[str] | None, collect: Callable[[Blocks, int], np.ndarray]) -> Table:
    if not path.is_file():
        raise ValueError(f"there is no file {path}.")
    suffix = path.suffix.lower()
    try:
        if suffix == ".npy":
            table = _read_npy(path, columns)
        elif suffix == ".npz":
            table = _read_npz(path, columns)
        else:
            names, blocks = (_parquet_blocks if suffix == ".parquet" else _text_blocks)(path, columns)
            table = Table(names, collect(blocks, len(names)))
    except (OSError, UnicodeDecodeError, EOFError, zipfile.BadZipFile, csv.Error, AttributeError, TypeError) as error:
        raise ValueError(f"{path} cannot be read: {error}.") from None
    if not table.values.size:
        raise ValueError(f"{path} has no rows of numbers.")
    return table


def _text_blocks(path: Path, columns: Sequence[str] | None) -> tuple[list[str], Blocks]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        line = next((line for line in file if line.strip()), "")
    separator = SEPARATORS.get(path.suffix.lower()) or max(",;\t", key=line.count)
    first = [cell.strip() for cell in next(csv.reader([line], delimiter=separator), [])]
    has_names = any(cell and _number(cell) is None for cell in first)
    # Names may be numbers, such as years. But in a row with numbers, a missing value or malformed number is not a name.
    malformed = [cell for cell in first if cell.lower() in MISSING or (_number(cell) is None and cell[:1].isdigit())]
    if malformed and any(_number(cell) is not None for cell in first):
        raise ValueError(
            f"{path}: the first row has numbers and {malformed[0]!r}, so it is neither names nor only numbers."
        )
    names = first if has_names else [f"x{i}" for i in range(len(first))]
    wanted = [i for i, name in enumerate(names) if name] if columns is None else column_indices(columns, names, path)
    if columns is None and len(wanted) < len(names):
        warn(
            f"{path}: column {names.index('')} has no name and is left out; it is probably the index that pandas "
            "writes as the first column (to_csv(index=False) does not write it)."
        )

    def blocks() -> Blocks:
        row = 0
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = (line for line in file if line.strip())
            for _ in range(has_names):
                next(lines)
            while block := list(itertools.islice(lines, ROWS_PER_BLOCK)):
                # A cell in quotes may extend over several lines.
                while sum(line.count('"') for line in block) % 2 and (more := next(lines, None)):
                    block.append(more)
                values = _parse_fast(block, separator, names, wanted)
                if values is None:
                    values = _parse_cells(block, path, separator, names, wanted, row)
                row += len(values)
                yield values

    return [names[i] for i in wanted], blocks()


def _parse_fast(lines: list[str], separator: str, names: list[str], wanted: list[int]) -> np.ndarray | None:
    """Parse lines with NumPy; None if a cell is not a number or the number of cells is wrong."""
    usecols = None if wanted == list(range(len(names))) else wanted
    # With `usecols`, NumPy does not check the number of cells.
    if usecols and any(len(cells) != len(names) for cells in csv.reader(lines, delimiter=separator)):
        return None
    try:
        values = np.loadtxt(lines, delimiter=separator, ndmin=2, comments=None, usecols=usecols, quotechar='"')
    except ValueError:
        return None
    return values if values.shape[1] == len(wanted) else None


def _parse_cells(
    lines: list[str], path: Path, separator: str, names: list[str], wanted: list[int], start: int
) -> np.ndarray:
    """Parse lines cell by cell, which is slower; errors name the row and the column."""
    rows = []
    for row, cells in enumerate(csv.reader(lines, delimiter=separator), start):
        if len(cells) != len(names):
            raise ValueError(f"{path}: row {row} has {len(cells)} cells, but there are {len(names)} columns.")
        numbers = [_number(cells[i].strip()) for i in wanted]
        if None in numbers:
            i = wanted[numbers.index(None)]
            problem = f"{cells[i]!r} is not a number" if cells[i].strip() else "the value is missing"
            if _number(cells[i].replace(",", ".")) is not None:
                problem += " (the decimal separator must be a point)"
            raise ValueError(
                f"{path}: row {row}, column {i} ({names[i]}): {problem}; correct it, or choose other columns."
            )
        rows.append(numbers)
    return np.array(rows, float)


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
    """A table from one array of rows and columns, or from one array for each column."""
    for name, array in arrays.items():
        if array.dtype.kind not in "bif":
            raise ValueError(f"{path}: {name} has values of type {array.dtype}, which are not numbers.")
    if len(arrays) == 1:
        (values,) = arrays.values()
        values = values[:, None] if values.ndim == 1 else values
        if values.ndim != 2:
            raise ValueError(f"{path} must hold an array of rows and columns, but its shape is {values.shape}.")
        return Table([f"x{i}" for i in range(values.shape[1])], values)
    shapes = {array.shape for array in arrays.values()}
    if len(shapes) != 1 or len(next(iter(shapes))) != 1:
        raise ValueError(
            f"{path} must hold one array of rows and columns, or one array of the same length for each column, but the "
            f"shapes are {', '.join(f'{name}: {array.shape}' for name, array in arrays.items())}."
        )
    return Table([*arrays], np.stack([*arrays.values()], axis=1).astype(float))


def _parquet_blocks(path: Path, columns: Sequence[str] | None) -> tuple[list[str], Blocks]:
    pyarrow, parquet = _import_pyarrow(path)
    try:
        file = parquet.ParquetFile(path)
    except pyarrow.ArrowException as error:
        raise ValueError(f"{path} is not a Parquet file: {error}.") from None
    schema, types = file.schema_arrow, pyarrow.types
    wanted = range(len(schema.names)) if columns is None else column_indices(columns, schema.names, path)
    names = [schema.names[i] for i in wanted]
    for i, name in zip(wanted, names, strict=True):
        kind = schema.types[i]
        if not (types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)):
            raise ValueError(f"{path}: column {i} ({name}) has values of type {kind}, which are not numbers.")

    def blocks() -> Blocks:
        for batch in file.iter_batches(ROWS_PER_BLOCK, columns=names):
            # Missing values become NaN.
            yield np.stack([batch[name].to_numpy(zero_copy_only=False).astype(float) for name in names], axis=1)

    return names, blocks()


def _import_pyarrow(path: Path) -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise ValueError(f"{path} needs pyarrow (pip install 'pushforward[parquet]'): {error}") from None
    return pyarrow, parquet


def _pick(table: Table, columns: Sequence[str] | None, path: Path) -> Table:
    return table if columns is None else Table(list(columns), table.pick(columns, path))


def write(path: Path, columns: dict[str, Float[np.ndarray, " n"]]) -> None:
    """Write columns to a file.

    Args:
        path: the file; its suffix determines the format: .npy, .npz, .tsv, .parquet, or CSV for all others.
        columns: the values of each column, by its name.
    """
    suffix = path.suffix.lower()
    arrays: dict[str, Any] = dict(columns)
    with replacing(path) as part:
        if suffix == ".parquet":
            pyarrow, parquet = _import_pyarrow(path)
            parquet.write_table(pyarrow.Table.from_pydict(arrays), part)
        elif suffix in (".npy", ".npz"):
            with part.open("wb") as file:
                np.save(file, np.stack([*columns.values()], axis=1)) if suffix == ".npy" else np.savez(file, **arrays)
        else:
            with part.open("w", newline="", encoding="utf-8") as file:
                write_text(file, columns, SEPARATORS.get(suffix, ","))


def write_text(file: Any, columns: dict[str, Float[np.ndarray, " n"]], separator: str = ",") -> None:
    """Write columns as text: a line of names, then the rows, with as many digits as the numbers have.

    Args:
        file: an open text file.
        columns: the values of each column, by its name.
        separator: the separator of the cells.
    """
    writer = csv.writer(file, delimiter=separator, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*(column.tolist() for column in columns.values()), strict=True))
