"""A flow is kept only if its improvement on the validation rows is significant."""

import dataclasses

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.stats

import pushforward as pf
from pushforward import bijections as bj
from pushforward.density.objective import MaximumLikelihood
from pushforward.density.significance import improves
from pushforward.training import Rows


@pytest.mark.conformance
def test_an_insignificant_gain_is_not_kept():
    """Of few rows, and of many from a Gaussian; the start is the Gaussian of the data."""
    rng, seen = np.random.default_rng(0), []
    x = 3 + 2 * rng.normal(size=(16, 1))
    small = pf.flows.arnsf(1, num_layers=1, hidden=(4,), bins=6, fast="density", key=jr.key(0))
    with pytest.warns(UserWarning, match="training is skipped.* 2 validation rows of 16 "):
        flow = pf.fit_density(x, key=jr.key(0), flow=small, callback=seen.append)
    gaussian = scipy.stats.norm(x.mean(), x.std())
    np.testing.assert_allclose(flow.log_prob(x), gaussian.logpdf(x)[:, 0], rtol=1e-5)
    assert [progress.step for progress in seen] == [0]
    modes = 3.0 * rng.integers(0, 2, (100, 1)) + 0.3 * rng.normal(size=(100, 1))
    options = {"key": jr.key(0), "flow": small, "progress": False, "max_epochs": 500}
    flow, weighted = pf.fit_density(modes, **options), pf.fit_density(modes, weights=np.full(100, 2.0), **options)
    for found in (flow, weighted):
        assert (
            np.mean(found.log_prob(modes)) > scipy.stats.norm(*scipy.stats.norm.fit(modes)).logpdf(modes).mean() + 0.3
        )


def test_gains_are_weighed_against_their_error():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(100, 2)))
    start = pf.flows.linear(2, key=jr.key(0))
    moved = pf.Flow(start.base, bj.Chain([bj.Elementwise(bj.Affine(0.0, 0.8), 2), start.bijection]))
    for weights in (None, jnp.linspace(0.1, 1, 100)):
        rows = Rows((x, None), weights, 10)
        objective = MaximumLikelihood(rows, rows, bj.Identity((2,)), None, (False, False))
        assert not improves(objective, start, start, jr.key(0)) and not improves(objective, moved, start, jr.key(0))
        narrow = dataclasses.replace(objective, validation=Rows((0.8 * x, None), weights, 10))
        assert improves(narrow, moved, start, jr.key(0))
        # A flow that has no density at some rows is not better than one that has.
        onto = pf.Flow(start.base, bj.Elementwise(bj.Exp(), 2))
        assert not improves(objective, onto, start, jr.key(0)) and improves(objective, start, onto, jr.key(0))
