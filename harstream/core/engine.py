"""Engine: samples in, due windows out. The one place that makes windows."""

from __future__ import annotations

import json
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from harstream.core.batches import Float32, Float64, Int64, SampleBatch, WindowBatch
from harstream.core.devices import DeviceTable
from harstream.core.filters import MedianFilter, gravity_split
from harstream.core.grid import Grid, Stretch
from harstream.core.spec import BODY_ACC, CHANNELS, GYRO, TOTAL_ACC, SignalSpec
from harstream.core.windows import WindowBuffer


@dataclass(frozen=True, slots=True)
class EngineStats:
    """Totals since the start."""

    samples_late: int  # not newer than the newest accepted
    samples_rate: int  # of a rate that cannot be resampled
    samples_devices: int  # of devices beyond max_devices
    gaps: int
    restarts: int
    rates_measured: int


@dataclass(frozen=True, slots=True)
class _Due:
    """Windows that fell due, of different rows."""

    rows: Int64  # (n_windows,)
    windows: Float32  # (n_windows, window_samples, n_channels)
    last_ns: Int64  # (n_windows,) event time of the last sample
    period_ns: Float64  # (n_windows,) between samples of the grid, by the device's clock
    message: Int64  # (n_windows,) the message that brought the last sample


class Engine:
    """Resampling, filters, ring buffers and due windows of many devices, as structure of arrays by row.

    How a stream is cut into messages and batches cannot change a window, to the bit. No method reads
    a clock, raises on a device's data, or keeps a reference to what it was given.
    """

    def __init__(self, spec: SignalSpec, *, max_devices: int = 1_000_000) -> None:
        self.spec = spec
        capacity = 64
        self._devices = DeviceTable(capacity, max_devices)
        self._grid = Grid(spec, capacity)
        self._noise = MedianFilter(spec.noise_filter, 6, capacity)
        self._gravity = gravity_split(spec.gravity_filter, spec.sample_rate_hz, capacity)
        # The ring holds the spec's channels in their order, and behind them whatever they lack of what the
        # gravity filter is seeded from.
        seed = (*TOTAL_ACC, *GYRO) if spec.gravity_filter.uses_gyro else TOTAL_ACC
        names = [*spec.channels, *(name for name in seed if name not in spec.channels)]
        self._ring_from = np.array([CHANNELS.index(name) for name in names])
        self._ring_seed = np.array([names.index(name) for name in seed])
        self._ring_body = np.array([names.index(name) for name in BODY_ACC if name in names], np.int64)
        self._body_axis = np.array([axis for axis, name in enumerate(BODY_ACC) if name in names], np.int64)
        self._windows = WindowBuffer(spec.window_samples, spec.stride_samples, len(names), capacity)
        self._samples_devices = 0

    @property
    def n_devices(self) -> int:
        return len(self._devices)

    @property
    def stats(self) -> EngineStats:
        line = self._grid.timeline.stats
        return EngineStats(
            samples_late=line.samples_late,
            samples_rate=line.samples_rate + self._grid.samples_ratios,
            samples_devices=self._samples_devices,
            gaps=line.gaps,
            restarts=line.restarts,
            rates_measured=line.rates_measured,
        )

    def feed(self, batch: SampleBatch) -> WindowBatch:
        """Take samples in, in order of arrival, and return the windows that fell due, each device's in order."""
        if not len(batch):
            return self._nothing()
        rows = self._devices.rows_of(batch.devices, batch.arrival_s)
        if rows.min() < 0:
            batch, rows = self._refuse(batch, rows)
        self._grow()
        accepted, stretches = self._grid.feed(rows, batch)
        self._devices.last_accepted_s[accepted.row] = batch.arrival_s[accepted.message]
        due: list[_Due] = []
        for stretch, restart in stretches:
            due.extend(self._advance(stretch, restart))
        return self._collect(due, batch.arrival_s)

    def evict(self, before_s: float) -> list[str]:
        """Forget the devices of which nothing was accepted since ``before_s`` (arrival time); their names.

        So are the resamplers that no device is left for: there is room for MAX_RATIOS of them.
        """
        devices, rows = self._devices.evict(before_s)
        self._grid.forget(rows, [row for _, row in self._devices.items()])
        return devices

    # --- the path of a batch ------------------------------------------------------------------

    def _refuse(self, batch: SampleBatch, rows: Int64) -> tuple[SampleBatch, Int64]:
        """Without the messages of devices that found the table full."""
        taken = rows >= 0
        self._samples_devices += int(batch.counts[~taken].sum())
        return batch.select(taken), rows[taken]

    def _grow(self) -> None:
        capacity = self._devices.capacity
        for part in (self._grid.timeline, *self._grid.resamplers.values(), self._noise, self._gravity, self._windows):
            if part.capacity < capacity:
                part.grow(capacity)

    def _advance(self, stretch: Stretch, restart: Int64) -> list[_Due]:
        """Filter, write and gather; the due windows."""
        self._windows.restart(restart)
        if not len(stretch.rows):
            return []
        anew = self._windows.written[stretch.rows] == 0
        samples = self._noise.feed(stretch.rows, stretch.counts, anew, stretch.samples)
        total, gyro = samples[:, :3], samples[:, 3:]

        # After a restart gravity is not known yet: total acceleration fills the ring up, and once a
        # window is there the filter is seeded from it and run over it.
        window = self.spec.window_samples
        filling = np.minimum(np.maximum(window - self._windows.written[stretch.rows], 0), stretch.counts)
        if not filling.any():  # nearly always
            body = self._gravity.feed(stretch.rows, stretch.counts, samples)
            return self._write(stretch, stretch.rows, stretch.counts, stretch.first, self._channels(total, body, gyro))
        some = np.flatnonzero(filling)
        values = self._channels(total, np.zeros_like(total), gyro)
        due = self._write(stretch, stretch.rows[some], filling[some], stretch.first[some], values)
        counts = stretch.counts - filling
        some = np.flatnonzero(counts)
        if len(some):
            rows, counts, at = stretch.rows[some], counts[some], (stretch.first + filling)[some]
            index = np.repeat(at - (np.cumsum(counts) - counts), counts) + np.arange(counts.sum())
            body = self._gravity.feed(rows, counts, samples[index])
            values[index] = self._channels(total[index], body, gyro[index])
            due += self._write(stretch, rows, counts, at, values)
        return due

    def _channels(self, total: Float32, body: Float32, gyro: Float32) -> Float32:
        """(n_samples, n_ring_channels)"""
        return np.concatenate([total, body, gyro], axis=1)[:, self._ring_from]  # in the order of CHANNELS

    def _write(self, stretch: Stretch, rows: Int64, counts: Int64, at: Int64, values: Float32) -> list[_Due]:
        """Write ``counts`` samples from ``at`` on into ``rows``, gathering every window as it falls due."""
        buffer = self._windows
        due = []
        while len(rows):
            step = np.minimum(counts, buffer.due_in[rows])
            buffer.write(rows, step, at, values)
            full = np.flatnonzero(buffer.due_in[rows] == 0)
            if len(full):
                ready = rows[full]
                self._seed(ready[buffer.written[ready] == self.spec.window_samples])
                last = (at + step - 1)[full]
                windows = buffer.gather(ready)[:, :, : self.spec.n_channels]
                due.append(_Due(ready, windows, stretch.t_ns[last], stretch.period_ns[last], stretch.message[last]))
            at, counts = at + step, counts - step
            left = counts > 0
            rows, at, counts = rows[left], at[left], counts[left]
        return due

    def _seed(self, rows: Int64) -> None:
        """The first window after a restart is there: seed gravity from it, and put its body acceleration in."""
        if len(rows):
            ring = self._windows.ring
            body = self._gravity.seed(rows, ring[rows][:, :, self._ring_seed])
            if len(self._ring_body):
                ring[rows[:, None], :, self._ring_body] = body[:, :, self._body_axis].transpose(0, 2, 1)

    def _collect(self, due: list[_Due], arrival_s: Float64) -> WindowBatch:
        if not due:
            return self._nothing()
        period = np.concatenate([part.period_ns for part in due])
        end_ns = np.concatenate([part.last_ns for part in due]) + np.rint(period).astype(np.int64)
        return WindowBatch(
            [self._devices.device(row) for part in due for row in part.rows.tolist()],
            np.concatenate([part.windows for part in due]),
            end_ns - np.rint(self.spec.window_samples * period).astype(np.int64),
            end_ns,
            arrival_s[np.concatenate([part.message for part in due])],
        )

    def _nothing(self) -> WindowBatch:
        return WindowBatch.empty(self.spec.window_samples, self.spec.n_channels)

    # --- state --------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """The state of every device, as arrays by name, from which ``restore`` goes on to the bit."""
        names = [device for device, _ in self._devices.items()]
        rows = np.array([row for _, row in self._devices.items()], np.int64)
        state: dict[str, Any] = {"spec": np.array(json.dumps(self._made_by())), "devices": np.array(names, np.str_)}
        for part_name, part in self._parts().items():
            for name, array in part.snapshot(rows).items():
                state[f"{part_name}.{name}"] = array
        return state

    def restore(self, state: dict[str, Any]) -> None:
        """Take over a snapshot, into an engine with the same spec that was fed nothing yet.

        Devices beyond ``max_devices`` are left out. Raises ValueError where the snapshot is of another
        spec; its normalisation does not matter, being the classifier's.
        """
        if len(self._devices):
            raise ValueError("restore: the engine already has devices")
        made_by = json.loads(str(state["spec"]))
        if made_by != self._made_by():
            raise ValueError(f"restore: the snapshot is of {made_by}, the engine is of {self._made_by()}")
        names = [str(name) for name in state["devices"][: self._devices.max_devices]]
        rows = self._devices.rows_of(names, np.zeros(len(names)))
        self._grow()
        for key in state:
            if key.startswith("resampler "):
                numerator, _, denominator = key.split(".")[0].removeprefix("resampler ").partition("/")
                self._grid.resampler(Fraction(int(numerator), int(denominator)))
        for part_name, part in self._parts().items():
            part.restore(rows, {name: state[f"{part_name}.{name}"][: len(rows)] for name in part.ROW_ARRAYS})

    def _made_by(self) -> dict[str, Any]:
        """What a snapshot depends on."""
        spec = self.spec.to_dict()
        del spec["normalisation"]
        return spec

    def _parts(self) -> dict[str, Any]:
        return {
            "devices": self._devices,
            **self._grid.parts(),
            "noise": self._noise,
            "gravity": self._gravity,
            "windows": self._windows,
        }
