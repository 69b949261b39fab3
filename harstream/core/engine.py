"""Engine that turns raw samples into due windows. It is the only code that makes windows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from harstream.core.batches import Int64, SampleBatch, WindowBatch
from harstream.core.devices import DeviceTable
from harstream.core.grid import Grid
from harstream.core.health import DeviceHealth, HealthTable
from harstream.core.messages import AcceptedSamples
from harstream.core.problems import Incident, Problem
from harstream.core.rows import RowArrays
from harstream.core.spec import SignalSpec
from harstream.core.window_maker import DueWindows, WindowMaker

#: Incidents kept until they are taken.
MAX_INCIDENTS = 1_000


@dataclass(frozen=True, slots=True)
class EngineStats:
    """Totals since the Engine was created, over all devices."""

    samples_late: int  # dropped: not newer than the newest accepted sample of the device
    samples_rate: int  # dropped: of a rate that cannot be resampled
    samples_devices: int  # dropped: of devices beyond max_devices
    gaps: int  # interpolated or not
    restarts: int  # after a long gap, with a new rate, or with a new clock
    rates_measured: int  # restarts because the spacing of the messages contradicted the rate


class Engine:
    """Resampler, filters and window buffers of many devices: samples in, due windows out.

    The windows do not depend on how a stream is cut into messages and batches, nor on the other devices, to the bit. No
    method reads a clock, raises an error because of what a device sent, or keeps a reference to its arguments or
    results.

    A device at rest sends two messages with 100 samples each at 50 Hz. A window has 128 samples and is due every 64
    samples, so the first message completes no window and the second one completes two:

        >>> import numpy as np
        >>> from harstream.core.batches import SampleBatch
        >>> from harstream.core.spec import SignalSpec
        >>> engine = Engine(SignalSpec(sample_rate_hz=50.0, window_samples=128, stride_samples=64))
        >>> samples = np.tile(np.float32([0, 0, 1, 0, 0, 0]), (100, 1))  # acc x y z in g, gyro x y z in rad/s
        >>> len(engine.feed(SampleBatch.from_message("watch", samples, t_ns=0)))
        0
        >>> due = engine.feed(SampleBatch.from_message("watch", samples, t_ns=2_000_000_000))
        >>> due.devices
        ['watch', 'watch']
        >>> due.windows.shape  # windows, samples, channels
        (2, 128, 9)
        >>> (due.start_ns / 1e9).tolist(), (due.end_ns / 1e9).tolist()
        ([0.0, 1.28], [2.56, 3.84])

    Args:
        spec: Signal that the model takes.
        max_devices: Limit on the devices with state. Samples of further devices are dropped and counted.

    """

    def __init__(self, spec: SignalSpec, *, max_devices: int = 1_000_000) -> None:
        self.spec = spec
        capacity = 64
        self._devices = DeviceTable(capacity, max_devices)
        self._health = HealthTable(capacity)
        self._grid = Grid(spec, capacity, self._health)
        self._maker = WindowMaker(spec, capacity, self._health, self._grid.timeline.jumps)
        self._samples_devices = 0
        self._incidents: list[Incident] = []
        self.incidents_lost = 0  # beyond MAX_INCIDENTS

    @property
    def n_devices(self) -> int:
        """Number of devices with state."""
        return len(self._devices)

    @property
    def stats(self) -> EngineStats:
        """Totals since the Engine was created."""
        timeline = self._grid.timeline.stats
        return EngineStats(
            samples_late=timeline.samples_late,
            samples_rate=timeline.samples_rate + self._grid.samples_without_resampler,
            samples_devices=self._samples_devices,
            gaps=timeline.gaps,
            restarts=timeline.restarts,
            rates_measured=timeline.rates_measured,
        )

    def feed(self, batch: SampleBatch, now_s: float | None = None) -> WindowBatch:
        """Process samples in order of arrival and return the windows that fell due, those of each device in order.

        Args:
            batch: Messages of raw samples.
            now_s: Time by which ``evict`` finds idle devices, such as ``time.monotonic()``; None: the arrival times.

        """
        if not len(batch):
            return self._no_windows()
        first_seen_s = batch.arrival_s if now_s is None else np.full(len(batch), now_s)
        rows = self._devices.find_or_add(batch.devices, first_seen_s)
        if rows.min() < 0:
            batch, rows = self._drop_without_row(batch, rows)
        self._grow()
        accepted, parts = self._grid.feed(rows, batch)
        arrival_s = accepted.batch.arrival_s
        self._devices.last_accepted_s[accepted.row] = arrival_s[accepted.message] if now_s is None else now_s
        due: list[DueWindows] = []
        for samples, restarting, message in parts:
            self._maker.restart(restarting, accepted.batch.acc_unit_auto[message])
            due.extend(self._maker.feed(samples))
        windows = self._collect(due, accepted)
        if self._health.incidents:
            self._name_incidents()
        return windows

    def evict(self, before_s: float) -> list[str]:
        """Forget the devices whose last accepted sample is older than ``before_s`` and return their ids.

        Resamplers that no other device uses are deleted too, which makes room for other rates.

        Args:
            before_s: Time on the scale of ``now_s`` in ``feed``.

        """
        devices, rows = self._devices.evict(before_s)
        self._grid.evict(rows, [row for _, row in self._devices.items()])
        self._health.reset(rows)
        self._maker.units.restart(rows, np.zeros(len(rows), np.bool_))
        return devices

    def forget(self, devices: Sequence[str]) -> list[str]:
        """Forget these devices as if they were idle, and return those that had state."""
        rows = self._devices.find(devices)
        self._devices.last_accepted_s[rows[rows >= 0]] = -np.inf
        return self.evict(-np.finfo(np.float64).max)

    def take_incidents(self) -> list[Incident]:
        """Return the incidents since the last call, the first MAX_INCIDENTS of them; ``incidents_lost`` counts more."""
        incidents, self._incidents = self._incidents, []
        return incidents

    def set_problem(self, device: str, problem: Problem, detail: str) -> None:
        """Note a problem that something else found of a device; a device without state is ignored."""
        row = int(self._devices.find([device])[0])
        if row >= 0:
            self._health.begin(row, problem, detail)
            self._name_incidents()

    def end_problem(self, device: str, problem: Problem) -> None:
        """End a problem that ``set_problem`` noted."""
        rows = self._devices.find([device])
        self._health.end(rows[rows >= 0], problem)

    def problem_counts(self) -> dict[Problem, int]:
        """Return the number of devices that have each problem; a device may have several."""
        return {problem: int(np.count_nonzero(self._health.problems & int(problem))) for problem in Problem}

    def devices_with(self, problem: Problem) -> list[str]:
        """Return the devices that have a problem."""
        return [self._devices.device(row) for row in np.flatnonzero(self._health.problems & int(problem)).tolist()]

    def problems_of(self, devices: Sequence[str]) -> Int64:
        """Return the mask of the problems of each device (n,); 0 for a device without state."""
        rows = self._devices.find(devices)
        return np.where(rows < 0, 0, self._health.problems[rows])

    def health(self) -> DeviceHealth:
        """Return the state of every device."""
        devices = [device for device, _ in self._devices.items()]
        rows = np.array([row for _, row in self._devices.items()], np.int64)
        table, timeline = self._health, self._grid.timeline
        return DeviceHealth(
            devices,
            timeline.jumps.last_arrival_s[rows],
            timeline.rates.rate_hz(rows),
            table.late[rows],
            table.gaps[rows],
            table.restarts[rows],
            self._maker.units.names(rows),
            table.problems[rows],
        )

    # --- steps of feed, in order --------------------------------------------------------------

    def _drop_without_row(self, batch: SampleBatch, rows: Int64) -> tuple[SampleBatch, Int64]:
        """Return the messages whose devices have a row, and these rows; count the samples of the others."""
        has_row = rows >= 0
        self._samples_devices += int(batch.counts[~has_row].sum())
        return batch.select(has_row), rows[has_row]

    def _grow(self) -> None:
        capacity = self._devices.capacity
        for part in self._parts().values():
            if part.capacity < capacity:
                part.grow(capacity)

    def _collect(self, due: list[DueWindows], accepted: AcceptedSamples) -> WindowBatch:
        if not due:
            return self._no_windows()
        message = np.concatenate([part.message for part in due])
        # Untrusted windows must not depend on the messages after them in the batch, which the timeline has seen.
        # UNFAMILIAR comes from outside at any time; the smoother knows of which windows it is true.
        problems = np.concatenate([part.problems for part in due]) & ~int(Problem.OVERLAP | Problem.UNFAMILIAR)
        problems |= np.where(accepted.overlapping[message], int(Problem.OVERLAP), 0)
        period = np.concatenate([part.period_ns for part in due])
        end_ns = np.concatenate([part.last_ns for part in due]) + np.rint(period).astype(np.int64)
        return WindowBatch(
            [self._devices.device(row) for part in due for row in part.rows.tolist()],
            np.concatenate([part.windows for part in due]),
            end_ns - np.rint(self.spec.window_samples * period).astype(np.int64),
            end_ns,
            accepted.batch.arrival_s[message],
            problems,
        )

    def _name_incidents(self) -> None:
        """Keep the incidents of this call under the names of their devices."""
        for row, problem, detail in self._health.incidents:
            if len(self._incidents) < MAX_INCIDENTS:
                self._incidents.append(Incident(self._devices.device(row), problem, detail))
            else:
                self.incidents_lost += 1
        self._health.incidents.clear()

    def _no_windows(self) -> WindowBatch:
        return WindowBatch.empty(self.spec.window_samples, self.spec.n_channels)

    # --- state --------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """Return the state of every device as arrays by name. An engine restored from it continues to the bit."""
        devices = [device for device, _ in self._devices.items()]
        rows = np.array([row for _, row in self._devices.items()], np.int64)
        state: dict[str, Any] = {
            "spec": np.array(json.dumps(self._definition())),
            "devices": np.array(devices, np.str_),
        }
        for part_name, part in self._parts().items():
            for name, array in part.snapshot(rows).items():
                state[f"{part_name}.{name}"] = array
        return state

    def restore(self, state: dict[str, Any]) -> None:
        """Take over a snapshot. Devices beyond ``max_devices`` are left out.

        The normalisation of the spec may differ, because only the classifier uses it.

        Raises:
            ValueError: This engine already has devices, or the snapshot is of an engine with another spec.

        """
        if len(self._devices):
            raise ValueError("restore: this engine already has devices; restore into a new one")
        definition = json.loads(str(state["spec"]))
        if definition != self._definition():
            raise ValueError(
                f"restore: the snapshot is of the spec {definition}, but this engine has {self._definition()}; "
                "discard the snapshot, or use the bundle that it was made with"
            )
        devices = [str(device) for device in state["devices"][: self._devices.max_devices]]
        rows = self._devices.find_or_add(devices, np.zeros(len(devices)))
        self._grow()
        for key in state:
            if key.startswith("resampler "):
                numerator, _, denominator = key.split(".")[0].removeprefix("resampler ").partition("/")
                self._grid.find_or_add_resampler(Fraction(int(numerator), int(denominator)))
        for part_name, part in self._parts().items():
            prefix = f"{part_name}."
            part.restore(rows, {k.removeprefix(prefix): array for k, array in state.items() if k.startswith(prefix)})

    def _definition(self) -> dict[str, Any]:
        """Return everything that the state of this engine depends on."""
        spec = self.spec.to_dict()
        del spec["normalisation"]
        return spec

    def _parts(self) -> dict[str, RowArrays]:
        return {
            "devices": self._devices,
            "health": self._health,
            **self._grid.parts(),
            **self._maker.parts(),
        }
