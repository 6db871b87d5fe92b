"""Columns of tables in their own types."""

import numpy as np
import pytest

from pushforward.density.data import tables
from pushforward.density.data.typed import read_typed

ROWS = {"group": np.array([0, 1, 2]), "y": np.array([1.0, 2.0, 4.0]), "x": np.array([0.5, -1e300, 3.0])}


@pytest.mark.parametrize("name", ["rows.csv", "rows.tsv", "rows.parquet", "rows.arrow", "rows.npz", "records.npy"])
def test_whole_numbers_stay_whole(name, tmp_path):
    path = tmp_path / name
    if name == "records.npy":
        np.save(path, np.array([*zip(*ROWS.values(), strict=True)], [("group", int), ("y", float), ("x", float)]))
    else:
        tables.write(path, ROWS)
    for columns in (None, ["x", "group"]):
        read = read_typed(path, columns)
        assert [*read] == (columns or [*ROWS])
        assert all(values.dtype == ROWS[n].dtype and (values == ROWS[n]).all() for n, values in read.items())


def test_cells_that_are_not_whole(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text('a,b,c,d,e\n1,1,1,"1",100000000000000000000\n2,2.,2e0," 2",1\n-3,3,nan,+3,1\n')
    kinds = {name: values.dtype.kind for name, values in read_typed(path).items()}
    assert kinds == {"a": "i", "b": "f", "c": "f", "d": "i", "e": "f"}
    (tmp_path / "blanks.txt").write_text("# a b\n1 2.5\n3 4\n")
    assert {n: v.dtype.kind for n, v in read_typed(tmp_path / "blanks.txt").items()} == {"a": "i", "b": "f"}


def test_missing_and_other_types(tmp_path):
    import pyarrow
    from pyarrow import parquet

    table = pyarrow.table({"a": [1, None, 3], "b": [True, False, True], "c": ["x", "y", "z"]})
    parquet.write_table(table, tmp_path / "rows.parquet")
    read = read_typed(tmp_path / "rows.parquet", ["a", "b"])
    assert np.isnan(read["a"][1]) and read["b"].dtype == bool
    with pytest.raises(ValueError, match=r"column 2 \(c\) has values of type string"):
        read_typed(tmp_path / "rows.parquet")


def test_arrays_of_any_shape(tmp_path):
    np.savez(tmp_path / "arrays.npz", x=np.ones((3, 2)), n=4)
    assert {n: v.shape for n, v in read_typed(tmp_path / "arrays.npz").items()} == {"x": (3, 2), "n": ()}
    assert [*read_typed(tmp_path / "arrays.npz", ["n"])] == ["n"]
    with pytest.raises(ValueError, match="no column z; it has x, n"):
        read_typed(tmp_path / "arrays.npz", ["z"])
    with pytest.raises(ValueError, match="no file"):
        read_typed(tmp_path / "nowhere.npz")
    (tmp_path / "text.npz").write_text("text")
    with pytest.raises(ValueError, match=r"text.npz is not an .npz file"):
        read_typed(tmp_path / "text.npz")
