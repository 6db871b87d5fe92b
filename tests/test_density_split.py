"""Rows that a fit is judged by: as many as asked for, and no copies of those that it is trained on."""

import dataclasses

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.stats
from numpyro.distributions import constraints

import pushforward as pf
from pushforward import bijections as bj
from pushforward.density.data import splitting
from pushforward.density.data.source import Source
from pushforward.density.objective import HeldOutLikelihood, Rows
from pushforward.density.significance import improves

RNG = np.random.default_rng(0)
UNIQUE = RNG.normal(size=(500, 2))
NONE = np.zeros(2)


def held_out(x, steps=NONE, condition=None, share=0.1, seed=0):
    rows = np.arange(len(x))
    lots = splitting.split_rows(rows, x, condition, steps, round(share * len(x)), jr.key(seed))
    return lots.is_held_out_row(rows, splitting.hash_rows((x, condition)))


def leaks(x, is_held_out):
    return np.isin(splitting.hash_rows((x[is_held_out],)), splitting.hash_rows((x[~is_held_out],))).mean()


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_unique_rows_give_just_the_share(share):
    assert held_out(UNIQUE, share=share).sum() == round(share * 500)
    assert (held_out(UNIQUE, share=share) != held_out(UNIQUE, share=share, seed=1)).any()


@pytest.mark.parametrize(
    "x",
    [
        np.tile(UNIQUE, (2, 1)),
        np.repeat(UNIQUE, 10, axis=0),
        UNIQUE[RNG.integers(0, 500, 500)],
        np.concatenate([UNIQUE, np.repeat(UNIQUE[:5], 40, axis=0)]),  # one class drawn again and again
        np.round(RNG.normal(size=(2000, 2)), 1),
        np.tile(UNIQUE * [0, 1], (2, 1)) * [-1, 1],  # of -0 and 0
    ],
)
def test_copies_stay_together(x):
    found = held_out(x)
    assert leaks(x, found) == 0
    assert found.mean() == pytest.approx(0.1, abs=0.025)


def test_what_is_equal_by_chance_is_parted():
    """All that a table of counts may be; a value of many rows."""
    counts = RNG.poisson(2.0, size=(3000, 2)).astype(float)
    assert held_out(counts, steps=np.ones(2)).sum() == 300
    given = RNG.integers(0, 20, size=(3000, 1)).astype(float)
    found = held_out(counts, np.ones(2), given)
    assert found.sum() == 300 and leaks(np.hstack([counts, given]), found) > 0.5
    zeros = np.where(RNG.uniform(size=(3000, 1)) < 0.3, 0.0, RNG.normal(size=(3000, 1)))
    found = held_out(zeros, np.zeros(1))
    assert found.sum() == 300 and np.mean(zeros[found] == 0) == pytest.approx(0.3, abs=0.1)
    few = RNG.integers(0, 2, size=(40, 1)).astype(float)
    assert held_out(few, np.zeros(1)).sum() == 4


def test_copies_of_counts_with_a_condition_stay_together():
    counts, given = RNG.poisson(2.0, size=(500, 2)).astype(float), RNG.normal(size=(500, 1))
    twice, given = np.tile(counts, (2, 1)), np.tile(given, (2, 1))
    found = held_out(twice, np.ones(2), given)
    assert leaks(np.hstack([twice, given]), found) == 0


def test_copies_in_a_file_stay_together(tmp_path):
    x = np.tile(RNG.normal(size=(5000, 2)), (2, 1))
    np.save(tmp_path / "x.npy", x.astype(">f8"))
    source = Source(np.load(tmp_path / "x.npy", mmap_mode="r"), None, None, (None, None), 3000)
    rows, part = source.read_part(jr.key(0))
    lots = splitting.split_rows(rows, part, None, NONE, 300, jr.key(0))
    judged, trained = source.held_out_rows(jr.key(1), lots, 4, 900), source.training_rows(jr.key(2), lots)
    assert len(trained) == 3000 and 600 < len(judged) <= 900
    assert not np.isin(
        splitting.hash_rows((np.asarray(judged.x),)), splitting.hash_rows((np.asarray(trained.x),))
    ).any()


def test_too_few_rows_at_once(tmp_path):
    np.save(tmp_path / "x.npy", UNIQUE)
    options = {"key": jr.key(0), "flow": pf.flows.linear(2, key=jr.key(0)), "progress": False}
    with pytest.raises(ValueError, match="of rows_at_once=1 rows too few have a positive weight"):
        pf.fit_density(tmp_path / "x.npy", rows_at_once=1, **options)
    rare = np.where(np.arange(500) < 4, 1.0, 0.0)
    with pytest.raises(ValueError, match="rows_at_once=5 rows too few"):
        pf.fit_density(tmp_path / "x.npy", rows_at_once=5, weights=rare, **options)


def test_a_table_given_five_times_is_fitted_as_well():
    rng = np.random.default_rng(0)
    x, fresh = rng.normal(size=(150, 2)), rng.normal(size=(4000, 2))
    flow = pf.flows.arnsf(2, key=jr.key(0), num_layers=1, hidden=(16,), fast="density")
    options = {"key": jr.key(0), "flow": flow, "learning_rate": 0.03, "progress": False, "max_epochs": 300}
    copied = pf.fit_density(np.tile(x, (5, 1)), **options)
    assert -np.mean(copied.log_prob(fresh)) < 3.1  # 2.84 is the entropy


def test_rows_of_weight_zero_play_no_part(tmp_path):
    """Nor where they are marked by numbers that are far away, or none."""
    rng = np.random.default_rng(0)
    x = np.abs(rng.normal(size=(400, 2)))
    ignored = np.arange(400) % 4 == 0
    weights = np.where(ignored, 0.0, 1.0)
    flow = pf.flows.linear(2, key=jr.key(0))
    options = {"key": jr.key(0), "flow": flow, "progress": False, "max_epochs": 3, "weights": weights}
    options["support"] = constraints.positive
    clean = pf.fit_density(x, **options)
    for mark in (-999.0, 1e300, np.nan):
        marked = np.where(ignored[:, None], mark, x)
        np.save(tmp_path / "x.npy", marked)
        for source in (marked, np.load(tmp_path / "x.npy", mmap_mode="r")):
            again = pf.fit_density(source, **options)
            np.testing.assert_allclose(again.log_prob(x), clean.log_prob(x), rtol=1e-6)
        parts = pf.fit_density(tmp_path / "x.npy", rows_at_once=150, **options)
        assert np.mean(parts.log_prob(x)) > np.mean(clean.log_prob(x)) - 0.1
    given = np.where(ignored[:, None], rng.normal(size=(400, 1)), 1.0)
    with pytest.raises(ValueError, match="column 0 of condition is constant where weights are positive, 1"):
        pf.fit_density(x, condition=given, key=jr.key(0), weights=weights)


def test_held_out_rows_are_judged_part_by_part(monkeypatch):
    x = jnp.asarray(UNIQUE)
    rows = Rows(x, None, jnp.arange(500.0))
    objective = HeldOutLikelihood(rows, rows, pf.bijections.Identity((2,)), None, (False, False), 10)
    flow = pf.flows.linear(2, key=jr.key(0))
    whole = objective.evaluate(flow, jr.key(0))
    for size in (100, 150):
        monkeypatch.setattr("pushforward.density.objective.ROWS_TOGETHER", size)
        assert objective.evaluate(flow, jr.key(0)) == pytest.approx(float(whole), rel=1e-12)
    assert jax.numpy.isfinite(whole)


def test_rows_are_drawn_as_often_as_they_count(precision):
    weights = np.array([0.0, 1.0, 0.0, 3.0, 1e-3, 4.0])
    rows = Rows(jnp.arange(6.0)[:, None], jnp.arange(6.0)[:, None], jnp.asarray(weights, float))
    _, ((x, condition), drawn_weights) = rows.batches(400_000).next(None, jr.key(0), 0)
    assert drawn_weights is None and (x == condition).all()
    shares = np.bincount(x[:, 0].astype(int), minlength=6) / 400_000
    np.testing.assert_allclose(shares, weights / weights.sum(), atol=0.003)
    assert shares[0] == shares[2] == 0 < shares[4]
    # So many that single precision could not tell their sums apart.
    many = Rows(jnp.zeros((2**22, 1)), None, jnp.ones(2**22)).batches(1).cumulative
    assert set(np.diff(np.asarray(many, np.int64)).tolist()) <= {1023, 1024}


def test_what_may_be_chance_is_not_kept():
    """Of few rows, and of many from a Gaussian; the start is the Gaussian of the data."""
    rng, seen = np.random.default_rng(0), []
    x = 3 + 2 * rng.normal(size=(16, 1))
    small = pf.flows.arnsf(1, num_layers=1, hidden=(4,), bins=6, fast="density", key=jr.key(0))
    with pytest.warns(UserWarning, match="nothing is trained.* 2 held-out rows .* of 16 are too few"):
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
        rows = Rows(x, None, weights)
        judged = HeldOutLikelihood(rows, rows, bj.Identity((2,)), None, (False, False), 10)
        assert not improves(judged, start, start, jr.key(0)) and not improves(judged, moved, start, jr.key(0))
        narrow = dataclasses.replace(judged, held_out=Rows(0.8 * x, None, weights))
        assert improves(narrow, moved, start, jr.key(0))
        # A flow that has no density at some rows is not better than one that has.
        onto = pf.Flow(start.base, bj.Elementwise(bj.Exp(), 2))
        assert not improves(judged, onto, start, jr.key(0)) and improves(judged, start, onto, jr.key(0))
