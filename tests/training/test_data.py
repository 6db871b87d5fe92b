"""Sources of batches."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import pushforward as pf
from pushforward.training import Epochs, NoBatches, Rows
from pushforward.training.data import evenly_spaced


def batches_of(source, steps, key=None, start=0):
    key = jr.key(0) if key is None else key
    carry, found = source.begin(key, jnp.array(start)), []
    step_of = jax.jit(lambda carry, step: source.next(carry, key, step))
    for step in range(start, steps):
        carry, batch = step_of(carry, jnp.array(step))
        found.append(batch)
    return found


def test_no_batches_are_none():
    assert batches_of(NoBatches(), 2) == [None, None]


def test_rows_are_drawn_with_their_other_arrays():
    rows = Rows((jnp.arange(10.0), {"c": 10 * jnp.arange(10.0)}), batch_size=7)
    for (x, others), weights in batches_of(rows, 3):
        assert x.shape == (7,) and weights is None
        np.testing.assert_array_equal(others["c"], 10 * x)


def test_rows_are_drawn_in_proportion_to_their_weights():
    weights = np.array([0.0, 1.0, 3.0, 0.0, 4.0])
    drawn = np.concatenate([x for x, _ in batches_of(Rows(jnp.arange(5), weights, 4000), 5)])
    counts = np.bincount(drawn, minlength=5)
    assert counts[0] == counts[3] == 0
    expected = len(drawn) * weights / weights.sum()
    np.testing.assert_array_less(np.abs(counts - expected)[[1, 2, 4]], 5 * np.sqrt(expected[[1, 2, 4]]))


def test_all_rows_come_with_their_weights():
    ((x, weights),) = batches_of(Rows(jnp.arange(3.0), np.array([1.0, 0.0, 2.0])), 1)
    np.testing.assert_array_equal(x, [0, 1, 2])
    np.testing.assert_array_equal(weights, [1, 0, 2])


def test_every_row_comes_once_an_epoch_in_a_new_order():
    source = Epochs(jnp.arange(12), 4)
    assert source.steps_per_epoch == 3
    epochs = np.concatenate(batches_of(source, 9)).reshape(3, 12)
    for epoch in epochs:
        assert sorted(epoch.tolist()) == [*range(12)]
    assert not (epochs[0] == epochs[1]).all() and not (epochs[1] == epochs[2]).all()


def test_the_last_rows_of_an_order_are_left_out():
    epochs = np.concatenate(batches_of(Epochs(jnp.arange(11), 4), 4)).reshape(2, 8)
    assert all(len(set(epoch.tolist())) == 8 for epoch in epochs)


@pytest.mark.parametrize("start", [1, 3, 4])
def test_epochs_go_on_from_any_step(start):
    source = Epochs(jnp.arange(12), 4)
    whole, rest = batches_of(source, 9), batches_of(source, 9, start=start)
    np.testing.assert_array_equal(np.stack(whole[start:]), np.stack(rest))


def test_epochs_refuse_batches_of_more_rows_than_there_are():
    with pytest.raises(ValueError, match="between 1 and the number of rows, 12, but is 13"):
        Epochs(jnp.arange(12), 13)


@pytest.mark.parametrize("source", [Rows, Epochs])
def test_rows_that_do_not_belong_together_are_refused(source):
    for values in ((jnp.zeros(10), jnp.zeros(5)), {"x": jnp.zeros((10, 2)), "y": 1.0}):
        with pytest.raises(ValueError, match="one length along the first axis, but have shapes"):
            source(values, batch_size=2)
    with pytest.raises(ValueError, match="batch_size must be a whole number between 1 and .* is 0"):
        source(jnp.zeros(10), batch_size=0)
    with pytest.raises(TypeError, match=f"batch_size must be a whole number .* is 10.0, in {source.__name__}"):
        source(jnp.zeros(10), batch_size=10.0)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones(4), r"shape \(10,\), one for each row, but have \(4,\)"),
        (np.ones((10, 1)), r"shape \(10,\)"),
        (np.zeros(10), "at least one must be positive, but the smallest is 0 and the largest 0"),
        (np.r_[np.nan, np.ones(9)], "finite"),
        (np.r_[np.inf, np.ones(9)], "finite"),
        (np.r_[-1.0, np.ones(9)], "not negative, .* the smallest is -1"),
    ],
    ids=["short", "column", "zero", "nan", "inf", "negative"],
)
def test_other_weights_are_refused(weights, message):
    for make in (Rows, lambda values, weights: pf.ForwardKL(values, weights=weights)):
        with pytest.raises(ValueError, match=message):
            make(jnp.zeros(10), weights)


@pytest.mark.parametrize(
    ("num_rows", "most", "expected"), [(10, 4, [0, 3, 6, 9]), (3, 8, [0, 1, 2]), (5, 1, [0]), (1, 1, [0])]
)
def test_evenly_spaced_rows(num_rows, most, expected):
    assert evenly_spaced(num_rows, most).tolist() == expected
