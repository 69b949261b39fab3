"""Table that assigns a row of the state arrays to each device."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from harstream.core.batches import Float64, Int64
from harstream.core.rows import RowArrays, indices

#: Smallest number of rows for which a table has room.
MIN_CAPACITY = 64
#: Share of the rows in use at which the rows are given back. There is then room for twice as many devices.
_SPARSE = 1 / 4


class DeviceTable(RowArrays):
    """Map from device id to row, with a limit on the number of devices. Rows are reused after eviction.

    A device stays in the table as long as samples of it are *accepted*, not as long as it sends. One of which
    all samples are dropped is evicted after a while and starts as a new one.
    """

    ROW_ARRAYS = ("last_accepted_s",)

    def __init__(self, capacity: int, max_devices: int) -> None:
        self.max_devices = max_devices
        self.last_accepted_s = np.zeros(capacity)  # time of the last accepted sample, by which idle devices are found
        self._rows: dict[str, int] = {}
        self._devices: list[str | None] = []  # by row; None: the row is free
        self._free: list[int] = []

    def __len__(self) -> int:
        """Return the number of devices."""
        return len(self._rows)

    def find_or_add(self, devices: Sequence[str], arrival_s: Float64) -> Int64:
        """Return the row of each device (n,) and add the devices that have none.

        Args:
            devices: Device ids; the same id may occur more than once.
            arrival_s: (n,) becomes ``last_accepted_s`` of the devices that are added.

        Returns:
            (n,) rows; -1 for devices that cannot be added because the table is full.

        """
        rows = self.find(devices)
        for i in indices(rows < 0).tolist():
            rows[i] = self._add(devices[i], float(arrival_s[i]))
        return rows

    def find(self, devices: Sequence[str]) -> Int64:
        """Return the row of each device (n,); -1 for devices that are not in the table."""
        get = self._rows.get
        return np.fromiter((get(device, -1) for device in devices), np.int64, len(devices))

    def select(self, devices: Sequence[str] | None) -> tuple[list[str], Int64]:
        """Return those of ``devices`` that are in the table, and their rows (n,); None: every device, in order."""
        if devices is None:
            return list(self._rows), np.fromiter(self._rows.values(), np.int64, len(self._rows))
        present = [device for device in devices if device in self._rows]
        return present, self.find(present)

    def _add(self, device: str, arrival_s: float) -> int:
        row = self._rows.get(device, -1)  # an earlier message of the same batch may have added it
        if row >= 0 or len(self._rows) >= self.max_devices:
            return row
        if self._free:
            row = self._free.pop()
            self._devices[row] = device
        else:
            row = len(self._devices)
            self._devices.append(device)
        self._rows[device] = row
        if row >= self.capacity:
            self.grow(2 * self.capacity)
        self.last_accepted_s[row] = arrival_s
        return row

    def device(self, row: int) -> str:
        """Return the id of the device that owns ``row``."""
        device = self._devices[row]
        assert device is not None, f"row {row} is free"
        return device

    def items(self) -> list[tuple[str, int]]:
        """Return (device id, row) of every device, in the order in which they were added."""
        return list(self._rows.items())

    def evict(self, before_s: float) -> tuple[list[str], Int64]:
        """Remove the devices whose last accepted sample arrived before ``before_s``; return their ids and rows."""
        used = np.fromiter(self._rows.values(), np.int64, len(self._rows))
        rows = used[self.last_accepted_s[used] < before_s]
        devices = [self.device(int(row)) for row in rows]
        self.remove(devices)
        return devices, rows

    def remove(self, devices: Sequence[str]) -> Int64:
        """Remove devices, each once, and return their rows; devices that are not in the table are ignored."""
        removed = [(device, row) for device in devices if (row := self._rows.pop(device, -1)) >= 0]
        for _, row in removed:
            self._devices[row] = None
            self._free.append(row)
        return np.array([row for _, row in removed], np.int64)

    def compact(self, parts: Iterable[RowArrays]) -> Int64 | None:
        """Give the memory of free rows back, if most rows are free: the devices get the first rows, in their order.

        Args:
            parts: Everything that keeps state in these rows, the table itself included.

        Returns:
            (n_devices,) the earlier row of each new one; None if every device keeps its row.

        """
        n = len(self._rows)
        if self.capacity <= MIN_CAPACITY or n > _SPARSE * self.capacity:
            return None
        rows = np.fromiter(self._rows.values(), np.int64, n)
        self._rows = {device: row for row, device in enumerate(self._rows)}  # a new one, since no dict ever shrinks
        self._devices, self._free = list(self._rows), []
        for part in parts:
            part.keep(rows, max(2 * n, MIN_CAPACITY))
        return rows
