"""What the commands share: the check that an output can be written."""

import os
import stat

import jax
import pytest

import pushforward as pf
from pushforward.cli import main
from pushforward.cli.terminal import Terminal, print_error
from pushforward.printable import printable


def test_unwritable_folder(files, capsys):
    (files / "file").write_text("in the way")
    assert main(["fit", "models.py:normal", "--data", "data.json", "--out", "file"]) == 2
    assert "output folder file cannot be written" in " ".join(capsys.readouterr().err.split())
    assert main(["fit", "models.py:normal", "--data", "data.json", "--out", "new/deep", "--budget", "0"]) == 2
    assert not (files / "new").exists()
    locked = files / "locked"
    locked.mkdir()
    locked.chmod(stat.S_IRUSR | stat.S_IXUSR)
    if os.access(locked, os.W_OK):
        pytest.skip("this user may write anywhere")
    assert main(["fit", "models.py:normal", "--data", "data.json", "--out", "locked/out"]) == 2


HUGE = "1" * 5000


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["density", "data.csv", "--out", ""], "argument --out: a path must have a name, but is ''"),
        (["density", "data.csv", "--out", "out", "--seed", "1" * 23], "argument --seed: must have at most 64 bits"),
        (["density", "data.csv", "--out", "out", "--seed", "-1"], "argument --seed: must be between 0 and 4294967295"),
        (["density", "data.csv", "--out", "out", "--seed", HUGE], "must be a whole number, but is a text of 5000"),
        (["density", "data.csv", "--out", "out", "--epochs", "2.5"], "argument --epochs: must be a whole number"),
        (["density"], "the following arguments are required: FILE, --out"),
        (["sample", "saved", "--num", "1" * 23], "argument --num: must have at most 64 bits"),
        (["sample", "saved", "--num", "1000000000000"], "need about 4.8e+04 GB of memory"),
        (["sample", "saved", "--out", ""], "argument --out: a path must have a name"),
        (["vae", "--out", "out", "--data", ""], "argument --data: a path must have a name"),
        (["fit", "models.py:normal", "--out", "out", "--checkpoint", ""], "argument --checkpoint: a path must have"),
        (["fit", "models.py:normal", "--out", "out", "--data", "digits.json"], "a whole number of thousands of digits"),
        (["fit", "models.py:normal", "--out", "out", "--data", "large.json"], "whole numbers of more than 64 bits"),
        (["fit", "models.py:normal", "--out", "out", "--data", "deep.json"], "too many arrays or objects inside"),
        (["fit", "models.py:normal", "--out", "out", "--data", "mark.json"], "the entries z, which the model"),
        (["density", "x" * 5000, "--out", "out"], "a path must fit this system, but has 5000 characters"),
        (["sample", "saved", "--out", "x" * 300], "a path must fit this system, but has 300 characters"),
        (["fit", "x" * 5000 + ".py:normal", "--out", "out"], "there is no model file xxx"),
        (["nothing"], "invalid choice: 'nothing'"),
    ],
)
def test_arguments_out_of_range_are_errors_of_one_paragraph(files, folder, capsys, arguments, words):
    pf.save(files / "saved", pf.flows.linear(2, key=jax.random.key(0)))
    (files / "digits.json").write_text(f'{{"y": {HUGE}}}')
    (files / "large.json").write_text('{"y": [1' + "0" * 30 + "]}")
    (files / "deep.json").write_text('{"y": ' + "[" * 100_000 + "]" * 100_000 + "}")
    (files / "mark.json").write_text('\ufeff{"y": [1.0], "z": 1}')
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith("pushforward: error: ") and "\n\n" not in captured.err
    assert words in " ".join(captured.err.split())
    assert not (files / "out").exists()


@pytest.mark.parametrize("name", ["a\x1b[2Jb", "\x1b]0;title\x07b", "\u202eb"])
def test_no_text_controls_the_terminal(files, capsys, name):
    (files / "names.csv").write_text(f"{name},b\n1,2\n1,3\n1,5\n")
    (files / "cells.csv").write_text(f"a,b\n1,2\n1,{name}\n")
    (files / "unnamed.csv").write_text(f",b,{name}\n1,2,2\n1,2,2\n")
    (files / f"{name}.csv").write_text("a,b\n1,2\n1,2\n")
    for arguments in (["names.csv"], ["cells.csv"], ["unnamed.csv"], [f"{name}.csv"], ["names.csv", "--columns", "c"]):
        assert main(["density", *arguments, "--out", "out"]) == 2
    assert main(["nothing", name]) == 2
    Terminal().print(f"{name} is [red]")
    print_error(name)
    captured = capsys.readouterr()
    assert printable(captured.out + captured.err) == captured.out + captured.err
    assert "[red]" in captured.out and printable(name) in captured.err
