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


def shifted(loc):
    return pf.Flow(NORMAL, bj.Elementwise.each(bj.Affine, np.full(2, loc), np.ones(2)))


def loc_of(bijection):
    return float(bijection.scalars.loc[0])


def by_halves(num, took, run):
    """A method that halves the location of a flow in each of its steps, of two batches, until the fit has ended."""
    loc = 1.0
    for _ in range(num):
        if run.ended:
            break
        flow = shifted(loc)
        assert took(loc**2, np.array([loc**2, np.nan]), flow) == loc**2
        loc /= 2
    return flow


def test_steps_of_another_method_count(tmp_path):
    """They are in the history, the callback receives the best, and a resumed fit has them, without a new training."""
    calls, path = [], tmp_path / "checkpoint"
    for method in (lambda took: by_halves(3, took, run), lambda took: pytest.fail("it was trained again")):
        with Run("fit", 100, Checkpoint(path, dict, jr.key(0)), callback=calls.append) as run:
            trained = run.train_by("halves", shifted(1.0), method, to_result=lambda flow: flow.bijection)
            objective, optimizer = pf.ReverseKL(target, 4), optax.adam(1e-2)
            last = run.train(
                "adam", trained.model, objective, jr.key(1), optimizer=optimizer, steps=5, evaluate_every=5
            )
        assert loc_of(trained.model.bijection) == 0.25 and (trained.loss, trained.best_step) == (0.0625, 4)
        assert run.steps == len(run.history.losses) == 11 and run.history.skipped == 3
        assert [(r.stage, r.step) for r in run.history.evaluations] == [
            ("halves", 2), ("halves", 4), ("halves", 6), ("adam", 6), ("adam", 11)
        ]  # fmt: skip
        assert np.isfinite(last.loss)
    assert [loc_of(call.model) for call in calls[:3]] == [1.0, 0.5, 0.25] and len(calls) == 4
    assert [call.best_loss for call in calls[:3]] == [1.0, 0.25, 0.0625]


@pytest.mark.parametrize("how", ["callback", "ctrl-c"])
def test_a_stage_of_another_method_that_ends_early(how, tmp_path):
    """After Ctrl-C a resumed fit begins it again; what the callback has ended stays as it is."""

    def stop(progress):
        if progress.step == 4 and how == "ctrl-c":
            run.interruption.request()
        return progress.step == 4 and how == "callback"

    for callback in (stop, None):
        with Run("fit", 100, Checkpoint(tmp_path / "checkpoint", dict, jr.key(0)), callback=callback) as run:
            trained = run.train_by("halves", shifted(1.0), lambda took: by_halves(3, took, run))  # noqa: B023
        num = 3 if callback is None and how == "ctrl-c" else 2
        assert loc_of(trained.model.bijection) == 2.0 ** (1 - num)
        assert run.steps == len(run.history.losses) == 2 * len(run.history.evaluations) == 2 * num
        assert trained.reason == ("reached" if num == 3 else "stopped") and run.ended == (num == 2)
