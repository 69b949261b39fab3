"""Label changes and events of each device during the last hour, for the live page.

Both are kept as bytes that are replaced, never changed, so that other threads may read them at any time. A device that
changes its label once a minute takes some 400 bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from harstream.core.events import ENTER, ActivityEvent

#: Age from which on a change is forgotten.
SPAN_S = 3600.0
#: Changes and events kept of a device; the oldest go first.
MAX_CHANGES, MAX_EVENTS = 400, 64
#: Age up to which the time of an event is believed. The clock of a device may be far off; its arrival counts then.
_BELIEVED_S = 600.0
_TICKS_PER_S = 10.0

_CHANGE = struct.Struct("<IH")  # tenths of a second since the start of the history, index of the label
_EVENT = struct.Struct("<IHBBI")  # the same, index of the output, enter, 200 * confidence, tenths of a second


class Change(NamedTuple):
    """Beginning of a label."""

    t_s: float  # arrival of the first window with it, seconds since the epoch
    label: str  # "": no label from then on


class Event(NamedTuple):
    """Start or end of an activity."""

    t_s: float  # seconds since the epoch
    kind: str  # enter or exit
    label: str
    confidence: float
    duration_s: float  # of the activity, at its end; else 0


class LabelHistory:
    """Label changes and events of the devices of one source.

    The labelling thread writes. Any thread may read.

    Args:
        clock: Returns seconds since the epoch.

    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._start_s = clock() - SPAN_S  # so that a pause that began before the start has a time too
        self._names: list[str] = [""]  # by index; names are only added
        self._index: dict[str, int] = {"": 0}
        self._changes: dict[str, bytes] = {}
        self._events: dict[str, bytes] = {}

    # --- labelling thread ---------------------------------------------------------------------

    def begin(self, device: str, label: str, paused_s: float = 0.0) -> None:
        """Note that a label begins now, after a pause of ``paused_s`` without labels."""
        now_s = self._clock()
        added = _CHANGE.pack(self._ticks(now_s), self._index_of(label))
        if 0 < paused_s < SPAN_S:
            added = _CHANGE.pack(self._ticks(now_s - paused_s), 0) + added
        kept = self._changes.get(device, b"")
        oldest = self._ticks(now_s - SPAN_S)
        first = max(0, len(kept) // _CHANGE.size + 1 - MAX_CHANGES)
        # The last change before the span stays: its label reaches into the span.
        while (first + 2) * _CHANGE.size <= len(kept) and _CHANGE.unpack_from(kept, (first + 1) * _CHANGE.size)[
            0
        ] < oldest:
            first += 1
        self._changes[device] = kept[first * _CHANGE.size :] + added

    def add_events(self, events: Iterable[ActivityEvent], outputs: Sequence[str]) -> None:
        """Note events, whose labels are indices into ``outputs``."""
        now_s = self._clock()
        for event in events:
            t_s = event.t_ns / 1e9
            packed = _EVENT.pack(
                self._ticks(t_s if abs(now_s - t_s) < _BELIEVED_S else now_s),
                self._index_of(outputs[event.label]),
                event.kind == ENTER,
                min(max(round(200 * event.confidence), 0), 200),
                min(max(round(event.duration_s * _TICKS_PER_S), 0), 2**32 - 1),
            )
            self._events[event.device] = (self._events.get(event.device, b"") + packed)[-MAX_EVENTS * _EVENT.size :]

    def remove(self, devices: Iterable[str]) -> None:
        """Forget devices."""
        for device in devices:
            self._changes.pop(device, None)
            self._events.pop(device, None)

    def _ticks(self, t_s: float) -> int:
        return min(max(round((t_s - self._start_s) * _TICKS_PER_S), 0), 2**32 - 1)

    def _index_of(self, name: str) -> int:
        index = self._index.get(name)
        if index is None:
            index = self._index[name] = min(len(self._names), 2**16 - 1)
            self._names.append(name)
        return index

    # --- any thread ---------------------------------------------------------------------------

    def raw(self, device: str) -> bytes:
        """Return the changes of a device as they are kept, to see whether there are new ones."""
        return self._changes.get(device, b"")

    def changes(self, device: str, span_s: float = SPAN_S) -> list[Change]:
        """Return the changes within ``span_s`` and the last one before, the oldest first."""
        since_s = self._clock() - span_s
        found = [
            Change(round(self._start_s + ticks / _TICKS_PER_S, 1), self._names[index])
            for ticks, index in _CHANGE.iter_unpack(self._changes.get(device, b""))
        ]
        first = max((i for i, change in enumerate(found) if change.t_s < since_s), default=0)
        return found[first:]

    def events(self, device: str) -> list[Event]:
        """Return the events of a device, the oldest first."""
        return [
            Event(
                round(self._start_s + ticks / _TICKS_PER_S, 1),
                "enter" if enters else "exit",
                self._names[index],
                confidence / 200,
                duration / _TICKS_PER_S,
            )
            for ticks, index, enters, confidence, duration in _EVENT.iter_unpack(self._events.get(device, b""))
        ]
