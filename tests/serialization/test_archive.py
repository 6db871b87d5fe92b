"""Archives: whatever is wrong with a file is a `ValueError` that names it, and loading takes little memory."""

import io
import json
import struct
import sys
import tracemalloc
import zipfile

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import pushforward as pf
from pushforward.serialization import DOCUMENT, is_archive, load, save, to_bytes

HEADER = "{{'descr': {!r}, 'fortran_order': False, 'shape': {}, }}"


def npy(descr, shape, data=b"", version=1):
    header = HEADER.format(descr, shape).encode()
    return b"\x93NUMPY" + struct.pack("<BBH" if version == 1 else "<BBI", version, 0, len(header)) + header + data


def forge(path, tree, arrays=(), compression=zipfile.ZIP_STORED, **changes):
    """Write a file without a digest, as an attacker might."""
    document = {"format": 1, "versions": {"pushforward": "0.1.0"}, "tree": tree} | changes
    with zipfile.ZipFile(path, "w", compression) as archive:
        for index, array in enumerate(arrays):
            archive.writestr(f"{index}.npy", array)
        archive.writestr(DOCUMENT, document if isinstance(tree, bytes) else json.dumps(document))


def numpy(index="0", **more):
    return {"kind": "numpy", "array": index} | more


ONES = npy("<f8", (2,), np.ones(2).tobytes())
FORGED = {
    "an array that is missing": (numpy("1"), [ONES]),
    "an array without a header": (numpy(), [b"1234567890"]),
    "an empty array file": (numpy(), [b""]),
    "a header that ends": (numpy(), [ONES[:20]]),
    "a header that is code": (numpy(), [ONES.replace(b"False", b"int()")]),
    "a header without a shape": (numpy(), [ONES.replace(b"'shape'", b"'chape'")]),
    "a giant shape": (numpy(), [npy("<f8", (10**15,), b"12345678")]),
    "a giant shape of nothing": (numpy(), [npy("|V0", (10**15,))]),
    "an overflowing shape": (numpy(), [npy("<f8", (10**30, 0))]),
    "a negative shape": (numpy(), [npy("<f8", (-1, -1), b"12345678")]),
    "a shape of text": (numpy(), [npy("<f8", "('a',)", b"12345678")]),
    "pickled objects": (numpy(), [npy("|O", (1,), b"12345678")]),
    "a type that does not exist": (numpy(), [npy("<q9", (1,), b"12345678")]),
    "objects by a view": (numpy(dtype="O"), [ONES]),
    "a view that does not fit": (numpy(dtype="V7"), [ONES]),
    "one array in two ways": ([numpy(), {"kind": "jax", "array": "0"}], [ONES]),
    "a text array for JAX": ({"kind": "jax", "array": "0"}, [npy("<U1", (1,), b"a\0\0\0")]),
    "a key of floats": ({"kind": "key", "array": "0", "impl": "rbg"}, [ONES]),
    "a key without a kind": ({"kind": "key", "array": "0"}, [ONES]),
    "an unknown dtype": ({"kind": "dtype", "name": "f99"}, []),
    "a number of text": ({"kind": "float", "value": "many"}, []),
    "a number of too many digits": ({"kind": "float", "value": [1]}, []),
    "a dict with unhashable keys": ({"kind": "dict", "items": [[[], 1]]}, []),
    "a dict of one": ({"kind": "dict", "items": [1]}, []),
    "a name that is a list": ({"kind": "name", "name": ["os"]}, []),
    "a name without a module": ({"kind": "name", "name": ":x"}, []),
    "a name with a path": ({"kind": "name", "name": "pushforward.bijections./tmp/x:y"}, []),
    "fields of a list": ({"kind": "object", "class": "pushforward:Flow", "fields": []}, []),
    "a transform without parts": (
        {"kind": "object", "class": "numpyro.distributions.transforms:ComposeTransform", "fields": {}}, [],
    ),
    "a structure of a broken distribution": (
        {"kind": "structure", "tree": {"kind": "object", "class": "numpyro.distributions:Normal", "fields": {}}}, [],
    ),
    "a deep tree": (json.loads("[" * 900 + "]" * 900), []),
}  # fmt: skip


@pytest.fixture
def usual_recursion_limit():
    """PyTensor raises the limit for the whole process."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(1_000)
    yield
    sys.setrecursionlimit(limit)


@pytest.mark.parametrize("name", FORGED)
@pytest.mark.usefixtures("usual_recursion_limit")
def test_forged_content(name, tmp_path):
    path = tmp_path / "forged"
    forge(path, *FORGED[name])
    with pytest.raises(ValueError, match=f"^{path}"):
        load(path)


@pytest.mark.parametrize(
    "changes",
    [{"versions": []}, {"versions": None}, {"format": "1"}, {"format": None}, {"digest": 5}, {"digest": "0"}],
)
def test_forged_documents(changes, tmp_path):
    path = tmp_path / "forged"
    forge(path, [1], **changes)
    with pytest.raises(ValueError, match=f"^{path}"):
        load(path)


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"1", b"{", b"[" * 100_000, b'{"tree": ' * 50_000, b"\xff\xfe", b"9" * 10_000]
)
def test_documents_that_are_none(text, tmp_path):
    path = tmp_path / "forged"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(DOCUMENT, text)
    with pytest.raises(ValueError, match=f"^{path} is not a file of pushforward.save"):
        load(path)


def test_every_damaged_byte_is_noticed(tmp_path):
    """Of headers, checksums, names, directory, document and arrays; some bytes, such as dates, mean nothing."""
    path, rng = tmp_path / "damaged", np.random.default_rng(0)
    tree = {"a": jnp.arange(3.0), "b": (1, "text")}
    data = to_bytes(tree)
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        try:
            loaded = load(path)
        except ValueError as error:
            assert str(error).startswith(str(path))
        else:
            assert to_bytes(loaded) == data


def edit(path, change):
    """Edit the document of a file with care: everything else, checksums included, is right."""
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    content = change(content)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)


EDITS = {
    "a number": lambda c: c | {DOCUMENT: c[DOCUMENT].replace(b"12345", b"12346")},
    "a blank": lambda c: c | {DOCUMENT: c[DOCUMENT] + b" "},
    "an array": lambda c: c | {"0.npy": c["0.npy"][:-8] + bytes(8)},
    "two arrays": lambda c: c | {"0.npy": c["1.npy"], "1.npy": c["0.npy"]},
    "one array more": lambda c: {"2.npy": c["0.npy"]} | c,
    "one array less": lambda c: {name: data for name, data in c.items() if name != "1.npy"},
}


@pytest.mark.parametrize("name", EDITS)
def test_edits_are_noticed(name, tmp_path):
    path = tmp_path / "edited"
    save(path, {"n": 12345, "a": np.ones(3), "b": np.zeros(3)})
    edit(path, lambda content: content)
    assert load(path)["n"] == 12345
    edit(path, EDITS[name])
    with pytest.raises(ValueError, match=f"^{path} .* was edited after it was saved"):
        load(path)


def test_the_same_tree_gives_the_same_bytes():
    tree = {"a": jnp.ones(3), "f": pf.flows.realnvp(2, key=jr.key(0), num_layers=1, hidden=(4,))}
    assert to_bytes(tree) == to_bytes(tree)


MANY = 2000
BOMBS = {
    "one array under many names": lambda path, array: forge(path, [numpy()] * MANY, [array]),
    "a compressed array": lambda path, array: forge(
        path, numpy(), [npy("<f8", (10**7,), bytes(8 * 10**7))], zipfile.ZIP_DEFLATED
    ),
    "members that overlap": lambda path, array: path.write_bytes(overlapping(array)),
    "a declared shape": lambda path, array: forge(path, numpy(), [npy("<f8", (10**8,), array)]),
    "a wide document": lambda path, array: forge(path, [[]] * 100_000),
    "an old constant": lambda path, array: forge(path, old_constant(), [array]),
}


def old_constant():
    """A `Constant` of version 0.1 with many leaves that are one array."""
    fields = {
        "dtypes": ["float64"], "others": [None],
        "arrays": {"kind": "tuple", "items": [numpy()]}, "structure": {"kind": "structure", "tree": [0] * MANY},
    }  # fmt: skip
    return {"kind": "object", "class": "pushforward.bijections.constant:Constant", "fields": fields}


def overlapping(array):
    """One member that the directory lists many times."""
    file = io.BytesIO()
    forge(file, [numpy(str(i)) for i in range(MANY)], [array])
    with zipfile.ZipFile(file, "a") as archive:
        first = archive.infolist()[0]
        for i in range(1, MANY):
            info = zipfile.ZipInfo(f"{i}.npy")
            info.header_offset, info.CRC = first.header_offset, first.CRC
            info.file_size = info.compress_size = first.file_size
            archive.filelist.append(info)
        archive._didModify = True
    return file.getvalue()


@pytest.mark.parametrize("name", BOMBS)
def test_memory_is_a_small_multiple_of_the_file(name, tmp_path):
    path = tmp_path / "bomb"
    BOMBS[name](path, npy("<f8", (25_000,), bytes(200_000)))
    tracemalloc.start()
    try:
        load(path)
    except ValueError as error:
        assert str(error).startswith(str(path))
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 30 * path.stat().st_size + 2e6


def test_headers_of_all_versions(tmp_path):
    for version in (1, 2, 3):
        forge(tmp_path / "old", numpy(), [npy("<f8", (2,), np.ones(2).tobytes(), version)])
        assert np.array_equal(load(tmp_path / "old"), np.ones(2))


def test_which_files_are_archives(tmp_path):
    save(tmp_path / "saved", 1)
    np.savez(tmp_path / "other.npz", a=1)
    (tmp_path / "text").write_text("PK")
    found = [path.name for path in (*tmp_path.iterdir(), tmp_path, tmp_path / "none") if is_archive(path)]
    assert found == ["saved"]
