"""The options for devices and processes that do not fit together are named; of two processes one writes."""

import os
import socket
import subprocess
import sys

import numpy as np
import pytest
from rich.console import Console

from pushforward.cli.devices import add_devices, connect, mesh, writes
from pushforward.cli.terminal import Parser, UserError

PROGRAM = "import sys; from pushforward.cli import main; sys.exit(main())"


def parsed(*arguments):
    parser = Parser()
    add_devices(parser, "rows")
    return parser.parse_args(arguments)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--process", "1"], "--process is for several processes: add --distributed"),
        (["--distributed", "--devices", "2"], "--distributed uses all devices of all processes"),
        (["--distributed", "--coordinator", "here", "--processes", "2", "--process", "0"], "host:port, but is 'here'"),
        (["--distributed", "--coordinator", "here:1", "--processes", "2", "--process", "2"], "from 0 to 1, but is 2"),
    ],
)
def test_options_that_do_not_fit_are_named(arguments, words):
    with pytest.raises(UserError, match=words):
        connect(parsed(*arguments), Console())


def test_without_several_processes_this_one_writes():
    options = parsed("--devices", "all")
    connect(options, Console())
    assert mesh(options).size >= 1
    assert mesh(parsed()) is None
    assert writes(options)


def test_two_processes_fit_a_density_and_the_first_writes(files):
    with socket.socket() as sock:
        sock.bind(("localhost", 0))
        port = sock.getsockname()[1]
    command = [
        "density", "x.npy", "--out", "out", "--epochs", "1", "--distributed", "--coordinator", f"localhost:{port}",
        "--processes", "2", "--process",
    ]  # fmt: skip
    np.save(files / "x.npy", np.random.default_rng(0).normal(size=(600, 1)))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, sys.path))}
    both = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *command, str(process)],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for process in (0, 1)
    ]  # fmt: skip
    said = [process.communicate(timeout=200)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], "".join(said)[-4000:]
    assert "wrote density.flow" in said[0]
    assert "wrote" not in said[1]
    assert (files / "out" / "density.flow").exists()
