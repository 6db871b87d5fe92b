"""Self-contained HTML pages, and cells of notebooks, from blocks.

A page makes no request: styles, script, numbers and the plotting library are inside it. Plotly's script is 4.8 MB;
it is compressed to 2 MB, and the browser unpacks it.
"""

import base64
import datetime
import functools
import gzip
from collections.abc import Iterable, Sequence
from importlib import resources
from importlib.metadata import version
from typing import Any

from pushforward.reports.blocks import Chart, Parameters, Section, Table, Verdict


def page(title: str, kind: str, verdict: Verdict | None, sections: Iterable[Section]) -> str:
    """The whole page.

    Args:
        title: the title.
        kind: what was fitted, such as "posterior", for the line below the title.
        verdict: the verdict, which comes first; None if there is none.
        sections: the sections in their order.
    """
    sections = list(sections)
    interactive = any(isinstance(block, (Chart, Parameters)) for section in sections for block in section.blocks)
    return _environment().get_template("page.html.j2").render(
        title=title, kind=kind, verdict=verdict, sections=sections, version=version("pushforward"),
        date=datetime.date.today().isoformat(), plotly=_compressed_plotly() if interactive else "",
        style=_asset("report.css"),
        scripts=[_asset(name) for name in ("report.js", "plots.js")],
    )  # fmt: skip


def cell(*blocks: Any) -> str:
    """The HTML of blocks in a notebook, without scripts.

    Args:
        *blocks: verdicts, texts, tables and code.
    """
    return _environment().get_template("cell.html.j2").render(blocks_given=blocks)


def table(rows: Sequence[Sequence[str]], head: Sequence[str] = (), caption: str = "") -> str:
    """The HTML of one table in a notebook.

    Args:
        rows: the cells of each row, as plain text.
        head: the names of the columns.
        caption: a line below the table.
    """
    return cell(Table(rows, head, caption))


@functools.cache
def _environment() -> Any:
    import jinja2  # only here: few programs write pages

    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_asset), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    environment.tests["of_kind"] = lambda block, kind: type(block).__name__ == kind
    return environment


def _asset(name: str) -> str:
    return (resources.files("pushforward.reports") / "assets" / name).read_text(encoding="utf-8")


@functools.cache
def _compressed_plotly() -> str:
    from plotly.offline import get_plotlyjs  # only here: it takes long to import

    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), mtime=0)).decode()
