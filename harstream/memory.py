"""Tuning of Python's garbage collector and of glibc's allocator for a long-running process."""

from __future__ import annotations

import ctypes
import functools
import gc
import sys
from collections.abc import Callable
from typing import Any

#: Parameter of glibc's ``mallopt``: the largest number of heaps.
_M_ARENA_MAX = -8


def share_one_heap() -> None:
    """Let all threads allocate from one heap. glibc would give each a heap of its own, and none has the others' gaps.

    Call it before threads are started. Threads seldom allocate at the same time, because most of their allocations are
    made under the interpreter lock.
    """
    if (set_option := _c_function("mallopt")) is not None:
        set_option(_M_ARENA_MAX, 1)


def freeze_startup_objects() -> None:
    """Exclude all present objects from garbage collection, and collect the others rarely.

    A batch of messages creates next to no reference cycles, so frequent collections would only cost time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)


def return_free_memory() -> None:
    """Return freed memory to the operating system. glibc would otherwise keep the memory of a burst for months."""
    if (trim := _c_function("malloc_trim")) is not None:
        trim(0)


@functools.cache  # each CDLL makes a class of its own, which stays until cycles are collected: rarely
def _c_function(name: str) -> Callable[..., Any] | None:
    """Return a function of glibc's allocator; None with another C library."""
    if sys.platform != "linux":
        return None
    function: Callable[..., Any] | None = getattr(ctypes.CDLL(None), name, None)
    return function
