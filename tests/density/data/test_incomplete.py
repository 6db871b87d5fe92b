"""Rows with missing values, and values of other rows in their place."""

import numpy as np
import pandas
import pytest

from pushforward.density.data.incomplete import read_incomplete


def test_missing_values_are_replaced_by_values_of_other_rows():
    x = np.random.default_rng(0).normal(size=(50, 2))
    x[:20, 1] = np.nan
    found = read_incomplete(pandas.DataFrame({"a": x[:, 0], "b": x[:, 1]}), None)
    assert found.names == ["a", "b"] and found.missing.sum() == 20
    filled = found.filled(np.random.default_rng(0))
    np.testing.assert_array_equal(filled[~found.missing], x[~np.isnan(x)])
    assert np.isin(filled[:20, 1], x[20:, 1]).all() and np.isnan(found.x[:20, 1]).all()
    masked = read_incomplete(np.ma.masked_greater(np.arange(6.0)[:, None], 4), ["c"])
    assert masked.names == ["c"] and masked.missing[:, 0].tolist() == [False] * 5 + [True]
    with pytest.raises(ValueError, match="c.* of x has fewer than two different observed values"):
        read_incomplete(np.array([[1.0], [np.nan]]), ["c"]).filled(np.random.default_rng(0))
