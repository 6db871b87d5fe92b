"""Read and write tables of numbers: text, .npy, .npz, Parquet and Arrow files, which may be larger than memory."""

import csv
import functools
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Real

from pushforward.density.data.arrays import column_arrays, column_names
from pushforward.density.data.text import SEPARATORS, Blocks, find_layout
from pushforward.files import replacing

ROWS_PER_BLOCK = 100_000
# What NumPy raises for files that are not arrays of numbers.
DAMAGED = (ValueError, EOFError, zipfile.BadZipFile, AttributeError, TypeError, MemoryError, NotImplementedError)
# The first bytes of files that are often taken for text.
OTHER_FORMATS = {
    b"\x1f\x8b": "compressed by gzip; decompress it, for example with gunzip",
    b"PK\x03\x04": "a zip archive or a spreadsheet; save the table in it as CSV",
    b"\xff\xfe": "text in UTF-16; save it in UTF-8",
    b"\xfe\xff": "text in UTF-16; save it in UTF-8",
    b"\x89HDF": "an HDF5 or NetCDF file; read it, for example with pandas or xarray, and give the table",
    b"\x80\x04": "a pickle; load it, and give the table",
    b"\x80\x05": "a pickle; load it, and give the table",
}
# Makes an array of blocks of rows, whose number of columns it is given.
Collect = Callable[[Blocks, int], np.ndarray]


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


def read(path: str | Path, columns: Sequence[str] | None = None, *, missing: bool = False) -> Table:
    """Read a table into memory.

    The first line of a text file holds the names of the columns if it has a cell that is not a number; comments, which
    begin with # or %, may precede it and follow the rows, and the last one before the rows may hold the names, as
    `numpy.savetxt` writes them. A first column with an empty name is an index, and is left out, with a warning. The
    separator is a tab in .tsv files; in others a line such as "sep=;" before the names declares it, or it is the most
    frequent of comma, semicolon and tab in the first line, or any number of blanks. An .npy file holds an array of rows
    and columns, or of records; an .npz file holds such an array, or one array for each column. Columns without names
    are named x0, x1, ...

    Args:
        path: the file; its suffix determines the format.
        columns: the names of the columns to read, in this order; all by default.
        missing: whether cells of text may be empty or mark missing values, which become NaN.

    Raises:
        ValueError: if the file or a column does not exist, several columns have one name, or a value is not a number;
            the message names its place.
    """
    return _read(Path(path), columns, _gather, missing)


def open_mapped(path: str | Path, columns: Sequence[str] | None = None, *, missing: bool = False) -> Table:
    """Open a table that may be larger than memory: like `read`, but the values are a `numpy.memmap`.

    An .npy file is mapped without a copy. CSV, TSV, Parquet and Arrow files are copied, block by block, to an unnamed
    temporary file with 8 bytes per number, which is deleted with the array. An .npz file is always read into memory.

    Args:
        path: the file; its suffix determines the format.
        columns: the names of the columns to read, in this order; all by default.
        missing: whether cells of text may be empty or mark missing values, which become NaN.

    Raises:
        ValueError: if the file or a column does not exist, or a value is not a number; the message names its place.
    """
    return _read(Path(path), columns, _map, missing)


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


def _read(path: Path, columns: Sequence[str] | None, collect: Collect, missing: bool = False) -> Table:
    if path.is_dir():
        raise ValueError(f"{path} is a folder; give a file in it.")
    if not path.is_file():
        raise ValueError(f"there is no file {path}.")
    if "json" in path.suffix.lower():
        raise ValueError(f"{path} is JSON; read it, for example with pandas.read_json, and give the table.")
    reader = READERS.get(path.suffix.lower(), functools.partial(_read_text, missing=missing))
    try:
        table = reader(path, columns, collect)
    except UnicodeDecodeError as error:
        with path.open("rb") as file:
            start = file.read(4)
        if kind := next((kind for magic, kind in OTHER_FORMATS.items() if start.startswith(magic)), None):
            raise ValueError(f"{path} cannot be read: it is {kind}.") from None
        raise ValueError(
            f"{path} cannot be read: it is neither text in UTF-8 ({error.reason} after {error.start} bytes) nor a "
            f"{', '.join(READERS)} file; save it as one of them."
        ) from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error}.") from None
    if not table.values.size:
        raise ValueError(f"{path} has no rows of numbers.")
    column_indices(table.names, table.names, path)
    return table


def _read_text(path: Path, columns: Sequence[str] | None, collect: Collect, missing: bool) -> Table:
    from pyarrow import ArrowInvalid

    layout = find_layout(path)._replace(missing=missing)
    wanted = layout.named_columns() if columns is None else column_indices(columns, layout.names, path)
    try:
        values = collect(layout.arrow_blocks(wanted), len(wanted))
    except ArrowInvalid:
        values = collect(layout.cell_blocks(wanted), len(wanted))
    return Table([layout.names[i] for i in wanted], values)


def _read_npy(path: Path, columns: Sequence[str] | None, collect: Collect) -> Table:
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except DAMAGED as error:
        raise ValueError(f"{path} is not an .npy file of numbers: {error}.") from None
    return _pick(_as_table(path, {"x": values}, collect), columns, path, collect)


def _read_npz(path: Path, columns: Sequence[str] | None, collect: Collect) -> Table:
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive}
    except DAMAGED as error:
        raise ValueError(f"{path} is not an .npz file of numbers: {error}.") from None
    return _pick(_as_table(path, arrays, collect), columns, path, collect)


def _as_table(path: Path, arrays: dict[str, np.ndarray], collect: Collect) -> Table:
    """A table from one array of rows and columns, from one array of records, or from one array for each column."""
    first, *others = [*arrays.values()] or [np.empty(0)]
    if not others and first.dtype.names is not None and first.ndim == 1:
        return _from_records(path, first, collect)
    for name, array in arrays.items():
        _check_numbers(path, name, array.dtype)
    if not others:
        values: np.ndarray = first[:, None] if first.ndim == 1 else first
        if len(values.shape) != 2:
            raise ValueError(f"{path} must hold an array of rows and columns, but its shape is {values.shape}.")
        return Table([f"x{i}" for i in range(values.shape[1])], values)
    if any(array.shape != first.shape for array in others) or first.ndim != 1:
        raise ValueError(
            f"{path} must hold one array of rows and columns, or one array of the same length for each column, but the "
            f"shapes are {', '.join(f'{name}: {array.shape}' for name, array in arrays.items())}."
        )
    return Table([*arrays], np.stack([*arrays.values()], axis=1).astype(float))


def _from_records(path: Path, records: np.ndarray, collect: Collect) -> Table:
    names = column_names(records) or []
    for name in names:
        _check_numbers(path, name, records.dtype[name])
    parts = (records[start : start + ROWS_PER_BLOCK] for start in range(0, len(records), ROWS_PER_BLOCK))
    blocks = (np.stack([np.asarray(c, float) for c in column_arrays(part) or []], axis=1) for part in parts)
    return Table(names, collect(blocks, len(names)))


def _check_numbers(path: Path, name: str, kind: np.dtype) -> None:
    if kind.kind not in "biuf":
        raise ValueError(f"{path}: {name} has values of type {kind}, which are not numbers.")


def open_batches(path: Path) -> tuple[Any, Callable[[Sequence[str]], Iterable[Any]]]:
    """The schema of a Parquet or Arrow file, and the function that reads the batches of rows of some columns.

    Args:
        path: the file; its suffix determines the format.
    """
    if path.suffix.lower() == ".parquet":
        from pyarrow import parquet

        file = parquet.ParquetFile(path)
        return file.schema_arrow, lambda names: file.iter_batches(ROWS_PER_BLOCK, columns=names)
    from pyarrow import ipc, memory_map

    reader = ipc.open_file(memory_map(str(path)))
    return reader.schema, lambda names: map(reader.get_batch, range(reader.num_record_batches))


def _read_batches(path: Path, columns: Sequence[str] | None, collect: Collect) -> Table:
    from pyarrow import ArrowException, types

    try:
        schema, batches = open_batches(path)
        wanted = column_indices(schema.names if columns is None else columns, schema.names, path)
        names = [schema.names[i] for i in wanted]
        for i, name in zip(wanted, names, strict=True):
            kind = schema.types[i]
            if not (types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)):
                raise ValueError(f"{path}: column {i} ({name}) has values of type {kind}, which are not numbers.")

        def block(batch: Any) -> np.ndarray:
            # Missing values become NaN.
            return np.stack([batch[name].to_numpy(zero_copy_only=False).astype(float) for name in names], axis=1)

        return Table(names, collect(map(block, batches(names)), len(names)))
    except ArrowException as error:
        raise ValueError(f"{path} is not {BATCHES[path.suffix.lower()]} file: {error}.") from None


BATCHES = {".parquet": "a Parquet", ".arrow": "an Arrow", ".feather": "an Arrow"}
READERS = {".npy": _read_npy, ".npz": _read_npz} | dict.fromkeys(BATCHES, _read_batches)


def _pick(table: Table, columns: Sequence[str] | None, path: Path, collect: Collect) -> Table:
    if columns is None:
        return table
    wanted = column_indices(columns, table.names, path)
    parts = (table.values[start : start + ROWS_PER_BLOCK] for start in range(0, len(table.values), ROWS_PER_BLOCK))
    return Table(list(columns), collect((np.asarray(part[:, wanted], float) for part in parts), len(wanted)))


def write(path: Path, columns: dict[str, Real[np.ndarray, " n"]]) -> None:
    """Write columns to a file.

    Args:
        path: the file; its suffix determines the format: .npy, .npz, .tsv, .parquet, .arrow, .feather, or CSV for all
            others.
        columns: the values of each column, by its name.
    """
    suffix = path.suffix.lower()
    arrays: dict[str, Any] = dict(columns)
    with replacing(path) as part:
        if suffix == ".parquet":
            import pyarrow
            from pyarrow import parquet

            parquet.write_table(pyarrow.Table.from_pydict(arrays), part)
        elif suffix in BATCHES:
            import pyarrow
            from pyarrow import feather

            feather.write_feather(pyarrow.Table.from_pydict(arrays), str(part))
        elif suffix == ".npy":
            with part.open("wb") as file:
                np.save(file, np.stack([*columns.values()], axis=1))
        elif suffix == ".npz":
            # As `numpy.savez` writes it, which takes no array by the name "file".
            with zipfile.ZipFile(part, "w") as archive:
                for name, array in arrays.items():
                    with archive.open(f"{name}.npy", "w") as file:
                        np.lib.format.write_array(file, np.asarray(array), allow_pickle=False)
        else:
            with part.open("w", newline="", encoding="utf-8") as file:
                write_text(file, columns, SEPARATORS.get(suffix, ","))


def write_text(file: Any, columns: dict[str, Real[np.ndarray, " n"]], separator: str = ",") -> None:
    """Write columns as text: a line of names, then the rows, with as many digits as the numbers have.

    Args:
        file: an open text file.
        columns: the values of each column, by its name.
        separator: the separator of the cells.
    """
    writer = csv.writer(file, delimiter=separator, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*(column.tolist() for column in columns.values()), strict=True))
