"""Errors for arguments and data that have no density; they name the argument, the row and the column."""

import warnings

import jax.random as jr
import numpy as np
import pytest
import scipy.sparse
from numpyro.distributions import constraints

import pushforward as pf
from pushforward import bijections

GOOD = np.random.default_rng(0).normal(size=(60, 3))
ONTO_POSITIVE = pf.Flow(pf.flows.linear(3, key=jr.key(0)).base, bijections.Elementwise(bijections.Exp(), 3))


def fit(x, dim=None, **options):
    flow = pf.flows.linear(dim or np.shape(x)[1], key=jr.key(0))
    options = {"key": jr.key(0), "flow": flow, "max_epochs": 1} | options
    return pf.fit_density(x, progress=False, **options)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"key": 0}, r"key must be a random key, such as jax.random.key\(0\), but is 0"),
        ({"key": jr.split(jr.key(0))}, "key must be a random key"),
        ({"max_epochs": 2.5}, "max_epochs must be a whole number of 1 or more, but is 2.5"),
        ({"batch_size": 32.0}, "batch_size must be a whole number of 1 or more, but is 32.0"),
        ({"patience": 0}, "patience must be a whole number"),
        ({"learning_rate": -1.0}, "learning_rate must be a positive number, but is -1.0"),
        ({"validation": None}, "fraction of validation rows, 0 < validation < 1, such as 0.1, but is None"),
        ({"validation": GOOD}, r"but is an array of shape \(60, 3\)"),
        ({"weights": ["heavy"] * 60}, "weights must be an array of numbers"),
        (
            {"weights": np.where(np.arange(60) == 7, 1e6, 1.0)},
            r"effective sample size .* is 1, .* needs at least 4; .* row 7",
        ),
        ({"support": "positive"}, "must be one constraint, or one for each of 3 columns|must hold NumPyro constraints"),
        ({"support": constraints.interval}, "must hold NumPyro constraints, such as .* but for column 0 it has"),
        ({"support": [None, (0, 1), None]}, r"but for column 1 it has \(0, 1\)"),
        (
            {"support": {3: constraints.positive}},
            "support refers to column 3, but a column is a name or an index from 0 to 2",
        ),
        ({"support": {"a": constraints.positive}}, "support: there is no column a"),
        ({"support": {0: constraints.positive}, "discrete": []}, r"is not between 0 and inf\.$"),
        ({"flow": ONTO_POSITIVE}, "must have the whole space for its codomain, but has .* by support="),
        ({"discrete": 0}, r"discrete must be a list of columns .* but is 0; write \[0\] for one column"),
        ({"discrete": "ab"}, r"but is 'ab'; write \['ab'\] for one column"),
        ({"discrete": [True, False]}, "a boolean for each of 3 columns, but has 2"),
        ({"discrete": [1.0]}, "discrete refers to column 1.0"),
        ({"discrete": {0: "1"}}, "the step of column 0 must be a positive number, but is '1'"),
    ],
)
def test_invalid_arguments(options, match):
    with pytest.raises(TypeError if "key" in options else ValueError, match=match):
        fit(GOOD, **options)


def test_objects_of_other_types():
    for flow, match in ((pf.flows.maf, "is 'maf'"), ("maf", "is 'maf'"), (3, "is 'int'")):
        with pytest.raises(
            TypeError,
            match=rf"a Flow of shape \(3,\) .* as pushforward.flows.maf\(3, key=key\) returns it, but {match}",
        ):
            fit(GOOD, flow=flow)
    with pytest.raises(
        ValueError, match=r"x must be an array of numbers, but is of type csr_.*; convert it with x.toarray\(\)"
    ):
        fit(scipy.sparse.csr_array(GOOD), 3)
    with pytest.raises(ValueError, match="but is of type NoneType"):
        fit(None, 3)


def test_values_on_an_excluded_end():
    x = np.where(np.arange(60)[:, None] == 7, 0.0, np.abs(GOOD))
    with pytest.raises(
        ValueError, match="row 7, column 0: 0 is not between 0 and inf; the ends are excluded: fit the rows"
    ):
        fit(x, support=constraints.nonnegative)


@pytest.mark.parametrize("dtype", [">f8", ">f4", "<f2", ">i4", np.longdouble])
def test_files_of_any_number_type(tmp_path, dtype):
    x = (100 * GOOD).astype(dtype)
    np.save(tmp_path / "x.npy", x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = [fit(tmp_path / "x.npy", 3, rows_at_once=n).log_prob(x.astype(float)) for n in (20, 100)]
    assert np.isfinite(found).all()


@pytest.mark.parametrize(
    ("scale", "match"),
    [
        (1e307, "has 60 values beyond 4e[+]292, too large for computations in float64, the first in row 0, column 1"),
        (1e-320, "column 1 of x has values as large as .* too little for float64; subtract an offset or choose"),
    ],
)
def test_units_that_overflow_or_underflow(scale, match):
    x = GOOD * np.array([1.0, scale, 1.0])
    with pytest.raises(ValueError, match=match):
        fit(x)
    with pytest.raises(ValueError, match=match.replace(" x", " condition")):
        fit(GOOD, condition=x)


def test_one_value_that_overflows_is_named():
    x = GOOD.copy()
    x[7, 2] = -1e300
    with pytest.raises(ValueError, match="the first in row 7, column 2, -1e[+]300; remove those rows"):
        fit(x)
