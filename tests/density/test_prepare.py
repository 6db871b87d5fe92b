"""Test rows are held out, and all samples are checked before."""

import jax.random as jr
import numpy as np
import pytest

import pushforward as pf


def test_test_rows_are_held_out():
    x = np.repeat(np.random.default_rng(0).normal(size=(100, 2)), 2, axis=0)
    holdout = pf.density.hold_out(x, 0.2, key=jr.key(0))
    assert sorted([*holdout.training, *holdout.test]) == [*range(200)] and len(holdout.test) == pytest.approx(
        40, abs=12
    )
    assert not np.isin(x[holdout.test, 0], x[holdout.training, 0]).any() and holdout.discrete == {}
    counts = np.random.default_rng(0).poisson(3.0, (200, 1)) * 0.5
    assert pf.density.hold_out(counts, 0.2, key=jr.key(0), discrete=[0]).discrete == {0: 0.5}
    with pytest.raises(ValueError, match="test_fraction must lie between 0 and 1, but is 2"):
        pf.density.hold_out(x, 2, key=jr.key(0))
    with pytest.raises(ValueError, match="row 7"):
        pf.density.hold_out(np.where(np.arange(200)[:, None] == 7, np.nan, x), 0.2, key=jr.key(0))
    with pytest.raises(ValueError, match="0.01 of 200 rows gives 2 test rows, but at least 10 are needed"):
        pf.density.hold_out(x, 0.01, key=jr.key(0))


def test_rows_with_missing_values_are_training_rows():
    rng = np.random.default_rng(0)
    x = np.stack([rng.choice([0.0, 2.0], 200), rng.normal(size=200)], 1)
    # Only rows that are not complete have the value 1.
    x[:50, 0], x[:50, 1] = 1, np.nan
    holdout = pf.density.hold_out(x, 0.2, key=jr.key(0), discrete=[0], missing="impute")
    assert sorted([*holdout.training, *holdout.test]) == [*range(200)] and holdout.discrete == {0: 1.0}
    assert 20 <= len(holdout.test) <= 40 and holdout.test.min() >= 50
    x[50:, 1], x[:50, 0], x[:50, 1] = np.nan, np.nan, rng.normal(size=50)
    with pytest.raises(ValueError, match="0.2 of 0 complete rows gives 0 test rows"):
        pf.density.hold_out(x, 0.2, key=jr.key(0), missing="impute")
