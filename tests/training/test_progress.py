"""Progress is shown only on request, and as the place where it is shown can take it."""

import re
import sys
from types import ModuleType, SimpleNamespace

import jax.random as jr
import pytest

import pushforward as pf
from pushforward.training import progress
from training_cases import simple_flow, target, train


@pytest.mark.parametrize("show", [True, False])
def test_progress_prints_if_asked(show, capsys):
    train(simple_flow(), pf.ReverseKL(target, 4), key=jr.key(0), steps=3, progress=show)
    out = "".join(capsys.readouterr())
    assert ("training" in out and "loss" in out) is show
    assert show or not out


def advance_three_times(name="[fit] <a>"):
    with progress.progress_bar(name, 10.0, show=True) as advance:
        for done in (1, 5, 10):
            advance(done, f"loss {done}")


def test_logs_get_plain_lines(capsys, monkeypatch):
    """Also where colors are forced, as services that run tests do; only the last of quick updates is a line."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    advance_three_times()
    assert capsys.readouterr().err == "[fit] <a>: 100%, loss 10, 0 s\n"
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    advance_three_times()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3 and lines[1].startswith("[fit] <a>: 50%, loss 5, 0 s, at most")
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize(("term", "bar"), [("xterm", True), ("dumb", False)])
def test_terminals(capsys, monkeypatch, term, bar):
    monkeypatch.setenv("TERM", term)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    advance_three_times()
    assert progress.on_terminal() is bar and "loss 10" in capsys.readouterr().err


def test_the_bar_says_how_much_time_is_left_at_most(capsys, monkeypatch):
    """In 80 columns, with the text of a fit."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(progress._Line, "seconds", 60.0)
    with progress.progress_bar("posterior", 4.0, show=True) as advance:
        advance(1, "flow: ELBO -31.234, best -31.234")
    text = re.sub(r"\x1b\[[\d?]*\w", "", capsys.readouterr().err)
    assert "flow: ELBO -31.234, best -31.234 0:00:00 at most 180 s left" in text


def test_notebooks_get_one_line_that_is_updated(monkeypatch, capsys):
    shown = []
    package, module = ModuleType("IPython"), ModuleType("IPython.display")
    package.get_ipython = lambda: SimpleNamespace(kernel=None)
    module.HTML = str
    module.display = lambda content, display_id: shown.append(content) or SimpleNamespace(update=shown.append)
    monkeypatch.setitem(sys.modules, "IPython", package)
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    advance_three_times()
    assert "compiling" in shown[0] and '<progress max="1" value="1.0000">' in shown[-1]
    assert "[fit] &lt;a&gt;: 100%, loss 10" in shown[-1] and not "".join(capsys.readouterr())
