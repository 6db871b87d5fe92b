"""Stages of posterior fits: their rounds and their share of the budget."""

import math

import pytest

from pushforward.posterior import stages
from pushforward.posterior.objective import NUM_SAMPLES
from pushforward.posterior.stages import CHUNK, Stage

STAGES = [value for value in vars(stages).values() if isinstance(value, Stage)]


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_rounds_are_whole_chunks_and_grow(stage):
    assert all(num % CHUNK == 0 for num in stage.steps)
    assert sorted(stage.steps) == list(stage.steps)


def test_the_gain_of_a_plateau_grows_with_the_dimension():
    gains = [stages.FLOW.rounds(dim, lambda flow, index, gain: False).rounds[1].min_gain for dim in (1, 64, 640)]
    long = stages.HIERARCHICAL.rounds(640, lambda flow, index, gain: False).rounds[-1]
    assert long.min_gain == pytest.approx(10 * stages.LONG_GAIN)
    assert gains == pytest.approx([stages.MIN_GAIN, stages.MIN_GAIN, 10 * stages.MIN_GAIN])


def test_new_layers_over_a_trained_flow_have_two_rounds():
    rounds = stages.COUPLINGS.rounds(64, lambda flow, index, gain: False).rounds
    assert [one.min_gain for one in rounds[1:]] == [-math.inf, stages.MIN_GAIN]


def test_steps_stay_within_the_budget():
    stage = stages.FLOW._replace(share=0.5)
    assert stage.num_steps(4000 * NUM_SAMPLES, 0) == 2000
    assert stage.num_steps(4000 * NUM_SAMPLES, 900) == 1000
    assert stage.num_steps(4000 * NUM_SAMPLES, 3000) == 0
    assert stage.num_steps(NUM_SAMPLES, 0) == 0
