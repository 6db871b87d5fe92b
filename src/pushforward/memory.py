"""How much memory the machine has, so that what cannot fit is refused before the system ends the program."""

import os


def check_memory(needed: float, what: str, instead: str) -> None:
    """Raise if a computation needs more memory than the machine has.

    Args:
        needed: the bytes that it needs.
        what: what needs them, for the message.
        instead: what to do, for the message.

    Raises:
        ValueError: if there are fewer bytes.
    """
    # Windows has no `sysconf`, and no such check.
    names = getattr(os, "sysconf_names", {})
    if not {"SC_PHYS_PAGES", "SC_PAGE_SIZE"} <= set(names):
        return
    available = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > available:
        raise ValueError(
            f"{what} need about {needed / 1e9:.3g} GB of memory ({needed:,.0f} bytes), but the machine has "
            f"{available / 1e9:.3g} GB; {instead}."
        )
