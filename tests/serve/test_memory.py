"""Memory goes back to the system."""

from __future__ import annotations

import ctypes
import resource
from pathlib import Path

from harstream.memory import return_free_memory


def test_memory_of_earlier_batches_goes_back_to_the_system():
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

    # glibc returns large blocks by itself, so these are smaller. The last one stays: it keeps the heap from shrinking.
    pieces = [bytearray(64 * 1024) for _ in range(1600)]
    last = pieces.pop()
    pieces.clear()
    before = resident()
    return_free_memory()
    if hasattr(ctypes.CDLL(None), "malloc_trim"):  # another C library has no such call
        assert resident() < before - 80e6
    assert len(last)
