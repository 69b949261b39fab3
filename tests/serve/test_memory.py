"""Memory goes back to the system."""

from __future__ import annotations

import ctypes
import os
import re
import resource
import subprocess
import sys
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


SETTINGS_OF_MALLOC = {"MALLOC_ARENA_MAX", "GLIBC_TUNABLES"}
COUNT_HEAPS = """
import ctypes, threading
from harstream.memory import share_one_heap
if {shared}:
    share_one_heap()
kept, barrier = [], threading.Barrier(4)
def allocate():
    kept.append([bytearray(10_000) for _ in range(100)])
    barrier.wait()  # all threads are alive together, so none takes over the heap of another
threads = [threading.Thread(target=allocate) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
libc = ctypes.CDLL(None)
libc.fdopen.restype = ctypes.c_void_p
out = ctypes.c_void_p(libc.fdopen(1, b"w"))
libc.malloc_info(0, out)
libc.fflush(out)
"""


def test_all_threads_share_one_heap():
    def n_heaps(*, shared: bool) -> int:
        code = COUNT_HEAPS.format(shared=shared)
        environment = {name: value for name, value in os.environ.items() if name not in SETTINGS_OF_MALLOC}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
        return len(re.findall(r"<heap nr=", done.stdout))

    assert n_heaps(shared=True) == 1
    assert n_heaps(shared=False) > 1  # so the count tells something
