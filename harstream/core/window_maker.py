"""Window maker: from samples on the grid to the windows that fall due, in the channels of the spec."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harstream.core.batches import Bool, Float32, Float64, Int64
from harstream.core.filters import MedianFilter, gravity_split
from harstream.core.grid import GridSamples
from harstream.core.health import HealthTable
from harstream.core.jumps import ClockJumps
from harstream.core.orientation_free import OrientationFreeChannels
from harstream.core.rows import RowArrays, any_true, indices
from harstream.core.spec import BODY_ACC, CHANNELS, GYRO, ORIENTATION_FREE, TOTAL_ACC, SignalSpec
from harstream.core.units import AccUnits
from harstream.core.windows import WindowBuffer


@dataclass(frozen=True, slots=True)
class DueWindows:
    """Due windows, one of each of several rows."""

    rows: Int64  # (n_windows,)
    windows: Float32  # (n_windows, window_samples, n_channels)
    last_ns: Int64  # (n_windows,) event time of the last sample
    period_ns: Float64  # (n_windows,) between samples of the grid, by the clock of the device
    message: Int64  # (n_windows,) index into the AcceptedSamples of the message that completed it
    problems: Int64  # (n_windows,) mask of the problems of the device


@dataclass(frozen=True, slots=True)
class Tail:
    """Newest samples of one device, as the model gets them: resampled, without spikes, and in g and rad/s."""

    written: int  # samples since the device restarted. Up to the first window, acc is in the unit in which it was sent
    acc: Float32  # (n_samples, 3) total acceleration; at most a window long
    gyro: Float32 | None  # (n_samples, 3); None: not used by the model


class WindowMaker:
    """Noise filter, unit of acceleration, gravity filter, channels and ring buffers of many devices, by row.

    Args:
        spec: Signal that the model takes.
        capacity: Number of rows.
        health: Gets the problems that windows show.
        jumps: Ends the problem of a clock that jumped a while ago.

    """

    def __init__(self, spec: SignalSpec, capacity: int, health: HealthTable, jumps: ClockJumps) -> None:
        self.spec = spec
        self._health, self._jumps = health, jumps
        self.units = AccUnits(capacity)
        self._noise = MedianFilter(spec.noise_filter, 6, capacity)
        self._gravity = gravity_split(spec.gravity_filter, spec.sample_rate_hz, capacity)
        self._orientation_free = OrientationFreeChannels(spec.sample_rate_hz, capacity)
        # The ring has the channels of the spec in their order, and after them the other signals from which the gravity
        # filter is seeded.
        seed = (*TOTAL_ACC, *GYRO) if spec.gravity_filter.uses_gyro else TOTAL_ACC
        names = [*spec.channels, *(name for name in seed if name not in spec.channels)]
        self._ring_channels = np.array([CHANNELS.index(name) for name in names])  # index in CHANNELS
        self._ring_seed = np.array([names.index(name) for name in seed])
        self._ring_total = np.array([names.index(name) for name in TOTAL_ACC])
        self._ring_gyro = np.array([names.index(name) for name in GYRO if name in names], np.int64)
        # Channels that need gravity: their place in the ring, and among what ``_split`` makes.
        split = (*BODY_ACC, *ORIENTATION_FREE)
        self._ring_split = np.array([names.index(name) for name in split if name in names], np.int64)
        self._split_index = np.array([i for i, name in enumerate(split) if name in names], np.int64)
        self._uses_orientation_free = not set(ORIENTATION_FREE).isdisjoint(names)
        self._windows = WindowBuffer(spec.window_samples, spec.stride_samples, len(names), capacity)

    def tail(self, row: int) -> Tail:
        """Return the newest samples of a row."""
        ring = self._windows.tail(row)
        return Tail(
            int(self._windows.written[row]),
            ring[:, self._ring_total],
            ring[:, self._ring_gyro] if len(self._ring_gyro) == 3 else None,
        )

    def due_in(self, row: int) -> int:
        """Return the number of samples on the grid until the next window of a row is due."""
        return self._windows.due_in.item(row)

    def parts(self) -> dict[str, RowArrays]:
        """Return the parts that keep state by row."""
        return {
            "units": self.units,
            "noise": self._noise,
            "gravity": self._gravity,
            "orientation_free": self._orientation_free,
            "windows": self._windows,
        }

    def restart(self, rows: Int64, acc_unit_auto: Bool) -> None:
        """Begin the windows of ``rows`` again, with messages whose unit is unknown where ``acc_unit_auto``."""
        self._windows.reset(rows)
        self.units.restart(rows, acc_unit_auto)
        self._health.note_starts(rows)

    def feed(self, samples: GridSamples) -> list[DueWindows]:
        """Filter samples on the grid, write them into the window buffers, and return the due windows."""
        if not len(samples.rows):
            return []
        # A first window that shows no unit empties the ring, but the signal goes on.
        restart = (self._windows.written[samples.rows] == 0) & ~self.units.tried[samples.rows]
        values = self._noise.feed(samples.rows, samples.counts, restart, samples.samples)

        # After a restart, unit and gravity are unknown until the first window is complete. Until then the ring is
        # filled with total acceleration as it was sent. Then the unit is decided, and the gravity filter is seeded from
        # this window and applied to it. If the window shows no unit, the next one is a first window again.
        due: list[DueWindows] = []
        rows, counts, first = samples.rows, samples.counts, samples.first
        filling = self._filling(rows, counts)
        if any_true(filling):  # not the usual case
            unknown = np.zeros((len(values), 3 + 4 * self._uses_orientation_free), np.float32)
            channels = self._ring_values(values, unknown)
            while any_true(filling):
                index = indices(filling)
                due += self._write(samples, rows[index], filling[index], first[index], channels)
                counts, first = counts - filling, first + filling
                left = counts > 0
                rows, counts, first = rows[left], counts[left], first[left]
                filling = self._filling(rows, counts)
            if not len(rows):
                return due
            rest = np.repeat(first - (np.cumsum(counts) - counts), counts) + np.arange(counts.sum())
            channels[rest] = self._split_gravity(rows, counts, values[rest])
        else:
            channels = self._split_gravity(rows, counts, values)
        return due + self._write(samples, rows, counts, first, channels)

    def _filling(self, rows: Int64, counts: Int64) -> Int64:
        """Return how many of ``counts`` samples of each row belong to its first window (n_rows,)."""
        return np.minimum(np.maximum(self.spec.window_samples - self._windows.written[rows], 0), counts)

    def _split_gravity(self, rows: Int64, counts: Int64, values: Float32) -> Float32:
        """Return the values for the ring of samples (n_samples, 6) after the first window of their rows."""
        if self.units.any_scaled(rows):  # not the usual case
            values = np.concatenate([self.units.scale(rows, counts, values[:, :3]), values[:, 3:]], axis=1)
        split = body = self._gravity.feed(rows, counts, values)
        if self._uses_orientation_free:
            split = np.concatenate([body, self._orientation_free.feed(rows, counts, values[:, :3], body)], axis=1)
        return self._ring_values(values, split)

    def _ring_values(self, samples: Float32, split: Float32) -> Float32:
        """Return the values for the ring (n_samples, n_ring_channels).

        Args:
            samples: (n_samples, 6).
            split: (n_samples, 3 or 7) body acceleration and, if used, the orientation-free channels.

        """
        # Concatenated in order of CHANNELS.
        parts = [samples[:, :3], split[:, :3], samples[:, 3:], split[:, 3:]]
        return np.concatenate(parts, axis=1)[:, self._ring_channels]

    def _write(
        self, samples: GridSamples, rows: Int64, counts: Int64, first: Int64, channels: Float32
    ) -> list[DueWindows]:
        """Write ``counts`` samples of ``channels``, from ``first`` on, into ``rows``, and return the due windows.

        Writing stops at each sample that makes a window due, because the next sample overwrites the oldest one.
        """
        buffer = self._windows
        due = []
        while len(rows):
            step = np.minimum(counts, buffer.due_in[rows])
            buffer.write(rows, step, first, channels)
            full = indices(buffer.due_in[rows] == 0)
            if len(full):
                ready = rows[full]
                undecided = self._begin_signal(ready[buffer.written[ready] == self.spec.window_samples])
                last = (first + step - 1)[full]
                windows = buffer.gather(ready)
                gyro = windows[:, :, self._ring_gyro] if len(self._ring_gyro) == 3 else None
                problems = self._health.judge_windows(
                    ready, windows[:, :, self._ring_total], gyro, self.spec.sample_rate_hz
                )
                if any_true(problems):
                    problems = self._jumps.end_recent(ready)
                due.append(
                    DueWindows(
                        ready,
                        windows[:, :, : self.spec.n_channels],
                        samples.t_ns[last],
                        samples.period_ns[last],
                        samples.message[last],
                        problems,
                    )
                )
                buffer.reset(undecided)
            first, counts = first + step, counts - step
            left = counts > 0
            rows, first, counts = rows[left], first[left], counts[left]
        return due

    def _begin_signal(self, rows: Int64) -> Int64:
        """Decide the unit of ``rows`` from their first window, and seed their gravity filter. Return undecided rows."""
        if not len(rows):
            return rows
        self._health.good[rows] = 0
        ring, undecided = self._windows.ring, rows[:0]
        auto = rows[self.units.auto[rows]]
        if len(auto):
            total = ring[auto][:, :, self._ring_total]
            undecided = auto[~self.units.decide(auto, total)]
            counts = np.full(len(auto), total.shape[1])
            scaled = self.units.scale(auto, counts, total.reshape(-1, 3)).reshape(total.shape)
            ring[auto[:, None], :, self._ring_total] = scaled.transpose(0, 2, 1)
        first = ring[rows]
        split = body = self._gravity.seed(rows, first[:, :, self._ring_seed])
        if self._uses_orientation_free:
            free = self._orientation_free.seed(rows, first[:, :, self._ring_total], body)
            split = np.concatenate([body, free], axis=2)
        if len(self._ring_split):
            ring[rows[:, None], :, self._ring_split] = split[:, :, self._split_index].transpose(0, 2, 1)
        return undecided
