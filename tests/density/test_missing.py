"""Rows with missing values: Gaussians of known parameters, of which values are missing at random."""

import functools
import warnings

import jax.random as jr
import numpy as np
import pytest
from numpyro.distributions import constraints

import pushforward as pf
from pushforward.density.data.incomplete import read_incomplete
from pushforward.density.missing import Gaussian, _prepared

RNG = np.random.default_rng(0)
NUM = 3000
COVARIANCE = np.array([[1.0, 0.8], [0.8, 1.0]])


def rows(mechanism):
    """Two correlated columns: the second, positive one, is missing by chance, or mostly where the first is large."""
    z = RNG.multivariate_normal([0, 0], COVARIANCE, NUM)
    chance = np.full(NUM, 0.4) if mechanism == "mcar" else 1 / (1 + np.exp(-3 * z[:, 0]))
    x = np.stack([z[:, 0], np.exp(z[:, 1])], 1)
    x[RNG.uniform(size=NUM) < chance, 1] = np.nan
    return x


def fit(x, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pf.fit_density(x, key=jr.key(0), max_epochs=2, missing="impute", **options)


@functools.cache
def fitted(mechanism):
    x = rows(mechanism)
    x[:5] = np.nan
    return x, fit(x, support={1: constraints.positive})


@pytest.mark.parametrize("mechanism", ["mcar", "mar"])
def test_the_parameters_are_right_where_complete_rows_are_biased(mechanism):
    x, density = fitted(mechanism)
    complete = np.log(x[~np.isnan(x).any(1), 1])
    assert abs(complete.mean()) > 0.3 or mechanism == "mcar"
    draws = np.asarray(density.sample(jr.key(1), 20_000))
    z = np.stack([draws[:, 0], np.log(draws[:, 1])], 1)
    np.testing.assert_allclose(z.mean(0), 0, atol=0.1)
    np.testing.assert_allclose(np.cov(z.T), COVARIANCE, atol=0.12)


def test_the_result_says_how_many_values_were_missing():
    x, density = fitted("mar")
    facts = dict(density.summary())
    assert facts["missing values"] == np.isnan(x).sum()
    assert facts["rows with missing values"] == np.isnan(x).any(1).sum()
    assert facts["rows without any value, left out"] == 5 and facts["rows"] == NUM - 5
    assert facts["rounds of imputation"] == 3
    call = dict(density.provenance)["call"]
    assert call.startswith("pf.fit_density(x, key=jax.random.key(0), support=support") and "missing=" in call


def test_the_gaussian_of_incomplete_rows_maximizes_their_likelihood():
    """For two columns of which one is missing in some rows, the maximum is that of a regression (Anderson, 1957)."""
    z = RNG.multivariate_normal([0.5, -0.3], COVARIANCE, 500)
    missing = np.zeros((500, 2), bool)
    missing[:200, 1] = True
    found = Gaussian.fit(z, missing, np.full(500, 1 / 500))
    seen = z[200:]
    slope = np.cov(seen.T, bias=True)[0, 1] / seen[:, 0].var()
    mean = seen[:, 1].mean() + slope * (z[:, 0].mean() - seen[:, 0].mean())
    np.testing.assert_allclose(found.mean, [z[:, 0].mean(), mean], atol=1e-4)
    residual = seen[:, 1].var() - slope**2 * seen[:, 0].var()
    variance = [[z[:, 0].var(), slope * z[:, 0].var()], [slope * z[:, 0].var(), residual + slope**2 * z[:, 0].var()]]
    np.testing.assert_allclose(found.covariance, variance, atol=1e-4)


def test_all_marks_of_missing_values_and_kinds_of_columns(tmp_path):
    """A count, an angle and a real column, with a condition; empty cells in a file, None and masks."""
    count, angle, real = RNG.poisson(3.0, 400), RNG.uniform(0, 360, 400), RNG.normal(size=400)
    table = np.stack([count, angle, real + count], 1).astype(object)
    table[RNG.uniform(size=table.shape) < 0.1] = None
    lines = [",".join("" if v is None else str(v) for v in row) for row in table]
    (tmp_path / "rows.csv").write_text("\n".join(["count,angle,real", *lines]))
    masked = np.ma.masked_invalid(table.astype(float))
    options = {
        "support": {1: pf.Circular(360.0)}, "discrete": [0], "condition": RNG.normal(size=(400, 1)), "batch_size": 100,
    }  # fmt: skip
    found = [fit(x, **options) for x in (table, tmp_path / "rows.csv", masked)]
    draws = [d.sample(jr.key(0), 100, np.zeros(1)) for d in found]
    np.testing.assert_allclose(draws[0], draws[1])
    np.testing.assert_allclose(draws[0], draws[2])
    completed = found[0].training.x
    assert (completed[:, 0] == np.round(completed[:, 0])).all() and (
        (completed[:, 1] >= 0) & (completed[:, 1] < 360)
    ).all()
    with pytest.raises(ValueError, match="the value is missing"):
        pf.fit_density(tmp_path / "rows.csv", key=jr.key(0))


def test_complete_rows_are_fitted_as_they_are():
    x = RNG.normal(size=(300, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = pf.fit_density(x, key=jr.key(0), max_epochs=2)
    found = fit(x)
    np.testing.assert_array_equal(found.sample(jr.key(1), 5), expected.sample(jr.key(1), 5))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"missing": "mean"}, "missing must be 'error' or 'impute', but is 'mean'"),
        ({}, "NaN or infinite"),
        (
            {"missing": "impute", "x": np.array([[1.0, np.nan]] * 50 + [[2.0, 3.0]])},
            "fewer than two different observed",
        ),
        (
            {"missing": "impute", "x": np.array([[1.0, np.nan], [2.0, np.inf]] * 50)},
            "fewer than two different|infinite",
        ),
    ],
)
def test_what_cannot_be_fitted_is_named(options, message):
    x = np.where(RNG.uniform(size=(100, 2)) < 0.1, np.nan, RNG.normal(size=(100, 2)))
    with pytest.raises(ValueError, match=message):
        pf.fit_density(**{"x": x, "key": jr.key(0)} | options)


def test_rows_without_weight_may_hold_anything():
    x, condition, weights = RNG.normal(size=(300, 2)), RNG.normal(size=(300, 1)), np.ones(300)
    x[1:20, 1], x[0, 0], condition[0], weights[0] = np.nan, np.inf, np.nan, 0
    assert dict(fit(x, weights=weights, condition=condition).summary())["rows"] == 299
    x[0, 0], x[1:20, 1], x[5] = np.nan, 0, np.nan
    facts = dict(fit(x, weights=weights).summary())
    assert facts["rows"] == 298 and facts["rows without any value, left out"] == 1


@pytest.mark.parametrize("stopped_after", [1, 3])
def test_all_rounds_resume(tmp_path, stopped_after):
    x, file, calls = RNG.normal(size=(200, 2)), tmp_path / "checkpoint", []
    x[1:40, 1] = np.nan

    def stop(progress):
        calls.append(progress)
        if len(calls) == stopped_after:
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fit(x, checkpoint=file, callback=stop)
    resumed = fit(x, checkpoint=file)
    assert [each.name for each in tmp_path.iterdir()] == ["checkpoint"]
    points = RNG.normal(size=(9, 2))
    np.testing.assert_array_equal(resumed.log_prob(points), fit(x).log_prob(points))


def test_the_last_step_of_a_circle():
    """Of angles whose grid begins within a step of the end of the circle none is at its end."""
    x = np.stack([np.tile(np.arange(5.0, 360, 10), 10), np.full(360, np.nan)], 1)
    x[::2, 1] = RNG.normal(size=180)
    options = dict.fromkeys(["condition", "weights", "names", "condition_names"])
    options |= {"support": {0: pf.Circular(360.0)}, "discrete": [0]}
    rows, _, z = _prepared(read_incomplete(x, None), options, np.random.default_rng(0))
    angles = np.asarray(rows.to_units.batched.forward(z))[:, 0]
    assert angles.max() < 359.999 and (angles < 5).sum() == pytest.approx(5, abs=5) and np.abs(z[:, 0]).max() < 5
