"""The blocks that pages and notebook cells consist of, as plain data: texts, tables, charts and images.

Everything is plain text: the templates escape it.
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

Level = Literal["good", "caution", "bad"]


class Step(NamedTuple):
    """Something that the reader can do next.

    Attributes:
        text: what to do, one or two sentences.
        code: the call or command, or nothing.
    """

    text: str
    code: str = ""


class Verdict(NamedTuple):
    """The verdict, in words for a reader who does not know the diagnostics.

    Attributes:
        level: how it is colored.
        word: the verdict, in one word.
        headline: what to do with the result, in one sentence.
        meaning: what the verdict means, in a few sentences.
        reasons: why, one sentence each.
        steps: what to do next.
    """

    level: Level
    word: str
    headline: str
    meaning: str = ""
    reasons: Sequence[str] = ()
    steps: Sequence[Step] = ()


class Text(NamedTuple):
    """A paragraph.

    Attributes:
        text: the text.
        warning: whether it is emphasized.
    """

    text: str
    warning: bool = False


class Table(NamedTuple):
    """A table.

    Attributes:
        rows: the cells of each row.
        head: the names of the columns.
        caption: a line below it.
    """

    rows: Sequence[Sequence[str]]
    head: Sequence[str] = ()
    caption: str = ""


class Code(NamedTuple):
    """Lines of code, or a command.

    Attributes:
        text: the lines.
    """

    text: str


class Parameters(NamedTuple):
    """The summary of all scalars, and interactive plots of those that the reader chooses in it.

    Attributes:
        table: the summary; the first cell of each row is the name of the scalar.
        draws: what the plots show, from `pushforward.reports.charts.draws`.
        shown: the number of scalars that are chosen at first.
    """

    table: Table
    draws: dict[str, Any]
    shown: int = 6


class Chart(NamedTuple):
    """An interactive chart.

    Attributes:
        title: its title.
        content: its traces, from `pushforward.reports.charts`.
        text: what it shows and how to read it, below the chart and as its alternative text.
    """

    title: str
    content: dict[str, Any]
    text: str


class Image(NamedTuple):
    """An image.

    Attributes:
        title: its title.
        source: the URL of its content.
        text: what it shows, below the image and as its alternative text.
    """

    title: str
    source: str
    text: str


class Section(NamedTuple):
    """A part of a page with a heading.

    Attributes:
        heading: the heading.
        blocks: the blocks below it.
    """

    heading: str
    blocks: Sequence[Any]
