"""Fits with large data: modes of all rows from a part of them, in memory and on disk, and the verdict on all rows."""

import functools

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import pushforward as pf
from pushforward.posterior.estimate import Estimate
from pushforward.posterior.search import survey

NUM_ROWS = 8_000
POINTS = np.random.default_rng(0).normal([0.5, -1.0], [1.0, 2.0], (NUM_ROWS, 2))


def log_prior(draw):
    return -0.5 * jnp.sum((draw / 10) ** 2)


def log_likelihood(draw, rows):
    """Normal rows with a known variance of 4: the posterior is known."""
    return -0.5 * jnp.sum((rows - draw) ** 2, 1) / 4 - jnp.log(8 * jnp.pi)


def fit(data):
    target = pf.Target(log_prior, jnp.zeros(2), log_likelihood=log_likelihood, data=data, batch_size=500)
    return pf.fit_posterior(target, key=jr.key(0))


@functools.cache
def in_memory():
    return fit(POINTS)


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    monkeypatch.setattr(survey, "MAX_PAIRS", 2_000 * NUM_ROWS)


def test_the_posterior_is_that_of_all_rows():
    found = in_memory()
    precision = NUM_ROWS / 4 + 0.01
    draws = found.sample(jr.key(1), 20_000)
    np.testing.assert_allclose(draws.mean(0), POINTS.sum(0) / 4 / precision, atol=0.05 * precision**-0.5)
    np.testing.assert_allclose(draws.std(0), precision**-0.5, rtol=0.03)
    assert found.diagnostics.verdict == "good"
    assert found.diagnostics.num_draws == 2_000
    assert "all 8,000 rows, for 2,000 draws" in " ".join(found.diagnostics.reasons)


def test_rows_on_disk_give_the_same_posterior(tmp_path):
    np.save(tmp_path / "rows.npy", POINTS)
    found, expected = fit(np.load(tmp_path / "rows.npy", mmap_mode="r")), in_memory()
    assert found.diagnostics.verdict == "good"
    np.testing.assert_allclose(found.diagnostics.log_evidence, expected.diagnostics.log_evidence, atol=1e-3)


def test_two_modes_are_found_on_all_rows():
    """The sign of the location is not identified."""
    rows = np.random.default_rng(1).normal(2.0, 1.0, 6_000)
    target = pf.Target(
        log_prior, jnp.zeros(1), log_likelihood=lambda draw, rows: -0.5 * (rows - draw[0] ** 2) ** 2, data=rows
    )
    found = survey.survey(target, jr.key(0))
    assert isinstance(found.density, Estimate)
    modes = np.sort([float(mode.loc[0]) for mode in found.modes])
    np.testing.assert_allclose(modes, np.sqrt(rows.mean()) * np.array([-1, 1]), atol=1e-3)
    for mode in modes:
        u = jnp.array([mode + 0.01])
        np.testing.assert_allclose(found.density(u), target(u), atol=0.05)
        np.testing.assert_allclose(jax.grad(found.density)(u), jax.grad(target)(u), rtol=0.01)


def test_a_density_that_is_not_finite_for_all_rows_is_named():
    """The rows of the search alone are fine."""
    rows = np.append(np.full(20_000, 0.5), 2.0)
    target = pf.Target(
        log_prior, jnp.zeros(1), log_likelihood=lambda draw, rows: jnp.log1p(-rows) - draw[0] ** 2 * rows, data=rows
    )
    with pytest.raises(ValueError, match="NaN or infinite"):
        pf.fit_posterior(target, key=jr.key(0))


@pytest.mark.parametrize("num_modes", [1, 2])
def test_a_sparse_gaussian_does_not_replace_a_mixture(num_modes):
    """A chain with one or two wells in its first coordinate, at 1 or at 1 and -1."""

    def log_density(x):
        well = 2 * (x[0] ** 2 - 1) ** 2 if num_modes == 2 else 8 * (x[0] - 1) ** 2
        return -well - 0.5 * jnp.sum((x[1:] - 0.1 * x[:-1]) ** 2)

    found = survey.survey(pf.Target(log_density, jnp.zeros(70)), jr.key(0))
    assert len(found.modes) == num_modes
    assert (found.sparse is not None) == (num_modes == 1)
