"""The mean, standard deviation and quantiles of each scalar: a mapping that prints as a table."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from pushforward.reports.page import table

MAX_ROWS = 40
HEAD = ("", "mean", "sd", "5%", "median", "95%")


def text_table(rows: Sequence[Sequence[str]], head: Sequence[str] = ()) -> str:
    """A table as text: cells below a head are aligned to the right, except those of the first column.

    Args:
        rows: the cells of each row.
        head: the names of the columns.
    """
    lines = [head, *rows] if head else rows
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    sides = "<" + (">" if head else "<") * len(widths)
    return "\n".join("  ".join(map("{:{}{}}".format, line, sides, widths)).rstrip() for line in lines)


class ScalarSummary(NamedTuple):
    """The summary of one scalar.

    Attributes:
        mean: the mean.
        sd: the standard deviation.
        q05: the 5% quantile.
        median: the median.
        q95: the 95% quantile.
    """

    mean: float
    sd: float
    q05: float
    median: float
    q95: float


class Summary(Mapping[str, ScalarSummary]):
    """The summaries of all scalars, by name: `summary["theta[2]"].mean`.

    Args:
        rows: the summary of each scalar.
        remarks: what to know of the draws.
        verdict: the verdict on the draws, if there is one.
    """

    def __init__(self, rows: Mapping[str, ScalarSummary], remarks: Sequence[str] = (), verdict: str = ""):
        self.rows, self.remarks, self.verdict = dict(rows), tuple(remarks), verdict

    def __getitem__(self, name: str) -> ScalarSummary:
        return self.rows[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def caption(self) -> str:
        """One line on the draws: the verdict and the remarks."""
        return "; ".join([f"verdict: {self.verdict}"] * bool(self.verdict) + [*self.remarks])

    def without_verdict(self) -> "Summary":
        """The same summary where the verdict is shown elsewhere."""
        return Summary(self.rows, self.remarks)

    @property
    def all_cells(self) -> list[tuple[str, ...]]:
        """The names and numbers of all scalars as text, with four digits."""
        return [(name, *(f"{value:.4g}" for value in row)) for name, row in self.items()]

    @property
    def cells(self) -> list[tuple[str, ...]]:
        """The rows of the printed table: at most 40 of them."""
        return self.all_cells[:MAX_ROWS]

    @property
    def notes(self) -> list[str]:
        """The lines below the printed table."""
        more = [f"and {len(self) - MAX_ROWS} more"] if len(self) > MAX_ROWS else []
        return more + ([self.caption] if self.caption else [])

    def __str__(self) -> str:
        return "\n".join([text_table(self.cells, HEAD), *self.notes])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return table([*self.cells, *((note,) for note in self.notes)], HEAD)


def summarize(
    columns: Mapping[str, Float[np.ndarray, " _"]], remarks: Sequence[str] = (), verdict: str = ""
) -> Summary:
    """The summary of columns of draws.

    Args:
        columns: the draws of each scalar, of equal weights.
        remarks: what to know of the draws.
        verdict: the verdict on the draws, if there is one.
    """

    def one(values: np.ndarray) -> ScalarSummary:
        numbers = values.mean(), values.std(), *np.quantile(values, (0.05, 0.5, 0.95))
        return ScalarSummary(*map(float, numbers))

    return Summary({name: one(values) for name, values in columns.items()}, remarks, verdict)


class Facts(Mapping[str, Any]):
    """A mapping of names to values that prints as a table.

    Args:
        values: the values by name.
    """

    def __init__(self, values: Mapping[str, Any]):
        self.values_by_name = dict(values)

    def __getitem__(self, name: str) -> Any:
        return self.values_by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.values_by_name)

    def __len__(self) -> int:
        return len(self.values_by_name)

    @property
    def cells(self) -> list[tuple[str, str]]:
        """The rows of the printed table; numbers with four digits."""
        return [(name, f"{v:.4g}" if isinstance(v, float) else str(v)) for name, v in self.items()]

    def __str__(self) -> str:
        return text_table(self.cells)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return table(self.cells)
