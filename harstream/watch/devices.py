"""State of the devices on a broker, from the messages of devices and daemon."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from harstream.mqtt.connection import Connection
from harstream.mqtt.urls import BrokerSettings
from harstream.watch.view import View
from harstream.wire.decoder import Decoder, Message
from harstream.wire.labels import are_in_a_row
from harstream.wire.payloads import PayloadConfig
from harstream.wire.samples import AUTO, Units
from harstream.wire.topics import TopicTemplate

#: Span over which the sample rate is measured, seconds.
_RATE_S = 5.0
#: A device that sends for so long without any label has a problem: the first window of a shipped model takes 3 to 20 s.
_NO_LABEL_S = 30.0
#: Span of the strip, and the label changes that are kept for it.
STRIP_S = 120.0
_MAX_CHANGES = 100
#: Labels that have a colour of their own.
_MAX_LABELS = 100
#: Number of latencies kept for statistics.
_MAX_LATENCIES = 2_000


class _LabelMessage(msgspec.Struct):
    """Fields of a label message that the table shows."""

    t: float  # event time, seconds since the epoch
    label: str
    confidence: float
    problem: str = ""  # "": none


@dataclass(frozen=True, slots=True)
class Row:
    """Row of the table."""

    device: str
    label: str  # "" before the first label
    confidence: float
    lasts_s: float  # how long the label has lasted, by event time
    rate_hz: float
    latency_s: float  # 0 before the first label
    problem: str  # "": none
    strip: Sequence[tuple[float, str]]  # how many seconds ago each label of the last minutes began, the oldest first
    age_s: float  # since the newest samples


@dataclass(frozen=True, slots=True)
class Overview:
    """Rows in view, and totals."""

    rows: Sequence[Row]
    n_matching: int
    n_devices: int
    n_problems: int
    by_activity: Mapping[str, int]  # devices by label, the most first
    labels_per_s: float
    samples_per_s: float
    latencies_s: Sequence[float]  # of the newest labels
    labels: Sequence[str]  # all labels so far, in the order in which they came


@dataclass(slots=True)
class WatchedDevice:
    """State of one device, as far as its messages tell."""

    label: str = ""  # "" before the first label
    confidence: float = 0.0
    t_s: float = 0.0  # event time of the newest label
    since_s: float = 0.0  # event time of the first of the equal labels in a row, seconds since the epoch
    labels: int = 0  # received, without retained ones
    latency_s: float = 0.0  # from the arrival of the newest samples to the arrival of the last label
    arrival_s: float = 0.0  # of the newest samples, by time.monotonic()
    sending_since_s: float = 0.0  # monotonic time of the first samples after a pause
    label_arrival_s: float = 0.0  # monotonic time of the last label that was not retained
    label_problem: str = ""  # problem in the last label
    rejected: str = ""  # reason why the newest message cannot be decoded; "": it can
    recent: deque[tuple[float, int]] = field(default_factory=deque)  # (arrival, samples) of the last _RATE_S
    changes: deque[tuple[float, str]] = field(default_factory=lambda: deque(maxlen=_MAX_CHANGES))  # (arrival, label)

    def row(self, name: str, now_s: float) -> Row:
        """Return the row of the device, whose name is given."""
        begun = [(now_s - at_s, label) for at_s, label in self.changes]
        first = max((i for i, (ago_s, _) in enumerate(begun) if ago_s > STRIP_S), default=0)
        return Row(
            name,
            self.label,
            self.confidence,
            self.t_s - self.since_s,
            self.rate_hz(now_s),
            self.latency_s,
            self.problem(now_s),
            begun[first:],
            now_s - self.arrival_s,
        )

    def add_samples(self, now_s: float, count: int) -> None:
        """Note the arrival of a message with ``count`` samples."""
        if now_s - self.arrival_s > _NO_LABEL_S:
            self.sending_since_s = now_s
        self.arrival_s, self.rejected = now_s, ""
        self.recent.append((now_s, count))
        self._drop_old(now_s)

    def problem(self, now_s: float) -> str:
        """Return why the device has no label, or a wrong one, as far as messages show it; "" if nothing is wrong."""
        if self.rejected:
            return f"rejected: {self.rejected}"
        is_sending = self.arrival_s > 0 and now_s - self.arrival_s < _NO_LABEL_S
        if is_sending and now_s - max(self.sending_since_s, self.label_arrival_s) > _NO_LABEL_S:
            return "no label"
        return self.label_problem

    def _drop_old(self, now_s: float) -> None:
        while self.recent and self.recent[0][0] < now_s - _RATE_S:
            self.recent.popleft()

    def rate_hz(self, now_s: float) -> float:
        """Return the samples per second of the last ``_RATE_S``; 0 with fewer than two messages."""
        self._drop_old(now_s)
        if len(self.recent) < 2:
            return 0.0
        # The samples of the first message were taken before its arrival, and so before the span.
        return sum(count for _, count in list(self.recent)[1:]) / max(self.recent[-1][0] - self.recent[0][0], 1e-9)


class Watch:
    """State of every device on the broker, from the topics of samples and labels.

    Args:
        settings: How to reach the broker.
        client_id: Prefix of the client identifiers.
        samples: Topics of the samples.
        labels: Topics of the labels.
        payload: Format of the samples; None: each message tells it.

    """

    def __init__(
        self,
        settings: BrokerSettings,
        client_id: str,
        samples: TopicTemplate,
        labels: TopicTemplate,
        payload: PayloadConfig | None = None,
    ) -> None:
        self._labels = labels
        self._decoder = Decoder(samples, needs_gyro=False, units=Units(AUTO), payload=payload)
        self._lock = threading.Lock()
        self.devices: dict[str, WatchedDevice] = {}
        self.latencies_s: deque[float] = deque(maxlen=_MAX_LATENCIES)
        self._seen: dict[str, None] = {}  # labels so far
        self._looks: deque[tuple[float, int, int]] = deque()  # (monotonic, labels, samples) of the last _RATE_S
        self.n_labels = 0
        self.n_samples = 0
        self._connections = [
            Connection(
                settings,
                f"{client_id}-samples",
                subscriptions=[samples.subscription],
                qos=0,
                on_message=self._on_samples,
            ),
            Connection(
                settings,
                f"{client_id}-labels",
                subscriptions=[labels.subscription],
                qos=0,
                retained=True,
                on_message=self._on_label,
            ),
        ]

    def open(self) -> None:
        """Connect and subscribe.

        Raises:
            BrokerError: The broker cannot be reached or refuses a connection.

        """
        for connection in self._connections:
            connection.open()

    def close(self) -> None:
        """Disconnect."""
        for connection in self._connections:
            connection.close()

    def _on_samples(self, topic: str, payload: bytes, retained: bool) -> None:
        if retained:
            return
        batch, rejections = self._decoder.decode([Message(topic, payload, time.time())])
        counts: Counter[str] = Counter()
        for name, count in zip(batch.devices, batch.counts.tolist(), strict=True):
            counts[name] += count
        now_s = time.monotonic()
        with self._lock:
            for name, count in counts.items():
                self.devices.setdefault(name, WatchedDevice()).add_samples(now_s, count)
                self.n_samples += count
            for rejection in rejections:
                if rejection.device:
                    self.devices.setdefault(rejection.device, WatchedDevice()).rejected = rejection.reason

    def _on_label(self, topic: str, payload: bytes, retained: bool) -> None:
        name, now_s = self._labels.device(topic), time.monotonic()
        if name is None:
            return
        with self._lock:
            if not payload:  # the daemon clears the label of an evicted device
                self.devices.pop(name, None)
                return
            try:
                message = msgspec.json.decode(payload, type=_LabelMessage)
            except msgspec.DecodeError:
                return
            device = self.devices.setdefault(name, WatchedDevice())
            if message.label != device.label or not are_in_a_row(device.t_s, message.t):
                if message.label != device.label:
                    device.changes.append((now_s, message.label))
                    if len(self._seen) < _MAX_LABELS:
                        self._seen[message.label] = None
                device.label, device.since_s = message.label, message.t
            device.t_s = message.t
            device.confidence, device.label_problem = message.confidence, message.problem
            if not retained:
                device.label_arrival_s = now_s
                self.n_labels += 1
                device.labels += 1
                if device.arrival_s:
                    device.latency_s = now_s - device.arrival_s
                    self.latencies_s.append(device.latency_s)

    def overview(self, view: View, max_rows: int) -> Overview:
        """Return the rows that a view shows, at most ``max_rows``, and totals of all devices."""
        now_s = time.monotonic()
        with self._lock:
            rows = [device.row(name, now_s) for name, device in self.devices.items()]
            speeds = self._speeds(now_s)
            latencies_s, labels = list(self.latencies_s), list(self._seen)
        matching = [row for row in rows if _matches(row, view)]
        matching.sort(key=lambda row: row.device)
        matching.sort(key=lambda row: _sort_key(row, view.sort), reverse=view.descending)
        return Overview(
            matching[view.offset : view.offset + max_rows],
            len(matching),
            len(rows),
            sum(bool(row.problem) for row in rows),
            dict(Counter(row.label for row in rows if row.label).most_common()),
            *speeds,
            latencies_s,
            labels,
        )

    def _speeds(self, now_s: float) -> tuple[float, float]:
        """Return the labels and the samples a second, since the oldest look that is not older than the span."""
        self._looks.append((now_s, self.n_labels, self.n_samples))
        while len(self._looks) > 2 and self._looks[1][0] <= now_s - _RATE_S:
            self._looks.popleft()
        then_s, labels, samples = self._looks[0]
        if now_s <= then_s:
            return 0.0, 0.0
        return (self.n_labels - labels) / (now_s - then_s), (self.n_samples - samples) / (now_s - then_s)


def _matches(row: Row, view: View) -> bool:
    return (
        view.search.casefold() in row.device.casefold()
        and view.activity in ("", row.label)
        and (bool(row.problem) or not view.only_problems)
    )


def _sort_key(row: Row, sort: str) -> Any:
    """Return what a row is sorted by. Rows without a label or a problem come last."""
    if sort in ("activity", "problem"):
        text = row.label if sort == "activity" else row.problem
        return not text, text
    if sort == "confidence":
        return not row.label, row.confidence
    if sort == "since":
        return not row.label, -row.lasts_s
    if sort == "rate":
        return row.rate_hz
    return row.latency_s if sort == "latency" else row.device
