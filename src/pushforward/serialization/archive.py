"""The archive: a JSON document and arrays in one zip file, with a digest of all of them.

Members are stored without compression, and the arrays are .npy files, so `numpy.load` reads an archive too. Reading
allocates no more than the file is long, whatever the file declares.
"""

import ast
import hashlib
import io
import json
import math
import os
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

DOCUMENT = "pushforward.json"
# The digest is computed with this text in its own place.
NO_DIGEST = "0" * hashlib.sha256().digest_size * 2
# A zip file's local header: its length, and where the lengths of the name and of the extra field are.
HEADER, LENGTHS = 30, 26
NPY = b"\x93NUMPY"


def write_archive(
    file: str | os.PathLike | io.BufferedIOBase, content: dict[str, Any], arrays: Sequence[np.ndarray]
) -> None:
    """Write an archive.

    Args:
        file: the path or an open file.
        content: the entries of the document.
        arrays: the arrays, whose names are their indices.
    """
    hashes = {}
    with zipfile.ZipFile(file, "w") as archive:
        for index, array in enumerate(arrays):
            member = zipfile.ZipInfo(f"{index}.npy")
            with archive.open(member, "w", force_zip64=True) as entry:
                hashed = _Hashed(entry)
                np.lib.format.write_array(hashed, array, allow_pickle=False)
            hashes[member.filename] = hashed.hash
        text = json.dumps({"digest": NO_DIGEST, **content})
        text = text.replace(NO_DIGEST, _digest(hashes, text), 1)
        archive.writestr(zipfile.ZipInfo(DOCUMENT), text)


class _Hashed:
    """A file that hashes what is written to it."""

    def __init__(self, file: Any):
        self.file, self.hash = file, hashlib.sha256()

    def write(self, data: Any) -> int:
        self.hash.update(data)
        return self.file.write(data)


def digest_of(members: Mapping[str, Any], text: str) -> str:
    """The digest of an archive.

    Args:
        members: the files of the arrays, by their names, in the order of the archive.
        text: the document, with `NO_DIGEST` as its digest.
    """
    return _digest({name: hashlib.sha256(member) for name, member in members.items()}, text)


def _digest(hashes: Mapping[str, Any], text: str) -> str:
    lines = [f"{name} {hashed.hexdigest()}\n" for name, hashed in hashes.items()]
    return hashlib.sha256("".join((*lines, text)).encode()).hexdigest()


class Archive:
    """The checked content of an archive.

    Args:
        data: all bytes of the file.

    Raises:
        Exception: if the bytes are not an archive or are damaged; many types of errors are possible.
    """

    def __init__(self, data: bytes):
        self._data = memoryview(data)
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            infos = archive.infolist()
        # Otherwise a small file could hold the same bytes under many names.
        if sum(info.file_size for info in infos) > len(data):
            raise zipfile.BadZipFile("the members are longer than the file")
        self._members = {info.filename: self._member(info) for info in infos}
        if len(self._members) < len(infos):
            raise zipfile.BadZipFile("two members have the same name")
        if DOCUMENT not in self._members:
            raise zipfile.BadZipFile(f"there is no {DOCUMENT} in it")
        self._text = bytes(self._members.pop(DOCUMENT))
        self.document: dict[str, Any] = json.loads(self._text)

    def _member(self, info: zipfile.ZipInfo) -> memoryview:
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            raise zipfile.BadZipFile(f"the member {info.filename} is compressed, which pushforward.save never does")
        name, extra = struct.unpack_from("<HH", self._data, info.header_offset + LENGTHS)
        start = info.header_offset + HEADER + name + extra
        member = self._data[start : start + info.file_size]
        if len(member) != info.file_size or zlib.crc32(member) != info.CRC:
            raise zipfile.BadZipFile(f"the checksum of the member {info.filename} is wrong")
        return member

    def is_as_saved(self) -> bool:
        """Whether the content has its digest. Files of versions before 0.2.0 have no digest, and count as such."""
        if "digest" not in self.document:
            return True
        digest = self.document["digest"]
        return digest_of(self._members, self._text.decode().replace(digest, NO_DIGEST, 1)) == digest

    def array(self, index: str) -> np.ndarray:
        """An array, in memory of its own.

        Args:
            index: its name.
        """
        member = self._members[f"{index}.npy"]
        if member[: len(NPY)] != NPY:
            raise ValueError(f"the array {index} has no .npy header")
        # Versions from 2 on have a longer length, and version 3 has names of fields in UTF-8.
        version = member[len(NPY)]
        start = len(NPY) + (4 if version == 1 else 6)
        (length,) = struct.unpack_from("<H" if version == 1 else "<I", member, len(NPY) + 2)
        text = bytes(member[start : start + length]).decode("latin1" if version < 3 else "utf-8")
        header = ast.literal_eval(text.strip())
        dtype, shape = np.lib.format.descr_to_dtype(header["descr"]), header["shape"]
        values = member[start + length :]
        # Its size is checked first: a header of a few bytes can declare any shape.
        if dtype.hasobject or math.prod(shape) * max(dtype.itemsize, 1) > len(values) or min(shape, default=0) < 0:
            raise ValueError(f"the array {index} declares the shape {shape} and type {dtype}, but has other values")
        order = "F" if header["fortran_order"] else "C"
        return np.ndarray(shape, dtype, values, order=order).copy(order="K")


def is_archive(path: str | os.PathLike) -> bool:
    """Whether there is a file of `pushforward.save` at a path, perhaps a damaged one.

    Args:
        path: the path.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return DOCUMENT in archive.namelist()
    except Exception:  # not a zip file, a directory that is damaged, or no file
        return False
