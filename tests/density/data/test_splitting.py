"""The number of held-out rows is as requested, and none of them is a copy of a training row."""

import jax.random as jr
import numpy as np
import pytest

from pushforward.density.data import splitting

RNG = np.random.default_rng(0)
UNIQUE = RNG.normal(size=(500, 2))
NONE = np.zeros(2)


def held_out(x, steps=NONE, condition=None, share=0.1, seed=0):
    rows = np.arange(len(x))
    split = splitting.split_rows(rows, x, condition, steps, round(share * len(x)), jr.key(seed))
    return split.is_held_out(rows, splitting.hash_rows((x, condition)))


def share_of_copies(x, is_held_out):
    return np.isin(splitting.hash_rows((x[is_held_out],)), splitting.hash_rows((x[~is_held_out],))).mean()


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_exact_share_of_unique_rows(share):
    assert held_out(UNIQUE, share=share).sum() == round(share * 500)
    assert (held_out(UNIQUE, share=share) != held_out(UNIQUE, share=share, seed=1)).any()


@pytest.mark.parametrize(
    "x",
    [
        np.tile(UNIQUE, (2, 1)),
        np.repeat(UNIQUE, 10, axis=0),
        UNIQUE[RNG.integers(0, 500, 500)],
        np.concatenate([UNIQUE, np.repeat(UNIQUE[:5], 40, axis=0)]),  # one class, oversampled
        np.round(RNG.normal(size=(2000, 2)), 1),
        np.tile(UNIQUE * [0, 1], (2, 1)) * [-1, 1],  # -0 equals 0
    ],
)
def test_copies_stay_together(x):
    found = held_out(x)
    assert share_of_copies(x, found) == 0
    assert found.mean() == pytest.approx(0.1, abs=0.025)


def test_coincidences_are_assigned_independently():
    """All rows of a table of counts may be coincidences; so may a value that many rows have."""
    counts = RNG.poisson(2.0, size=(3000, 2)).astype(float)
    assert held_out(counts, steps=np.ones(2)).sum() == 300
    given = RNG.integers(0, 20, size=(3000, 1)).astype(float)
    found = held_out(counts, np.ones(2), given)
    assert found.sum() == 300 and share_of_copies(np.hstack([counts, given]), found) > 0.5
    zeros = np.where(RNG.uniform(size=(3000, 1)) < 0.3, 0.0, RNG.normal(size=(3000, 1)))
    found = held_out(zeros, np.zeros(1))
    assert found.sum() == 300 and np.mean(zeros[found] == 0) == pytest.approx(0.3, abs=0.1)
    few = RNG.integers(0, 2, size=(40, 1)).astype(float)
    assert held_out(few, np.zeros(1)).sum() == 4


def test_copies_of_counts_with_a_condition_stay_together():
    counts, given = RNG.poisson(2.0, size=(500, 2)).astype(float), RNG.normal(size=(500, 1))
    twice, given = np.tile(counts, (2, 1)), np.tile(given, (2, 1))
    found = held_out(twice, np.ones(2), given)
    assert share_of_copies(np.hstack([twice, given]), found) == 0
