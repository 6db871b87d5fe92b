"""Text files as other programs write them: read, or refused by the right name, in one pass."""

import csv

import numpy as np
import pytest

from pushforward.density.data import tables, text

ROWS = [[1.5, 2.0], [3.0, -4.25]]
PLAIN = "1.5,2\n3,-4.25\n"


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ("a,b\n" + PLAIN, ["a", "b"]),
        ("\ufeffa,b\n" + PLAIN, ["a", "b"]),
        (PLAIN.replace("\n", "\r\n"), ["x0", "x1"]),
        ("\n\n" + PLAIN.replace("\n", "\n\n") + "  \n", ["x0", "x1"]),
        ('"a", "b"\n"1.5", "2"\n"3", "-4.25"\n', ["a", "b"]),
        ('"a, or\nelse",b\n' + PLAIN, ["a, or\nelse", "b"]),
        ("a ; b\n1.5 ; 2.0\n3 ;-4.25 ", ["a", "b"]),
        ("a\tb\n1.5\t2\n3\t-4.25\n", ["a", "b"]),
        ("# of 3 June\n# a b\n1.5e0 2e0\n3e0 -4.25e0\n", ["a", "b"]),
        ("# of 3 June\n" + PLAIN, ["x0", "x1"]),
        ("# a, b\n" + PLAIN, ["a", "b"]),
        ("% a b\n1.5 2\n3 -4.25\n", ["a", "b"]),
        ("% by hand\n% a,b\n" + PLAIN, ["a", "b"]),
        (PLAIN + "# by hand\n\n# on 3, June\n", ["x0", "x1"]),
        ("a,b\n" + PLAIN + "% 3,4", ["a", "b"]),
        ("#a,b\n" + PLAIN, ["a", "b"]),
        ("# wind speed\n# a b\n" + PLAIN, ["a", "b"]),
        ("  a      b\n1.5      2\n  3  -4.25\n", ["a", "b"]),
        ('"a"  "b c"\n1.5  2\n3  -4.25\n', ["a", "b c"]),
        (" 1.5   2\n 3.0  -4.25\n", ["x0", "x1"]),
        ("a   ,b\n1.5 ,   2\n3   ,-4.25\n", ["a", "b"]),
        ("year,2019\n" + PLAIN, ["year", "2019"]),
    ],
)  # fmt: skip
def test_layouts(tmp_path, content, names):
    (tmp_path / "table.csv").write_bytes(content.encode())
    for read in (tables.read, tables.open_mapped):
        table = read(tmp_path / "table.csv")
        assert table.names == names
        np.testing.assert_array_equal(table.values, ROWS)
    np.testing.assert_array_equal(tables.read(tmp_path / "table.csv", names[1:]).values[:, 0], [2.0, -4.25])


def test_what_numpy_writes(tmp_path):
    values = np.random.default_rng(0).normal(size=(30, 3))
    for options in (
        {}, {"delimiter": ","}, {"delimiter": "\t", "header": "a\tb\tc"}, {"header": "a b c"}, {"footer": "the\nend"},
        {"header": "a b c", "comments": "% "}, {"header": "a,b,c", "comments": "%", "delimiter": ",", "footer": "end"},
    ):  # fmt: skip
        np.savetxt(tmp_path / "x.txt", values, **options)
        table = tables.read(tmp_path / "x.txt")
        np.testing.assert_array_equal(table.values, values)
        assert table.names == (["a", "b", "c"] if "header" in options else ["x0", "x1", "x2"])


def test_a_last_row_of_text_is_no_comment(tmp_path, monkeypatch):
    (tmp_path / "x.csv").write_text("tag,size\n#1,3\n#2,4\n")
    np.testing.assert_array_equal(tables.read(tmp_path / "x.csv", ["size"]).values, [[3], [4]])
    (tmp_path / "x.csv").write_text("size,tag\n" + "3,# of a long text\n" * 9)
    monkeypatch.setattr(text, "END_BYTES", 17)  # the end begins inside of a line, with #
    assert len(tables.read(tmp_path / "x.csv", ["size"]).values) == 9
    assert not text.find_layout(tmp_path / "x.csv").has_footer


def test_one_column(tmp_path):
    (tmp_path / "x.csv").write_text("wind speed\n1.5\n2\n")
    assert tables.read(tmp_path / "x.csv").names == ["wind speed"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('a,b\n"1,000",2\n', r"row 0, column 0 \(a\): '1,000' is not a number \(remove thousands separators; the dec"),
        ("a,b\n1_000,2\n", r"'1_000' is not a number \(remove thousands"),
        ("a;b\n1 000;2\n", r"'1 000' is not a number \(remove thousands"),
        ("a;b\n1,5;2\n", r"'1,5' is not a number \(the decimal separator must be a point\)"),
        ("a,b\n1,2\nNA,3\n", r"row 1, column 0 \(a\): 'NA' is not a number but marks a missing value"),
        ("a,b\n1,2\n,3\n", r"row 1, column 0 \(a\): the value is missing"),
        ("a,b\n1,2\n1\n", "row 1 has 1 cells, but there are 2 columns"),
        (
            "a,b\n1,2\n# later\n3,4\n",
            "row 1 has 1 cells, but there are 2 columns; comments may only be before or after",
        ),
        ("a,b\n1,2\n# later, too\n3,4\n# end", r"row 1, column 0 \(a\): '# later' is not a number"),
        ("a,b\nx,2\n#y,4\n", r"row 0, column 0 \(a\): 'x' is not a number"),
        ("a b\n1 2\n1 2 3\n", "row 1 has 3 cells"),
        ("a,b\n1," + "x" * 5000 + "\n", r"'x{57}\.\.\.' is not a number"),
        ("a,a\n1,2\n", "has several columns a; rename them"),
        ("2019,2020,2021\n1.5,2.5,3.5\n", "the first row, 2019, 2020, 2021, may be names or numbers.*x2019.*2019.0"),
        ("2019,2020\n1.5,2.5\n", "may be names or numbers"),
        ("2000,2010,2020\n31,28,35\n", "may be names or numbers"),
        ("0 1 2\n.5 2.5 3.5\n", "may be names or numbers"),
        ("0,1,2\n4,4,4\n", "may be names or numbers"),
        ("1,NA\n1,2\n", "neither names nor only numbers"),
        (",2019,2020\n0,1.5,2.5\n", "neither names nor only numbers|value is missing"),
    ],
)
def test_errors_name_the_place(tmp_path, content, words):
    (tmp_path / "table.csv").write_text(content)
    for read in (tables.read, tables.open_mapped):
        with pytest.raises(ValueError, match=words):
            read(tmp_path / "table.csv")


@pytest.mark.parametrize(
    "content", ["1,2\n3,4\n", "0,1\n1,1\n", "0,1,2\n3,4,5\n", "0,1,2\n", "2,1\n.5,.7\n", "7\n.5\n"]
)
def test_first_rows_of_numbers_that_are_no_names(tmp_path, content):
    (tmp_path / "table.csv").write_text(content)
    assert len(tables.read(tmp_path / "table.csv").values) == content.count("\n")


MANY = "".join(f"{i},{i + 0.5},text\n" for i in range(50_000))


@pytest.mark.parametrize(
    ("stray", "words"),
    [
        ('7,"8,text\n', "line 50002 has a quote that does not close"),
        ('"7,8,text\n', "line 50002 has a quote that does not close"),
        ('7,8,"text\n', "line 50002 has a quote that does not close"),
        ('7,8",text\n', "'8\"' is not a number"),
        ('7,"8,text\n7,8",text\n', r"not a number \(a quote that opens in line 50002 closes in line 50003"),
        ('7,8,te"xt\n', None),
    ],
)  # fmt: skip
def test_a_stray_quote_is_found_in_one_pass(tmp_path, monkeypatch, stray, words):
    """Each line is read at most once by each reader, wherever the quote is; no row is swallowed."""
    (tmp_path / "table.csv").write_text("a,b,c\n" + MANY + stray + MANY)
    read_lines = []

    def reader(lines, **options):
        return original((read_lines.append(1) or line for line in lines), **options)

    original = csv.reader
    monkeypatch.setattr(text.csv, "reader", reader)
    columns = ["a", "b"]
    if words is None or '"text' in stray:
        # In a column that is not wanted, and with no text swallowed, a quote does no harm.
        assert len(tables.read(tmp_path / "table.csv", columns).values) == 100_001
        columns = ["b", "c"] if words is None else columns
    else:
        with pytest.raises(ValueError, match=words):
            tables.read(tmp_path / "table.csv", columns)
    assert len(read_lines) <= 100_001 + 2 * (text.COMPARED + 1)


@pytest.mark.parametrize("block", [64, 1 << 22])
def test_numbers_far_in_a_file(tmp_path, monkeypatch, block):
    monkeypatch.setattr(text, "BLOCK_BYTES", block)
    monkeypatch.setattr(text, "ROWS_PER_BLOCK", 7)
    body = "".join(f'"{i}",{i / 7}\n' for i in range(100))
    for content in (body, body.replace('"', "")):
        (tmp_path / "table.csv").write_text("a,b\n" + content)
        values = tables.open_mapped(tmp_path / "table.csv").values
        np.testing.assert_array_equal(values, [(i, i / 7) for i in range(100)])


def test_numbers_of_many_digits(tmp_path):
    (tmp_path / "table.csv").write_text("a,b\n" + "1" * 5000 + ",2\n")
    assert np.isinf(tables.read(tmp_path / "table.csv").values[0, 0])


UNKNOWN = r"neither text in UTF-8 .* nor a .npy, .npz, .parquet, .arrow, .feather file"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"wind [\xb0],b\n1,2\n", UNKNOWN),
        (b"PK\x03\x04\xff\xfe", "a zip archive or a spreadsheet"),
        ("a,b\n1,2\n".encode("utf-16"), "text in UTF-16"),
    ],
)
def test_files_that_are_not_text(tmp_path, content, message):
    (tmp_path / "table.xlsx").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        tables.read(tmp_path / "table.xlsx")
