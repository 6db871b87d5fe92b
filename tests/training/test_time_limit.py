"""Time limits: what is measured, which steps and stages are affordable, and that a fit obeys."""

import math

import jax.random as jr
import pytest

import pushforward as pf
from pushforward.training.checkpoint import Checkpoint
from pushforward.training.optimizers import cosine_decay
from pushforward.training.rounds import Round, Rounds
from pushforward.training.run import Run
from pushforward.training.time_limit import TimeLimit
from training_cases import simple_flow, target


def limit_with(per_step, remaining):
    limit = TimeLimit(100.0, lambda: 100.0 - remaining)
    limit.per_step, limit.per_evaluation = per_step, 2.0
    return limit


def test_without_a_limit_nothing_is_measured_and_all_is_affordable():
    limit = TimeLimit(None, lambda: pytest.fail("no need for the time"))
    limit.measure(lambda num: pytest.fail("no need for a measurement"))
    limit.require(10**9, 10**9)
    assert limit.remaining == math.inf
    assert not limit.is_up
    assert limit.affordable(250) == 250


@pytest.mark.parametrize(("per_step", "expected"), [(0.0, 250), (0.01, 250), (0.1, 80), (20.0, 1)])
def test_steps_leave_time_for_their_evaluation(per_step, expected):
    assert limit_with(per_step, 10.0).affordable(250) == expected


def test_no_time_is_left_for_steps_too_short_to_be_measured():
    assert limit_with(0.0, 1.0).affordable(250) == 1


def test_a_round_leaves_time_for_its_evaluations():
    assert limit_with(0.1, 10.0).affordable(250, evaluate_every=50) == 57  # (10 - 2) / (0.1 + 2 / 50)
    assert limit_with(0.1, 1000.0).affordable(250, evaluate_every=50) == 250


def test_the_time_is_up_if_a_step_and_its_evaluation_do_not_fit():
    assert not limit_with(1.0, 3.5).is_up
    assert limit_with(1.0, 2.5).is_up


def test_a_stage_that_cannot_be_finished_is_left_out():
    limit = limit_with(0.1, 30.0)
    limit.require(200, 2)
    assert not limit.left_out
    limit.require(300, 2)
    assert limit.left_out
    assert limit.is_up


def train(run, stage, *steps, min_gain=-math.inf, enough=lambda model, index, gain: False):
    rounds = Rounds([Round(num, 0.05, min_gain) for num in steps], enough)
    options = {"optimizer": cosine_decay(), "steps": 1000, "evaluate_every": 100, "rounds": rounds}
    return run.train(stage, simple_flow(), pf.ReverseKL(target, 4), jr.key(0), **options)


def test_the_first_stage_is_shortened_and_later_ones_are_left_out():
    """The clock counts the steps: one second for each."""
    with Run("fit", 2000, Checkpoint(None, dict, jr.key(0)), seconds=450.0) as run:
        run.limit = limit = TimeLimit(450.0, lambda: float(sum(len(losses) for losses in run._losses)))

        def measure(advance):
            limit.per_step, limit.per_evaluation = 1.0, 0.0

        limit.measure = measure
        first = train(run, "first", 400, 1200)
        assert first.reason == "stopped"
        assert [e.step for e in run.history.evaluations] == [0, 100, 200, 300, 400, 450]
        assert run.ended
    with Run("fit", 2000, Checkpoint(None, dict, jr.key(0)), seconds=1450.0) as run:
        run.limit = limit = TimeLimit(1450.0, lambda: float(sum(len(losses) for losses in run._losses)))
        limit.measure = measure
        assert train(run, "first", 400, 1200).reason == "steps"
        # The first round takes 600 steps.
        assert train(run, "second", 600).reason == "stopped"
        assert len(run.history.losses) == 1000
        assert limit.left_out
        assert run.ended


@pytest.mark.parametrize(("enough", "reason"), [(False, "stopped"), (True, "plateau")])
def test_a_shortened_round_without_a_gain_is_no_plateau(enough, reason):
    """It ends before the limit, because its last steps were faster than those that were timed."""
    options = {"min_gain": math.inf, "enough": lambda model, index, gain: enough}
    with Run("fit", 2000, Checkpoint(None, dict, jr.key(0)), seconds=450.0) as run:
        run.limit = limit = TimeLimit(450.0, lambda: 0.5 * sum(len(losses) for losses in run._losses))

        def measure(advance):
            limit.per_step, limit.per_evaluation = 1.0, 0.0

        limit.measure = measure
        assert train(run, "first", 600, **options).reason == reason
        assert [e.step for e in run.history.evaluations] == [0, 100, 200, 300, 400, 450]
        assert limit.remaining > 200
        assert run.ended == (not enough)
        assert train(run, "second", 100).reason == ("plateau" if enough else "stopped")
