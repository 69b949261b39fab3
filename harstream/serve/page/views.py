"""Views of one viewer: the overview, or one device. A view sends what has changed since it sent last."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from harstream.serve.devices import Snapshot
from harstream.serve.label_history import LabelHistory
from harstream.serve.page.encoding import RETRY, event
from harstream.serve.page.one_device import WatchedDevice, WatchedDevices
from harstream.serve.page.table import Query, Table
from harstream.serve.page.totals import Totals

#: Time between two messages to a viewer of the overview, and of one device.
OVERVIEW_S, DEVICE_S = 1.0, 0.25
#: Versions that a viewer of the overview may miss, while its last message waits, without getting everything again.
_MAX_MISSED = 10


@dataclass(frozen=True, slots=True)
class Moment:
    """State of the daemon that all views of one moment share."""

    table: Callable[[], Table]
    totals: Totals
    overviews: SharedOverviews
    totals_event: Callable[[], bytes]  # the totals, and what the table tells of all devices, as an event
    number: int  # of the second


class View(Protocol):
    """View of one viewer."""

    every_s: float  # time between two messages

    def compose(self, moment: Moment) -> bytes:
        """Return the next message: one or several server-sent events."""
        ...

    def close(self) -> None:
        """Forget what only this view needed."""
        ...


class SharedOverview:
    """Rows of one query, composed once a second for all viewers that look at them.

    Args:
        query: Devices, order and rows.

    """

    def __init__(self, query: Query) -> None:
        self._query = query
        self._number = -1  # of the second in which it was composed last
        self._order: list[tuple[str, str]] | None = None
        self._rows: list[dict[str, Any]] = []
        self._matching = 0
        self._whole = b""  # the last version without regard to earlier ones; "": not needed so far
        self._changes: deque[bytes] = deque(maxlen=_MAX_MISSED)  # what each of the last versions changed
        self.version = 0

    def compose(self, moment: Moment) -> None:
        """Look at the table, unless that was done in this second."""
        if self._number == moment.number:
            return
        table, query = moment.table(), self._query
        matching = table.select(query)
        positions = matching[query.offset : query.offset + query.limit].tolist()
        order = [table.key(position) for position in positions]
        before = {} if self._order is None else dict(zip(self._order, self._rows, strict=True))
        self._rows = [table.describe(position) for position in positions]
        changed = [_changed(before.get(key, {}), row) for key, row in zip(order, self._rows, strict=True)]
        self._matching = len(matching)
        self._changes.append(self._event(None if order == self._order else order, changed))
        self._order, self._number, self._whole = order, moment.number, b""
        self.version += 1

    def since(self, version: int) -> bytes:
        """Return what has changed since a version; everything if that was 0 or long ago."""
        n_missed = self.version - version
        if version and n_missed <= len(self._changes):
            return b"".join(list(self._changes)[len(self._changes) - n_missed :])
        if not self._whole:
            self._whole = self._event(self._order, self._rows)
        return self._whole

    def _event(self, order: list[tuple[str, str]] | None, rows: list[dict[str, Any]]) -> bytes:
        """Return an event with the fields of ``rows``, and with their order unless it is None."""
        view: dict[str, Any] = {"offset": self._query.offset, "matching": self._matching}
        if order is not None:
            view["order"] = order
        view["rows"] = [[number, fields] for number, fields in enumerate(rows) if fields]
        return event("view", view)


class SharedOverviews:
    """Overviews that somebody looks at, by query. One thread uses it."""

    def __init__(self) -> None:
        self._shared: weakref.WeakValueDictionary[Query, SharedOverview] = weakref.WeakValueDictionary()

    def __len__(self) -> int:
        """Return the number of queries."""
        return len(self._shared)

    def get(self, query: Query) -> SharedOverview:
        """Return the overview of a query. It is forgotten when nobody holds it any more."""
        found = self._shared.get(query)
        if found is None:
            found = self._shared[query] = SharedOverview(query)
        return found


class Overview:
    """Rows of the table that a viewer has in view, and the totals.

    Args:
        query: Devices, order and rows.

    """

    every_s = OVERVIEW_S

    def __init__(self, query: Query) -> None:
        self._query = query
        self._shared: SharedOverview | None = None
        self._version = 0  # as it was sent

    def compose(self, moment: Moment) -> bytes:
        """Return the totals and the changed fields of the rows."""
        first = b""
        if self._shared is None:
            self._shared = moment.overviews.get(self._query)
            first = RETRY + event("trend", moment.totals.trend())
        self._shared.compose(moment)
        changes, self._version = self._shared.since(self._version), self._shared.version
        return first + moment.totals_event() + changes

    def close(self) -> None:
        """Forget the rows if nobody else looks at them."""
        self._shared = None


class DeviceView:
    """Page of one device.

    Args:
        device: Name of the device.
        read: Returns a snapshot of its source, and the history of it.
        watched: Its signal.
        devices: All watched devices.
        settings: What the source is set to, for people.

    """

    every_s = DEVICE_S

    def __init__(
        self,
        device: str,
        read: Callable[[], tuple[Snapshot, LabelHistory | None]],
        watched: WatchedDevice,
        devices: WatchedDevices,
        settings: Mapping[str, Any],
    ) -> None:
        self._device, self._read, self._watched, self._devices = device, read, watched, devices
        self._settings: Mapping[str, Any] | None = settings
        self._begun, self._total = 0, 0  # of the signal, as it was sent
        self._n_windows = 0
        self._sent_at = -1  # number of the moment at which the description was sent
        self._history: tuple[Any, Any] | None = None
        self._daemon: Mapping[str, Any] | None = None

    def compose(self, moment: Moment) -> bytes:
        """Return the new samples and probabilities, and once a second the description of the device."""
        message = RETRY if self._sent_at < 0 else b""
        content: dict[str, Any] = {}
        if self._sent_at != moment.number:
            self._sent_at = moment.number
            snapshot, history = self._read()
            row = snapshot.describe_in_detail(self._device)
            content["time"] = moment.totals.time
            content["device"] = row
            label = snapshot.last_labels.get(self._device)
            content["duration_s"] = None if label is None else round(max(0, label.t_ns - label.since_ns) / 1e9, 1)
            if history is not None:
                changes = history.changes(self._device), history.events(self._device)
                if changes != self._history:
                    self._history = changes
                    content["strip"], content["events"] = changes
            if self._settings is not None:
                content["settings"], self._settings = self._settings, None
        self._n_windows, windows = self._devices.new_windows(self._watched, self._n_windows)
        if windows:
            content["windows"] = windows
        signal = self._watched.signal
        if signal.begun != self._begun or signal.total != self._total:
            begins = signal.begun != self._begun
            n_new = len(signal.values) if begins else min(signal.total - self._total, len(signal.values))
            self._begun, self._total = signal.begun, signal.total
            new = signal.values[len(signal.values) - n_new :].round(3)
            content["signal"] = {"begins": begins, "is_in_g": signal.is_in_g, "values": new.T.tolist()}
        daemon = moment.totals.describe_daemon()
        if daemon != self._daemon:
            self._daemon = daemon
            message += event("daemon", daemon)
        return message + event("device", content) if content else message

    def close(self) -> None:
        """Forget the signal if nobody else looks at it."""
        self._devices.remove(self._watched)


def _changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a row that differ from what was sent."""
    return {name: value for name, value in now.items() if name not in before or before[name] != value}
