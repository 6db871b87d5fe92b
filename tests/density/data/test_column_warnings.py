"""Warnings of columns with few distinct values, of values rounded to an end, and of functions of the condition."""

import warnings

import jax
import jax.random as jr
import numpy as np
import pytest
from numpyro.distributions import constraints

import pushforward as pf
from pushforward.bijections import OntoBox
from pushforward.density.data import column_warnings
from pushforward.density.data.source import Source
from pushforward.density.whitening.whiten import whiten

GOOD = np.random.default_rng(0).normal(size=(60, 3))
GIVEN = np.random.default_rng(0).normal(size=(800, 2)) * [1, 50] + [0, 1000]
NOISE = np.random.default_rng(1).normal(size=(800, 1))


def fit(x, dim=None, **options):
    flow = pf.flows.linear(dim or np.shape(x)[1], key=jr.key(0))
    options = {"key": jr.key(0), "flow": flow, "max_epochs": 1} | options
    return pf.fit_density(x, progress=False, **options)


@pytest.mark.filterwarnings("ignore:column 1")
def test_values_that_single_precision_rounds_to_an_end():
    x = np.stack([np.abs(np.tanh(GOOD[:, 0])), np.where(np.arange(60) == 5, 1e-50, np.exp(GOOD[:, 1]))], 1)
    x[[7, 9], 0] = 1 - 1e-9
    options = {"support": [constraints.unit_interval, constraints.positive]}
    with jax.enable_x64(False):
        match = (
            r"column 0 of x has 2 values that float32 rounds to an end of their support, the first in row 7, 0.9{9}:"
        )
        with pytest.warns(UserWarning, match=match):
            assert np.isfinite(fit(x, **options).log_prob(x)).all()
        with pytest.warns(UserWarning, match="column 1 of x has 1 values that float32 rounds"):
            fit(x, **options)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*rounds to an end")
        fit(x, **options)


def warnings_of(x):
    x = x[:, None] if x.ndim == 1 else x
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        column_warnings.warn_if_coarse(x, np.zeros(x.shape[1]), ["column 0", "column 1"])
    return " ".join(str(warning.message) for warning in caught)


@pytest.mark.parametrize(
    ("draw", "words"),
    [
        (lambda rng: np.round(rng.normal(size=500), 2), "500 rows on a grid of step 0.01"),
        (lambda rng: np.round(rng.normal(size=100_000), 2), "100000 rows on a grid of step 0.01"),
        (lambda rng: rng.integers(0, 100_000, 50_000).astype(float), "50000 rows on a grid of step 1"),
        (lambda rng: 2.0 ** rng.integers(0, 5, 100), "5 distinct values in 100 rows"),
        (lambda rng: np.where(rng.uniform(size=5000) < 0.01, 0.0, rng.gamma(2.0, size=5000)), "the value 0 in"),
        (lambda rng: np.minimum(rng.normal(size=200), 1.5), "the value 1.5 in"),
        (lambda rng: rng.integers(0, 5, (1000, 2)).astype(float), "column 0 of x has 5 distinct values in 1000 rows"),
        (lambda rng: rng.integers(0, 2, (5000, 2)).astype(float), "column 1 of x has 2 distinct values in 5000 rows"),
        (lambda rng: np.repeat(rng.integers(0, 9, (100, 1)), 2, 1) + [0.0, 0.5], "9 distinct values in 100 rows"),
        (lambda rng: np.stack([rng.normal(size=40), rng.integers(0, 2, 40)], 1), "1 of x has 2 distinct values in 40"),
        (lambda rng: rng.normal(size=(40, 2)).round(2), ""),
        (lambda rng: rng.normal(size=100_000).astype(np.float32), ""),
        (lambda rng: rng.integers(0, 10**9, 50_000).astype(float), ""),
        (lambda rng: np.repeat(rng.normal(size=500), 2), ""),
        (lambda rng: np.repeat(rng.normal(size=(500, 2)), 5, axis=0), ""),
    ],
)
def test_coarse_columns(draw, words):
    found = warnings_of(draw(np.random.default_rng(0)))
    assert words in found and bool(words) == bool(found)


def test_a_coarse_column_is_named():
    x = np.concatenate([GOOD[:, :1], np.round(GOOD[:, 1:2])], 1)
    with pytest.warns(UserWarning, match=r"column 1 of x has . distinct values in 60 rows.*discrete=\[1\]"):
        fit(x, max_epochs=1, flow=pf.flows.linear(2, key=jr.key(0)))


def test_a_value_of_many_rows_is_named():
    x = np.where(np.arange(60)[:, None] < 20, 0.0, GOOD[:, :1])
    with pytest.warns(UserWarning, match="column 0 of x has the value 0 in 20 of 60 rows"):
        fit(x, max_epochs=1, flow=pf.flows.linear(1, key=jr.key(0)))


def whiten_given(x, condition):
    supports = (None,) * x.shape[1]
    source = Source(x, condition, None, supports, len(x))
    box, labels = OntoBox([constraints.real] * x.shape[1]), [f"column {i}" for i in range(x.shape[1])]
    whiten(source, np.zeros(x.shape[1]), box, supports, labels, jr.key(0))


@pytest.mark.parametrize(
    ("x", "given"),
    [
        (np.sin(GIVEN[:, :1]), GIVEN[:, :1]),
        (np.square(np.round(GIVEN[:, :1] * 3)), np.round(GIVEN[:, :1] * 3)),
        (np.hstack([NOISE, np.exp(GIVEN[:, :1])]), np.hstack([GIVEN[:, :1], np.round(NOISE)])),
    ],
)
def test_nonlinear_functions_of_the_condition(x, given):
    with pytest.warns(UserWarning, match=f"column {x.shape[1] - 1} of x seems to be a function of the condition"):
        whiten_given(x, given)


@pytest.mark.filterwarnings("error:.*function of the condition")
def test_no_warning_for_columns_that_depend_on_the_condition():
    whiten_given(np.sin(3 * GIVEN[:, :1]) + 0.05 * NOISE, GIVEN[:, :1])
    # Copies have equal conditions and equal values.
    exact = GIVEN @ [[2.0], [-0.1]] + 7
    whiten_given(np.tile(exact + NOISE, (3, 1)), np.tile(GIVEN, (3, 1)))


@pytest.mark.parametrize(("value", "text"), [(1e12, "1e[+]12"), (-1e290, "-1e[+]290")])
def test_an_extreme_value_is_named(value, text):
    x = np.random.default_rng(0).normal(size=(500, 2))
    x[7, 1] = value
    with pytest.warns(UserWarning, match=f"column 1 of x has extreme values, such as {text} in row 7"):
        whiten_given(x, None)


@pytest.mark.parametrize("draw", ["standard_cauchy", "lognormal"])
def test_no_warning_of_heavy_tails(draw):
    x = getattr(np.random.default_rng(0), draw)(size=(3000, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        whiten_given(x, None)


def test_a_support_that_is_too_wide_for_the_values():
    with pytest.raises(ValueError, match="the support of column 0 is too wide for the values of x"):
        fit(GOOD, support=constraints.interval(-1e39, 1e39))
