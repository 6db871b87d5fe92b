"""Data frames and objects as matrices; errors name the row and column of values that are not numbers."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pandas
import pyarrow
import pytest

import pushforward as pf
from pushforward.density.data.arrays import as_matrix, column_names

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


def test_names_of_tables_and_records():
    columns = {"size": GOOD[:, 0], "count": np.arange(60, dtype=np.int16)}
    table = pyarrow.table(columns)
    records = np.rec.fromarrays([*columns.values()], names="size,count")
    for x in (pandas.DataFrame(columns), table, table.to_batches()[0], records, np.asarray(records)):
        assert column_names(x) == ["size", "count"]
        np.testing.assert_array_equal(as_matrix("x", x), np.stack([*columns.values()], 1))
    assert fit(table, 2).columns == ("size", "count")
    missing = pyarrow.table({"a": [1, None], "b": [True, False]})
    np.testing.assert_array_equal(as_matrix("x", missing), [[1, 1], [np.nan, 0]])
    for x in (pyarrow.table({"a": [1.0], "b": ["x"]}), np.array([(1.0, "x")], dtype=[("a", float), ("b", "U1")])):
        with pytest.raises(ValueError, match=r"column 1 \(b\) of x holds 'x' in row 0, which is a str"):
            as_matrix("x", x, column_names(x))


def test_labels_of_columns_are_names():
    xarray = pytest.importorskip("xarray", reason="xarray is not installed")
    labeled = xarray.DataArray(GOOD[:, :2], dims=("row", "column"), coords={"column": ["a", "b"]})
    assert column_names(labeled) == ["a", "b"]
    assert column_names(labeled.drop_vars("column")) is None and column_names(labeled[:, 0]) is None
    np.testing.assert_array_equal(as_matrix("x", labeled), GOOD[:, :2])


def test_dicts_are_refused_with_advice():
    with pytest.raises(ValueError, match=r"but is of type dict; convert it with pandas.DataFrame\(x\)"):
        as_matrix("x", {"a": GOOD[:, 0], "b": GOOD[:, 1]})
    with pytest.raises(ValueError, match=r"but holds dicts; convert it with pandas.DataFrame\(x\)"):
        as_matrix("x", [{"a": 1.0, "b": 2.0}])


def test_half_precision():
    for dtype in (jnp.bfloat16, jnp.float16):
        np.testing.assert_array_equal(as_matrix("x", jnp.ones((4, 2), dtype)), np.ones((4, 2)))
