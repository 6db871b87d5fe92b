"""Read text files of numbers: CSV, TSV, and columns that are separated by blanks.

Arrow parses regular text. What it refuses, such as numbers in quotes, Python's `csv` reads again, cell by cell, because
errors should name the row and column of each cell that is not a number. Both read a file once, from start to end.
"""

import csv
import itertools
import math
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from jaxtyping import Float

from pushforward.user_warnings import warn

BLOCK_BYTES = 1 << 22
ROWS_PER_BLOCK = 100_000
# Common marks of missing values, in lower case.
MISSING = ("na", "n/a", "null", "none", "?", "-")
SEPARATORS = {".tsv": "\t", ".tab": "\t"}
# A number whose digits are in groups of three, as 1,000 and 1 000.
GROUPED = re.compile(r"[+-]?\d{1,3}([,.' _\u00a0\u202f]\d{3})+([.,]\d*)?")
# What comments begin with: those of NumPy, and of MATLAB and LaTeX.
COMMENTS = ("#", "%")
# How many bytes at the end of a file are searched for comments.
END_BYTES = 4096
# How many rows are compared with a first row that may be names.
COMPARED = 100
# Whole numbers that are probably years.
YEARS = range(1700, 2200)

Blocks = Iterator[Float[np.ndarray, "rows dim"]]
# The cells of a row, and the numbers of its first and its last line.
Record = tuple[list[str], int, int]


class Layout(NamedTuple):
    """Where the names and the rows of a text file are.

    Attributes:
        path: the file.
        separator: the separator of the cells, or None if they are separated by blanks.
        names: the names of all columns; empty for columns without a name.
        skipped_lines: the number of lines before the rows.
        skipped_bytes: the number of bytes before the rows.
        missing: whether cells that are empty or mark missing values become NaN; otherwise they are errors.
        has_footer: whether there are comments after the rows.
    """

    path: Path
    separator: str | None
    names: list[str]
    skipped_lines: int
    skipped_bytes: int
    missing: bool = False
    has_footer: bool = False

    def named_columns(self) -> list[int]:
        """The indices of the columns with a name; warns of an index and of columns without values.

        Raises:
            ValueError: if another column than the first has values, but no name.
        """
        unnamed = [i for i, name in enumerate(self.names) if not name]
        if 0 in unnamed:
            warn(
                f"{self.path}: column 0 has no name and is left out; it is probably the index that pandas writes as "
                "the first column (to_csv(index=False) does not write it)."
            )
        for i in filter(None, unnamed):
            if any(cells[i] for cells, _, _ in self.records() if i < len(cells)):
                raise ValueError(f"{self.path}: column {i} has no name; give it one in the first row, or leave it out.")
            warn(f"{self.path}: column {i} has neither a name nor values, and is left out.")
        return [i for i, name in enumerate(self.names) if name]

    def arrow_blocks(self, wanted: Sequence[int]) -> Blocks:
        """The rows, parsed by Arrow.

        Args:
            wanted: the indices of the columns to return.

        Raises:
            pyarrow.ArrowInvalid: if a cell is not a number, cells are separated by blanks or have quotes, or there are
                comments after the rows.
        """
        import pyarrow
        from pyarrow import csv as arrow_csv

        if self.separator is None:
            raise pyarrow.ArrowInvalid("Arrow's cells are separated by one character")
        if self.has_footer:
            raise pyarrow.ArrowInvalid("Arrow reads comments as rows")
        numbers = [str(i) for i in wanted]
        with self.path.open("rb") as file:
            file.seek(self.skipped_bytes)
            # Quotes have no meaning here: a stray one would silently swallow rows.
            reader = arrow_csv.open_csv(
                file,
                read_options=arrow_csv.ReadOptions(
                    column_names=[*map(str, range(len(self.names)))], block_size=BLOCK_BYTES
                ),
                parse_options=arrow_csv.ParseOptions(delimiter=self.separator, quote_char=False),
                convert_options=arrow_csv.ConvertOptions(
                    include_columns=numbers,
                    column_types=dict.fromkeys(numbers, pyarrow.float64()),
                    null_values=[],
                ),
            )  # fmt: skip
            for batch in reader:
                yield np.stack([column.to_numpy(zero_copy_only=False) for column in batch.columns], axis=1)

    def cell_blocks(self, wanted: Sequence[int]) -> Blocks:
        """The rows, parsed cell by cell.

        Args:
            wanted: the indices of the columns to return.

        Raises:
            ValueError: if a cell is not a number, a row has another number of cells, or a quote is not closed.
        """
        rows = (self._numbers(row, record, wanted) for row, record in enumerate(self.records()))
        while block := [*itertools.islice(rows, ROWS_PER_BLOCK)]:
            yield np.array(block, float)

    def records(self) -> Iterator[Record]:
        """The cells of each row as text, and the numbers of its first and its last line."""
        with _open(self.path) as file:
            lines = itertools.islice(file, self.skipped_lines, None)
            found = _records(self.path, lines, self.separator, self.skipped_lines)
            yield from _without_footer(found) if self.has_footer else found

    def _numbers(self, row: int, record: Record, wanted: Sequence[int]) -> list[float]:
        cells, first_line, last_line = record
        where = f"{self.path}: row {row}"
        quote = "" if first_line == last_line else (
            f" (a quote that opens in line {first_line} closes in line {last_line}; it may be a stray quote)"
        )  # fmt: skip
        if len(cells) != len(self.names):
            place = "; comments may only be before or after all rows" if cells[0].startswith(COMMENTS) else ""
            raise ValueError(f"{where} has {len(cells)} cells, but there are {len(self.names)} columns{quote}{place}.")
        numbers = []
        for i in wanted:
            if self.missing and (not cells[i] or _is_missing(cells[i])):
                numbers.append(math.nan)
                continue
            if (number := parse_number(cells[i])) is None:
                raise ValueError(
                    f"{where}, column {i} ({self.names[i]}): {_problem(cells[i])}{quote}; correct it, or choose other "
                    "columns."
                )
            numbers.append(number)
        return numbers


def find_layout(path: Path) -> Layout:
    """Find the separator and the names of the columns of a text file.

    Lines at the start that begin with # or % are comments, and empty lines there are skipped too. A line "sep=;", as
    for spreadsheets, declares the separator. The next line holds names if it has a cell that is not a number; otherwise
    the last comment does, if it has a cell for each column. If the first column holds numbers, lines at the end that
    begin with # or % are comments too.

    Args:
        path: the file.

    Raises:
        ValueError: if the first line may be either names or numbers.
    """
    with _open(path) as file:
        comments = [*itertools.takewhile(lambda line: _is_comment(line) or _declared(line), file)]
    with _open(path) as file:
        lines = itertools.islice(file, len(comments), None)
        start = [*itertools.islice(lines, COMPARED)]
        declared = next(filter(None, map(_declared, comments)), None)
        separator = declared or _find_separator(path, [line for line in start if line.strip()])
        records = _records(path, itertools.chain(start, lines), separator, len(comments))
        first, _, last_line = next(records, ([], 0, 0))
        numbers = [parse_number(cell) for cell in first]
        # Names may be numbers, such as years. But in a row with numbers, a missing value is not a name.
        has_names = any(cell and number is None for cell, number in zip(first, numbers, strict=True))
        following = [cells for cells, _, _ in itertools.islice(records, 1 if has_names else COMPARED)]
    malformed = [cell for cell in first if _is_missing(cell) or (parse_number(cell) is None and cell[:1].isdigit())]
    if malformed and any(number is not None for number in numbers):
        raise ValueError(
            f"{path}: the first row has numbers and {_quoted(malformed[0])}, so it is neither names nor only numbers."
        )
    row = next(iter(following), [""]) if has_names else first
    has_footer = bool(row) and parse_number(row[0]) is not None and _ends_in_comment(path)
    if has_names:
        return Layout(path, separator, first, last_line, _num_bytes(path, last_line), has_footer=has_footer)
    if _may_be_names(first, following):
        raise ValueError(
            f"{path}: the first row, {_shorten(', '.join(first))}, may be names or numbers; write names that are not "
            f"numbers, such as x{first[0]}, or numbers with a decimal point, such as {first[0]}.0."
        )
    names = _names_in_comment(comments, separator, len(first)) or [f"x{i}" for i in range(len(first))]
    return Layout(path, separator, names, len(comments), _num_bytes(path, len(comments)), has_footer=has_footer)


def parse_number(cell: str) -> float | None:
    """The number in a cell; None if there is none.

    Args:
        cell: the text of the cell.
    """
    try:
        # Python accepts 1_000.
        return None if "_" in cell else float(cell)
    except ValueError:
        return None


def _open(path: Path) -> IO[str]:
    return path.open(newline="", encoding="utf-8-sig")


def _num_bytes(path: Path, num_lines: int) -> int:
    """The size of the first lines of a file, with its byte-order mark."""
    with path.open(newline="", encoding="utf-8") as file:
        return sum(len(line.encode()) for line in itertools.islice(file, num_lines))


def _is_comment(line: str) -> bool:
    return not line.strip() or line.startswith(COMMENTS)


def _ends_in_comment(path: Path) -> bool:
    """Whether the last line of a file that is not empty is a comment."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - END_BYTES))
        lines = file.read().decode(errors="replace").splitlines()
    whole = [line for line in lines[size > END_BYTES :] if line.strip()]  # the first one may be cut
    return bool(whole) and whole[-1].startswith(COMMENTS)


def _without_footer(records: Iterable[Record]) -> Iterator[Record]:
    """The rows without the comments after the last one."""
    comments: list[Record] = []
    for record in records:
        if record[0][0].startswith(COMMENTS):
            comments.append(record)
            continue
        yield from comments
        comments.clear()
        yield record


def _declared(line: str) -> str | None:
    """The separator that a line such as "sep=;" declares for spreadsheets; None for other lines."""
    found = re.fullmatch(r'"?sep=(.)"?', line.rstrip("\r\n"), re.IGNORECASE)
    return found and found[1]


def _find_separator(path: Path, lines: Sequence[str]) -> str | None:
    """The separator, by the suffix of the file or the first of its lines; None for blanks."""
    if (separator := SEPARATORS.get(path.suffix.lower())) or not lines:
        return separator or ","
    separator = max(",;\t", key=lines[0].count)
    # A single name may have a blank, so the second line decides.
    return None if separator not in lines[0] and len(_blank_separated(lines[:2][-1])) > 1 else separator


def _blank_separated(line: str) -> list[str]:
    return line.split() if '"' not in line else [cell.strip('"') for cell in re.findall(r'"[^"]*"|\S+', line)]


def _records(path: Path, lines: Iterable[str], separator: str | None, skipped: int) -> Iterator[Record]:
    """The cells of each row, without blanks around them; empty lines are skipped."""
    if separator is None:
        cells = ((_blank_separated(line), line_number) for line_number, line in enumerate(lines, skipped + 1))
        yield from ((row, line_number, line_number) for row, line_number in cells if row)
        return
    reader = csv.reader(lines, delimiter=separator, skipinitialspace=True, strict=True)
    end = 0
    try:
        for cells in reader:
            start, end = end + 1, reader.line_num
            # A line of blanks has one cell.
            if any(cells) or len(cells) > 1:
                yield [cell.strip() for cell in cells], skipped + start, skipped + end
    except csv.Error as error:
        raise ValueError(
            f"{path}: line {skipped + end + 1} has a quote that does not close as it should ({error}); remove stray "
            "quotes."
        ) from None


def _is_missing(cell: str) -> bool:
    return cell.lower() in MISSING


def _quoted(cell: str) -> str:
    return repr(_shorten(cell))


def _shorten(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."


def _problem(cell: str) -> str:
    """Why a cell is not a number."""
    if not cell:
        return "the value is missing"
    if _is_missing(cell):
        return f"{cell!r} is not a number but marks a missing value"
    hint = ""
    if GROUPED.fullmatch(cell):
        hint = " (remove thousands separators; the decimal separator must be a point)"
    elif parse_number(cell.replace(",", ".")) is not None:
        hint = " (the decimal separator must be a point)"
    return f"{_quoted(cell)} is not a number{hint}"


def _may_be_names(first: Sequence[str], following: Sequence[Sequence[str]]) -> bool:
    """Whether a first row of numbers is probably names, such as years or pandas' 0, 1, 2: unlike all rows below it."""
    is_whole = lambda row: all(cell.isdecimal() for cell in row)  # noqa: E731
    if len(first) < 2 or not following or not is_whole(first):
        return False

    def is_series(row: Sequence[str]) -> bool:
        numbers = [int(cell) for cell in row if len(cell) < 10]
        steps = {after - before for before, after in itertools.pairwise(numbers)}
        years = all(number in YEARS for number in numbers) and min(steps, default=0) > 0
        return len(numbers) == len(first) and (years or steps == {1})

    return is_series(first) and not any(is_whole(row) and (len(first) == 2 or is_series(row)) for row in following)


def _names_in_comment(comments: Sequence[str], separator: str | None, num_columns: int) -> list[str] | None:
    """The names in the last comment, as `numpy.savetxt` writes them; None if it does not have one for each column."""
    last = next((line for line in reversed(comments) if line.strip() and not _declared(line)), "")
    last = last.lstrip("".join(COMMENTS)).strip()
    if not last:
        return None
    options = [_blank_separated(last)] if separator is None else [last.split(separator), _blank_separated(last)]
    return next(([name.strip().strip('"') for name in names] for names in options if len(names) == num_columns), None)
