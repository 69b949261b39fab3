"""Smoothing of the probabilities of successive windows into labels, UNKNOWN, and enter and exit events.

``Smoother`` applies the ``smoothing`` section of a bundle (``smoothing_section``) to many devices. The outputs of a
network are the labels of the bundle, then its states between labels, such as postural transitions. A state is no label:
a window in a state is published as UNKNOWN, and events tell the state.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from harstream.core import posteriors
from harstream.core.batches import Bool, Float32, Float64, Int64, Predictions, WindowBatch
from harstream.core.devices import MIN_CAPACITY, DeviceTable
from harstream.core.events import ActivityEvent, ActivityTracker
from harstream.core.familiar import UnfamiliarDevices
from harstream.core.labels import UNKNOWN_INDEX
from harstream.core.posteriors import HmmFilter
from harstream.core.problems import Problem
from harstream.core.rows import RowArrays, any_true, split_into_rounds
from harstream.core.smoothing_section import Smoothing

#: Windows in a batch up to which they are smoothed one by one. Arrays of a few rows cost as much as those of a hundred,
#: mostly for indexing, which a single row does without.
FEW_WINDOWS = 4


@dataclass(frozen=True, slots=True)
class Labelled:
    """Results of ``Smoother.label``, as they are published. All parts but the events describe the same windows."""

    windows: WindowBatch  # with the problem UNFAMILIAR where it is
    predictions: Predictions  # uniform where the window is untrusted
    smoothed: SmoothedLabels
    events: list[ActivityEvent]  # with a fixed lag, they may belong to earlier windows
    changed: Mapping[str, bool]  # device whose problem UNFAMILIAR began (True) or ended (False) in these windows


@dataclass(frozen=True, slots=True)
class SmoothedLabels:
    """Labels of a WindowBatch after smoothing, as they are published."""

    label: Int64  # (n_windows,) index into the bundle's labels, or UNKNOWN_INDEX
    confidence: Float32  # (n_windows,) posterior of that label; for UNKNOWN the highest probability of a label


class _WindowTimes(RowArrays):
    """Times of the last windows of each row, and how many of these windows still wait for later ones."""

    ROW_ARRAYS = ("start_ns", "end_ns", "untrusted", "n_windows", "n_waiting")

    def __init__(self, lag: int, capacity: int) -> None:
        self.start_ns = np.zeros((capacity, lag + 1), np.int64)  # the newest window last
        self.end_ns = np.zeros((capacity, lag + 1), np.int64)
        self.untrusted = np.zeros((capacity, lag + 1), np.bool_)
        self.n_windows = np.zeros(capacity, np.int64)  # since the last restart; 0: the row was reset
        self.n_waiting = np.zeros(capacity, np.int64)  # of the newest windows, for the fixed-lag smoother


class Smoother:
    """Smoother of many devices: gives each window a label, and reports when a device enters or exits an activity.

    State is kept by row. How windows are divided into batches does not change a label or an event, to the bit.

    A window follows the last one of its device if it ends later, by at most one and a half strides. With any other
    window the device restarts, and its activity ends with the last window. If windows are longer than one and a half
    strides, this happens at every restart of the Engine.

    Args:
        smoothing: Method and parameters.
        n_labels: Number of labels of the bundle.
        stride_s: Time from one window to the next.
        n_states: Number of states of the bundle: the outputs of the network after the labels.

    Raises:
        ConfigError: The transitions of ``smoothing`` are not of as many outputs.

    """

    def __init__(self, smoothing: Smoothing, n_labels: int, stride_s: float, n_states: int = 0) -> None:
        smoothing.check_outputs(n_labels, n_states)
        self.smoothing, self.n_labels, self.n_states = smoothing, n_labels, n_states
        capacity = MIN_CAPACITY
        self._max_step_ns = round(1.5e9 * stride_s)
        self._lag = smoothing.fixed_lag_windows if smoothing.type == "hmm" else 0
        self._devices = DeviceTable(capacity, max_devices=2**62)  # the Engine limits which devices have windows
        self._filter = smoothing.build_filter(n_labels + n_states, stride_s, capacity)
        self._times = _WindowTimes(self._lag, capacity)
        self._activities = ActivityTracker(capacity)
        self._unfamiliar = UnfamiliarDevices(capacity)

    def __len__(self) -> int:
        """Return the number of devices with state."""
        return len(self._devices)

    def label(self, windows: WindowBatch, predictions: Predictions) -> Labelled:
        """Smooth the predictions of the next windows; those of each device are in order of time.

        A window that cannot be trusted is UNKNOWN: its device has a problem in UNTRUSTED, or it is unfamiliar. While
        most windows of a device are unfamiliar, it has the problem UNFAMILIAR and its other windows are UNKNOWN too.
        """
        rows = self._rows_of(windows.devices)
        rounds = split_into_rounds(rows)
        before = self._unfamiliar.problem[rows]
        persists = self._unfamiliar.feed(rows, rounds, predictions.unfamiliar, ~windows.untrusted)
        changed: dict[str, bool] = {}
        if any_true(persists) or any_true(before):  # not the usual case
            windows = replace(windows, problems=windows.problems | np.where(persists, int(Problem.UNFAMILIAR), 0))
            after = self._unfamiliar.problem[rows]
            changed = {windows.devices[i]: bool(after[i]) for i in np.flatnonzero(after != before).tolist()}
        untrusted = windows.untrusted | predictions.unfamiliar
        predictions = predictions.without(untrusted)
        smoothed, events = self._smooth(
            rows, rounds, predictions.probabilities, windows.start_ns, windows.end_ns, untrusted
        )
        return Labelled(windows, predictions, smoothed, events, changed)

    def forget_unfamiliar(self, devices: Sequence[str] | None = None) -> list[str]:
        """Judge devices anew, such as for another model, and return those of them that had the problem UNFAMILIAR.

        ``devices`` may name devices without state; None: all devices.
        """
        rows = self._devices.find([name for name, _ in self._devices.items()] if devices is None else devices)
        rows = rows[rows >= 0]
        had = [self._devices.device(row) for row in rows[self._unfamiliar.problem[rows]].tolist()]
        self._unfamiliar.reset(rows)
        return had

    def unfamiliar_devices(self) -> list[str]:
        """Return the devices that have the problem UNFAMILIAR."""
        return [name for name, row in self._devices.items() if self._unfamiliar.problem[row]]

    def adopt_unfamiliar(self, other: Smoother) -> None:
        """Judge the devices of another smoother as it does, by the windows that it has seen."""
        devices = [name for name, _ in other._devices.items()]
        self._unfamiliar.copy_rows(self._rows_of(devices), other._unfamiliar, other._devices.find(devices))

    def feed(
        self,
        devices: Sequence[str],
        probabilities: Float32,
        start_ns: Int64,
        end_ns: Int64,
        untrusted: Bool | None = None,
    ) -> tuple[SmoothedLabels, list[ActivityEvent]]:
        """Smooth the next windows.

        Args:
            devices: (n_windows,) device ids; the windows of each device are in order of time.
            probabilities: (n_windows, n_labels + n_states) output of the network.
            start_ns: (n_windows,) event time of the start of each window.
            end_ns: (n_windows,) event time of its end.
            untrusted: (n_windows,) True: the label is UNKNOWN, whatever the probabilities; let them be uniform, as
                ``Predictions.without`` makes them. None: no window is untrusted.

        Returns:
            The labels of these windows, and the events that they cause, in the order of the windows. With a fixed lag,
            the events may belong to earlier windows.

        """
        rows = self._rows_of(devices)
        if untrusted is None:
            untrusted = np.zeros(len(rows), np.bool_)
        return self._smooth(rows, split_into_rounds(rows), probabilities, start_ns, end_ns, untrusted)

    def _smooth(
        self,
        rows: Int64,
        rounds: Sequence[Int64],
        probabilities: Float32,
        start_ns: Int64,
        end_ns: Int64,
        untrusted: Bool,
    ) -> tuple[SmoothedLabels, list[ActivityEvent]]:
        """Smooth the next windows of ``rows``, as ``feed`` describes it."""
        states = probabilities.astype(np.float64)
        if self.smoothing.unknown_below > 0:
            states = posteriors.probabilities_with_unknown(states, self.smoothing.unknown_below)
        label, confidence = np.empty(len(rows), np.int64), np.empty(len(rows), np.float32)
        events: dict[int, list[ActivityEvent]] = {}
        if len(rows) <= FEW_WINDOWS:
            rounds = [np.array([i]) for i in range(len(rows))]
        for index in rounds:
            if len(index) == 1:
                i = index.item()
                step = self._step_row(
                    rows.item(i), states[i], start_ns.item(i), end_ns.item(i), untrusted=untrusted.item(i)
                )
                if step is not None:
                    label[i], confidence[i], events[i] = step
                    continue
            row = rows[index]
            label[index], confidence[index], by_row = self._step(
                row, states[index], start_ns[index], end_ns[index], untrusted[index]
            )
            if by_row:
                events |= {int(i): by_row[int(r)] for i, r in zip(index, row, strict=True) if int(r) in by_row}
        abstained = label == UNKNOWN_INDEX
        if any_true(abstained):
            confidence[abstained] = probabilities[abstained, : self.n_labels].max(axis=1)
        return SmoothedLabels(label, confidence), [event for i in sorted(events) for event in events[i]]

    def evict(self, devices: Sequence[str]) -> list[ActivityEvent]:
        """Forget these devices (each once; others are ignored) and return their exits, at the ends of their windows."""
        present = {device for device, _ in self._devices.items()}
        evicted = [device for device in devices if device in present]
        rows = self._devices.find_or_add(evicted, np.ones(len(evicted)))
        events = self._end_activities(rows)
        self._devices.last_accepted_s[rows] = 0.0
        self._devices.evict(1.0)
        self._times.n_windows[rows] = 0
        self._unfamiliar.reset(rows)
        self._devices.compact(self._parts().values())
        return [event for row in rows.tolist() for event in events.get(row, [])]

    def flush(self) -> list[ActivityEvent]:
        """Return the events of all windows that wait for later ones, without waiting longer. No activity ends."""
        rows = np.array([row for _, row in self._devices.items()], np.int64)
        events = self._track_waiting(rows)
        return [event for row in rows.tolist() for event in events.get(row, [])]

    # --- one window of one row ----------------------------------------------------------------

    def _step_row(
        self, row: int, states: Float64, start_ns: int, end_ns: int, *, untrusted: bool
    ) -> tuple[int, float, list[ActivityEvent]] | None:
        """Smooth the next window of a row as ``_step`` does, to the bit, if it follows the last one.

        Returns:
            Its label, the posterior of that label, and the events; None if the row restarts. Nothing is changed then.

        """
        times = self._times
        if not times.n_windows.item(row) or not 0 < end_ns - times.end_ns.item(row, -1) <= self._max_step_ns:
            return None
        times.n_windows[row] += 1
        for history, newest in (
            (times.start_ns[row], start_ns),
            (times.end_ns[row], end_ns),
            (times.untrusted[row], untrusted),
        ):
            history[:-1] = history[1:]
            history[-1] = newest
        state, posterior = self._filter.feed_row(row, states)
        activity = self._activity_of_row(state, untrusted=untrusted)
        if not self._lag:
            events = self._activities.feed_row(row, activity, posterior, start_ns, end_ns, self._devices.device)
        else:
            times.n_waiting[row] += 1
            events = self._track_row(row) if times.n_waiting.item(row) > self._lag else []
        return activity if activity < self.n_labels else UNKNOWN_INDEX, posterior, events

    def _activity_of_row(self, state: int, *, untrusted: bool) -> int:
        return UNKNOWN_INDEX if untrusted or state == self.n_labels + self.n_states else state

    def _track_row(self, row: int) -> list[ActivityEvent]:
        """Return the events of the oldest window of a row that waits, as ``_track`` does."""
        assert isinstance(self._filter, HmmFilter)
        times, at = self._times, -1 - self._lag
        times.n_waiting[row] -= 1
        state, posterior = self._filter.smooth_row(row, self._lag)
        activity = self._activity_of_row(state, untrusted=times.untrusted.item(row, at))
        start_ns, end_ns = times.start_ns.item(row, at), times.end_ns.item(row, at)
        return self._activities.feed_row(row, activity, posterior, start_ns, end_ns, self._devices.device)

    # --- one window of each of several rows ---------------------------------------------------

    def _step(
        self, rows: Int64, states: Float64, start_ns: Int64, end_ns: Int64, untrusted: Bool
    ) -> tuple[Int64, Float64, dict[int, list[ActivityEvent]]]:
        """Smooth the next window of each row; return its label, the posterior of that label, and the events by row."""
        times = self._times
        step_ns = end_ns - times.end_ns[rows, -1]
        restart = (step_ns <= 0) | (step_ns > self._max_step_ns) | (times.n_windows[rows] == 0)
        ended = rows[restart & (times.n_windows[rows] > 0)]
        events = self._end_activities(ended) if len(ended) else {}
        times.n_windows[rows] = np.where(restart, 0, times.n_windows[rows]) + 1
        for history, newest in (
            (times.start_ns, start_ns),
            (times.end_ns, end_ns),
            (times.untrusted, untrusted),
        ):
            history[rows, :-1] = history[rows, 1:]
            history[rows, -1] = newest
        state, posterior = self._filter.feed(rows, restart, states)
        activity = self._activity_of(state, untrusted)
        if not self._lag:
            _merge(events, self._activities.feed(rows, activity, posterior, start_ns, end_ns, self._devices.device))
        else:
            times.n_waiting[rows] += 1
            _merge(events, self._track(rows[times.n_waiting[rows] > self._lag], self._lag))
        return np.where(activity >= self.n_labels, UNKNOWN_INDEX, activity), posterior, events

    def _activity_of(self, state: Int64, untrusted: Bool) -> Int64:
        """Return the output that each state of the filter stands for: the state after the last output is UNKNOWN."""
        return np.where(untrusted | (state == self.n_labels + self.n_states), UNKNOWN_INDEX, state)

    def _track(self, rows: Int64, ago: int) -> dict[int, list[ActivityEvent]]:
        """Return the events of the window ``ago`` before the newest, smoothed by the windows after it."""
        if not len(rows):
            return {}
        assert isinstance(self._filter, HmmFilter)
        self._times.n_waiting[rows] -= 1
        state, posterior = self._filter.smooth(rows, ago)
        start_ns, end_ns = self._times.start_ns[rows, -1 - ago], self._times.end_ns[rows, -1 - ago]
        activity = self._activity_of(state, self._times.untrusted[rows, -1 - ago])
        return self._activities.feed(rows, activity, posterior, start_ns, end_ns, self._devices.device)

    def _track_waiting(self, rows: Int64) -> dict[int, list[ActivityEvent]]:
        """Return the events of all windows of ``rows`` that wait for later ones."""
        events: dict[int, list[ActivityEvent]] = {}
        for ago in range(self._lag - 1, -1, -1):
            _merge(events, self._track(rows[self._times.n_waiting[rows] > ago], ago))
        return events

    def _end_activities(self, rows: Int64) -> dict[int, list[ActivityEvent]]:
        """Return the events of the waiting windows and the exits of ``rows``, which have no further windows."""
        events = self._track_waiting(rows)
        _merge(events, self._activities.end(rows, self._devices.device))
        return events

    def _parts(self) -> dict[str, RowArrays]:
        return {
            "devices": self._devices,
            "filter": self._filter,
            "times": self._times,
            "activities": self._activities,
            "unfamiliar": self._unfamiliar,
        }

    def _rows_of(self, devices: Sequence[str]) -> Int64:
        rows = self._devices.find_or_add(devices, np.ones(len(devices)))
        self._grow()
        return rows

    def _grow(self) -> None:
        if self._times.capacity == self._devices.capacity:  # the usual case; all parts grow together
            return
        for part in self._parts().values():
            if part.capacity < self._devices.capacity:
                part.grow(self._devices.capacity)

    # --- state --------------------------------------------------------------------------------

    def snapshot(self, devices: Sequence[str] | None = None) -> dict[str, Any]:
        """Return the state of devices as arrays by name. A smoother restored from it continues to the bit.

        Args:
            devices: Device ids, each once; those without state are left out. None: every device.

        """
        devices, rows = self._devices.select(devices)
        state: dict[str, Any] = {"smoothing": np.array(self._definition()), "devices": np.array(devices, np.str_)}
        for part_name, part in self._parts().items():
            for name, array in part.snapshot(rows).items():
                state[f"{part_name}.{name}"] = array
        return state

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over a snapshot.

        Raises:
            ValueError: This smoother already has devices, or the snapshot is of a smoother with another definition.

        """
        if len(self._devices):
            raise ValueError("restore: this smoother already has devices; restore into a new one")
        if str(state["smoothing"]) != self._definition():
            raise ValueError(
                f"restore: the snapshot is of {state['smoothing']}, but this smoother is {self._definition()}; "
                "discard the snapshot, or use the bundle that it was made with"
            )
        devices = [str(device) for device in state["devices"]]
        rows = self._devices.find_or_add(devices, np.ones(len(devices)))
        self._grow()
        for part_name, part in self._parts().items():
            part.restore(rows, {name: state[f"{part_name}.{name}"] for name in part.ROW_ARRAYS})

    def adopt(self, other: Smoother) -> None:
        """Take over the devices of another smoother, which continue here to the bit.

        Raises:
            ValueError: The other smoother has another definition.

        """
        if other._definition() != self._definition():
            raise ValueError(f"adopt: the other smoother is {other._definition()}, but this one {self._definition()}")
        devices, other_rows = other._devices.select(None)
        rows, others = self._rows_of(devices), other._parts()
        for name, part in self._parts().items():
            part.copy_rows(rows, others[name], other_rows)

    def _definition(self) -> str:
        """Return everything that the state of this smoother depends on, as JSON."""
        numbers = {"n_labels": self.n_labels, "n_states": self.n_states, "max_step_ns": self._max_step_ns}
        return json.dumps({**self.smoothing.to_dict(), **numbers})


def _merge(events: dict[int, list[ActivityEvent]], more: dict[int, list[ActivityEvent]]) -> None:
    for row, later in more.items():
        events.setdefault(row, []).extend(later)
