"""Two processes on this machine fit like one, also after one of them was killed; processes that disagree are named."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import jax.random as jr
import numpy as np
import pytest

import two_processes
from pushforward.training.processes import bytes_of_first, check_agreement, in_any, of_first, start, writes_files

PROGRAM = two_processes.__file__


def begin(data, folder, *, killed=False):
    with socket.socket() as sock:
        sock.bind(("localhost", 0))
        port = sock.getsockname()[1]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, sys.path))}
    return [
        subprocess.Popen(
            [sys.executable, PROGRAM, data, folder, str(port), str(process), "killed" if killed else "-"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for process in (0, 1)
    ]


def test_two_processes_fit_like_one_and_resume_after_one_was_killed(tmp_path: Path):
    data, checkpoint = tmp_path / "x.npy", tmp_path / "fit.checkpoint"
    np.save(data, np.random.default_rng(0).normal(0.5, size=(4099, 1)))

    first, second = begin(data, tmp_path, killed=True)
    said, _ = second.communicate(timeout=200)
    first.kill()
    first.communicate()
    assert second.returncode < 0, said[-4000:]
    assert checkpoint.exists()

    both = begin(data, tmp_path)
    said = [process.communicate(timeout=200)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], "".join(said)[-4000:]
    for text in said:
        assert "checkpoint (process 0" in text
        assert "shapes (process 0" in text
        assert "float64[64, 2]" in text
        assert "float64[65, 2]" in text
    assert not (tmp_path / "1.checkpoint").exists()

    expected = two_processes.fit(data)
    found = [np.load(tmp_path / f"{process}.npz") for process in (0, 1)]
    for each in found:
        np.testing.assert_allclose(each["losses"], expected.history.losses, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(each["draws"], expected.sample(jr.key(1), 10), rtol=1e-6)
        np.testing.assert_allclose(each["log_evidence"], expected.diagnostics.log_evidence, rtol=1e-8)


def test_one_process_needs_no_others():
    mesh = jax.make_mesh((1,), ("devices",))
    for each in (None, mesh):
        assert of_first({"x": 1}, each) == {"x": 1}
        assert bytes_of_first(b"x", each) == b"x"
        assert in_any(2, each) == 2
        assert writes_files(each)
        check_agreement({"x": 1}, each)


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"JAX_NUM_PROCESSES": "two"}, "JAX_NUM_PROCESSES must be a whole number, but is 'two'"),
        ({"JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "2"}, "must be from 0 to 1, but is 2"),
        ({"JAX_COORDINATOR_ADDRESS": "localhost:1"}, "the environment does not give all of them"),
        ({"JAX_COORDINATOR_ADDRESS": "localhost", "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "0"}, "host:port"),
    ],
)
def test_what_is_missing_to_start_is_named(monkeypatch, variables, words):
    for name in ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    def initialize(*given):
        raise ValueError("Number of processes must be defined.")

    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    with pytest.raises(ValueError, match=words):
        start()
