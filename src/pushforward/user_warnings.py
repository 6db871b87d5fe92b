"""Warnings that point at the user's code."""

import sys
import warnings
import weakref
from typing import Any

# Methods of modules are called by way of Equinox, and by way of jaxtyping where it checks annotations.
NOT_THE_USERS = frozenset({"pushforward", "equinox", "jaxtyping", "beartype"})
_warned: set[int] = set()  # the identities of the objects that users were warned about


class InterruptedFit(UserWarning):
    """The training of a fit was ended by Ctrl-C; its result is the best model so far."""


class UnfinishedFit(UserWarning):
    """The training of a fit was ended by a spent budget, Ctrl-C or a callback, and its result is used."""


def warn(text: str, category: type[UserWarning] = UserWarning) -> None:
    """Warn, at the innermost line outside of this package and of the libraries that call its methods.

    Args:
        text: the warning.
        category: its category.
    """
    frame, level = sys._getframe(), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in NOT_THE_USERS:
        frame, level = frame.f_back, level + 1
    warnings.warn(text, category, stacklevel=level)


def warn_once(owner: Any, text: str, category: type[UserWarning] = UserWarning) -> None:
    """Warn, but only once for each object.

    Args:
        owner: the object.
        text: the warning.
        category: its category.
    """
    if id(owner) not in _warned:
        _warned.add(id(owner))
        weakref.finalize(owner, _warned.discard, id(owner))
        warn(text, category)
