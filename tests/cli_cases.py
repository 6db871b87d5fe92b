"""What a command said, and Ctrl-C in its training, for the tests of `cli`."""

import os
import signal
from contextlib import contextmanager

import pytest

from pushforward.training.trainer import Trainer


def said(capsys):
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return " ".join((captured.out + captured.err).split())


@contextmanager
def ctrl_c_in_training(call, program="advance"):
    """Press Ctrl-C during the call of this number of the compiled loop."""
    advance, calls = getattr(Trainer, program), []

    def press(*arguments):
        calls.append(None)
        if len(calls) == call:
            os.kill(os.getpid(), signal.SIGINT)
        return advance(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, program, press)
        yield
