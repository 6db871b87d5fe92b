"""A fit: the best of its evaluations, what its callback receives, and losses that are never finite."""

import warnings

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

import pushforward as pf
from pushforward import bijections as bj
from pushforward.training.checkpoint import Checkpoint
from pushforward.training.run import Run
from training_cases import NORMAL, assert_trees_close, plain_loop, simple_flow, target, train


def test_no_finite_estimate_at_all_is_an_error():
    with pytest.raises(FloatingPointError, match="no estimate of the loss was finite in 6 steps"):
        train(simple_flow(), pf.ReverseKL(lambda x: jnp.nan * x[0], 4), key=jr.key(0), steps=6)


def test_the_best_is_kept():
    """The step size explodes half way: what is returned is the best by fresh estimates, not the last."""
    optimizer = optax.sgd(optax.piecewise_constant_schedule(0.05, {50: 1e4}))
    objective, fresh = pf.ReverseKL(target, 16), {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trained, losses = train(
            simple_flow(),
            objective,
            key=jr.key(0),
            steps=100,
            optimizer=optimizer,
            num_evaluations=10,
            callback=lambda progress: fresh.update({progress.step: progress.loss}),
        )
    assert [*fresh] == [*range(10, 101, 10)]
    assert not losses[-1] < 1e3
    best = min(fresh, key=lambda n: fresh[n] if np.isfinite(fresh[n]) else np.inf)
    assert best <= 50
    _, evaluation_key = jr.split(jr.key(0))
    np.testing.assert_allclose(objective.evaluate(trained, evaluation_key), fresh[best], rtol=1e-10)
    again, _ = plain_loop(simple_flow(), objective, jr.key(0), best, optimizer)
    assert_trees_close(trained, again, 1e-10)


def received(steps, num_evaluations):
    """What the callback of a training receives."""
    calls = []
    options = {"steps": steps, "num_evaluations": num_evaluations, "callback": calls.append}
    train(simple_flow(), pf.ReverseKL(target, 4), key=jr.key(0), **options)
    return calls


def test_the_callback_receives_the_steps_and_the_fresh_loss():
    calls = received(7, 3)
    assert [progress.step for progress in calls] == [3, 6, 7]
    assert all(type(progress.loss) is float for progress in calls)
    assert calls[-1].loss < calls[0].loss


def test_what_the_callback_receives_is_shown_without_its_model():
    [progress] = received(2, 1)
    assert (
        repr(progress)
        == str(progress)
        == (
            f"Progress(stage={progress.stage!r}, step=2, loss={progress.loss!r}, best_loss={progress.best_loss!r}, "
            f"seconds={progress.seconds!r}, metrics={progress.metrics!r})"
        )
    )


def test_factorizations_have_one_thread_while_a_fit_runs():
    def num_threads():
        return {found["num_threads"] for found in threadpool_info() if found["user_api"] == "blas"}

    def check(progress):
        assert num_threads() == {1}

    with threadpool_limits(2, user_api="blas"):
        train(simple_flow(), pf.ReverseKL(target, 4), key=jr.key(0), steps=2, callback=check)
        assert num_threads() == {2}


def test_many_arrays_of_parameters_trained_as_one_vector_give_the_same_model():
    layers = [bj.Triangular(2), bj.Elementwise(bj.SinhArcsinh(), 2), bj.Triangular(2)]
    flow = pf.Flow(NORMAL, bj.Chain(layers * 3))
    models = []
    for quick in (False, True):
        with Run("training", 40, Checkpoint(None, dict, jr.key(0))) as run:
            trained = run.train(
                "training", flow, pf.ReverseKL(target, 8), jr.key(1),
                optimizer=optax.adam(1e-2), steps=40, evaluate_every=20, quick_compilation=quick,
            )  # fmt: skip
        models.append(trained.model)
    assert_trees_close(*models, rtol=1e-6)
    assert not np.allclose(models[0].bijection.forward(jnp.zeros(2)), 0)
