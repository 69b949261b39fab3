"""Ring buffers of samples, from which due windows are read."""

from __future__ import annotations

import numpy as np

from harstream.core.batches import Float32, Int64
from harstream.core.rows import RowArrays

#: Number of rows up to which copying row by row is faster than indexing all rows together.
_FEW_ROWS = 16


class WindowBuffer(RowArrays):
    """Ring buffer of ``window_samples`` samples per row, written by index and never shifted.

    The first window of a row is due after ``window_samples`` samples, the next ones after ``stride_samples`` more each.
    ``write`` must stop at the sample that makes a window due; the window is then read with ``gather``.
    """

    ROW_ARRAYS = ("ring", "written", "due_in")

    def __init__(self, window_samples: int, stride_samples: int, n_channels: int, capacity: int) -> None:
        self.window_samples = window_samples
        self.stride_samples = stride_samples
        self.ring = np.zeros((capacity, window_samples, n_channels), np.float32)
        self.written = np.zeros(capacity, np.int64)  # samples since the reset
        self.due_in = np.zeros(capacity, np.int64)  # samples until the next window is due

    def reset(self, rows: Int64) -> None:
        """Forget the samples of ``rows``."""
        self.written[rows] = 0
        self.due_in[rows] = self.window_samples

    def write(self, rows: Int64, counts: Int64, first: Int64, samples: Float32) -> None:
        """Append samples to ``rows``.

        Args:
            rows: (n_rows,) each row at most once.
            counts: (n_rows,) samples to append; at most ``due_in`` of the row.
            first: (n_rows,) index in ``samples`` of the first of them.
            samples: (n_samples, n_channels).

        """
        if len(rows) <= _FEW_ROWS:
            for row, count, begin in zip(rows.tolist(), counts.tolist(), first.tolist(), strict=True):
                self._write_row(row, samples[begin : begin + count])
            self.written[rows] += counts
            self.due_in[rows] -= counts
            return
        row = np.repeat(rows, counts)
        within = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
        slot = (np.repeat(self.written[rows], counts) + within) % self.window_samples
        self.ring[row, slot] = samples[np.repeat(first, counts) + within]
        self.written[rows] += counts
        self.due_in[rows] -= counts

    def _write_row(self, row: int, samples: Float32) -> None:
        """Write samples (n_samples, n_channels), at most a window long, into the ring of one row."""
        slot = self.written.item(row) % self.window_samples
        room = self.window_samples - slot
        self.ring[row, slot : slot + len(samples)] = samples[:room]
        if len(samples) > room:
            self.ring[row, : len(samples) - room] = samples[room:]

    def tail(self, row: int) -> Float32:
        """Return a copy of the newest samples of a row, oldest first (n_samples, n_channels)."""
        n = min(int(self.written[row]), self.window_samples)
        slots = (int(self.written[row]) - n + np.arange(n)) % self.window_samples
        return np.asarray(self.ring[row, slots])

    def gather(self, rows: Int64) -> Float32:
        """Return a copy of the due windows of ``rows``, oldest sample first (n_rows, window_samples, n_channels)."""
        oldest = self.written[rows] % self.window_samples
        self.due_in[rows] = self.stride_samples
        if len(rows) <= _FEW_ROWS:
            windows = np.empty((len(rows), *self.ring.shape[1:]), np.float32)
            for window, row, slot in zip(windows, rows.tolist(), oldest.tolist(), strict=True):
                window[: self.window_samples - slot] = self.ring[row, slot:]
                window[self.window_samples - slot :] = self.ring[row, :slot]
            return windows
        slots = (oldest[:, None] + np.arange(self.window_samples)) % self.window_samples
        return np.asarray(self.ring[rows[:, None], slots])
