"""Ctrl-C as a request: a fit ends at the next opportunity and keeps what it has reached."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# The Ctrl-C with this number raises KeyboardInterrupt.
INTERRUPTS_BEFORE_EXCEPTION = 4


class Interruption:
    """How often the user has asked the fit to end."""

    def __init__(self):
        self.count = 0

    def request(self) -> None:
        """Ask once more."""
        self.count += 1


@contextmanager
def deferred_interrupts() -> Iterator[Interruption]:
    """Count SIGINT signals inside the block instead of raising KeyboardInterrupt; the fourth one is raised.

    Python handles signals in the main thread alone, and not if it is embedded in a program that handles them itself.
    Otherwise, the count stays 0 unless `request` is called.
    """
    interruption, before = Interruption(), signal.getsignal(signal.SIGINT)
    if before is None or threading.current_thread() is not threading.main_thread():
        yield interruption
        return

    def handle(number, frame):
        interruption.request()
        if interruption.count >= INTERRUPTS_BEFORE_EXCEPTION:
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, handle)
    try:
        yield interruption
    finally:
        signal.signal(signal.SIGINT, before)


def never_stop() -> bool:
    """The default of `stop` arguments: always False."""
    return False
