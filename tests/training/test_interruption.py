"""Ctrl-C is counted, and at last believed."""

import os
import signal
import threading

import pytest

from pushforward.training.interruption import INTERRUPTS_BEFORE_EXCEPTION, deferred_interrupts


def test_signals_are_counted_and_the_last_is_raised():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), deferred_interrupts() as interruption:
        for count in range(1, INTERRUPTS_BEFORE_EXCEPTION + 1):
            os.kill(os.getpid(), signal.SIGINT)
            assert interruption.count == count
    assert signal.getsignal(signal.SIGINT) is before


def test_a_handler_that_is_not_pythons_stays(monkeypatch):
    """`getsignal` returns None for a handler that Python did not install, which Python cannot install again."""
    before = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        patch.setattr(signal, "getsignal", lambda number: None)
        with deferred_interrupts() as interruption:
            assert interruption.count == 0
    assert signal.getsignal(signal.SIGINT) is before


def test_other_threads_have_no_handlers():
    counts = []

    def work():
        with deferred_interrupts() as interruption:
            interruption.request()
            counts.append(interruption.count)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert counts == [1]
