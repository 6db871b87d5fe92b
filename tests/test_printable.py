r"""Characters that a terminal obeys are shown as escapes."""

import pytest

from pushforward.printable import cause, listed, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("wind [°C], größe, 風\nnext line", "wind [°C], größe, 風\nnext line"),
        ("a\x1b[2Jb", r"a\x1b[2Jb"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("\x9b31mred", r"\x9b31mred"),
        ("a\rb\tc\x00\x7f\x08", r"a\rb\tc\x00\x7f\x08"),
        ("\u202eevil\u2066", r"\u202eevil\u2066"),
        ("\ud800", r"\ud800"),
    ],
)
def test_printable(text, shown):
    assert printable(text) == shown


def test_long_lists_are_shortened():
    assert listed(["a", "b"], 2) == "a, b"
    assert listed(["a", "b", "c", "d"], 2) == "a, b and 2 more"


def test_causes_are_the_first_paragraph():
    assert cause(ValueError("too\n  far.\n\nCode:\n  f(x)")) == "ValueError: too far."
