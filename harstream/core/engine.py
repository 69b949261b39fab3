"""Engine: samples in, due windows out. The one place that makes windows."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from fractions import Fraction
from typing import Any

import numpy as np

from harstream.core import resampling
from harstream.core.batches import Float32, Float64, Int64, SampleBatch, WindowBatch
from harstream.core.devices import DeviceTable
from harstream.core.filters import GravitySplit, MedianFilter
from harstream.core.resampling import Resampler
from harstream.core.spec import BODY_ACC, CHANNELS, TOTAL_ACC, SignalSpec
from harstream.core.timeline import Accepted, Timeline
from harstream.core.windows import WindowBuffer

_GRID = Fraction(1)


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
class _Stretch:
    """Consecutive samples of different rows, one row's after another's."""

    rows: Int64  # (n_rows,) each once
    counts: Int64  # (n_rows,)
    samples: Float32  # (n_samples, 6)
    t_ns: Int64  # (n_samples,) event time
    period_ns: Float64  # (n_samples,) to the next one
    message: Int64  # (n_samples,) the message that brought it
    up: Int64  # (n_rows,) grid samples per sample: up / down
    down: Int64  # (n_rows,)

    @property
    def first(self) -> Int64:
        return np.cumsum(self.counts) - self.counts


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
        self._timeline = Timeline(spec, capacity)
        self._noise = MedianFilter(spec.noise_filter, 6, capacity)
        self._gravity = GravitySplit(spec.gravity_filter, spec.sample_rate_hz, capacity)
        # The ring holds the spec's channels in their order, and behind them whatever of the total
        # acceleration they lack: the gravity filter is seeded from it.
        names = [*spec.channels, *(name for name in TOTAL_ACC if name not in spec.channels)]
        self._ring_from = np.array([CHANNELS.index(name) for name in names])
        self._ring_total = np.array([names.index(name) for name in TOTAL_ACC])
        self._ring_body = np.array([names.index(name) for name in BODY_ACC if name in names], np.int64)
        self._body_axis = np.array([axis for axis, name in enumerate(BODY_ACC) if name in names], np.int64)
        self._windows = WindowBuffer(spec.window_samples, spec.stride_samples, len(names), capacity)
        self._resamplers: dict[Fraction, Resampler] = {}
        self._samples_devices = 0
        self._samples_ratios = 0

    @property
    def n_devices(self) -> int:
        return len(self._devices)

    @property
    def stats(self) -> EngineStats:
        line = self._timeline.stats
        return EngineStats(
            samples_late=line.samples_late,
            samples_rate=line.samples_rate + self._samples_ratios,
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
        accepted = self._timeline.feed(rows, batch)
        self._devices.last_accepted_s[accepted.row] = batch.arrival_s[accepted.message]
        due: list[_Due] = []
        for stretch, restart in self._stretches(accepted, batch.samples):
            due.extend(self._advance(stretch, restart))
        return self._collect(due, batch.arrival_s)

    def evict(self, before_s: float) -> list[str]:
        """Forget the devices of which nothing was accepted since ``before_s`` (arrival time); their names.

        So are the resamplers that no device is left for: there is room for MAX_RATIOS of them.
        """
        devices, rows = self._devices.evict(before_s)
        self._timeline.forget(rows)
        used = self._timeline.ratios([row for _, row in self._devices.items()])
        self._resamplers = {ratio: resampler for ratio, resampler in self._resamplers.items() if ratio in used}
        return devices

    # --- the path of a batch ------------------------------------------------------------------

    def _refuse(self, batch: SampleBatch, rows: Int64) -> tuple[SampleBatch, Int64]:
        """Without the messages of devices that found the table full."""
        taken = rows >= 0
        self._samples_devices += int(batch.counts[~taken].sum())
        kept = SampleBatch(
            [device for device, keep in zip(batch.devices, taken, strict=True) if keep],
            batch.t_ns[taken],
            batch.stamped[taken],
            batch.rate_hz[taken],
            batch.counts[taken],
            batch.arrival_s[taken],
            batch.samples[np.repeat(taken, batch.counts)],
        )
        return kept, rows[taken]

    def _grow(self) -> None:
        capacity = self._devices.capacity
        for part in (self._timeline, self._noise, self._gravity, self._windows, *self._resamplers.values()):
            if part.capacity < capacity:
                part.grow(capacity)

    def _stretches(self, accepted: Accepted, samples: Float32) -> list[tuple[_Stretch, Int64]]:
        """The accepted samples as stretches without a restart inside, and the rows that each one restarts.

        A row's second stretch comes after everybody's first. Nearly always there is only one.
        """
        if not len(accepted.row):
            return []
        order = np.argsort(accepted.row, kind="stable")
        row = accepted.row[order]
        new_row = np.concatenate([[True], row[1:] != row[:-1]])
        # How many restarts a row saw before: 0 for what continues, or opens with its first message.
        seen = np.cumsum(accepted.restart[order] & ~new_row)
        seen -= np.maximum.accumulate(np.where(new_row, seen, 0))
        return [self._stretch(accepted, order[seen == k], samples) for k in range(int(seen.max()) + 1)]

    def _stretch(self, accepted: Accepted, index: Int64, samples: Float32) -> tuple[_Stretch, Int64]:
        """Join the messages at ``index`` (sorted by row), interpolating what is missing between them."""
        row, count, missing = accepted.row[index], accepted.count[index], accepted.missing[index]
        total = count + missing
        within = np.arange(total.sum()) - np.repeat(np.cumsum(total) - total, total)
        source = np.repeat(accepted.first[index] - missing, total) + within
        bridged = within < np.repeat(missing, total)
        joined = samples[np.where(bridged, 0, source)]
        if bridged.any():
            after = samples[np.repeat(accepted.first[index], total)[bridged]].astype(np.float64)
            before = np.repeat(accepted.bridge_from[index], total, axis=0)[bridged].astype(np.float64)
            part = (within[bridged] + 1) / np.repeat(missing + 1, total)[bridged]
            joined[bridged] = before + (after - before) * part[:, None]
        period = np.repeat(accepted.period_ns[index], total)
        step = np.rint(within * period).astype(np.int64)
        rows, start = np.unique(row, return_index=True)
        return _Stretch(
            rows,
            np.add.reduceat(total, start),
            joined,
            np.repeat(accepted.t_ns[index], total) + step,
            period,
            np.repeat(accepted.message[index], total),
            accepted.up[index][start],
            accepted.down[index][start],
        ), rows[accepted.restart[index][start]]

    def _advance(self, stretch: _Stretch, restart: Int64) -> list[_Due]:
        """Resample, filter, write and gather; the due windows."""
        stretch = self._resample(stretch, restart)
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
        due = []
        if filling.any():
            some = np.flatnonzero(filling)
            values = self._channels(total, np.zeros_like(total), gyro)
            due += self._write(stretch, stretch.rows[some], filling[some], stretch.first[some], values)
        counts = stretch.counts - filling
        some = np.flatnonzero(counts)
        if len(some):
            rows, counts, at = stretch.rows[some], counts[some], (stretch.first + filling)[some]
            index = np.repeat(at - (np.cumsum(counts) - counts), counts) + np.arange(counts.sum())
            body = self._gravity.feed(rows, counts, total[index])
            values = np.empty((len(samples), len(self._ring_from)), np.float32)
            values[index] = self._channels(total[index], body, gyro[index])
            due += self._write(stretch, rows, counts, at, values)
        return due

    def _resample(self, stretch: _Stretch, restart: Int64) -> _Stretch:
        """The same stretch on the grid; rows already on it pass untouched."""
        up, down = stretch.up, stretch.down
        if (up == down).all():
            return stretch
        restarted = np.isin(stretch.rows, restart)
        parts = []
        for numerator, denominator in sorted(set(zip(up.tolist(), down.tolist(), strict=True))):
            group = np.flatnonzero((up == numerator) & (down == denominator))
            part = _select(stretch, group)
            ratio = Fraction(numerator, denominator)
            if ratio != _GRID:
                resampler = self._resampler(ratio)
                if resampler is None:
                    self._samples_ratios += len(part.samples)
                    continue
                resampler.restart(part.rows[restarted[group]])
                n_out, samples, newest, before = resampler.feed(part.rows, part.counts, part.samples)
                period = part.period_ns[newest]
                some = n_out > 0
                part = _Stretch(
                    part.rows[some],
                    n_out[some],
                    samples,
                    part.t_ns[newest] - np.rint(before * period).astype(np.int64),
                    period * (denominator / numerator),
                    part.message[newest],
                    part.up[some],
                    part.down[some],
                )
            parts.append(part)
        return _join(parts) if parts else _select(stretch, np.zeros(0, np.int64))

    def _resampler(self, ratio: Fraction) -> Resampler | None:
        """The resampler of a ratio, made when first asked for; None beyond MAX_RATIOS of them."""
        if ratio not in self._resamplers and len(self._resamplers) < resampling.MAX_RATIOS:
            self._resamplers[ratio] = Resampler(ratio, 6, self._devices.capacity)
        return self._resamplers.get(ratio)

    def _channels(self, total: Float32, body: Float32, gyro: Float32) -> Float32:
        """(n_samples, n_ring_channels)"""
        return np.concatenate([total, body, gyro], axis=1)[:, self._ring_from]  # in the order of CHANNELS

    def _write(self, stretch: _Stretch, rows: Int64, counts: Int64, at: Int64, values: Float32) -> list[_Due]:
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
            body = self._gravity.seed(rows, ring[rows][:, :, self._ring_total])
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
                self._resampler(Fraction(int(numerator), int(denominator)))
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
            "timeline": self._timeline,
            "noise": self._noise,
            "gravity": self._gravity,
            "windows": self._windows,
            **{f"resampler {ratio.numerator}/{ratio.denominator}": r for ratio, r in self._resamplers.items()},
        }


def _select(stretch: _Stretch, group: Int64) -> _Stretch:
    """The rows at ``group`` of a stretch, with their samples."""
    counts = stretch.counts[group]
    at = np.repeat(stretch.first[group] - (np.cumsum(counts) - counts), counts) + np.arange(counts.sum())
    return _Stretch(
        stretch.rows[group],
        counts,
        stretch.samples[at],
        stretch.t_ns[at],
        stretch.period_ns[at],
        stretch.message[at],
        stretch.up[group],
        stretch.down[group],
    )


def _join(parts: list[_Stretch]) -> _Stretch:
    """Stretches of different rows as one."""
    return _Stretch(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(_Stretch)))
