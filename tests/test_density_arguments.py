"""What `fit_density` refuses or warns of before any training, and what it takes in several forms."""

import warnings

import jax
import jax.random as jr
import numpy as np
import pandas
import pytest
import scipy.sparse
from numpyro.distributions import constraints

import pushforward as pf
from pushforward import bijections
from pushforward.density.data import column_warnings, columns as supports

GOOD = np.random.default_rng(0).normal(size=(60, 3))
COUNTS = np.random.default_rng(0).poisson(3.0, (60, 2)).astype(float)
ONTO_POSITIVE = pf.Flow(pf.flows.linear(3, key=jr.key(0)).base, bijections.Elementwise(bijections.Exp(), 3))
NAMES = ["a", "b"]
COLUMNS = ["column 0 (a)", "column 1 (b)"]


def fit(x, dim=None, **options):
    flow = pf.flows.linear(dim or np.shape(x)[1], key=jr.key(0))
    options = {"key": jr.key(0), "flow": flow, "max_epochs": 1} | options
    return pf.fit_density(x, progress=False, **options)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"key": 0}, r"key must be a random key, as jax.random.key\(0\), but is 0"),
        ({"key": jr.split(jr.key(0))}, "key must be a random key"),
        ({"max_epochs": 2.5}, "max_epochs must be a whole number of 1 or more, but is 2.5"),
        ({"batch_size": 32.0}, "batch_size must be a whole number of 1 or more, but is 32.0"),
        ({"patience": 0}, "patience must be a whole number"),
        ({"learning_rate": -1.0}, "learning_rate must be a positive number, but is -1.0"),
        ({"validation": None}, "share of rows to hold out, 0 < validation < 1, as 0.1, but is None"),
        ({"validation": GOOD}, r"but is an array of shape \(60, 3\)"),
        ({"weights": ["heavy"] * 60}, "weights must be an array of numbers"),
        ({"weights": np.where(np.arange(60) == 7, 1e6, 1.0)}, r"worth 1 rows .* needs 4 at least; .* row 7"),
        ({"support": "positive"}, "must be one constraint or one for each of 3 columns|must hold NumPyro constraints"),
        ({"support": constraints.interval}, "must hold NumPyro constraints, as .* but for column 0 it has"),
        ({"support": [None, (0, 1), None]}, r"but for column 1 it has \(0, 1\)"),
        ({"support": {3: constraints.positive}}, "support names column 3, but there are 3 columns"),
        ({"support": {"a": constraints.positive}}, "support: there is no column a"),
        ({"support": {0: constraints.positive}, "discrete": []}, r"is not between 0 and inf\.$"),
        ({"flow": ONTO_POSITIVE}, "must have the whole space for its codomain, but has .* by support="),
        ({"discrete": 0}, r"discrete must be a list of columns, .* but is 0; one column is \[0\]"),
        ({"discrete": "ab"}, r"but is 'ab'; one column is \['ab'\]"),
        ({"discrete": [True, False]}, "a boolean for each of 3 columns, but has 2"),
        ({"discrete": [1.0]}, "discrete names column 1.0"),
        ({"discrete": {0: "1"}}, "the step of column 0 must be a positive number, but is '1'"),
    ],
)
def test_arguments_of_other_kinds(options, match):
    with pytest.raises(ValueError, match=match):
        fit(GOOD, **options)


def test_frames_whose_columns_are_no_numbers():
    frame = pandas.DataFrame({"price": GOOD[:, 0], "kind": ["x", "y"] * 30})
    frame["when"] = pandas.date_range("2020-01-01", periods=60)
    for columns, match in (
        (["price", "kind"], r"column 1 \(kind\) of x holds 'x' in row 0, a str and no number"),
        (["price", "when"], r"column 1 \(when\) of x holds '2020-01-01 00:00:00' in row 0, a Timestamp"),
        (["when"], r"column 0 \(when\) of x holds '2020-01-01.*' in row 0, a datetime64"),
    ):
        with pytest.raises(ValueError, match=match):
            fit(frame[columns])
        with pytest.raises(ValueError, match=match.replace("of x", "of condition")):
            fit(GOOD, condition=frame[columns])
    with pytest.raises(ValueError, match=r"x.to_frame\(\) makes one column"):
        fit(frame["price"], 1)
    fit(pandas.DataFrame({"price": GOOD[:, 0], "nullable": pandas.array(COUNTS[:, 0], dtype="Int64")}), discrete=[1])


def test_what_is_no_flow_and_no_array():
    for flow, match in ((pf.flows.maf, "is 'maf'"), ("maf", "is 'maf'"), (3, "is 'int'")):
        with pytest.raises(
            TypeError, match=rf"a Flow of 3 columns, as pushforward.flows.maf\(3, key=key\), but {match}"
        ):
            fit(GOOD, flow=flow)
    with pytest.raises(ValueError, match=r"x must be an array of numbers, but is of type csr_.*; x.toarray\(\) makes"):
        fit(scipy.sparse.csr_array(GOOD), 3)
    with pytest.raises(ValueError, match="but is of type NoneType"):
        fit(None, 3)


@pytest.mark.parametrize("dtype", ["Int64", "Float64", "boolean", object])
def test_values_that_pandas_calls_missing(dtype):
    values = pandas.array([None if i == 7 else bool(i % 2) for i in range(60)], dtype=dtype)
    frame = pandas.DataFrame({"price": GOOD[:, 0], "sold": values})
    with pytest.raises(
        ValueError, match=r"1 values that are NaN or infinite, .* row 7, column 1 \(sold\); remove or imp"
    ):
        fit(frame)


def test_values_on_an_excluded_end():
    x = np.where(np.arange(60)[:, None] == 7, 0.0, np.abs(GOOD))
    with pytest.raises(
        ValueError, match="row 7, column 0: 0 is not between 0 and inf; the ends are excluded: fit the rows"
    ):
        fit(x, support=constraints.nonnegative)


def test_steps_that_do_not_divide_a_period():
    x = np.stack([7.0 * (np.arange(60) % 51), GOOD[:, 0]], 1)
    flow = pf.flows.circular(2, angles=[True, False], num_layers=1, hidden=(4,), bins=4, key=jr.key(0))
    options = {"support": {0: pf.Circular(360.0)}, "flow": flow}
    with pytest.raises(ValueError, match=r"step of 7 does not divide its period of 360; tell .* discrete=\{0: 1.0\}"):
        fit(x, discrete=[0], **options)
    assert fit(x, discrete={0: 1.0}, **options).flow.shape == (2,)


def test_names_that_several_columns_have():
    frame = pandas.DataFrame(np.abs(GOOD), columns=["a", "a", "b"])
    for options in ({"support": {"a": constraints.positive}}, {"discrete": ["a"]}):
        with pytest.raises(ValueError, match="there are several columns a; give them names of their own, or an index"):
            fit(frame, **options)


def test_supports_and_discrete_columns_by_name():
    box, circles = supports.parse_support({"b": constraints.positive}, NAMES, COLUMNS)
    assert box.ends == ((-np.inf, np.inf), (0.0, np.inf)) and circles == (None, None)
    assert supports.parse_support(None, NAMES, COLUMNS)[0].ends == ((-np.inf, np.inf),) * 2
    assert supports.parse_support([pf.Circular(), None], NAMES, COLUMNS)[1] == ((0.0, 2 * np.pi), None)
    for discrete in (["b"], [1], {"b"}, [False, True], np.array([False, True]), np.array([1])):
        assert supports.parse_discrete(discrete, NAMES, COLUMNS) == {1: None}
    assert supports.parse_discrete({"b": 2.0}, NAMES, COLUMNS) == {1: 2.0}
    assert fit(np.abs(GOOD), support={1: constraints.positive}).log_prob(-np.ones(3)) == -np.inf


def test_steps_of_a_file_are_looked_for_in_all_of_it(tmp_path):
    x = np.stack([COUNTS[:, 0] * 2, GOOD[:, 0]], 1)
    x[57, 0] += 1
    np.save(tmp_path / "x.npy", x)
    for rows_at_once in (20, 100):
        fit(tmp_path / "x.npy", 2, discrete=[0], rows_at_once=rows_at_once)
    x[57, 0] += 0.3
    np.save(tmp_path / "x.npy", x)
    for rows_at_once in (20, 100):
        with pytest.raises(ValueError, match=r"column 0 \(x0\) of x is not discrete"):
            fit(tmp_path / "x.npy", 2, discrete={0: 1.0}, rows_at_once=rows_at_once)


def test_steps_of_decimal_numbers_that_were_computed():
    values = np.concatenate([0.1 * np.arange(10), np.cumsum(np.full(10, 0.1))])[:, None]
    steps = supports.find_steps([(None, values)], {0: None}, ["column 0"])
    np.testing.assert_allclose(steps, 0.1)


@pytest.mark.parametrize("dtype", [">f8", ">f4", "<f2", ">i4", np.longdouble])
def test_files_of_any_kind_of_number(tmp_path, dtype):
    x = (100 * GOOD).astype(dtype)
    np.save(tmp_path / "x.npy", x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = [fit(tmp_path / "x.npy", 3, rows_at_once=n).log_prob(x.astype(float)) for n in (20, 100)]
    assert np.isfinite(found).all()


@pytest.mark.filterwarnings("ignore:column 1")
def test_values_that_single_precision_puts_on_an_end():
    x = np.stack([np.abs(np.tanh(GOOD[:, 0])), np.where(np.arange(60) == 5, 1e-50, np.exp(GOOD[:, 1]))], 1)
    x[[7, 9], 0] = 1 - 1e-9
    options = {"support": [constraints.unit_interval, constraints.positive]}
    with jax.enable_x64(False):
        match = (
            r"column 0 of x has 2 values that float32 takes for an end of their support, the first in row 7, 0.9{9}:"
        )
        with pytest.warns(UserWarning, match=match):
            assert np.isfinite(fit(x, **options).log_prob(x)).all()
        with pytest.warns(UserWarning, match="column 1 of x has 1 values that float32 takes"):
            fit(x, **options)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*takes for an end")
        fit(x, **options)


def said(x):
    x = x[:, None] if x.ndim == 1 else x
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        column_warnings.warn_of_coarse(x, np.zeros(x.shape[1]), ["column 0", "column 1"])
    return " ".join(str(warning.message) for warning in caught)


@pytest.mark.parametrize(
    ("draw", "words"),
    [
        (lambda rng: np.round(rng.normal(size=500), 2), "500 rows, 0.01 apart"),
        (lambda rng: np.round(rng.normal(size=100_000), 2), "100000 rows, 0.01 apart"),
        (lambda rng: rng.integers(0, 100_000, 50_000).astype(float), "50000 rows, 1 apart"),
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
    found = said(draw(np.random.default_rng(0)))
    assert words in found and bool(words) == bool(found)
