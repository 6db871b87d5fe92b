"""Fits of posteriors that are killed and resumed."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import pushforward as pf
from products import few


def banana(x):
    return -0.5 * (x[0] ** 2 + (x[1] - x[0] ** 2) ** 2 / 0.25)


class Killed(Exception):
    pass


def fit(path=None, *, density=banana, key=0, budget=300_000, callback=None, flow=None):
    target = pf.Target(density, jnp.zeros(2))
    return pf.fit_posterior(target, key=jr.key(key), budget=budget, callback=callback, checkpoint=path, flow=flow)


@pytest.fixture(scope="module")
def whole():
    return fit()


def assert_same(one, other):
    assert one.pool.tobytes() == other.pool.tobytes()
    assert one.pool_weights.tobytes() == other.pool_weights.tobytes()
    assert one.diagnostics == other.diagnostics
    assert one.history.losses.tobytes() == other.history.losses.tobytes()


@pytest.mark.parametrize("stage", few(["gaussian", "flow"], "flow"))
def test_resumes_to_the_bit_in_each_stage(stage, whole, tmp_path):
    path, seen = tmp_path / "checkpoint", []

    def kill(progress):
        seen.append(progress)
        if progress.stage == stage:
            raise Killed

    with pytest.raises(Killed):
        fit(path, callback=kill)
    resumed = fit(path, callback=seen.append)
    assert len(seen) == len([r for r in whole.history.evaluations if r.training_loss == r.training_loss])
    assert_same(resumed, whole)
    assert_same(fit(path, callback=lambda progress: pytest.fail("there is nothing left to train")), whole)


def test_another_fit_is_named_and_its_checkpoint_untouched(tmp_path):
    path = tmp_path / "checkpoint"
    fit(path, budget=1000)
    before = path.read_bytes()
    others = {
        "target": {"density": lambda x: banana(x) - 0.1 * x[0]},
        "key": {"key": 1},
        "budget": {"budget": 2000},
        "flow": {"flow": pf.flows.linear(2, key=jr.key(1))},
    }
    for name, other in others.items():
        with pytest.raises(ValueError, match=f"another fit, which differs in: {name}"):
            fit(path, **({"budget": 1000} | other))
    with pytest.raises(ValueError, match="another fit, which differs in: .*fit"):
        pf.train(pf.flows.linear(2, key=jr.key(1)), pf.ReverseKL(banana), key=jr.key(0), checkpoint=path)
    assert path.read_bytes() == before


@pytest.mark.conformance
def test_an_amortized_fit_resumes(tmp_path):
    def log_density(draw, data):
        return -0.5 * draw**2 - 0.5 * jnp.sum((data - draw) ** 2)

    target = pf.ConditionalTarget(log_density, jnp.array(0.0), jnp.zeros(2))
    data = np.random.default_rng(0).normal(size=(40, 2))

    def fit(path=None, callback=None):
        return pf.fit_amortized(target, data, key=jr.key(0), steps=60, checkpoint=path, callback=callback)

    def kill(progress):
        if progress.step == 30:
            raise Killed

    whole, path = fit(), tmp_path / "checkpoint"
    with pytest.raises(Killed):
        fit(path, kill)
    resumed = fit(path, lambda progress: progress.step <= 30 and pytest.fail("did not resume"))
    assert resumed.history.losses.tobytes() == whole.history.losses.tobytes()
    draws = [p.sample(jr.key(1), jnp.ones(2), 10) for p in (whole, resumed)]
    assert draws[0].tobytes() == draws[1].tobytes()
