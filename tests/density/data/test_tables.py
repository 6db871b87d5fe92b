"""Tables in files of every format; errors name the row and column that is not a number."""

import gzip

import numpy as np
import pyarrow
import pyarrow.feather
import pytest
from pyarrow import parquet

from pushforward.density.data import tables
from table_cases import NAMES, write

RNG = np.random.default_rng(0)
DATA = np.stack([RNG.gamma(3.0, 2.0, 300), RNG.poisson(6.0, 300), 360 * RNG.uniform(size=300), RNG.normal(size=300)], 1)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "data.csv", DATA)
    return tmp_path


@pytest.mark.parametrize("rows_per_block", [7, 100_000])
def test_all_formats(folder, monkeypatch, rows_per_block):
    monkeypatch.setattr(tables, "ROWS_PER_BLOCK", rows_per_block)
    write(folder / "t.tsv", DATA, separator="\t")
    write(folder / "bare.csv", DATA, names=None)
    write(folder / "semicolons.csv", DATA, separator=";")
    np.save("a.npy", DATA)
    np.savez("a.npz", **dict(zip(NAMES, DATA.T, strict=True)))
    np.savez("one.npz", data=DATA)
    tables.write(folder / "a.parquet", dict(zip(NAMES, DATA.T, strict=True)))
    pyarrow.feather.write_feather(pyarrow.table(dict(zip(NAMES, DATA.T, strict=True))), "a.arrow", chunksize=7)
    numbered = ["x0", "x1", "x2", "x3"]
    for name, names in (
        ("data.csv", NAMES), ("t.tsv", NAMES), ("semicolons.csv", NAMES), ("a.npz", NAMES), ("a.arrow", NAMES),
        ("bare.csv", numbered), ("a.npy", numbered), ("one.npz", numbered), ("a.parquet", NAMES),
    ):  # fmt: skip
        table, mapped = tables.read(name), tables.open_mapped(name)
        assert table.names == mapped.names == names
        assert isinstance(mapped.values, np.memmap) or name.endswith(".npz")
        np.testing.assert_array_equal(table.values, DATA)
        np.testing.assert_array_equal(mapped.values, DATA)
        for part in (tables.read(name, names[2:0:-1]), tables.open_mapped(name, names[2:0:-1])):
            assert part.names == names[2:0:-1]
            np.testing.assert_array_equal(part.values, DATA[:, 2:0:-1])
    (folder / "mixed.csv").write_text('who,"how, much"\nAnn,"1.5"\nBob,2\n')
    np.testing.assert_array_equal(tables.read("mixed.csv", ["how, much"]).values, [[1.5], [2.0]])
    lines = "".join(f'"on\ntwo lines",{i}\n' for i in range(20))
    (folder / "quoted.csv").write_text(f"text,number\n{lines}")
    np.testing.assert_array_equal(tables.read("quoted.csv", ["number"]).values[:, 0], np.arange(20))
    (folder / "late.csv").write_text("a,b\n" + "1,2\n" * 20 + "1,x\n")
    with pytest.raises(ValueError, match=r"row 20, column 1 \(b\): 'x' is not a number"):
        tables.open_mapped("late.csv")
    (folder / "wide.csv").write_text("a,b\n" + "1,2,3\n" * 20)
    with pytest.raises(ValueError, match="row 0 has 3 cells"):
        tables.read("wide.csv")
    for name in ("draws.npy", "draws.npz", "draws.tsv", "draws.csv", "draws.parquet", "draws.arrow", "draws.feather"):
        tables.write(folder / name, dict(zip(NAMES, DATA.T, strict=True)))
        np.testing.assert_array_equal(tables.read(name).values, DATA)


@pytest.mark.parametrize(
    ("arrays", "match"),
    [
        ({"a": np.zeros((2, 2, 2))}, "rows and columns"),
        ({"a": np.zeros(2), "b": np.zeros(3)}, "one array of the same length for each column"),
        ({"a": np.array(["b"])}, "has values of type <U1, which are not numbers"),
    ],
)
def test_errors_for_other_arrays(folder, arrays, match):
    np.savez("a.npz", **arrays)
    with pytest.raises(ValueError, match=match):
        tables.read("a.npz")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("sep=;\na;b\n1.5;2\n", ["a", "b"]),
        ('\ufeff"sep=;"\r\na;b\r\n1.5;2\r\n', ["a", "b"]),
        ("SEP=|\n1.5|2\n", ["x0", "x1"]),
        ("sep=\t\n# a\tb\n1.5\t2\n", ["a", "b"]),
    ],
)
def test_a_first_line_may_declare_the_separator(tmp_path, text, names):
    (tmp_path / "rows.csv").write_text(text, encoding="utf-8", newline="")
    table = tables.read(tmp_path / "rows.csv")
    assert table.names == names
    np.testing.assert_array_equal(table.values, [[1.5, 2]])


def test_columns_without_a_unique_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "index.csv").write_text(",a,b\n0,1.5,2\n1,2.5,3\n")
    (tmp_path / "twice.csv").write_text("a,a,b\n0,1.5,2\n1,2.5,3\n")
    (tmp_path / "decimal.csv").write_text("a;b\n0,5;1,25\n")
    with pytest.warns(UserWarning, match="column 0 has no name and is left out"):
        table = tables.read("index.csv")
    assert table.names == ["a", "b"]
    np.testing.assert_array_equal(table.values, [[1.5, 2], [2.5, 3]])
    (tmp_path / "unnamed.csv").write_text("a,,b\n0,1.5,2\n1,2.5,3\n")
    with pytest.raises(ValueError, match="column 1 has no name; give it one in the first row"):
        tables.read("unnamed.csv")
    np.testing.assert_array_equal(tables.read("unnamed.csv", ["b", "a"]).values, [[2, 0], [3, 1]])
    (tmp_path / "trailing.csv").write_text("a,b,\n0,1.5,\n1,2.5,\n")
    with pytest.warns(UserWarning, match="column 2 has neither a name nor values, and is left out"):
        table = tables.read("trailing.csv")
    assert table.names == ["a", "b"]
    np.testing.assert_array_equal(table.values, [[0, 1.5], [1, 2.5]])
    with pytest.raises(ValueError, match="has several columns a; rename them"):
        tables.read("twice.csv", ["a"])
    with pytest.raises(ValueError, match=r"'0,5' is not a number \(the decimal separator must be a point\); correct"):
        tables.read("decimal.csv")


def test_records(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "ROWS_PER_BLOCK", 7)
    records = np.array([(i, i / 7) for i in range(20)], dtype=[("count", "u2"), ("size", ">f4")])
    np.save(tmp_path / "x.npy", records)
    np.savez(tmp_path / "x.npz", records)
    for name in ("x.npy", "x.npz"):
        for table in (tables.read(tmp_path / name), tables.open_mapped(tmp_path / name)):
            assert table.names == ["count", "size"]
            np.testing.assert_array_equal(table.values, np.stack([records["count"], records["size"]], 1))
    assert tables.read(tmp_path / "x.npy", ["size"]).values.shape == (20, 1)
    np.save(tmp_path / "text.npy", np.array([("a",)], dtype=[("who", "U1")]))
    with pytest.raises(ValueError, match="who has values of type <U1, which are not numbers"):
        tables.read(tmp_path / "text.npy")


def test_parquet_columns_of_one_name(tmp_path):
    twice = pyarrow.Table.from_arrays([pyarrow.array([1.0]), pyarrow.array([2.0]), pyarrow.array([3])], ["a", "a", "b"])
    parquet.write_table(twice, tmp_path / "x.parquet")
    with pytest.raises(ValueError, match="several columns a; rename them"):
        tables.read(tmp_path / "x.parquet")
    assert tables.read(tmp_path / "x.parquet", ["b"]).values.tolist() == [[3.0]]
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match="is not a Parquet file"):
        tables.read(tmp_path / "broken.parquet")
    (tmp_path / "broken.arrow").write_bytes(b"ARROW1")
    with pytest.raises(ValueError, match="is not an Arrow file"):
        tables.read(tmp_path / "broken.arrow")


def test_a_column_named_file(tmp_path):
    tables.write(tmp_path / "x.npz", {"file": np.zeros(2), "b": np.ones(2)})
    assert tables.read(tmp_path / "x.npz").names == ["file", "b"]


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (gzip.compress(b"a,b\n1,2\n"), "it is compressed by gzip; decompress it"),
        ("a,b\n1,2\n".encode("utf-16"), "it is text in UTF-16; save it in UTF-8"),
        ("größe,b\n1,2\n".encode("latin-1"), "it is neither text in UTF-8"),
    ],
    ids=["gzip", "utf-16", "latin-1"],  # gzip's bytes hold the time, and tests keep their names
)
def test_formats_of_other_files_are_named(tmp_path, content, match):
    (tmp_path / "rows.csv.gz").write_bytes(content)
    with pytest.raises(ValueError, match=match):
        tables.read(tmp_path / "rows.csv.gz")
