"""Tuning of Python's garbage collector and of glibc's allocator for a long-running process."""

from __future__ import annotations

import ctypes
import gc
import sys


def freeze_startup_objects() -> None:
    """Exclude all present objects from garbage collection, and collect the others rarely.

    A batch of messages creates next to no reference cycles, so frequent collections would only cost time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)


def return_free_memory() -> None:
    """Return freed memory to the operating system. glibc would otherwise keep the memory of a burst for months."""
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        trim(0)
