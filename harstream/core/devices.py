"""DeviceTable: which device owns which row."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harstream.core.batches import Float64, Int64
from harstream.core.rows import RowArrays


class DeviceTable(RowArrays):
    """Device id to row, rows reused after eviction.

    A device is alive while samples of it are *accepted*: one whose clock jumped back, and whose
    samples are therefore all late, is evicted in the end and starts anew when it next sends.
    """

    ROW_ARRAYS = ("last_accepted_s",)

    def __init__(self, capacity: int, max_devices: int) -> None:
        self.max_devices = max_devices
        self.last_accepted_s = np.zeros(capacity)  # arrival time of the last accepted sample
        self._rows: dict[str, int] = {}
        self._devices: list[str | None] = []  # by row; None: free
        self._free: list[int] = []

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def n_rows(self) -> int:
        """Rows ever used: what the arrays must have room for."""
        return len(self._devices)

    def rows_of(self, devices: Sequence[str], arrival_s: Float64) -> Int64:
        """The row of each device, made where there is none; -1 where the table is full."""
        get = self._rows.get
        rows = np.fromiter((get(device, -1) for device in devices), np.int64, len(devices))
        for i in np.flatnonzero(rows < 0).tolist():
            rows[i] = self._assign(devices[i], float(arrival_s[i]))
        return rows

    def _assign(self, device: str, arrival_s: float) -> int:
        row = self._rows.get(device, -1)  # the same batch may have assigned it a moment ago
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
        device = self._devices[row]
        assert device is not None, f"row {row} is free"
        return device

    def items(self) -> list[tuple[str, int]]:
        return list(self._rows.items())

    def evict(self, before_s: float) -> tuple[list[str], Int64]:
        """Free the rows of devices with nothing accepted since ``before_s``; their names and rows."""
        used = np.fromiter(self._rows.values(), np.int64, len(self._rows))
        rows = used[self.last_accepted_s[used] < before_s]
        devices = [self.device(int(row)) for row in rows]
        for device, row in zip(devices, rows, strict=True):
            del self._rows[device]
            self._devices[row] = None
            self._free.append(int(row))
        return devices, rows
