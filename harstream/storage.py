"""Storage: files replaced in one step, and archives of arrays with JSON beside them."""

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
    """Write a file such that a reader finds the old content or the new, never a part, even after a crash."""
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
        values: JSON values, none of them under the name of an array.
        compress: Pass False where time matters more than size.

    """
    texts = {name: np.array(json.dumps(value)) for name, value in values.items()}
    buffer = io.BytesIO()
    write = np.savez_compressed if compress else np.savez
    write(buffer, allow_pickle=False, **arrays, **texts)
    return buffer.getvalue()


def from_npz(data: bytes) -> dict[str, Any]:
    """Return the content of an archive that ``to_npz`` made: arrays, and JSON values decoded.

    A text without axes is JSON: every other array is returned as an array.

    Raises:
        ValueError: The data is no such archive, or is damaged.

    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            content = {name: archive[name] for name in archive.files}
    except (TypeError, AttributeError, OSError, EOFError, BadZipFile, zlib.error) as error:
        raise ValueError(f"not an npz archive: {error}") from error
    return {
        name: json.loads(str(value)) if value.dtype.kind == "U" and value.ndim == 0 else value
        for name, value in content.items()
    }
