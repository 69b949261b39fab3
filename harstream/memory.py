"""Tuning of Python's garbage collector and of glibc's allocator for a long-running process."""

from __future__ import annotations

import ctypes
import functools
import gc
import sys
from collections.abc import Callable
from typing import Any


def freeze_startup_objects() -> None:
    """Exclude all present objects from garbage collection, and collect the others rarely.

    A batch of messages creates next to no reference cycles, so frequent collections would only cost time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)


def return_free_memory() -> None:
    """Return freed memory to the operating system. glibc would otherwise keep the memory of a burst for months."""
    if (trim := _trim()) is not None:
        trim(0)


@functools.cache  # each CDLL makes a class of its own, which stays until cycles are collected: rarely
def _trim() -> Callable[[int], Any] | None:
    """Return glibc's ``malloc_trim``; None with another C library."""
    if sys.platform != "linux":
        return None
    trim: Callable[[int], Any] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return trim
