"""Archives give back what was stored; files are replaced whole; damaged archives raise ValueError only."""

from __future__ import annotations

import io
import os
import pickle
import socket
import tracemalloc
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harstream.storage import from_npz, read_file, replace_file, to_npz

ARRAYS = {
    "floats": np.arange(6, dtype=np.float32).reshape(2, 3),
    "count": np.array(7),
    "names": np.array(["WALKING", "LAYING"]),
    "none": np.zeros((0, 6)),
    "columns": np.arange(6, dtype=">i2").reshape(2, 3).T,
    "flags": np.array([[True], [False]]),
    "empty text": np.array([""]),
}
VALUES = {"settings": {"rate_hz": 50.0, "labels": ["a", "ü"], "nothing": None}, "title": "text", "number": 3}


@pytest.mark.parametrize("compress", [True, False])
def test_arrays_and_values_come_back_with_their_types(compress):
    content = from_npz(to_npz(ARRAYS, VALUES, compress=compress))
    assert set(content) == {*ARRAYS, *VALUES}
    for name, array in ARRAYS.items():
        assert content[name].dtype == array.dtype
        np.testing.assert_array_equal(content[name], array)
    assert {name: content[name] for name in VALUES} == VALUES


def test_compression_makes_a_repetitive_archive_smaller():
    zeros = {"zeros": np.zeros(10_000)}
    assert len(to_npz(zeros, {})) < len(to_npz(zeros, {}, compress=False)) / 10


def test_equal_content_makes_equal_bytes():
    assert to_npz(ARRAYS, VALUES) == to_npz(ARRAYS, VALUES)


def test_an_array_of_objects_is_refused_when_written():
    with pytest.raises(ValueError, match="allow_pickle"):
        to_npz({"objects": np.array([print], object)}, {})


def _npy() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3))
    return buffer.getvalue()


def _npz(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def _damaged() -> bytes:
    data = bytearray(to_npz({"a": np.arange(1000)}, {}))
    data[120] ^= 0xFF
    return bytes(data)


def _zip(*entries: tuple[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w", method) as archive:
        warnings.simplefilter("ignore")  # of equal names
        for name, content in entries:
            archive.writestr(name, content)
    return buffer.getvalue()


def _stated(old: str, new: str) -> bytes:
    """Return an array of three zeros whose header states something else."""
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (3,), }"
    changed = header.decode().replace(old, new).encode("latin1").ljust(117) + b"\n"
    return _zip(("a.npy", b"\x93NUMPY\x01\x00" + len(changed).to_bytes(2, "little") + changed + bytes(24)))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no archive",
        b"PK\x03\x04" + bytes(60),
        pickle.dumps(print),
        _npy(),
        to_npz(ARRAYS, VALUES)[:-200],
        _damaged(),
        _npz(objects=np.array([print], object)),
        _npz(records=np.zeros(3, "f4,f8")),
        _npz(text=np.array("not JSON")),
        _npz(text=np.array("[" * 100_000)),
        _npz(text=np.array("9" * 10_000)),
        _zip(("a.npy", _npy()), ("a.npy", _npy())),
        _zip(("a.npy", _npy()), method=zipfile.ZIP_LZMA),
        _zip(("a.npy", _npy()[:-1])),
        _zip(("a.npy", b"")),
        _stated("(3,)", "(4,)"),
        _stated("(3,)", "(999999999999, 999999999999)"),
        _stated("(3,)", "(-1,)"),
        _stated("(3,)", "(3, 1" + ", 1" * 70 + ")"),
        _stated("(3,)", "(3,"),
        _stated("(3,)", "__import__('os').getpid()"),
        _stated("<f8", "<U0"),
        _stated("<f8", "<f7"),
        _stated("<f8", "|O8"),
        _stated("<f8", "|V8"),
        _stated("'shape'", "'size'"),
    ],
)
def test_what_is_no_archive_of_ours_raises_value_error(data):
    with pytest.raises(ValueError, match=r"."):
        from_npz(data)


def test_an_array_whose_header_is_that_of_numpy_is_read():
    np.testing.assert_array_equal(from_npz(_stated("x", "x"))["a"], np.zeros(3))


def test_an_archive_that_would_unpack_to_more_is_refused_before_it_is_unpacked():
    bomb = to_npz({"zeros": np.zeros(2**22), "few": np.zeros(3)}, {})
    assert len(bomb) < 2**16
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"its arrays have 33554\d{3} bytes, expected at most 1048576"):
        from_npz(bomb, 2**20)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**20
    assert len(from_npz(bomb, 2**26)["zeros"]) == 2**22


def test_an_entry_that_has_more_than_it_states_is_refused():
    """The directory states the size twice: of the entry, and where the next one begins."""
    bomb = bytearray(to_npz({"zeros": np.zeros(2**20)}, {}))
    at = bomb.index(b"PK\x01\x02")
    bomb[at + 24 : at + 28] = (1000).to_bytes(4, "little")
    with pytest.raises(ValueError, match="not an npz archive"):
        from_npz(bytes(bomb), 2**16)


def test_an_archive_with_very_many_entries_is_refused():
    with pytest.raises(ValueError, match="more than 10000 entries"):
        from_npz(to_npz({"a": np.zeros(3)}, {}) + b"PK\x01\x02" * 10_001)


def test_an_entry_that_is_no_array_does_not_break_reading():
    buffer = io.BytesIO(to_npz({"a": np.arange(3)}, {}))
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr("note.txt", "hello")
    np.testing.assert_array_equal(from_npz(buffer.getvalue())["a"], [0, 1, 2])


def test_a_file_is_replaced_and_leaves_no_temporary_file(tmp_path):
    path = tmp_path / "state.npz"
    for content in (b"old", b"new"):
        replace_file(path, content)
        assert path.read_bytes() == content
        assert list(tmp_path.iterdir()) == [path]


def test_a_failure_before_the_replacement_leaves_the_old_content(tmp_path, monkeypatch):
    path = tmp_path / "state.npz"
    replace_file(path, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        replace_file(path, b"new")
    assert path.read_bytes() == b"old"


def test_a_file_is_read_whole_and_links_are_followed(tmp_path):
    path, link = tmp_path / "file", tmp_path / "link"
    path.write_bytes(b"content")
    link.symlink_to(path)
    assert read_file(path, 7) == read_file(link, 7) == b"content"
    with pytest.raises(ValueError, match="it has 7 bytes, expected at most 6"):
        read_file(path, 6)
    with pytest.raises(FileNotFoundError):
        read_file(tmp_path / "nothing", 7)
    path.write_bytes(b"")
    assert read_file(path, 7) == b""


def test_what_is_no_regular_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "zero").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
    for name, found in {"fifo": "a FIFO", "zero": "a device", "socket": "a socket", ".": "a folder"}.items():
        with pytest.raises(ValueError, match=f"it is {found}, expected a regular file"):
            read_file(tmp_path / name, 10)


def test_a_fifo_in_place_of_the_file_just_looked_at_is_refused(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "file").touch()
    status = (tmp_path / "file").stat()
    monkeypatch.setattr(Path, "stat", lambda path: status)
    with pytest.raises(ValueError, match="it is a FIFO"):
        read_file(tmp_path / "fifo", 10)


def test_a_sparse_file_is_refused_by_its_size(tmp_path):
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(ValueError, match="it has 1099511627776 bytes, expected at most 1000"):
        read_file(tmp_path / "sparse", 1000)


def test_a_file_that_grows_is_refused():
    with pytest.raises(ValueError, match="it changes while it is read"):
        read_file(Path("/proc/self/status"), 2**20)  # its stated size is 0


def test_what_is_said_of_a_name_that_holds_the_whole_file_is_short() -> None:
    data = bytearray(to_npz({"a": np.arange(5000.0)}, {}, compress=False))
    at = data.index(b"PK\x03\x04") + 26  # length of the name in the header of the first entry
    data[at : at + 2] = (30_000).to_bytes(2, "little")
    with pytest.raises(ValueError, match="not an npz archive: File name") as error:
        from_npz(bytes(data))
    assert len(str(error.value)) < 300


def test_what_is_said_of_a_name_is_one_line() -> None:
    data = bytearray(to_npz({"a\n\x1fb": np.arange(3.0)}, {}, compress=False))
    at = data.index(b"PK\x01\x02") + 10  # method of compression in the directory
    data[at : at + 2] = (33).to_bytes(2, "little")
    with pytest.raises(ValueError, match="is compressed by method 33, expected deflate") as error:
        from_npz(bytes(data))
    assert str(error.value).isprintable()
