"""Rows from memory and from files: no copies across the split, every row equally likely, no rows of weight 0."""

import jax.random as jr
import numpy as np
import pytest
import scipy.stats
from numpyro.distributions import constraints

import pushforward as pf
from pushforward.density.data.source import Source
from pushforward.density.data.splitting import Split, hash_rows, split_rows

RNG = np.random.default_rng(0)
UNIQUE = RNG.normal(size=(500, 2))


def test_copies_in_a_file_stay_together(tmp_path):
    x = np.tile(RNG.normal(size=(5000, 2)), (2, 1))
    np.save(tmp_path / "x.npy", x.astype(">f8"))
    source = Source(np.load(tmp_path / "x.npy", mmap_mode="r"), None, None, (None, None), 3000)
    rows, part = source.read_part(jr.key(0))
    split = split_rows(rows, part, None, np.zeros(2), 300, jr.key(0))
    held_out, training = source.validation_rows(jr.key(1), split, 4, 900), source.training_rows(jr.key(2), split, 512)
    assert len(training) == 3000 and 600 < len(held_out) <= 900
    assert not np.isin(hash_rows((np.asarray(held_out.values[0]),)), hash_rows((np.asarray(training.values[0]),))).any()


def test_too_few_rows_at_once(tmp_path):
    np.save(tmp_path / "x.npy", UNIQUE)
    options = {"key": jr.key(0), "flow": pf.flows.linear(2, key=jr.key(0)), "progress": False}
    with pytest.raises(ValueError, match="rows_at_once=1 is too small: too few of these rows have a positive weight"):
        pf.fit_density(tmp_path / "x.npy", rows_at_once=1, **options)
    rare = np.where(np.arange(500) < 4, 1.0, 0.0)
    with pytest.raises(ValueError, match="rows_at_once=5 is too small: too few"):
        pf.fit_density(tmp_path / "x.npy", rows_at_once=5, weights=rare, **options)


@pytest.mark.conformance
def test_rows_of_weight_zero_have_no_effect(tmp_path):
    """Also if they hold extreme values or NaN."""
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


def test_samples_in_a_file_are_read_in_parts(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3000, 2)) @ np.array([[200.0, 0.0], [150.0, 50.0]]) + 1000
    np.save(tmp_path / "x.npy", x)
    taken = []
    read_part = Source.read_part
    monkeypatch.setattr(Source, "read_part", lambda source, key: taken.append(read_part(source, key)) or taken[-1])
    options = {"flow": pf.flows.linear(2, key=jr.key(0)), "max_epochs": 20, "rows_at_once": 500}
    options |= {"key": jr.key(0), "progress": False}
    flow = pf.fit_density(tmp_path / "x.npy", **options)
    assert max(len(rows) for rows, _ in taken) == 500 and len(taken) > 10
    exact = scipy.stats.multivariate_normal(x.mean(0), np.cov(x.T)).logpdf(x).mean()
    assert np.mean(flow.log_prob(x)) > exact - 0.02
    x[2800, 1] = np.nan
    np.save(tmp_path / "x.npy", x)
    np.savetxt(tmp_path / "x.csv", x, delimiter=",")
    for source in (np.load(tmp_path / "x.npy", mmap_mode="r"), tmp_path / "x.csv"):
        with pytest.raises(ValueError, match="the first in row 2800, column 1"):
            pf.fit_density(source, **options)


def test_all_rows_of_a_file_are_equally_likely(tmp_path):
    """The rows are sorted, and a tenth of them is held out."""
    x = np.arange(30_000.0)[:, None]
    np.save(tmp_path / "x.npy", x)
    source = Source(np.load(tmp_path / "x.npy", mmap_mode="r"), None, None, (None,), 20_000)
    split = Split(np.uint64(1), None, np.uint64(2**64 // 10))
    left_out = source.validation_rows(jr.key(1), split, 20, 50_000).values[0][:, 0]
    taken = np.concatenate([source.training_rows(key, split, 512).values[0][:, 0] for key in jr.split(jr.key(0), 20)])
    assert taken.shape == (20 * 20_000,) and not np.isin(taken, left_out).any()
    assert len(np.unique(left_out)) == pytest.approx(3000, rel=0.1)
    shares = np.histogram(taken, 10, (0, 30_000))[0] / len(taken)
    np.testing.assert_allclose(shares, 0.1, atol=0.012)
