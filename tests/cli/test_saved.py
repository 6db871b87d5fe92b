"""Saved files as arguments: what cannot be read is an error of one sentence."""

import jax.random as jr
import pytest

import pushforward as pf
from cli_cases import said
from pushforward.cli import main


@pytest.mark.parametrize("command", [["sample"], ["report"], ["diagnose", "--num", "100"]])
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nowhere", "there is no file nowhere"),
        (".", ". cannot be read: Is a directory"),
        ("data.json", "data.json is not a file of pushforward.save"),
        ("half", "truncated or damaged"),
        ("", "a path must have a name"),
    ],
)
def test_files_that_cannot_be_loaded(files, capsys, command, name, words):
    pf.flows.linear(1, key=jr.key(0)).save("flow")
    content = (files / "flow").read_bytes()
    (files / "half").write_bytes(content[: len(content) // 2])
    model = ["models.py:normal", "--data", "data.json"] if command[0] == "diagnose" else []
    assert main([command[0], name, *model, *command[1:]]) == 2
    assert words in said(capsys)
