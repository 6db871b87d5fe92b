"""The sources, the documents and the README contain none of the phrases that CONTRIBUTING.md lists."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def phrases():
    """The regular expressions in the block under "Phrases to avoid", one for each line."""
    found = re.search(
        r"^## Phrases to avoid\n.*?^```\w*\n(.*?)^```", (ROOT / "CONTRIBUTING.md").read_text(), re.M | re.S
    )
    return [line for line in found[1].splitlines() if line.strip()] if found else []


def files():
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "src").rglob("*.py"))]


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_phrase_to_avoid(path):
    text = path.read_text()
    for phrase in phrases():
        # A phrase may continue on the next line, also in a comment.
        found = re.search(phrase.replace(" ", r"[\s#]+"), text, re.IGNORECASE)
        assert not found, f"line {text.count(chr(10), 0, found.start()) + 1}: {found[0]!r}"
