"""Counters shared by the processes of one measurement, in a file that all of them map into memory."""

from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np

#: Written by the load: messages sent, and the largest delay of a message behind its schedule, in ns.
SENT, LOAD_LATE_NS = 0, 1
#: Written by the receiver: 1 once it is subscribed, messages done, messages dropped, windows labelled, CPU time in ns.
READY, DONE, DROPPED, WINDOWS, CPU_NS = 2, 3, 4, 5, 6
#: Written by the benchmark: 1 ends all processes of the measurement.
STOP = 7
#: Written by the viewers: bytes that they received.
VIEWED = 8
_SIZE = 9


class SharedCounters:
    """Counters (int64) by index. Each has one writer; a reader sees the old value or the new one, never a mixture."""

    def __init__(self, path: Path) -> None:
        """Map the file at ``path``; create it with zeros if it does not exist."""
        if not path.exists():
            path.write_bytes(bytes(8 * _SIZE))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 8 * _SIZE)
        self._values = np.frombuffer(self._map, np.int64)

    def __getitem__(self, index: int) -> int:
        return int(self._values[index])

    def __setitem__(self, index: int, value: int) -> None:
        self._values[index] = value
