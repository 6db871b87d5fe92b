"""Early stopping as a function of the losses."""

import numpy as np
import pytest

from pushforward.training import EarlyStopping
from pushforward.training.history import Evaluation
from pushforward.training.stopping import has_diverged


def waited_in_a_loop(losses, patience):
    """The textbook loop: a counter that a new best resets."""
    best, waited = np.inf, 0
    for loss in losses:
        waited += 1
        if loss < best:
            best, waited = loss, 0
        if waited >= patience:
            return True
    return False


@pytest.mark.parametrize("patience", [1, 2, 5])
@pytest.mark.parametrize("seed", range(5))
def test_equals_the_textbook_loop(patience, seed):
    losses = np.random.default_rng(seed).normal(size=40).cumsum() * -0.1 + np.random.default_rng(seed).normal(size=40)
    rule = EarlyStopping(patience)
    stopped = False
    for count in range(1, len(losses) + 1):
        stopped = stopped or rule(losses[:count])
        assert stopped == waited_in_a_loop(losses[:count], patience)


def test_small_gains_do_not_count():
    assert not EarlyStopping(2, min_delta=0.1)([3.0, 2.9, 2.7])
    assert EarlyStopping(2, min_delta=0.1)([3.0, 2.9, 2.81])


def test_evaluations_before_the_start_do_not_count():
    rule, losses = EarlyStopping(2, start=3), [1.0, 2.0, 2.0, 2.0, 2.0]
    assert [rule(losses[:count]) for count in range(1, 6)] == [False, False, False, False, True]


def test_losses_that_are_not_finite_are_no_progress():
    rule = EarlyStopping(2)
    assert rule([1.0, np.nan, np.inf])
    assert not rule([np.nan, np.nan, 1.0])
    assert rule([np.nan, np.inf, np.nan])


@pytest.mark.parametrize(
    ("losses", "training_losses", "diverged"),
    [
        ([3.0, 2.5, 9.0, 80.0, 70.0], [np.nan, 2.8, 6.0, 50.0, 90.0], True),
        ([3.0, 2.5, np.nan, np.inf], [np.nan, 2.8, np.nan, np.nan], True),
        # Steps that were finite by chance do not hide the others.
        ([3.0, 2.5, 9.0, 2.9, np.nan], [np.nan, 2.8, 30.0, 2.7, np.nan], True),
        # An overfitted model, noise, and a training that has not begun.
        ([3.0, 2.5, 9.0, 80.0, 70.0], [np.nan, 2.8, 2.0, 1.5, 1.0], False),
        ([3.0, 3.1, 3.2, 3.1], [np.nan, 3.3, 3.4, 3.2], False),
        ([3.0], [np.nan], False),
    ],
)
def test_divergence_is_a_rise_of_the_training_loss(losses, training_losses, diverged):
    records = [Evaluation("a", 0, 0, 0.0, *pair, 0.0, 0, {}) for pair in zip(losses, training_losses, strict=True)]
    assert has_diverged(records) == diverged
