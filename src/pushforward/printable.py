"""Text from files and users in messages: safe for a terminal, and not too long."""

import unicodedata
from collections.abc import Sequence

# Control characters (escape sequences begin with one), and invisible ones that reorder or hide text.
CATEGORIES = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
LINE_ENDS = "\n"


def printable(text: str) -> str:
    r"""Write the characters of a text that a terminal might obey, not show, as escapes such as \x1b.

    Line ends stay.

    Args:
        text: any text.
    """
    if text.isprintable():
        return text
    return "".join(c if c in LINE_ENDS or unicodedata.category(c) not in CATEGORIES else _escaped(c) for c in text)


def listed(names: Sequence[str], most: int) -> str:
    """Names for a sentence; of many only the first, and the number of the rest.

    Args:
        names: the names.
        most: the largest number of names that are written out.
    """
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def cause(error: Exception) -> str:
    """The type of an error and the beginning of its message, without the code that JAX's messages quote.

    Args:
        error: the error.
    """
    text = " ".join(str(error).strip().partition("\n\n")[0].split())
    return f"{type(error).__name__}: {text[:300].rstrip('.')}."


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
