"""What a command does after its fit: files, warnings, failures and the exit code."""

import json
import warnings

import numpy as np
import pytest

from pushforward.cli.results import Results, json_text
from pushforward.cli.terminal import UserError
from pushforward.user_warnings import InterruptedFit


def fail(error):
    def write(path):
        path.write_text("half")
        raise error

    return write


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(28, "No space left on device"), "OSError: [Errno 28] No space left on device: '"),
        (RuntimeError("out of ink\n\nframes"), "RuntimeError: out of ink"),
        (ValueError("no draws"), "no draws"),
        (KeyboardInterrupt(), "interrupted"),
    ],
)
def test_a_failing_file_is_skipped(error, words, tmp_path, capsys):
    results = Results("model", tmp_path / "a" / "b")
    results.write("first.txt", lambda path: path.write_text("1"))
    results.write("second.txt", fail(error))
    results.write("third.txt", lambda path: path.write_text("3"))
    assert results.written == ["first.txt", "third.txt"] and results.exit_code == 1
    assert sorted(path.name for path in results.out.iterdir()) == results.written
    assert f"second.txt was not written: {words}" in capsys.readouterr().err


def test_the_traceback_is_raised_if_it_is_wanted(tmp_path, monkeypatch):
    monkeypatch.setenv("PUSHFORWARD_TRACEBACK", "1")
    results = Results("model", tmp_path)
    with pytest.raises(RuntimeError, match="out of ink"):
        results.write("report.html", fail(RuntimeError("out of ink")))
    assert list(tmp_path.iterdir()) == []


def test_no_folder_no_files():
    results = Results("model", None)
    results.write("first.txt", fail(OSError()))
    assert results.written == [] and results.exit_code == 0


def test_warnings_are_printed_once_and_an_interruption_is_noted(capsys):
    results = Results("model", None)
    with results.fit():
        for _ in range(2):
            warnings.warn("[few] rows", UserWarning, stacklevel=1)
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    assert results.warnings == ["[few] rows"] and results.exit_code == 0
    with pytest.raises(UserError), results.fit():
        warnings.warn("stopped", InterruptedFit, stacklevel=1)
        raise UserError("no")
    assert results.exit_code == 130
    assert capsys.readouterr().err == "pushforward: warning: [few] rows\npushforward: warning: stopped\n"


def test_json_is_valid_for_numbers_that_are_not_finite():
    content = {"a": np.float64("nan"), 1: (np.arange(2), float("inf")), "b": [None, True, np.int32(3), "text"]}
    assert json.loads(json_text(content)) == {"a": None, "1": [[0, 1], None], "b": [None, True, 3, "text"]}
