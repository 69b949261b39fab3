"""Files that are replaced in one step, and npz archives of arrays and JSON values."""

from __future__ import annotations

import io
import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt


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
        arrays: Arrays of any shape and type that needs no pickle.
        values: JSON values; their names differ from those of the arrays.
        compress: Whether to compress; False is faster and larger.

    """
    texts = {name: np.array(json.dumps(value)) for name, value in values.items()}
    buffer = io.BytesIO()
    write = np.savez_compressed if compress else np.savez
    write(buffer, allow_pickle=False, **arrays, **texts)
    return buffer.getvalue()


def from_npz(data: bytes) -> dict[str, Any]:
    """Return the arrays and the decoded JSON values of an archive that ``to_npz`` made, by name.

    A text array with no axes holds a JSON value; every other array is returned as it is.

    Raises:
        ValueError: The data is no such archive, or is damaged, or holds a pickle.

    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            arrays = {name: np.asanyarray(archive[name]) for name in archive.files}
        return {
            name: json.loads(str(array)) if array.dtype.kind == "U" and array.ndim == 0 else array
            for name, array in arrays.items()
        }
    except (TypeError, AttributeError, OSError, EOFError, RuntimeError, BadZipFile, zlib.error) as error:
        raise ValueError(f"not an npz archive: {error}") from error
