"""Files that are read whole or replaced in one step, and npz archives of arrays and JSON values."""

from __future__ import annotations

import io
import json
import lzma
import math
import os
import re
import stat
import sys
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

import numpy as np
import numpy.typing as npt

#: Limit of the bytes of all arrays of an archive together, unless the caller knows a lower one.
MAX_ARRAY_BYTES = 2**31
#: Limit of the arrays in an archive: what a reader keeps of each takes ten times the space of its entry in the file.
_MAX_ARRAYS = 10_000
#: Characters of the reason why something is no archive: it may quote the whole file.
_MAX_REASON = 200
#: Signature of an entry in the directory of a zip file.
_ENTRY = b"PK\x01\x02"
#: Beginning of an array: magic and version, then the length of the header, then the header as ``np.save`` writes it.
#: NumPy would evaluate the header as Python, and allocate whatever size it states.
_MAGIC = b"\x93NUMPY\x01\x00"
_HEADER = re.compile(
    r"\{'descr': '([<>|][biufU]\d{1,9})', 'fortran_order': (True|False), "
    r"'shape': \(((?:\d{1,18}, ?)*(?:\d{1,18})?)\), \}\s*",
    re.ASCII,
)
_TYPES = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def read_file(path: Path, max_bytes: int) -> bytes:
    """Return the content of a regular file. Never wait for a writer, and never read more than ``max_bytes``.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is no regular file, too large, or changes while it is read.

    """
    _check_regular(path.stat())  # before it is opened, which may do something to a device
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with open(descriptor, "rb", buffering=0) as file:  # noqa: PTH123 (a descriptor, no path)
        status = os.fstat(descriptor)
        _check_regular(status)  # another file may be there by now
        if status.st_size > max_bytes:
            raise ValueError(f"it has {status.st_size} bytes, expected at most {max_bytes}")
        data = file.read(status.st_size + 1) or b""  # None: a file in /proc that has nothing to tell yet
    if len(data) != status.st_size:
        raise ValueError("it changes while it is read; try again when it is complete")
    return data


def _check_regular(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        found = _TYPES.get(stat.S_IFMT(status.st_mode), "no file")
        raise ValueError(f"it is {found}, expected a regular file")


def replace_file(path: Path, data: bytes) -> None:
    """Write a file so that a reader finds its old content or its new content, never a part, even after a crash.

    The data is first written to ``<path>.tmp`` in the same folder and synchronised to disk.
    """
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def to_npz(arrays: Mapping[str, npt.NDArray[Any]], values: Mapping[str, Any], *, compress: bool = True) -> bytes:
    """Return an npz archive that holds ``arrays`` and, as JSON, ``values``, each under its name.

    Args:
        arrays: Arrays of truth values, numbers or texts, of any shape.
        values: JSON values; their names differ from those of the arrays.
        compress: Whether to compress; False is faster and larger.

    """
    texts = {name: np.array(json.dumps(value)) for name, value in values.items()}
    buffer = io.BytesIO()
    write = np.savez_compressed if compress else np.savez
    write(buffer, allow_pickle=False, **arrays, **texts)
    return buffer.getvalue()


def from_npz(data: bytes, max_bytes: int = MAX_ARRAY_BYTES) -> dict[str, Any]:
    """Return the arrays and the decoded JSON values of an archive that ``to_npz`` made, by name.

    A text array with no axes holds a JSON value; every other array is returned as it is.

    Args:
        data: The archive. Whatever it is, no more memory is taken than some times its size and ``max_bytes``.
        max_bytes: Limit of the bytes of all arrays together.

    Raises:
        ValueError: The data is no such archive, or is damaged, or larger than allowed.

    """
    content: dict[str, Any] = {}
    try:
        if data.count(_ENTRY) > _MAX_ARRAYS:
            raise ValueError(f"it has more than {_MAX_ARRAYS} entries")
        with ZipFile(io.BytesIO(data)) as archive:
            entries = [entry for entry in archive.infolist() if entry.filename.endswith(".npy")]
            _check_entries(entries, max_bytes)
            for entry in entries:
                name = entry.filename.removesuffix(".npy")
                content[name] = _read_array(name, archive.read(entry))
    except (
        *(BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError, OverflowError),
        *(AttributeError, TypeError, KeyError, IndexError),
    ) as error:
        raise ValueError(f"not an npz archive: {_to_line(str(error))}") from error
    except ValueError as error:
        raise ValueError(_to_line(str(error))) from error
    return content


def _to_line(reason: str) -> str:
    """Return the beginning of a reason as one line: names in an archive may hold any characters, and very many."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in reason[:_MAX_REASON])


def _check_entries(entries: list[ZipInfo], max_bytes: int) -> None:
    """Raise ValueError unless each name is there once, and all entries together have at most ``max_bytes``.

    No more is read of an entry than the size stated in the directory.
    """
    names = {entry.filename for entry in entries}
    if len(names) < len(entries):
        raise ValueError("it has two arrays of one name")
    for entry in entries:
        if entry.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
            raise ValueError(f"{entry.filename} is compressed by method {entry.compress_type}, expected deflate")
    size = sum(entry.file_size for entry in entries)
    if size > max_bytes:
        raise ValueError(f"its arrays have {size} bytes, expected at most {max_bytes}")


def _read_array(name: str, data: bytes) -> Any:
    """Return the array that a file of ``np.save`` holds, or the JSON value of a text. Raise ValueError if it is none.

    Arrays of objects, which are pickles, and of records are none.
    """
    begin = len(_MAGIC) + 2
    end = begin + int.from_bytes(data[len(_MAGIC) : begin], "little")
    header = _HEADER.fullmatch(data[begin:end].decode("latin1"))
    if not data.startswith(_MAGIC) or len(data) < end or header is None:
        raise ValueError(f"{name} is no array of truth values, numbers or texts")
    dtype = np.dtype(header[1])
    if not dtype.itemsize:
        raise ValueError(f"{name} is of the type {header[1]}, which holds nothing")
    shape = tuple(int(length) for length in header[3].split(",") if length.strip())
    size = math.prod(shape) * dtype.itemsize
    if size != len(data) - end:
        raise ValueError(f"{name} has {len(data) - end} bytes, but its shape {shape} needs {size}")
    flat = np.frombuffer(data, dtype, offset=end) if size else np.zeros(math.prod(shape), dtype)
    array = (flat.reshape(shape[::-1]).T if header[2] == "True" else flat.reshape(shape)).copy("K")
    if dtype.kind == "U" and flat.view(dtype.str[0] + "u4").max(initial=0) > sys.maxunicode:
        raise ValueError(f"{name} has a character beyond the last one of Unicode")
    return json.loads(str(array)) if dtype.kind == "U" and not shape else array
