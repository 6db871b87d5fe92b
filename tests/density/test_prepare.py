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
