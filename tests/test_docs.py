"""README and documents: examples run as printed, links resolve, and the names of the library exist.

An example runs if a comment, `<!-- run -->` or `<!-- run: slow -->`, is above it; otherwise the comment says why not,
`<!-- not run: REASON -->`. Those of one page run one after the other, as a reader would type them; `make docs-check`
runs the slow pages too. A text with the comment `<!-- printed -->` is what the example above it prints.
"""

import functools
import importlib
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

import pushforward as pf

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", ROOT / "benchmarks" / "README.md"]
PAGES += sorted((ROOT / "docs").rglob("*.md"))
BLOCK = re.compile(r"^(?:<!-- ([^\n]*) -->\n)?```(python|text)\n(.*?)^```", re.M | re.S)
END = "\x1e\n"  # of what an example prints
FENCED = re.compile(r"^```.*?^```", re.M | re.S)


@functools.cache
def blocks(path):
    """The comment, the language and the text of each block of Python or of printed text."""
    return BLOCK.findall(path.read_text())


def examples(path):
    return [(mark, code) for mark, language, code in blocks(path) if language == "python" and mark[:3] == "run"]


def words(text):
    """A text without numbers, whose digits differ between processors."""
    return re.sub(r"[-\d.e+]+|\s+", " ", text)


def named(path):
    return str(path.relative_to(ROOT))


def runnable(path):
    slow = any(mark == "run: slow" for mark, _ in examples(path))
    return pytest.param(path, marks=[pytest.mark.conformance] if slow else [], id=named(path))


@pytest.mark.parametrize("path", [runnable(path) for path in PAGES if examples(path)])
def test_examples_run_as_printed(path, tmp_path):
    """In a process of their own, because they set flags of JAX."""
    program = tmp_path / "example.py"
    program.write_text("\n".join(f"{code}\nprint(end={END!r})" for _, code in examples(path)))
    done = subprocess.run(
        [sys.executable, program], cwd=tmp_path, capture_output=True, text=True, timeout=1800, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found, number = done.stdout.split(END), -1
    for mark, language, text in blocks(path):
        number += language == "python" and mark[:3] == "run"
        assert mark != "printed" or words(text) == words(found[number]), f"it prints:\n{found[number]}"


@pytest.mark.parametrize("path", [path for path in PAGES if path.parent.name != "gallery"], ids=named)
def test_every_example_runs_or_says_why_not(path):
    for mark, language, code in blocks(path):
        marked = mark in ("run", "run: slow") or mark.startswith("not run: ")
        assert language == "text" or marked, f"{named(path)}: nothing says whether this runs:\n{code}"


@functools.cache
def gallery():
    """The module that writes the pages of the gallery, which is not part of the package."""
    spec = importlib.util.spec_from_file_location("pages", ROOT / "docs" / "pages.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SCRIPTS = sorted((ROOT / "docs" / "gallery").glob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=named)
def test_pages_of_the_gallery_are_those_of_the_scripts(script):
    text = script.with_suffix(".md").read_text()
    assert gallery().without_output(text) == gallery().page(script), f"run: make worked-examples ARGS={script.stem}"
    assert "<!-- printed -->" in text, "the page shows nothing that the script printed"


@pytest.mark.conformance
@pytest.mark.parametrize("script", SCRIPTS, ids=named)
def test_scripts_of_the_gallery_print_what_their_pages_show(script, tmp_path):
    """Apart from the digits of numbers, which differ between processors."""
    copy = tmp_path / "gallery" / script.name
    copy.parent.mkdir()
    copy.write_text(script.read_text())
    program = tmp_path / "pages.py"
    program.write_text((ROOT / "docs" / "pages.py").read_text())
    done = subprocess.run(
        [sys.executable, program, script.stem], capture_output=True, text=True, timeout=1800, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert words(script.with_suffix(".md").read_text()) == words(copy.with_suffix(".md").read_text())


@functools.cache
def anchors(path):
    """The anchors of the headings of a page, as GitHub and MkDocs make them."""
    headings = re.findall(r"^#+ (.*)$", FENCED.sub("", path.read_text()), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_links_resolve(path):
    text = FENCED.sub("", path.read_text())
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        assert target.exists(), f"{named(path)} links to {link}, which does not exist"
        assert not anchor or anchor in anchors(target), f"{named(path)} links to {link}, which has no such heading"
        outside = path.is_relative_to(ROOT / "docs") and not target.is_relative_to(ROOT / "docs")
        assert not outside, f"{named(path)} links to {link}, which is not part of the site"


def exists(name):
    """Whether a module, or an object in a module or class, has this name."""
    parts = name.split(".")
    for size in range(len(parts), 0, -1):
        try:
            value = importlib.import_module(".".join(parts[:size]))
        except ImportError:
            continue
        return all((value := getattr(value, part, None)) is not None for part in parts[size:])
    return False


@pytest.mark.parametrize("path", [path for path in PAGES if path.name != "CHANGELOG.md"], ids=named)
def test_names_exist(path):
    """`pf.a.b`, also in tables: a page that names what was renamed would mislead."""
    for name in {*re.findall(r"\b(?:pf|pushforward)\.((?:\w+\.)*[A-Za-z]\w*)", path.read_text())}:
        assert exists(f"pushforward.{name}"), f"{named(path)} names pushforward.{name}, which does not exist"
    for name in {*re.findall(r"\bbj\.(\w+)", path.read_text())}:
        assert hasattr(pf.bijections, name), f"{named(path)} names bj.{name}, which does not exist"


def test_every_page_is_on_the_site():
    listed = set(re.findall(r"[\w/-]+\.md", (ROOT / "mkdocs.yml").read_text()))
    assert listed == {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
