"""Trainings that are interrupted, killed and resumed: the result is bitwise identical."""

import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist
import optax
import pytest

import pushforward as pf
from pushforward import bijections as bj
from pushforward.training.checkpoint import INITIAL_STATE, KIND
from pushforward.training.trainer import Trainer
from training_cases import Killed, simple_flow

DATA = np.random.default_rng(0).normal(size=(200, 2)) * [0.5, 2.0] + [1.0, -2.0]
OPTIMIZER = optax.adam(0.05)


def train(path=None, *, data=DATA, batch_size=16, key=0, steps=40, flow=None, optimizer=OPTIMIZER, **options):
    flow = simple_flow() if flow is None else flow
    objective = pf.ForwardKL(data, batch_size=batch_size)
    return pf.train(
        flow,
        objective,
        key=jr.key(key),
        steps=steps,
        optimizer=optimizer,
        num_evaluations=10,
        checkpoint=path,
        **options,
    )


def assert_same(one, other):
    """The same bits in all arrays, and the same history apart from times."""
    for a, b in zip(jax.tree.leaves(one[0]), jax.tree.leaves(other[0]), strict=True):
        assert not eqx.is_array(a) or (a.dtype == b.dtype and np.asarray(a).tobytes() == np.asarray(b).tobytes())
    assert one[1].losses.tobytes() == other[1].losses.tobytes()
    records = [[record._replace(seconds=0.0) for record in history.evaluations] for _, history in (one, other)]
    assert str(records[0]) == str(records[1])


@pytest.mark.parametrize("at", [4, 20, 36])
def test_resumed_results_are_bitwise_identical(at, tmp_path):
    path, expected = tmp_path / "checkpoint", train()

    def kill(progress):
        if progress.step == at:
            raise Killed

    with pytest.raises(Killed):
        train(path, callback=kill)
    steps = []
    resumed = train(path, callback=lambda progress: steps.append(progress.step))
    assert steps[0] == at + 4 and steps[-1] == 40
    assert_same(resumed, expected)
    assert_same(train(path, callback=lambda progress: pytest.fail("there is nothing left to do")), expected)


def test_a_plateau_ends_a_resumed_training_too(tmp_path):
    rule = pf.training.EarlyStopping(2)
    options = {"stopping": rule, "optimizer": optax.sgd(0.0), "steps": 40}
    expected = train(**options)
    assert len(expected[1].losses) == 8
    assert_same(train(tmp_path / "checkpoint", **options), expected)
    assert_same(train(tmp_path / "checkpoint", **options), expected)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"data": DATA + 1}, "objective"),
        ({"key": 1}, "key"),
        ({"steps": 50}, "steps"),
        ({"flow": pf.Flow(dist.Normal(jnp.zeros(2), 1.0).to_event(1), bj.Triangular(2))}, "model"),
        ({"optimizer": optax.sgd(0.1, momentum=0.9)}, "optimizer"),
        ({"optimizer": optax.adam(0.04)}, "optimizer"),
        ({"batch_size": 8}, "objective"),
        ({"batches": pf.training.Rows((DATA[:100], None), batch_size=16)}, "batches"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_another_training_is_named_and_its_checkpoint_untouched(change, named, tmp_path):
    path = tmp_path / "checkpoint"
    train(path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=f"another fit, which differs in: .*{named}"):
        train(path, **change)
    assert path.read_bytes() == before


def test_other_options_and_other_code_of_a_density_are_named(tmp_path):
    path = tmp_path / "checkpoint"

    def fit(scale=1.0, **options):
        objective = pf.Renyi(lambda x: -0.5 * jnp.sum((scale * x) ** 2), **options)
        return pf.train(simple_flow(), objective, key=jr.key(0), steps=4, num_evaluations=2, checkpoint=path)

    expected = fit(alpha=0.5)
    with pytest.raises(ValueError, match="differs in: objective"):
        fit(alpha=0.4)
    with pytest.raises(ValueError, match="differs in the loss of the initial model: it was .* and is "):
        fit(scale=2.0, alpha=0.5)
    assert_same(fit(alpha=0.5), expected)


@pytest.mark.parametrize("inside", [lambda fn: fn, jax.jit], ids=["plain", "jit"])
@pytest.mark.parametrize("as_array", [np.asarray, jnp.asarray], ids=["numpy", "jax"])
def test_another_table_of_learning_rates_is_named(inside, as_array, tmp_path):
    def with_table(rate):
        table = as_array(np.full(40, rate))
        return optax.sgd(inside(lambda count: jnp.asarray(table)[count]))

    path = tmp_path / "checkpoint"
    expected = train(path, optimizer=with_table(0.05))
    with pytest.raises(ValueError, match="differs in: optimizer"):
        train(path, optimizer=with_table(0.04))
    assert_same(train(path, optimizer=with_table(0.05)), expected)


def test_another_precision_is_named_and_its_checkpoint_untouched(tmp_path):
    path = tmp_path / "checkpoint"
    train(path)
    before = path.read_bytes()
    with jax.enable_x64(False), pytest.raises(ValueError, match="differs in: .*precision"):
        train(path)
    assert path.read_bytes() == before


def test_resumes_after_an_interruption_of_the_first_steps(tmp_path, monkeypatch):
    """The given model, evaluated before the first step, stays the best one if training makes it worse."""
    path, options = tmp_path / "checkpoint", {"optimizer": optax.sgd(-1e-3)}
    expected = train(**options)
    advance, calls = Trainer.advance, []

    def interrupted(*args):
        calls.append(args)
        if len(calls) == 2:
            raise Killed
        return advance(*args)

    monkeypatch.setattr(Trainer, "advance", interrupted)
    with pytest.raises(Killed):
        train(path, **options)
    monkeypatch.setattr(Trainer, "advance", advance)
    assert_same(train(path, **options), expected)


def test_a_training_goes_on_if_its_checkpoint_cannot_be_written(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()

    def remove(progress):
        if progress.step == 4:
            shutil.rmtree(folder)

    with pytest.warns(UserWarning, match="the checkpoint .* could not be written"):
        _, history = train(folder / "checkpoint", callback=remove)
    assert len(history.losses) == 40


def test_another_version_is_named(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint"
    train(path)
    monkeypatch.setattr(pf.training.checkpoint.metadata, "version", lambda name: "9.9.9")
    with pytest.raises(ValueError, match="differs in: version"):
        train(path)


def test_another_file_is_refused(tmp_path):
    path = tmp_path / "checkpoint"
    pf.save(path, {"a": 1})
    with pytest.raises(ValueError, match="not a checkpoint of a fit"):
        train(path)
    for forged in ({"facts": [1]}, {"state": None}, {"state": INITIAL_STATE._replace(current=[1, "text"])}):
        pf.save(path, {"kind": KIND, "facts": {}, "state": INITIAL_STATE} | forged)
        with pytest.raises(ValueError, match="not a checkpoint of a fit"):
            train(path)
    path.write_text("text")
    with pytest.raises(ValueError, match="not a file of pushforward.save"):
        train(path)
    assert path.read_text() == "text"


def test_a_folder_that_is_not_there_is_an_error_before_training(tmp_path):
    with pytest.raises(OSError):
        train(tmp_path / "nowhere" / "checkpoint", callback=lambda progress: pytest.fail("training has begun"))


def test_parts_of_files_of_killed_processes_are_removed(tmp_path):
    parts = [tmp_path / f".{name}.{'0123' * 8}.part" for name in ("checkpoint", "other")]
    swap = tmp_path / ".checkpoint.swp"
    for file in (*parts, swap):
        file.write_text("part")
    train(tmp_path / "checkpoint")
    assert set(tmp_path.iterdir()) == {tmp_path / "checkpoint", parts[1], swap}


def test_the_callback_stops_a_training_for_good(tmp_path):
    path = tmp_path / "checkpoint"
    stopped = train(path, callback=lambda progress: progress.step == 8)
    assert len(stopped[1].losses) == 8
    assert_same(train(path), stopped)


@pytest.mark.parametrize("how", ["exception", "signal"])
def test_ctrl_c_keeps_the_best_and_the_checkpoint_goes_on(how, tmp_path):
    path, expected = tmp_path / "checkpoint", train()

    def interrupt(progress):
        if progress.step == 12:
            if how == "exception":
                raise KeyboardInterrupt
            os.kill(os.getpid(), signal.SIGINT)

    _, history = train(path, callback=interrupt)
    assert len(history.losses) == 12
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert_same(train(path), expected)


SCRIPT = """
import sys, jax
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_disable_most_optimizations", True)
sys.path[:0] = {folders!r}
from test_checkpoint import train
train({path!r})
"""


def test_a_killed_process_resumes(tmp_path):
    """SIGKILL at some moment of a training in another process."""
    path, steps = tmp_path / "checkpoint", 400_000
    folders = [str(folder) for folder in Path(__file__).parents[:2]]  # of this file and of the shared cases
    script = textwrap.dedent(SCRIPT).format(folders=folders, path=str(path))
    script = script.replace("train(", f"train(steps={steps}, path=")
    with subprocess.Popen([sys.executable, "-c", script]) as process:
        while not (path.exists() and len(pf.load(path)["state"].history.losses)):
            assert process.poll() is None
        process.kill()
    taken = len(pf.load(path)["state"].history.losses)
    assert 0 < taken < steps
    resumed, expected = train(path, steps=steps), train(steps=steps)
    assert_same(resumed, expected)
