"""Tables of numbers in files: CSV, TSV, .npy, .npz and Parquet; what is no number is refused by its row and column."""

import csv
import itertools
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

ROWS_A_BLOCK = 100_000
# What is written for values that are missing, in small letters.
MISSING = ("na", "n/a", "null", "none", "?", "-")
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
        if list(among).count(name) > 1:
            raise ValueError(f"{path} has several columns {name}; give them names of their own.")
        if name in names[:i]:
            raise ValueError(f"the column {name} of {path} is named twice.")
    return [list(among).index(name) for name in names]


def read(path: str | Path, columns: Sequence[str] | None = None) -> Table:
    """Read a table into memory.

    Text files may begin with a line of names; it is one if it holds something that is no number. Columns that have none
    in it are left out, with a warning. Their separator is a tab in .tsv, and else the comma, semicolon or tab that the
    first line has. An .npy file holds an array of rows and columns, an .npz file such an array or one array for each
    column. Where no column has a name, they are called x0, x1, ...

    Args:
        path: the file, its kind told by its ending.
        columns: the names of the columns that are wanted, in order; all by default.

    Raises:
        ValueError: if there is no such file or column, or something is no number; the message says where.
    """
    return _read(Path(path), columns, _gather)


def open_mapped(path: str | Path, columns: Sequence[str] | None = None) -> Table:
    """`read`, but for files that are larger than memory: their values are a `numpy.memmap`.

    An .npy file is mapped as it is. CSV, TSV and Parquet are copied, part by part, to a temporary file without a name,
    of 8 bytes a number, which is gone when the array is. What an .npz file holds is in memory in any case.
    """
    return _read(Path(path), columns, _map)


Blocks = Iterator[Float[np.ndarray, "rows dim"]]


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
    kind = path.suffix.lower()
    try:
        if kind == ".npy":
            table = _read_npy(path, columns)
        elif kind == ".npz":
            table = _read_npz(path, columns)
        else:
            names, blocks = (_parquet_blocks if kind == ".parquet" else _text_blocks)(path, columns)
            table = Table(names, collect(blocks, len(names)))
    except (OSError, UnicodeDecodeError, EOFError, zipfile.BadZipFile, csv.Error, AttributeError, TypeError) as error:
        raise ValueError(f"{path} cannot be read: {error}.") from None
    if not table.values.size:
        raise ValueError(f"{path} holds no rows of numbers.")
    return table


def _text_blocks(path: Path, columns: Sequence[str] | None) -> tuple[list[str], Blocks]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        line = next((line for line in file if line.strip()), "")
    separator = SEPARATORS.get(path.suffix.lower()) or max(",;\t", key=line.count)
    first = [cell.strip() for cell in next(csv.reader([line], delimiter=separator), [])]
    has_names = any(cell and _number(cell) is None for cell in first)
    # Names may be numbers, years for instance; but beside numbers, what is no number must be a name.
    odd = [cell for cell in first if cell.lower() in MISSING or (_number(cell) is None and cell[:1].isdigit())]
    if odd and any(_number(cell) is not None for cell in first):
        raise ValueError(f"{path}: the first row holds numbers and {odd[0]!r}, so neither names nor numbers alone.")
    names = first if has_names else [f"x{i}" for i in range(len(first))]
    wanted = [i for i, name in enumerate(names) if name] if columns is None else indices(columns, names, path)
    if columns is None and len(wanted) < len(names):
        warnings.warn(
            f"{path}: column {names.index('')} has no name and is left out, as the numbers of rows should be that "
            "pandas writes first (to_csv(index=False) does not).",
            stacklevel=4,
        )

    def blocks() -> Blocks:
        row = 0
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = (line for line in file if line.strip())
            for _ in range(has_names):
                next(lines)
            while block := list(itertools.islice(lines, ROWS_A_BLOCK)):
                # A cell in quotes may go on over lines.
                while sum(line.count('"') for line in block) % 2 and (more := next(lines, None)):
                    block.append(more)
                try:
                    usecols = None if wanted == list(range(len(names))) else wanted
                    # With columns chosen, NumPy does not mind how many there are.
                    if usecols and any(len(cells) != len(names) for cells in csv.reader(block, delimiter=separator)):
                        raise ValueError
                    values = np.loadtxt(
                        block, delimiter=separator, ndmin=2, comments=None, usecols=usecols, quotechar='"'
                    )
                    if values.shape[1] != len(wanted):
                        raise ValueError
                except ValueError:
                    # Slower, and knows where.
                    values = _read_carefully(block, path, separator, names, wanted, row)
                row += len(values)
                yield values

    return [names[i] for i in wanted], blocks()


def _read_carefully(
    lines: list[str], path: Path, separator: str, names: list[str], wanted: list[int], start: int
) -> np.ndarray:
    rows = []
    for row, cells in enumerate(csv.reader(lines, delimiter=separator), start):
        if len(cells) != len(names):
            raise ValueError(f"{path}: row {row} has {len(cells)} cells, but there are {len(names)} columns.")
        numbers = [_number(cells[i].strip()) for i in wanted]
        if None in numbers:
            i = wanted[numbers.index(None)]
            what = f"{cells[i]!r} is no number" if cells[i].strip() else "the value is missing"
            if _number(cells[i].replace(",", ".")) is not None:
                what += ", for decimals are written with a point here"
            raise ValueError(f"{path}: row {row}, column {i} ({names[i]}): {what}; mend it, or choose other columns.")
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


def _parquet_blocks(path: Path, columns: Sequence[str] | None) -> tuple[list[str], Blocks]:
    pyarrow, parquet = _arrow(path)
    try:
        file = parquet.ParquetFile(path)
    except pyarrow.ArrowException as error:
        raise ValueError(f"{path} is not a Parquet file: {error}.") from None
    schema, types = file.schema_arrow, pyarrow.types
    wanted = range(len(schema.names)) if columns is None else indices(columns, schema.names, path)
    names = [schema.names[i] for i in wanted]
    for i, name in zip(wanted, names, strict=True):
        kind = schema.types[i]
        if not (types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)):
            raise ValueError(f"{path}: column {i} ({name}) holds no numbers, but {kind}.")

    def blocks() -> Blocks:
        for batch in file.iter_batches(ROWS_A_BLOCK, columns=names):
            # Missing values become NaN.
            yield np.stack([batch[name].to_numpy(zero_copy_only=False).astype(float) for name in names], axis=1)

    return names, blocks()


def _arrow(path: Path) -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise ValueError(f"{path} needs pyarrow (pip install 'pushforward[parquet]'): {error}") from None
    return pyarrow, parquet


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
        pyarrow, parquet = _arrow(path)
        parquet.write_table(pyarrow.Table.from_pydict(dict(columns)), path)
    else:
        with path.open("w", newline="", encoding="utf-8") as file:
            write_text(file, columns, SEPARATORS.get(kind, ","))


def write_text(file: Any, columns: dict[str, Float[np.ndarray, " n"]], separator: str = ",") -> None:
    """Write columns as text, with a line of names, all digits that tell numbers apart."""
    writer = csv.writer(file, delimiter=separator, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*(column.tolist() for column in columns.values()), strict=True))
