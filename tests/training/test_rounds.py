"""Rounds of training: the decay of the learning rate, when they are over, and what is kept between them."""

import math

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

import pushforward as pf
from pushforward.training.checkpoint import Checkpoint
from pushforward.training.history import Evaluation
from pushforward.training.optimizers import averaged, cosine_decay, restarted
from pushforward.training.rounds import Round, Rounds
from pushforward.training.run import Run
from training_cases import simple_flow, target


def records(*losses_of_rounds):
    """Evaluations of rounds, the first before the first step."""
    first, *rounds = losses_of_rounds
    indices = [0, *(i for i, losses in enumerate(rounds) for _ in losses)]
    losses = [first, *(loss for losses in rounds for loss in losses)]
    return [
        Evaluation("flow", index, 0, 0.0, loss, math.nan, math.nan, 0, {})
        for index, loss in zip(indices, losses, strict=True)
    ]


THREE = [Round(100, 0.1, 0.1), Round(300, 0.1, 0.1), Round(900, 0.1, 0.1)]


@pytest.mark.parametrize(
    ("losses", "index", "over"),
    [
        ((5.0, [4.0, 3.0]), 0, False),
        ((5.0, [4.0, 4.95]), 0, False),  # the best of the round counts
        ((5.0, [5.5, 4.95]), 0, True),
        ((5.0, [4.0, 3.0], [3.5, 2.95]), 1, True),
        ((5.0, [4.0, 3.0], [3.5, 2.5]), 1, False),
        ((5.0, [4.0], [3.0], [2.0]), 2, True),  # the last round
        ((math.inf, [4.0]), 0, False),
        ((math.nan, [4.0]), 0, False),
        ((5.0, [4.0, 5.5]), 0, False),  # its rate was too high
        ((5.0, [math.nan, math.inf]), 0, False),
        ((5.0, [4.0], [3.5], [5.5]), 2, True),
        ((math.nan, [math.nan]), 0, True),
    ],
)
def test_another_round_follows_a_gain(losses, index, over):
    assert Rounds(THREE).are_over(records(*losses), index, None) == over


def test_a_long_round_follows_a_larger_gain_only():
    rounds = Rounds([*THREE[:2], Round(900, 0.1, min_gain=1.0)])
    assert not rounds.are_over(records(5.0, [4.5]), 0, None)
    assert rounds.are_over(records(5.0, [4.5], [4.0]), 1, None)
    assert not rounds.are_over(records(5.0, [4.5], [3.0]), 1, None)


def test_after_a_round_that_ends_worse_than_it_began_the_rates_are_lower():
    rounds = Rounds(THREE)
    assert rounds.next(records(5.0, [4.0]), 0).rate == 0.1
    assert rounds.next(records(5.0, [4.0, 5.05]), 0).rate == 0.1  # noise
    assert rounds.next(records(5.0, [4.0, 5.5]), 0).rate == 0.025
    assert rounds.next(records(5.0, [5.5], [4.5]), 1).rate == 0.025
    assert rounds.next(records(5.0, [5.5], [math.nan]), 1).rate == 0.1 / 16
    assert rounds.next(records(math.nan, [5.5]), 0).rate == 0.1
    good = Rounds(THREE, enough=lambda model, index, gain: (model, gain) == ("good", math.inf))
    assert good.are_over(records(5.0, [5.5]), 0, "good")
    assert not good.are_over(records(5.0, [5.5]), 0, "bad")


def test_a_round_that_is_good_enough_is_the_last():
    rounds = Rounds(THREE, enough=lambda model, index, gain: (model, index, gain) == ("good", 0, 3.0))
    assert not rounds.are_over(records(5.0, [3.0, 2.0]), 0, "bad")
    assert rounds.are_over(records(5.0, [3.0, 2.0]), 0, "good")
    assert not rounds.are_over(records(5.0, [3.0], [2.0]), 1, "good")


@pytest.mark.parametrize("wrap", [lambda optimizer: optimizer, averaged, lambda o: optax.chain(o, optax.identity())])
def test_the_learning_rate_decays_along_half_a_cosine(wrap):
    optimizer, parameters, gradient = wrap(cosine_decay()), {"a": jnp.zeros(2)}, {"a": jnp.ones(2)}
    state = restarted(optimizer.init(parameters), parameters, 0.3, 4)
    for expected in (0.3, 0.3 * (1 + math.sqrt(0.5)) / 2, 0.15, 0.3 * (1 - math.sqrt(0.5)) / 2, 0.0, 0.0):
        updates, state = optimizer.update(gradient, state, parameters)
        np.testing.assert_allclose(updates["a"], -expected, atol=1e-7)


def fit(steps, evaluate_every=50, min_gain=-math.inf, **options):
    rounds = Rounds([Round(100, 0.1, min_gain), Round(300, 0.1, min_gain)])
    optimizer = averaged(optax.chain(optax.scale_by_adam(), cosine_decay()))
    with Run("fit", 1000, Checkpoint(None, dict, jr.key(0))) as run:
        trained = run.train(
            "flow", simple_flow(), pf.ReverseKL(target, 16), jr.key(0), optimizer=optimizer, steps=steps,
            evaluate_every=evaluate_every, rounds=rounds, **options,
        )  # fmt: skip
        return trained, run.history


def test_rounds_follow_each_other_and_the_last_one_is_shortened():
    trained, history = fit(1000)
    assert trained.reason == "plateau"
    assert [(e.step, e.rate_index) for e in history.evaluations] == [
        (0, 0), (50, 0), (100, 0), *((step, 1) for step in range(150, 401, 50))
    ]  # fmt: skip
    trained, history = fit(220)
    assert trained.reason == "steps"
    assert [e.step for e in history.evaluations] == [0, 50, 100, 150, 200, 220]


def test_no_gain_ends_the_rounds():
    trained, history = fit(1000, min_gain=1e9)
    assert trained.reason == "plateau"
    assert len(history.losses) == 100


def test_without_steps_nothing_is_trained():
    trained, history = fit(0)
    assert len(history.losses) == 0
    assert eqx.tree_equal(trained.model, simple_flow())
