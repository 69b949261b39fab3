"""Archives give back what was stored; files are replaced whole; damaged archives raise ValueError only."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from typing import Any

import numpy as np
import pytest

from harstream.storage import from_npz, replace_file, to_npz

ARRAYS = {
    "floats": np.arange(6, dtype=np.float32).reshape(2, 3),
    "count": np.array(7),
    "names": np.array(["WALKING", "LAYING"]),
    "none": np.zeros((0, 6)),
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
        _npz(text=np.array("not JSON")),
        _npz(text=np.array("[" * 100_000)),
    ],
    ids=["empty", "text", "zip", "pickle", "npy", "cut off", "damaged", "objects", "not JSON", "deep JSON"],
)
def test_what_is_no_archive_of_ours_raises_value_error(data):
    with pytest.raises(ValueError, match=r"."):
        from_npz(data)


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
