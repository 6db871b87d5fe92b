"""Runs the scripts of docs/gallery and writes their pages, with what they print and draw: `make worked-examples`.

A script is in the percent format, which Jupyter and editors open as a notebook. Cells that begin with `# %% [markdown]`
become text, the others code. What a code cell prints follows it, and so do its figures: those of pyplot, and that of
the last expression. The title of the cell, `# %% TITLE`, is the text for readers who do not see the figures.
"""

import ast
import contextlib
import io
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

GALLERY = Path(__file__).parent / "gallery"
CELL = re.compile(r"^# %% ?(\[markdown\])?(.*)\n", re.M)
SHOWN = re.compile(r"\n<!-- printed -->\n.*?<!-- end -->\n", re.S)
MAX_BYTES = 100_000  # of a picture


class Cell(NamedTuple):
    """A part of a script.

    Attributes:
        text: the Markdown, or the code.
        is_code: which of them.
        title: the title of the cell.
    """

    text: str
    is_code: bool
    title: str


def cells(script: Path) -> list[Cell]:
    """The cells of a script."""
    _, *parts = CELL.split(script.read_text(encoding="utf-8"))
    found = zip(parts[::3], parts[1::3], parts[2::3], strict=True)
    return [
        Cell(re.sub(r"^# ?", "", text.strip("\n"), flags=re.M) if markdown else text.strip("\n"), not markdown, title)
        for markdown, title, text in found
    ]


def page(script: Path, shown: list[str] | None = None) -> str:
    """The page of a script.

    Args:
        script: the path of the script.
        shown: for each cell, what it printed and drew, as Markdown; without it the page lacks these parts.
    """
    head, *tail = cells(script)
    blocks = [head.text, f"[The script]({script.name}) runs as it is; editors and Jupyter open it as a notebook."]
    blocks += [f"```python\n{cell.text}\n```" if cell.is_code else cell.text for cell in tail]
    for number, text in enumerate((shown or [""])[1:], start=2):
        blocks[number] += text
    return "\n\n".join(blocks) + "\n"


def without_output(text: str) -> str:
    """A page without what its cells printed and drew, to compare it with its script."""
    return SHOWN.sub("", text)


def run(script: Path, folder: Path) -> list[str]:
    """Run the cells in this process, and write their pictures.

    Args:
        script: the path of the script.
        folder: the folder for the pictures.

    Returns:
        What each cell printed and drew, as Markdown.
    """
    import matplotlib

    matplotlib.use("agg")
    names, pictures, shown = {"__name__": "__main__"}, 0, []
    for cell in cells(script):
        text = ""
        if cell.is_code:
            printed, figures = _execute(cell.text, names)
            text = f"```text\n{printed.rstrip()}\n```\n" if printed else ""
            for figure in figures:
                pictures += 1
                text += f"\n![{cell.title}]({_save(figure, folder / f'{script.stem}-{pictures}.png')})\n"
        shown.append(f"\n\n<!-- printed -->\n{text.lstrip()}<!-- end -->\n" if text else "")
    return [text.rstrip("\n") for text in shown]


def _execute(code, names):
    """What the code prints, and its figures."""
    import matplotlib.pyplot as plt
    from matplotlib.figure import Figure

    *body, last = ast.parse(code).body
    value = None
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        if isinstance(last, ast.Expr):
            exec(compile(ast.Module(body, []), "<cell>", "exec"), names)
            value = eval(compile(ast.Expression(last.value), "<cell>", "eval"), names)
        else:
            exec(compile(ast.Module([*body, last], []), "<cell>", "exec"), names)
    figures = [plt.figure(number) for number in plt.get_fignums()]
    figures += [value] if isinstance(value, Figure) and value not in figures else []
    plt.close("all")
    return printed.getvalue(), figures


def _save(figure, path):
    figure.savefig(path, dpi=110, bbox_inches="tight", metadata={"Software": None})
    assert path.stat().st_size <= MAX_BYTES, f"{path.name} has {path.stat().st_size} bytes, more than {MAX_BYTES}"
    return path.name


def main(names: list[str]) -> None:
    """Write the pages of the scripts with these names, or of all, each in a process of its own.

    Args:
        names: the names of scripts, without ".py"; if empty, all of them.
    """
    if len(names) == 1:
        script = GALLERY / f"{names[0]}.py"
        script.with_suffix(".md").write_text(page(script, run(script, GALLERY)), encoding="utf-8")
        return
    for name in names or sorted(path.stem for path in GALLERY.glob("*.py")):
        print(name, flush=True)
        subprocess.run([sys.executable, __file__, name], check=True)


if __name__ == "__main__":
    main(sys.argv[1:])
