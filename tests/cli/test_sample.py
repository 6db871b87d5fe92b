"""`pushforward sample`."""

import os

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import pushforward as pf
from cli_cases import said
from pushforward.cli import main, sample
from pushforward.density.result import NO_HISTORY


def test_sample_from_flows_and_posteriors(folder, capsys):
    flow = pf.flows.realnvp(2, key=jr.key(0), num_layers=1, hidden=(4,), cond_dim=1)
    pf.save("plain.flow", flow)
    assert main(["sample", "plain.flow", "--num", "3", "--given", "c0=1", "--out", "draws.npz"]) == 0
    assert list(np.load("draws.npz")) == ["x0", "x1"]
    target = pf.Target(lambda x: -0.5 * jnp.sum(x["a"] ** 2), {"a": jnp.zeros(2)})
    flow = pf.flows.linear(2, key=jr.key(0))
    zeros = jnp.zeros(4)
    diagnostics = pf.Diagnostics(*[0.0] * 7, 4, "good", ())
    posterior = pf.Posterior(target, flow, diagnostics, NO_HISTORY, jnp.arange(8.0).reshape(4, 2), zeros + 0.25)
    posterior.save(folder / "posterior.flow")
    capsys.readouterr()
    for option in ([], ["--resample"]):
        assert main(["sample", "posterior.flow", "--num", "5", *option]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0] == "a[0],a[1]" and len(lines) == 6
    pf.save("other", {"a": 1})
    for arguments, words in (
        (["posterior.flow", "--given", "a=1"], "takes no condition"),
        (["plain.flow", "--resample"], "only draws of a posterior"),
        (["plain.flow", "--given", "c0"], "names and numbers"),
        (["plain.flow", "--num", "0"], "--num"),
        (["plain.flow", "--out", "no/where.csv"], "no folder no"),
        (["nowhere.flow"], "no file nowhere.flow"),
        (["data.csv"], "not a file of pushforward.save"),
        (["other"], "holds a dict"),
    ):
        assert main(["sample", *arguments]) == 2
        assert words in said(capsys)


@pytest.fixture
def saved(folder):
    pf.flows.linear(2, key=jr.key(0)).save("plain.flow")
    return folder


def test_saved_files_are_never_overwritten(saved, capsys):
    (saved / "sub").mkdir()
    os.symlink("plain.flow", "link.csv")
    os.link("plain.flow", "hard.csv")
    pf.save("other.npz", {"a": np.ones(2)})
    content = {name: (saved / name).read_bytes() for name in ("plain.flow", "other.npz")}
    for out in ("plain.flow", "./sub/../plain.flow", str(saved / "plain.flow"), "link.csv", "hard.csv"):
        assert main(["sample", "plain.flow", "--out", out]) == 2
        assert "is the saved file itself" in said(capsys)
    assert main(["sample", "link.csv", "--out", "plain.flow"]) == 2
    assert main(["sample", "plain.flow", "--out", "other.npz"]) == 2
    assert "other.npz is a file of pushforward.save" in said(capsys)
    assert main(["sample", "plain.flow", "--out", "sub"]) == 2
    assert "sub is a folder" in said(capsys)
    assert content == {name: (saved / name).read_bytes() for name in content} and os.path.islink("link.csv")


@pytest.mark.parametrize("suffix", ["csv", "npz"])
def test_a_failure_names_the_file_that_was_not_written(suffix, saved, capsys, monkeypatch):
    out = saved / f"draws.{suffix}"
    out.write_text("old")

    def fail(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np.lib.format, "write_array", fail)
    monkeypatch.setattr("pushforward.density.data.tables.write_text", fail)
    assert main(["sample", "plain.flow", "--out", out.name]) == 2
    words = said(capsys)
    assert f"not written to {out.name}: OSError: [Errno 28]" in words and "plain.flow" not in words
    assert out.read_text() == "old" and sorted(os.listdir()) == ["data.csv", out.name, "plain.flow"]


def test_forged_objects_are_one_error(saved, capsys, monkeypatch):
    """A file can hold a flow whose fields are of wrong types."""
    flow = object.__new__(pf.Flow)
    vars(flow).update(base=1, bijection="text")
    pf.save("forged.flow", flow)
    assert main(["sample", "forged.flow"]) == 2
    assert "forged.flow: drawing raised AttributeError" in said(capsys)


def test_a_reader_that_has_enough(saved, monkeypatch):
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as pipe:
        monkeypatch.setattr("sys.stdout", pipe)
        sample._write({"x": np.zeros(10_000)}, None)
