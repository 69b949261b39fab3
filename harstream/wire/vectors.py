"""Vectors x, y, z in every shape that documents hold them in, as arrays of numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from harstream.core.batches import Float64
from harstream.wire.documents import found
from harstream.wire.reject import RejectError

_XYZ, _UPPER = ("x", "y", "z"), ("X", "Y", "Z")


def read_vectors(value: Any, what: str, *, each: bool = False) -> Float64:
    """Return the vectors that one value of a document holds, (n_vectors, 3).

    The value is ``[x, y, z]``, a list of such lists, an object ``{"x": .., "y": .., "z": ..}`` of numbers or of lists
    of equal length, or a list of such objects. Numbers may be written as text. Three lists, of x, of y and of z, are
    none: with three samples they could not be told from three vectors.

    Args:
        value: A value of a document.
        what: Name of the value in an error.
        each: Whether the value is a list with one vector for each sample, and never a vector itself.

    Raises:
        RejectError: The value has another shape, or holds something else than numbers.

    """
    if isinstance(value, dict):
        return read_columns(_members(value, what), what)
    if not isinstance(value, list | tuple):
        raise RejectError("shape", f"{what} is {found(value)}, expected x, y and z")
    if value and isinstance(value[0], dict):
        rows = [_members(one, what) if isinstance(one, dict) else (one,) for one in value]
        return _rows(_numbers(rows, what), what)
    numbers = _numbers(value, what)
    if not each and numbers.shape == (3,):
        return numbers[None, :]
    if not each and numbers.ndim == 2 and len(numbers) == 3 != numbers.shape[1]:
        paths = ", ".join(f'"{what}.{axis}"' for axis in range(3))
        raise RejectError(
            "shape", f"{what} holds {_shape(numbers)} numbers; for lists of x, y and z, name each: [{paths}]"
        )
    return _rows(numbers, what)


def read_columns(values: Sequence[Any], what: str) -> Float64:
    """Return the vectors that the values of x, y and z hold, (n_vectors, 3): numbers, or lists of equal length.

    Raises:
        RejectError: They are something else.

    """
    lengths = [len(value) if isinstance(value, list | tuple) else -1 for value in values]
    if len(set(lengths)) > 1:
        shapes = ", ".join(found(value) for value in values)
        raise RejectError("shape", f"{what}: x, y and z differ in length: {shapes}")
    numbers = _numbers(values, what)
    if numbers.ndim > 2:
        raise RejectError("shape", f"{what}: each holds {_shape(numbers[0])} numbers, expected one number or a list")
    return _rows(numbers.reshape(3, -1).T, what)


def _rows(numbers: Float64, what: str) -> Float64:
    if numbers.size == 0:
        return np.zeros((0, 3))
    if numbers.ndim != 2 or numbers.shape[1] != 3:
        raise RejectError("shape", f"{what} holds {_shape(numbers)} numbers, expected x, y and z")
    return numbers


def _shape(numbers: Float64) -> str:
    return " x ".join(map(str, numbers.shape))


def _members(value: Mapping[Any, Any], what: str) -> tuple[Any, Any, Any]:
    """Return x, y and z of an object."""
    for x, y, z in (_XYZ, _UPPER):
        if x in value and y in value and z in value:
            return value[x], value[y], value[z]
    raise RejectError("shape", f"{what} is {found(value)}, expected x, y and z")


def _numbers(value: Any, what: str) -> Float64:
    """Return a list of numbers, or of lists of equal length, as an array. Raise RejectError for something else."""
    try:
        numbers = np.array(value)
    except (ValueError, TypeError, OverflowError, RecursionError):
        raise RejectError("shape", f"{what} is {found(value)} that differ in shape, expected numbers") from None
    if numbers.dtype.kind not in "iuf":
        try:
            if not all(isinstance(one, str | int | float) and not isinstance(one, bool) for one in numbers.flat):
                raise ValueError
            numbers = numbers.astype(np.float64)
        except (ValueError, TypeError, OverflowError):
            raise RejectError("shape", f"{what} holds {_odd_one(value)}, expected numbers") from None
    return numbers.astype(np.float64, copy=False)


def _odd_one(value: Any) -> str:
    """Return words for the first value in a list that is no number."""
    while isinstance(value, list | tuple):
        odd = [one for one in value if not _is_number(one)]
        if not odd:
            break
        value = odd[0]
    return found(value)


def _is_number(value: Any) -> bool:
    try:
        return not isinstance(value, bool) and math.isfinite(float(value))
    except (ValueError, TypeError, OverflowError):
        return False
