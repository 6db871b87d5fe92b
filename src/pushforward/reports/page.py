"""A self-contained HTML page of text, tables and figures."""

import html
from collections.abc import Iterable, Sequence
from typing import Any

from pushforward.reports.figures import as_data_url

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; margin: 1rem 0; }
td, th { padding: .15rem .8rem; text-align: right; border-bottom: 1px solid #ddd; }
td:first-child, th:first-child { text-align: left; }
img { max-width: 100%; }
.warning { background: #fff3cd; padding: .5rem 1rem; }
"""


def page(title: str, parts: Iterable[str]) -> str:
    """The whole page.

    Args:
        title: the title, as plain text.
        parts: the parts, as HTML from the other functions of this module.
    """
    title = html.escape(title)
    head = f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><style>{STYLE}</style>"
    return "\n".join((head, f"<h1>{title}</h1>", *parts)) + "\n"


def paragraph(text: str, *, warning: bool = False) -> str:
    """A paragraph.

    Args:
        text: the text, as plain text.
        warning: whether the paragraph is emphasized.
    """
    return f"<p{' class=warning' if warning else ''}>{html.escape(text)}</p>"


def heading(text: str) -> str:
    """A heading below the title.

    Args:
        text: the heading, as plain text.
    """
    return f"<h2>{html.escape(text)}</h2>"


def table(rows: Iterable[Sequence[str]], head: Sequence[str] = ()) -> str:
    """A table.

    Args:
        rows: the cells of each row, as plain text.
        head: the names of the columns.
    """
    lines = [f"<tr>{''.join(f'<th>{html.escape(cell)}' for cell in head)}"] if head else []
    lines += [f"<tr>{''.join(f'<td>{html.escape(cell)}' for cell in row)}" for row in rows]
    return "\n".join(("<table>", *lines, "</table>"))


def picture(name: str, figure: Any) -> str:
    """A figure below its name.

    Args:
        name: the name, as plain text.
        figure: a Matplotlib figure.
    """
    name = html.escape(name)
    return f'<h2>{name}</h2><img alt="{name}" src="{as_data_url(figure)}">'
