"""The objective: validation in parts, and batches drawn in proportion to weights."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import pushforward as pf
from pushforward.density.objective import MaximumLikelihood
from pushforward.training import Rows

UNIQUE = np.random.default_rng(0).normal(size=(500, 2))


def test_validation_rows_are_evaluated_in_parts(monkeypatch):
    x = jnp.asarray(UNIQUE)
    rows = Rows((x, None), jnp.arange(500.0), 10)
    objective = MaximumLikelihood(rows, rows, pf.bijections.Identity((2,)), None, (False, False))
    flow = pf.flows.linear(2, key=jr.key(0))
    whole = objective.evaluate(flow, jr.key(0))
    for size in (100, 150):
        monkeypatch.setattr("pushforward.density.objective.ROWS_TOGETHER", size)
        assert objective.evaluate(flow, jr.key(0)) == pytest.approx(float(whole), rel=1e-12)
    assert jax.numpy.isfinite(whole)


def test_rows_are_drawn_as_often_as_they_count(precision):
    weights = np.array([0.0, 1.0, 0.0, 3.0, 1e-3, 4.0])
    rows = Rows((jnp.arange(6.0)[:, None], jnp.arange(6.0)[:, None]), jnp.asarray(weights, float), 400_000)
    _, ((x, condition), drawn_weights) = rows.next(None, jr.key(0), 0)
    assert drawn_weights is None and (x == condition).all()
    shares = np.bincount(x[:, 0].astype(int), minlength=6) / 400_000
    np.testing.assert_allclose(shares, weights / weights.sum(), atol=0.003)
    assert shares[0] == shares[2] == 0 < shares[4]
    # So many that single precision could not tell their sums apart.
    many = Rows((jnp.zeros((2**22, 1)), None), jnp.ones(2**22), 1).cumulative
    assert set(np.diff(np.asarray(many, np.int64)).tolist()) <= {1023, 1024}
