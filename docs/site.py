"""What MkDocs does besides: formulas become MathML, without scripts, and a package's page lists what it exports.

Names that the page gives itself, above the package, come first.
"""

import ast
import html
import re
from pathlib import Path

from latex2mathml.converter import convert

ROOT = Path(__file__).parents[1]
PACKAGE = re.compile(r"^::: ([\w.]+)$", re.M)
FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.S)


def on_page_markdown(markdown, page, **kwargs):
    """Replace a package by the names that its `__init__` imports as its own, one heading each."""
    if not page.file.src_uri.startswith("api/"):
        return markdown
    given = set(PACKAGE.findall(markdown))
    return PACKAGE.sub(lambda found: _exported(found, given), markdown)


def on_page_content(html_text, **kwargs):
    """Replace formulas by MathML."""
    return FORMULA.sub(_mathml, html_text)


def _exported(found, given):
    path = (ROOT / "src").joinpath(*found[1].split("."))
    if not path.is_dir():
        return found[0]
    imports = [node for node in ast.parse((path / "__init__.py").read_text()).body if isinstance(node, ast.ImportFrom)]
    names = [f"{node.module}.{a.name}" for node in imports for a in node.names if a.asname == a.name]
    return "\n\n".join(f"::: {name}" for name in names if name not in given)


def _mathml(found):
    display = "inline" if found[2] == "(" else "block"
    return convert(html.unescape(found[3]), display=display)
