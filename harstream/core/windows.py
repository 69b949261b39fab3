"""WindowBuffer: a ring of samples per device, and the windows that fall due."""

from __future__ import annotations

import numpy as np

from harstream.core.batches import Float32, Int64
from harstream.core.rows import RowArrays


class WindowBuffer(RowArrays):
    """A ring of ``window_samples`` per device row, written by index, never shifted.

    A window is due when ``window_samples`` consecutive samples are there and ``stride_samples`` new ones
    have come since the last.
    """

    ROW_ARRAYS = ("ring", "written", "due_in")

    def __init__(self, window_samples: int, stride_samples: int, n_channels: int, capacity: int) -> None:
        self.window_samples = window_samples
        self.stride_samples = stride_samples
        self.ring = np.zeros((capacity, window_samples, n_channels), np.float32)
        self.written = np.zeros(capacity, np.int64)  # samples since the restart
        self.due_in = np.zeros(capacity, np.int64)  # samples until the next window is due

    def restart(self, rows: Int64) -> None:
        """Forget the samples of ``rows``."""
        self.written[rows] = 0
        self.due_in[rows] = self.window_samples

    def write(self, rows: Int64, counts: Int64, at: Int64, samples: Float32) -> None:
        """Append samples to ``rows`` (each once): ``counts`` of them, beginning at ``at`` in ``samples``.

        No count may pass the row's ``due_in``: what is due must be gathered first.
        """
        row = np.repeat(rows, counts)
        within = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
        slot = (np.repeat(self.written[rows], counts) + within) % self.window_samples
        self.ring[row, slot] = samples[np.repeat(at, counts) + within]
        self.written[rows] += counts
        self.due_in[rows] -= counts

    def gather(self, rows: Int64) -> Float32:
        """The windows of ``rows``, oldest sample first: (n_rows, window_samples, n_channels). They are due no more."""
        oldest = self.written[rows] % self.window_samples
        slots = (oldest[:, None] + np.arange(self.window_samples)) % self.window_samples
        self.due_in[rows] = self.stride_samples
        return np.asarray(self.ring[rows[:, None], slots])
