"""Containers and files of tables and images: read with these values and names, or refused by name."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pyarrow
from pyarrow import feather, parquet

VALUES = np.array([[1.5, 2.0], [3.0, -4.25], [0.5, 7.0]])
NAMES = ("a", "b")
COLUMNS = dict(zip(NAMES, VALUES.T, strict=True))
FRAME = pd.DataFrame(COLUMNS)
TABLE = pyarrow.table(COLUMNS)
RECORDS = np.array([*map(tuple, VALUES)], dtype=[("a", float), ("b", float)])
ROWS = "1.5,2\n3,-4.25\n0.5,7\n"
# Pixels of 8 bits of 12 images of 6 x 5 pixels, in gray and in color.
GRAY, COLOR = (np.random.default_rng(0).integers(0, 256, (12, 6, 5, *more)).astype(np.uint8) for more in ((), (3,)))


class Container(NamedTuple):
    """What holds a table or images.

    Attributes:
        make: the container or its file, which may be made in a folder.
        instead: what to do instead, for the documents; None for containers that are read.
        found: for tables, the names of the columns; for images, the values; for errors, a regular expression.
    """

    make: Callable[[Path], Any]
    instead: str | None = None
    found: Any = None


def file(name: str, content: str | bytes) -> Callable[[Path], Path]:
    """A function that writes a file."""

    def make(folder: Path) -> Path:
        content_bytes = content.encode() if isinstance(content, str) else content
        (folder / name).write_bytes(content_bytes)
        return folder / name

    return make


def by(write: Callable[[Path], Any], name: str) -> Callable[[Path], Path]:
    """A function that lets another one write a file."""

    def make(folder: Path) -> Path:
        write(folder / name)
        return folder / name

    return make


def mapped(array: np.ndarray) -> Callable[[Path], np.ndarray]:
    """A function that makes a memory-mapped array."""
    return lambda folder: np.load(by(lambda path: np.save(path, array), "x.npy")(folder), mmap_mode="r")


def labeled(folder: Path) -> Any:
    """An array of xarray with labels of the columns."""
    import xarray

    return xarray.DataArray(VALUES, dims=("row", "column"), coords={"column": list(NAMES)})


def dataset(folder: Path) -> Any:
    """A data set of xarray."""
    import xarray

    return xarray.Dataset({name: ("row", column) for name, column in COLUMNS.items()})


def sparse(folder: Path) -> Any:
    """A sparse matrix."""
    import scipy.sparse

    return scipy.sparse.csr_matrix(VALUES)


def pictures(folder: Path) -> Any:
    """Pictures of Pillow."""
    from PIL import Image

    return [Image.fromarray(image) for image in GRAY]


def folder_of_files(folder: Path) -> Path:
    """A folder."""
    return folder


NUMBERED = ("x0", "x1")
TABLES = {
    "NumPy array": Container(lambda _: VALUES),
    "NumPy array of other types of numbers and of the other byte order": Container(lambda _: VALUES.astype(">f4")),
    "NumPy array of objects that are numbers": Container(lambda _: VALUES.astype(object)),
    "NumPy array of records": Container(lambda _: RECORDS, found=NAMES),
    "NumPy masked array without masked entries": Container(lambda _: np.ma.array(VALUES)),
    "`numpy.memmap`": Container(mapped(VALUES)),
    "`numpy.memmap` of records": Container(mapped(RECORDS), found=NAMES),
    "JAX array": Container(lambda _: jnp.asarray(VALUES)),
    "list of lists": Container(lambda _: VALUES.tolist()),
    "pandas data frame": Container(lambda _: FRAME, found=NAMES),
    "pandas data frame of nullable or Arrow types": Container(
        lambda _: FRAME.convert_dtypes(dtype_backend="pyarrow"), found=NAMES
    ),
    "Arrow table or record batch": Container(lambda _: TABLE.to_batches()[0], found=NAMES),
    "xarray `DataArray` with labels of the columns": Container(labeled, found=NAMES),
    "CSV with names": Container(file("x.csv", "a,b\n" + ROWS), found=NAMES),
    "CSV without names": Container(file("x.csv", ROWS), found=NUMBERED),
    "CSV with a byte-order mark and line ends of Windows": Container(
        file("x.csv", "\ufeffa,b\r\n" + ROWS.replace("\n", "\r\n")), found=NAMES
    ),
    "CSV with quotes": Container(file("x.csv", '"a", "b"\n"1.5", "2"\n"3", "-4.25"\n"0.5", "7"\n'), found=NAMES),
    "CSV with semicolons": Container(file("x.csv", "a;b\n" + ROWS.replace(",", ";")), found=NAMES),
    "CSV with a line `sep=`": Container(file("x.csv", "sep=|\na|b\n" + ROWS.replace(",", "|")), found=NAMES),
    "CSV with comments before and after the rows": Container(
        file("x.csv", "# by hand\na,b\n" + ROWS + "# the end\n"), found=NAMES
    ),
    "TSV": Container(file("x.tsv", "a\tb\n" + ROWS.replace(",", "\t")), found=NAMES),
    "columns separated by blanks": Container(
        by(lambda p: p.write_text(FRAME.to_string(index=False)), "x.txt"), found=NAMES
    ),
    "text as `numpy.savetxt` writes it, the names in `header`": Container(
        by(lambda path: np.savetxt(path, VALUES, header="a b", footer="end", comments="% "), "x.txt"), found=NAMES
    ),
    ".npy": Container(by(lambda path: np.save(path, VALUES), "x.npy"), found=NUMBERED),
    ".npy of records": Container(by(lambda path: np.save(path, RECORDS), "x.npy"), found=NAMES),
    ".npz of one array of rows and columns": Container(
        by(lambda path: np.savez(path, x=VALUES), "x.npz"), found=NUMBERED
    ),
    ".npz of one array for each column": Container(by(lambda path: np.savez(path, **COLUMNS), "x.npz"), found=NAMES),
    "Parquet": Container(by(lambda path: parquet.write_table(TABLE, path), "x.parquet"), found=NAMES),
    "Arrow or Feather file": Container(
        by(lambda path: feather.write_feather(TABLE, str(path)), "x.arrow"), found=NAMES
    ),
    "masked entries": Container(
        lambda _: np.ma.masked_less(VALUES, 0), "impute them, or leave out the rows", "x has masked values"
    ),
    "missing values, NaN": Container(
        lambda _: np.where(VALUES < 0, np.nan, VALUES), '`missing="impute"`, or leave out the rows', "NaN"
    ),
    "empty cells and NA in text": Container(
        file("x.csv", "a,b\n1.5,2\nNA,3\n"),
        '`missing="impute"`, or leave out the rows',
        "'NA' is not a number but marks",
    ),
    "one column, as a vector": Container(lambda _: VALUES[:, 0], "`x[:, None]`", r"x\[:, None\] converts it"),
    "pandas series": Container(lambda _: FRAME["a"], "`x.to_frame()`", r"x.to_frame\(\) converts it to one column"),
    "dict of columns, list of dicts": Container(
        lambda _: FRAME.to_dict("records"), "`pandas.DataFrame(x)`", r"convert it with pandas.DataFrame\(x\)"
    ),
    "xarray `Dataset`": Container(dataset, "`x.to_dataframe()`", r"convert it with x.to_dataframe\(\)"),
    "sparse matrix": Container(sparse, "`x.toarray()`", r"convert it with x.toarray\(\)"),
    "columns of text": Container(
        lambda _: FRAME.assign(c=["u", "v", "u"]),
        "one column of 0 and 1 per category",
        r"column 2 \(c\) of x holds 'u'",
    ),
    "columns of dates": Container(
        lambda _: FRAME.assign(c=pd.date_range("2024", periods=3)),
        "days since a date",
        r"column 2 \(c\) of x holds '2024",
    ),
    "complex numbers": Container(lambda _: VALUES + 1j, "real and imaginary parts", "which is a complex128"),
    "decimal commas": Container(file("x.csv", "a;b\n1,5;2\n"), "decimal points", "decimal separator must be a point"),
    "separators of thousands": Container(
        file("x.csv", 'a,b\n"1,000",2\n'), "leave them out", "remove thousands separators"
    ),
    "rows of several lengths": Container(file("x.csv", "a,b\n1,2\n1\n"), "complete rows", "row 1 has 1 cells"),
    "several columns of one name": Container(file("x.csv", "a,a\n1,2\n"), "rename them", "several columns a"),
    "a first row of years, which may be names": Container(
        file("x.csv", "2019,2020\n1.5,2.5\n"), "names that are not numbers", "may be names or numbers"
    ),
    "text in UTF-16": Container(file("x.csv", "a,b\n1,2\n".encode("utf-16")), "UTF-8", "text in UTF-16"),
    "text in Latin-1": Container(file("x.csv", "größe,b\n1,2\n".encode("latin-1")), "UTF-8", "neither text in UTF-8"),
    "compressed by gzip": Container(file("x.csv.gz", gzip.compress(b"a,b\n1,2\n")), "gunzip", "compressed by gzip"),
    "zip, Excel": Container(file("x.xlsx", b"PK\x03\x04\xff"), "CSV", "a zip archive or a spreadsheet"),
    "HDF5, NetCDF": Container(file("x.nc", b"\x89HDF\r\n"), "read it with pandas or xarray", "an HDF5 or NetCDF file"),
    "pickle": Container(by(FRAME.to_pickle, "x.pkl"), "load it", "it is a pickle"),
    "JSON": Container(by(FRAME.to_json, "x.json"), "read it with `pandas.read_json`", "is JSON; read it"),
    "folder": Container(folder_of_files, "a file in it", "is a folder"),
}

UNIT = GRAY / 255
ADVICE = r"numpy.stack\(\[numpy.asarray"
STACK = "`numpy.stack([numpy.asarray(PIL.Image.open(p)) for p in paths])`"
IMAGES = {
    "(n, height, width), numbers between 0 and 1": Container(lambda _: UNIT, found=UNIT),
    "8 bits, which are divided by 255": Container(lambda _: GRAY, found=UNIT),
    "8 bits, all 0 or 1": Container(lambda _: GRAY // 128, found=GRAY // 128),
    "true and false": Container(lambda _: GRAY > 127, found=GRAY > 127),
    "(n, channels, height, width) with 1, 3 or 4 channels": Container(
        lambda _: np.moveaxis(COLOR, -1, 1), found=np.moveaxis(COLOR, -1, 1) / 255
    ),
    "(n, height, width, channels) with 1, 3 or 4 channels": Container(lambda _: COLOR, found=COLOR / 255),
    "(n, pixels)": Container(lambda _: UNIT.reshape(12, -1), found=UNIT.reshape(12, -1)),
    "list of arrays": Container(lambda _: [*GRAY], found=UNIT),
    "list of pictures of Pillow": Container(pictures, found=UNIT),
    "JAX array": Container(lambda _: jnp.asarray(GRAY), found=UNIT),
    "`numpy.memmap`, which stays on disk": Container(mapped(GRAY), found=UNIT),
    ".npy, which stays on disk": Container(by(lambda path: np.save(path, GRAY), "x.npy"), found=UNIT),
    ".npz with several arrays, or one": Container(
        by(lambda path: np.savez(path, train=GRAY), "x.npz"),
        "`numpy.load(path)[name]`; `pushforward vae` reads it",
        "holds several arrays or none; save one of them",
    ),
    "folder of pictures": Container(folder_of_files, STACK, f"it is a folder.*{ADVICE}"),
    "picture file": Container(file("x.png", b"\x89PNG\r\n"), STACK, f"of another format.*{ADVICE}"),
    "three axes, of which none or two may be channels": Container(
        lambda _: COLOR[:, :3], '`channels="first"` or `channels="last"`', "give channels="
    ),
    "numbers above 1 that are not of 8 bits": Container(
        lambda _: 255 * UNIT, "divide by the largest", r"pixels must lie in \[0, 1\], but lie in \[0, 255\]"
    ),
    "NaN": Container(lambda _: np.where(UNIT > 0.9, np.nan, UNIT), "fill them", "pixels that are NaN"),
    "masked pixels": Container(lambda _: np.ma.masked_less(UNIT, 0.1), "fill them", "some of whose entries are masked"),
    "complex numbers": Container(lambda _: UNIT + 0j, "real numbers", "is an array of complex128"),
    "images of several shapes": Container(
        lambda _: [UNIT[0], UNIT[1, :3]], "crop or scale them to one shape", "images must be an array of real numbers"
    ),
}
