"""Engine that turns raw samples into due windows. It is the only code that makes windows."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from harstream.core.accepted import AcceptedSamples
from harstream.core.batches import Int64, SampleBatch, Sensor, WindowBatch
from harstream.core.devices import MIN_CAPACITY, DeviceTable
from harstream.core.grid import Grid
from harstream.core.health import DeviceHealth, HealthTable
from harstream.core.paired_grid import PairedGrid
from harstream.core.pairing import PairingStats
from harstream.core.problems import Incident, Problem
from harstream.core.rows import RowArrays
from harstream.core.spec import SignalSpec
from harstream.core.window_maker import DueWindows, Tail, WindowMaker

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
    pairing: PairingStats = field(default_factory=PairingStats)  # samples that did not find those of the other sensor


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

    A *paired* engine also takes messages that hold only one of the two sensors. Each sensor of a device then has its
    own clock and rate, and `Pairing` brings them together by event time. A model without gyroscope never waits.

    Args:
        spec: Signal that the model takes.
        max_devices: Limit on the devices with state. Samples of further devices are dropped and counted.
        paired: Whether the two sensors may come in messages of their own. Without it such messages are dropped, but for
            those of the accelerometer if the model needs no gyroscope.

    """

    def __init__(self, spec: SignalSpec, *, max_devices: int = 1_000_000, paired: bool = False) -> None:
        self.spec = spec
        self.paired = paired and spec.uses_gyro
        capacity = MIN_CAPACITY
        self._devices = DeviceTable(capacity, max_devices)
        self._health = HealthTable(capacity)
        grid = PairedGrid if self.paired else Grid
        self._grid: Grid | PairedGrid = grid(spec, capacity, self._health)
        self._maker = WindowMaker(spec, capacity, self._health, self._grid.timeline.jumps)
        self._pending: AcceptedSamples | None = None  # accepted samples that are not placed on the grid yet
        self._samples_devices = 0
        self.turned_away = ""  # the newest device whose samples were dropped because of max_devices
        self._incidents: list[Incident] = []
        self.incidents_lost = 0  # beyond MAX_INCIDENTS

    @property
    def max_devices(self) -> int:
        """Limit on the devices with state."""
        return self._devices.max_devices

    @property
    def n_devices(self) -> int:
        """Number of devices with state."""
        return len(self._devices)

    @property
    def devices(self) -> list[str]:
        """Devices with state, in the order in which they were added."""
        return self._devices.select(None)[0]

    @property
    def stats(self) -> EngineStats:
        """Totals since the Engine was created."""
        stats = self._grid.stats
        return EngineStats(
            samples_late=stats.samples_late,
            samples_rate=stats.samples_rate,
            samples_devices=self._samples_devices,
            gaps=stats.gaps,
            restarts=stats.restarts,
            rates_measured=stats.rates_measured,
            pairing=replace(self._grid.pairing.stats) if isinstance(self._grid, PairedGrid) else PairingStats(),
        )

    def feed(self, batch: SampleBatch, now_s: float | None = None, max_windows: int | None = None) -> WindowBatch:
        """Process samples in order of arrival and return the windows that fell due, those of each device in order.

        Args:
            batch: Messages of raw samples.
            now_s: Time by which ``evict`` finds idle devices, such as ``time.monotonic()``; None: the arrival times.
            max_windows: Work to stop at, as the number of windows that it makes; None: no limit. Each device gets an
                equal share of it, at least one window, or all that it needs if that is less. Samples beyond are
                pending: the next call, also one with an empty batch, continues with them. The result has at most two
                windows of each device more than this.

        """
        if batch.sensor is not None and not self.paired:
            batch = batch.select(batch.sensor <= (Sensor.BOTH if self.spec.uses_gyro else Sensor.ACC))
        accepted = self._accept(batch, now_s) if len(batch) else None
        if self._pending is not None:
            accepted = self._pending if accepted is None else self._pending.followed_by(accepted)
        if accepted is None:
            return self._no_windows()
        self._pending = None
        if max_windows is not None:
            stride = self.spec.stride_samples
            accepted, self._pending = accepted.split(max_windows * stride, stride)
        due: list[DueWindows] = []
        for samples, restarts in self._grid.place(accepted):
            self._maker.restart(restarts.rows, restarts.acc_unit_auto)
            due.extend(self._maker.feed(samples))
        windows = self._collect(due, accepted)
        self._name_incidents()
        return windows

    def samples_until_window(self, device: str) -> int:
        """Return how many samples of a device should complete its next window; 0: that is not known.

        It is a guess, since samples may be missing or late: where it is wrong, `feed` makes the window all the same.
        """
        row = int(self._devices.find([device])[0])
        if row < 0 or self.paired:
            return 0
        rates = self._grid.timeline.rates
        return -(-self._maker.due_in(row) * rates.down.item(row) // max(rates.up.item(row), 1))

    @property
    def n_pending(self) -> int:
        """Number of accepted samples for whose windows ``max_windows`` left no room."""
        return 0 if self._pending is None else self._pending.n_samples

    @property
    def busy(self) -> set[str]:
        """Devices that have pending samples."""
        if self._pending is None:
            return set()
        return {self._devices.device(row) for row in np.unique(self._pending.row).tolist()}

    @property
    def pending_arrivals_s(self) -> list[float]:
        """Arrival times of the messages that have pending samples."""
        return [] if self._pending is None else np.unique(self._pending.arrival_s).tolist()

    def evict(self, before_s: float) -> list[str]:
        """Forget the devices whose last accepted sample is older than ``before_s`` and return their ids.

        Resamplers that no other device uses are deleted too, which makes room for other rates. If most devices are
        forgotten, so is the memory for them.

        Args:
            before_s: Time on the scale of ``now_s`` in ``feed``.

        """
        if self._pending is not None:  # none of these devices is idle
            last_s, rows = self._devices.last_accepted_s, self._pending.row
            last_s[rows] = np.maximum(last_s[rows], before_s)
        devices, rows = self._devices.evict(before_s)
        self._forget(rows)
        return devices

    def forget(self, devices: Sequence[str]) -> list[str]:
        """Forget devices, whether they are idle or not, and return those that had state, each once.

        Raises:
            ValueError: Samples are pending. Feed empty batches first.

        """
        if self._pending is not None:
            raise ValueError(f"forget: {self.n_pending} samples are pending; feed empty batches until none are")
        had_state, _ = self._devices.select(list(dict.fromkeys(devices)))
        self._forget(self._devices.remove(had_state))
        return had_state

    def _forget(self, rows: Int64) -> None:
        self._grid.evict(rows, self._rows(), self._pending)
        self._health.reset(rows)
        self._maker.units.restart(rows, np.zeros(len(rows), np.bool_))
        moved = self._devices.compact(self._parts().values())
        if moved is not None and self._pending is not None:
            self._pending = self._pending.in_rows(moved)

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
        return {problem: int(np.count_nonzero(self._health.all_problems() & int(problem))) for problem in Problem}

    def devices_with(self, problem: Problem) -> list[str]:
        """Return the devices that have a problem."""
        return [
            self._devices.device(row) for row in np.flatnonzero(self._health.all_problems() & int(problem)).tolist()
        ]

    def problems_of(self, devices: Sequence[str]) -> Int64:
        """Return the mask of the problems of each device (n,); 0 for a device without state."""
        rows = self._devices.find(devices)
        return np.where(rows < 0, 0, self._health.all_problems(rows))

    def health(self) -> DeviceHealth:
        """Return the state of every device."""
        devices, rows = self._devices.select(None)
        return self._health.of_devices(
            devices,
            rows,
            self._grid.last_arrival_s(rows),
            self._grid.timeline.rates.rate_hz(rows),
            self._maker.units.names(rows),
        )

    def tail(self, device: str) -> Tail | None:
        """Return the newest samples of a device, at most a window; None if it has no state."""
        row = int(self._devices.find([device])[0])
        return self._maker.tail(row) if row >= 0 else None

    # --- steps of feed, in order --------------------------------------------------------------

    def _accept(self, batch: SampleBatch, now_s: float | None) -> AcceptedSamples:
        """Return the accepted samples of a batch."""
        first_seen_s = batch.arrival_s if now_s is None else np.full(len(batch), now_s)
        rows = self._devices.find_or_add(batch.devices, first_seen_s)
        if rows.min() < 0:
            batch, rows = self._drop_without_row(batch, rows)
        self._grow()
        accepted = self._grid.accept(rows, batch)
        self._devices.last_accepted_s[accepted.row] = accepted.arrival_s if now_s is None else now_s
        return accepted

    def _drop_without_row(self, batch: SampleBatch, rows: Int64) -> tuple[SampleBatch, Int64]:
        """Return the messages whose devices have a row, and these rows; count the samples of the others."""
        has_row = rows >= 0
        self._samples_devices += int(batch.counts[~has_row].sum())
        self.turned_away = batch.devices[int(np.flatnonzero(~has_row)[-1])]
        return batch.select(has_row), rows[has_row]

    def _rows(self) -> Int64:
        """Return the rows of all devices, in the order in which these were added."""
        return self._devices.select(None)[1]

    def _grow(self) -> None:
        capacity = self._devices.capacity
        if self._health.capacity == capacity:  # the usual case; all parts grow together
            return
        for part in self._parts().values():
            if part.capacity < capacity:
                part.grow(capacity)

    def _collect(self, due: list[DueWindows], accepted: AcceptedSamples) -> WindowBatch:
        if not due:
            return self._no_windows()
        message = np.concatenate([part.message for part in due])
        arrival_s, overlapping = self._grid.arrivals(accepted)
        # Untrusted windows must not depend on the messages after them in the batch, which the timeline has seen.
        # UNFAMILIAR comes from outside at any time; the smoother knows of which windows it is true.
        problems = np.concatenate([part.problems for part in due]) & ~int(Problem.OVERLAP | Problem.UNFAMILIAR)
        problems |= np.where(overlapping[message], int(Problem.OVERLAP), 0)
        period = np.concatenate([part.period_ns for part in due])
        end_ns = np.concatenate([part.last_ns for part in due]) + np.rint(period).astype(np.int64)
        return WindowBatch(
            [self._devices.device(row) for part in due for row in part.rows.tolist()],
            np.concatenate([part.windows for part in due]),
            end_ns - np.rint(self.spec.window_samples * period).astype(np.int64),
            end_ns,
            arrival_s[message],
            problems,
        )

    def _name_incidents(self) -> None:
        """Keep the incidents of this call under the names of their devices."""
        for row, problem, detail in self._health.take_incidents():
            if len(self._incidents) < MAX_INCIDENTS:
                self._incidents.append(Incident(self._devices.device(row), problem, detail))
            else:
                self.incidents_lost += 1

    def _no_windows(self) -> WindowBatch:
        return WindowBatch.empty(self.spec.window_samples, self.spec.n_channels)

    # --- state --------------------------------------------------------------------------------

    def snapshot(self, devices: Sequence[str] | None = None) -> dict[str, Any]:
        """Return the state of devices as arrays by name. An engine restored from it continues to the bit.

        Args:
            devices: Device ids, each once; those without state are left out. None: every device.

        Raises:
            ValueError: Samples are pending. Feed empty batches first.

        """
        if self._pending is not None:
            raise ValueError(f"snapshot: {self.n_pending} samples are pending; feed empty batches until none are")
        devices, rows = self._devices.select(devices)
        state: dict[str, Any] = {
            "spec": np.array(json.dumps(self._definition())),
            "devices": np.array(devices, np.str_),
        }
        for part_name, part in self._parts().items():
            for name, array in part.snapshot(rows).items():
                state[f"{part_name}.{name}"] = array
        return state

    def restore(self, state: Mapping[str, Any], now_s: float | None = None) -> None:
        """Take over a snapshot in a new engine. Devices beyond ``max_devices`` are left out.

        The normalisation of the spec may differ, because only the classifier uses it.

        Args:
            state: The snapshot.
            now_s: Time on the scale of ``now_s`` in ``feed``, from which on devices may be idle; None: they are as old
                as they were. It is needed if that scale is another one than at the snapshot.

        Raises:
            ValueError: This engine already has devices, or the snapshot is of an engine with another spec.

        """
        if len(self._devices):
            raise ValueError("restore: this engine already has devices; restore into a new one")
        self._take(state, now_s)

    def adopt(self, other: Engine, now_s: float) -> list[str]:
        """Take over devices of another engine with the same spec, which continue here to the bit, and return them.

        Left out are devices that have state here already, and those beyond ``max_devices``.

        Args:
            other: The other engine, in which no samples are pending.
            now_s: Time on the scale of ``now_s`` in ``feed``, from which on the devices may be idle.

        """
        here = set(self._devices.select(other.devices)[0])
        return self._take(other.snapshot([device for device in other.devices if device not in here]), now_s)

    def _take(self, state: Mapping[str, Any], now_s: float | None) -> list[str]:
        """Write a snapshot of devices without state here into free rows, and return those for which there is room."""
        definition = json.loads(str(state["spec"]))
        if definition != self._definition():
            own = self._definition()
            differing = sorted(key for key in {*definition, *own} if definition.get(key) != own.get(key))
            theirs, ours = (", ".join(f"{key} {spec.get(key)!r}" for key in differing) for spec in (definition, own))
            raise ValueError(
                f"restore: the snapshot has {theirs}, but this engine has {ours}; discard the snapshot, or use the "
                "bundle that it was made with"
            )
        room = self._devices.max_devices - len(self._devices)
        devices = [str(device) for device in state["devices"][:room]]
        rows = self._devices.find_or_add(devices, np.zeros(len(devices)))
        self._grow()
        self._grid.make_parts(dict.fromkeys(key.partition(".")[0] for key in state))
        for part_name, part in self._parts().items():
            prefix = f"{part_name}."
            own = {k.removeprefix(prefix): array for k, array in state.items() if k.startswith(prefix)}
            if own or "resampler " not in part_name:  # none of these devices may need a resampler of others
                part.restore(rows, own)
        if now_s is not None:
            self._devices.last_accepted_s[rows] = now_s
        return devices

    def last_accepted_s(self, devices: Sequence[str]) -> float:
        """Return when a sample of any of these devices was accepted last; minus infinity if none has state."""
        _, rows = self._devices.select(devices)
        return float(self._devices.last_accepted_s[rows].max(initial=-math.inf))

    def _definition(self) -> dict[str, Any]:
        """Return everything that the state of this engine depends on."""
        spec = self.spec.to_dict()
        del spec["normalisation"]
        return {**spec, "paired": True} if self.paired else spec

    def _parts(self) -> dict[str, RowArrays]:
        return {
            "devices": self._devices,
            "health": self._health,
            **self._grid.parts(),
            **self._maker.parts(),
        }
