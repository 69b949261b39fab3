"""Smoothing: probabilities over time to steady labels, with doubt, and the changes between them.

``Smoothing`` is the ``smoothing`` section of a bundle, validated; ``Smoother`` does it, for many devices.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harstream import checks
from harstream.core import posteriors
from harstream.core.batches import Float32, Float64, Int64
from harstream.core.devices import DeviceTable
from harstream.core.events import ActivityEvent, ActivityTracker
from harstream.core.labels import UNKNOWN_INDEX
from harstream.core.posteriors import ExponentialFilter, HmmFilter, HysteresisFilter, PosteriorFilter
from harstream.core.rows import RowArrays, rounds
from harstream.errors import ConfigError

#: Each type's own parameters.
_PARAMETERS = {
    "none": (),
    "exponential": ("weight",),
    "hysteresis": ("margin", "windows"),
    "hmm": ("dwell_s", "unknown_dwell_s", "trust", "transitions", "fixed_lag_windows"),
}
MAX_FIXED_LAG_WINDOWS = 16
MAX_UNKNOWN_BELOW = 0.99


@dataclass(frozen=True, slots=True)
class Smoothing:
    """How labels are made steady, and when they are withheld. Only its own type's parameters count.

    ``none`` believes every window for itself. ``exponential`` averages, the newest window having
    ``weight``. ``hysteresis`` changes to a label that was ahead of the current one by ``margin`` in ``windows``
    windows in a row. ``hmm`` is the forward filter of a hidden Markov model, in which an activity lasts
    ``dwell_s`` in the mean, or which moves from label to label by ``transitions`` per stride (rows sum to 1, in
    the order of the labels); ``trust`` is the exponent of a window's probabilities, and events wait for
    ``fixed_lag_windows`` more windows.

    Where no label's probability reaches ``unknown_below``, the window speaks for UNKNOWN (0: never), in which an
    hmm stays for ``unknown_dwell_s`` in the mean.
    """

    type: str = "none"
    unknown_below: float = 0.0
    weight: float = 0.5
    margin: float = 0.0
    windows: int = 2
    dwell_s: float = 5.0
    unknown_dwell_s: float = 1.5
    trust: float = 0.7
    transitions: tuple[tuple[float, ...], ...] | None = None
    fixed_lag_windows: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.type, str) or self.type not in _PARAMETERS:
            raise ConfigError(f"smoothing.type: {self.type!r} is not one of {', '.join(_PARAMETERS)}")
        checks.number(self.unknown_below, "smoothing.unknown_below", minimum=0.0, maximum=MAX_UNKNOWN_BELOW)
        checks.number(self.weight, "smoothing.weight", minimum=0.01, maximum=1.0)
        checks.number(self.margin, "smoothing.margin", minimum=0.0, maximum=1.0)
        checks.whole_number(self.windows, "smoothing.windows", minimum=1, maximum=100)
        checks.number(self.dwell_s, "smoothing.dwell_s", minimum=0.01, maximum=1e6)
        checks.number(self.unknown_dwell_s, "smoothing.unknown_dwell_s", minimum=0.01, maximum=1e6)
        checks.number(self.trust, "smoothing.trust", minimum=0.01, maximum=1.0)
        checks.whole_number(
            self.fixed_lag_windows, "smoothing.fixed_lag_windows", minimum=0, maximum=MAX_FIXED_LAG_WINDOWS
        )
        if self.transitions is not None:
            _stochastic(self.transitions)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Smoothing:
        """Raises ConfigError for a field that is unknown, or not one of the type's."""
        every = sorted({name for names in _PARAMETERS.values() for name in names})
        fields = checks.fields(data, "smoothing", ["type"], ["unknown_below", *every])
        checks.fields(data, "smoothing", ["type"], ["unknown_below", *_PARAMETERS.get(str(fields["type"]), every)])
        if "transitions" in fields:
            fields["transitions"] = _rows(fields["transitions"])
        return cls(**fields)

    def to_dict(self) -> dict[str, Any]:
        """What ``from_dict`` reads: the type's own parameters only."""
        out = {name: getattr(self, name) for name in ("type", "unknown_below", *_PARAMETERS[self.type])}
        if out.get("transitions") is not None:
            out["transitions"] = [list(row) for row in out["transitions"]]
            del out["dwell_s"]
        else:
            out.pop("transitions", None)
        return out

    def check_labels(self, n_labels: int) -> None:
        """Raises ConfigError where the transitions are of another number of labels."""
        if self.transitions is not None and len(self.transitions) != n_labels:
            raise ConfigError(f"smoothing.transitions: {len(self.transitions)} rows for {n_labels} labels")

    def filter(self, n_labels: int, stride_s: float, capacity: int) -> PosteriorFilter:
        """The filter it describes, over the labels and, where it may abstain, UNKNOWN."""
        n_states = n_labels + (self.unknown_below > 0)
        if self.type == "exponential":
            return ExponentialFilter(self.weight, n_states, capacity)
        if self.type == "hysteresis":
            return HysteresisFilter(self.margin, self.windows, n_states, capacity)
        if self.type == "hmm":
            if self.transitions is None:
                transitions = posteriors.dwelling(self.dwell_s, stride_s, n_labels)
            else:
                transitions = np.array(self.transitions)
            if self.unknown_below > 0:
                transitions = posteriors.with_unknown(transitions, self.unknown_dwell_s, stride_s)
            return HmmFilter(transitions, self.trust, self.fixed_lag_windows, capacity)
        return PosteriorFilter(n_states, capacity)


def _rows(value: Any) -> tuple[tuple[float, ...], ...]:
    if not isinstance(value, Sequence) or not all(isinstance(row, Sequence) for row in value):
        raise ConfigError(f"smoothing.transitions: expected a list of lists, got {value!r}")
    return tuple(tuple(row) for row in value)


def _stochastic(rows: tuple[tuple[float, ...], ...]) -> None:
    for i, row in enumerate(rows):
        where = f"smoothing.transitions: row {i}"
        if len(row) != len(rows):
            raise ConfigError(f"{where} has {len(row)} numbers, there are {len(rows)} rows")
        total = sum(checks.number(value, where, minimum=0.0, maximum=1.0) for value in row)
        if abs(total - 1) > 1e-6:
            raise ConfigError(f"{where} sums to {total:g}, not 1")


@dataclass(frozen=True, slots=True)
class SmoothedLabels:
    """What is believed of a WindowBatch, window by window."""

    label: Int64  # (n_windows,) index into the bundle's labels; -1 for UNKNOWN
    confidence: Float32  # (n_windows,) the posterior in that label; of UNKNOWN the network's top probability


class _Times(RowArrays):
    """The times of the last windows of each row, the newest last, and how many of them still await events."""

    ROW_ARRAYS = ("start_ns", "end_ns", "n_windows", "held")

    def __init__(self, lag: int, capacity: int) -> None:
        self.start_ns = np.zeros((capacity, lag + 1), np.int64)
        self.end_ns = np.zeros((capacity, lag + 1), np.int64)
        self.n_windows = np.zeros(capacity, np.int64)  # since the restart
        self.held = np.zeros(capacity, np.int64)


class Smoother:
    """SmoothedLabels and events of many devices, as structure of arrays by row.

    How windows are cut into batches cannot change a posterior or an event, to the bit. A window that does not follow
    the device's last one, for it ends more than a stride and a half after it or no later, starts the device anew:
    what it did ends with the last window before. So it is after every restart of the Engine, if windows are longer
    than a stride and a half.
    """

    def __init__(self, smoothing: Smoothing, n_labels: int, stride_s: float) -> None:
        smoothing.check_labels(n_labels)
        self.smoothing, self.n_labels = smoothing, n_labels
        capacity = 64
        self._longest_step_ns = round(1.5e9 * stride_s)
        self._lag = smoothing.fixed_lag_windows if smoothing.type == "hmm" else 0
        self._devices = DeviceTable(capacity, max_devices=2**62)  # whoever has windows: bounded by the Engine
        self._filter = smoothing.filter(n_labels, stride_s, capacity)
        self._times = _Times(self._lag, capacity)
        self._changes = ActivityTracker(n_labels, capacity)

    def __len__(self) -> int:
        """Devices with state."""
        return len(self._devices)

    def feed(
        self, devices: Sequence[str], probabilities: Float32, start_ns: Int64, end_ns: Int64
    ) -> tuple[SmoothedLabels, list[ActivityEvent]]:
        """Windows, each device's in order of time, to what is believed of them, and the events they bring.

        ``probabilities`` are (n_windows, n_labels). Events are in the order of the windows that brought them.
        """
        rows = self._devices.rows_of(devices, np.ones(len(devices)))
        self._grow()
        states = probabilities.astype(np.float64)
        if self.smoothing.unknown_below > 0:
            states = posteriors.with_doubt(states, self.smoothing.unknown_below)
        label, confidence = np.empty(len(rows), np.int64), np.empty(len(rows), np.float32)
        events: dict[int, list[ActivityEvent]] = {}
        for index in rounds(rows):
            row = rows[index]
            state, posterior, found = self._step(row, states[index], start_ns[index], end_ns[index])
            label[index], confidence[index] = state, posterior
            if found:
                events |= {int(i): found[int(r)] for i, r in zip(index, row, strict=True) if int(r) in found}
        unknown_here = label == self.n_labels
        label[unknown_here] = UNKNOWN_INDEX
        confidence[unknown_here] = probabilities[unknown_here].max(axis=1)
        return SmoothedLabels(label, confidence), [event for i in sorted(events) for event in events[i]]

    def evict(self, devices: Sequence[str]) -> list[ActivityEvent]:
        """Forget these devices, each named once: they exit what they did at the end of their last windows."""
        known = {device for device, _ in self._devices.items()}
        gone = [device for device in devices if device in known]
        rows = self._devices.rows_of(gone, np.ones(len(gone)))
        events = self._end(rows)
        self._devices.last_accepted_s[rows] = 0.0
        self._devices.evict(1.0)
        self._times.n_windows[rows] = 0
        return [event for row in rows.tolist() for event in events.get(row, [])]

    def flush(self) -> list[ActivityEvent]:
        """The events that are held back, by what is known now. No activity ends."""
        rows = np.array([row for _, row in self._devices.items()], np.int64)
        events = self._settle_all(rows)
        return [event for row in rows.tolist() for event in events.get(row, [])]

    # --- a window of each of some rows --------------------------------------------------------

    def _step(
        self, rows: Int64, states: Float64, start_ns: Int64, end_ns: Int64
    ) -> tuple[Int64, Float64, dict[int, list[ActivityEvent]]]:
        times = self._times
        step_ns = end_ns - times.end_ns[rows, -1]
        restart = (step_ns <= 0) | (step_ns > self._longest_step_ns) | (times.n_windows[rows] == 0)
        anew = rows[restart & (times.n_windows[rows] > 0)]
        events = self._end(anew) if len(anew) else {}
        times.n_windows[rows] = np.where(restart, 0, times.n_windows[rows]) + 1
        for held, new in ((times.start_ns, start_ns), (times.end_ns, end_ns)):
            held[rows, :-1] = held[rows, 1:]
            held[rows, -1] = new
        state, posterior = self._filter.feed(rows, restart, states)
        if not self._lag:
            _merge(events, self._changes.feed(rows, state, posterior, start_ns, end_ns, self._devices.device))
        else:
            times.held[rows] += 1
            settled = rows[times.held[rows] > self._lag]
            _merge(events, self._settle(settled, self._lag))
        return state, posterior, events

    def _settle(self, rows: Int64, ago: int) -> dict[int, list[ActivityEvent]]:
        """The events of the window ``ago`` before the newest, with the last word on it."""
        if not len(rows):
            return {}
        assert isinstance(self._filter, HmmFilter)
        self._times.held[rows] -= 1
        state, posterior = self._filter.looking_back(rows, ago)
        start_ns, end_ns = self._times.start_ns[rows, -1 - ago], self._times.end_ns[rows, -1 - ago]
        return self._changes.feed(rows, state, posterior, start_ns, end_ns, self._devices.device)

    def _settle_all(self, rows: Int64) -> dict[int, list[ActivityEvent]]:
        """The events of all windows of ``rows`` that await them."""
        events: dict[int, list[ActivityEvent]] = {}
        for ago in range(self._lag - 1, -1, -1):
            _merge(events, self._settle(rows[self._times.held[rows] > ago], ago))
        return events

    def _end(self, rows: Int64) -> dict[int, list[ActivityEvent]]:
        """Nothing follows the last windows of ``rows``."""
        events = self._settle_all(rows)
        _merge(events, self._changes.end(rows, self._devices.device))
        return events

    def _parts(self) -> dict[str, RowArrays]:
        return {"devices": self._devices, "filter": self._filter, "times": self._times, "changes": self._changes}

    def _grow(self) -> None:
        for part in self._parts().values():
            if part.capacity < self._devices.capacity:
                part.grow(self._devices.capacity)

    # --- state --------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """The state of every device, as arrays by name, from which ``restore`` goes on to the bit."""
        names = [device for device, _ in self._devices.items()]
        rows = np.array([row for _, row in self._devices.items()], np.int64)
        state: dict[str, Any] = {"smoothing": np.array(self._made_by()), "devices": np.array(names, np.str_)}
        for part_name, part in self._parts().items():
            for name, array in part.snapshot(rows).items():
                state[f"{part_name}.{name}"] = array
        return state

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over a snapshot, into a smoother with the same definition that was fed nothing yet.

        Raises ValueError where the snapshot is of another.
        """
        if len(self._devices):
            raise ValueError("restore: the smoother already has devices")
        if str(state["smoothing"]) != self._made_by():
            raise ValueError(f"restore: the snapshot is of {state['smoothing']}, the smoother is {self._made_by()}")
        names = [str(name) for name in state["devices"]]
        rows = self._devices.rows_of(names, np.ones(len(names)))
        self._grow()
        for part_name, part in self._parts().items():
            part.restore(rows, {name: state[f"{part_name}.{name}"] for name in part.ROW_ARRAYS})

    def _made_by(self) -> str:
        """What a snapshot depends on."""
        made_by = {**self.smoothing.to_dict(), "n_labels": self.n_labels, "longest_step_ns": self._longest_step_ns}
        return json.dumps(made_by)


def _merge(events: dict[int, list[ActivityEvent]], more: dict[int, list[ActivityEvent]]) -> None:
    for row, found in more.items():
        events.setdefault(row, []).extend(found)
