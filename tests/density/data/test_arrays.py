"""Data frames and objects as matrices; errors name the row and column of values that are not numbers."""

import jax.random as jr
import numpy as np
import pandas
import pytest

import pushforward as pf

GOOD = np.random.default_rng(0).normal(size=(60, 3))
COUNTS = np.random.default_rng(0).poisson(3.0, (60, 2)).astype(float)


def fit(x, dim=None, **options):
    flow = pf.flows.linear(dim or np.shape(x)[1], key=jr.key(0))
    options = {"key": jr.key(0), "flow": flow, "max_epochs": 1} | options
    return pf.fit_density(x, progress=False, **options)


def test_data_frames_with_columns_of_other_types():
    frame = pandas.DataFrame({"price": GOOD[:, 0], "kind": ["x", "y"] * 30})
    frame["when"] = pandas.date_range("2020-01-01", periods=60)
    for columns, match in (
        (["price", "kind"], r"column 1 \(kind\) of x holds 'x' in row 0, which is a str, not a number"),
        (["price", "when"], r"column 1 \(when\) of x holds '2020-01-01 00:00:00' in row 0, which is a Timestamp"),
        (["when"], r"column 0 \(when\) of x holds '2020-01-01.*' in row 0, which is a datetime64"),
    ):
        with pytest.raises(ValueError, match=match):
            fit(frame[columns])
        with pytest.raises(ValueError, match=match.replace("of x", "of condition")):
            fit(GOOD, condition=frame[columns])
    with pytest.raises(ValueError, match=r"x.to_frame\(\) converts it to one column"):
        fit(frame["price"], 1)
    fit(pandas.DataFrame({"price": GOOD[:, 0], "nullable": pandas.array(COUNTS[:, 0], dtype="Int64")}), discrete=[1])


@pytest.mark.parametrize("dtype", ["Int64", "Float64", "boolean", object])
def test_missing_values_of_pandas(dtype):
    values = pandas.array([None if i == 7 else bool(i % 2) for i in range(60)], dtype=dtype)
    frame = pandas.DataFrame({"price": GOOD[:, 0], "sold": values})
    with pytest.raises(
        ValueError, match=r"1 values that are NaN or infinite, .* row 7, column 1 \(sold\); remove or imp"
    ):
        fit(frame)
