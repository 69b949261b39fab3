"""A few numbers shared by the processes of a benchmark, in a file that all of them map."""

from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np

#: Written by the load.
SENT, LOAD_LATE_NS = 0, 1
#: Written by what is measured.
READY, DONE, DROPPED, WINDOWS, CPU_NS = 2, 3, 4, 5, 6
#: Written by who measures.
STOP = 7
_SIZE = 8


class Board:
    """int64 by index; each has one writer, and a reader sees an old value or the new one."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(8 * _SIZE))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 8 * _SIZE)
        self._values = np.frombuffer(self._map, np.int64)

    def __getitem__(self, index: int) -> int:
        return int(self._values[index])

    def __setitem__(self, index: int, value: int) -> None:
        self._values[index] = value
