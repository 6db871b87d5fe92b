"""Progress is shown only on request."""

import jax.random as jr
import pytest

import pushforward as pf
from training_cases import simple_flow, target, train


@pytest.mark.parametrize("show", [True, False])
def test_progress_prints_if_asked(show, capsys):
    train(simple_flow(), pf.ReverseKL(target, 4), key=jr.key(0), steps=3, progress=show)
    out = "".join(capsys.readouterr())
    assert ("training" in out and "loss" in out) is show
    assert show or not out
