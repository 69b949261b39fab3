"""Live table of the devices on a broker and their activities, made from the messages of devices and daemon."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from harstream.mqtt.connection import Connection
from harstream.mqtt.urls import BrokerSettings
from harstream.wire.decoder import Decoder, Message
from harstream.wire.labels import are_in_a_row
from harstream.wire.payloads import PayloadConfig
from harstream.wire.samples import AUTO, Units
from harstream.wire.topics import TopicTemplate, escape_unprintable

if TYPE_CHECKING:
    from rich.table import Table

#: Span over which the sample rate is measured, seconds.
_RATE_S = 5.0
#: A device that sends for so long without any label has a problem: the first window of a shipped model takes 3 to 20 s.
_NO_LABEL_S = 30.0
#: Number of latencies kept for statistics.
_MAX_LATENCIES = 2_000


class _LabelMessage(msgspec.Struct):
    """Fields of a label message that the table shows."""

    t: float  # event time, seconds since the epoch
    label: str
    confidence: float
    problem: str = ""  # "": none


@dataclass(slots=True)
class WatchedDevice:
    """Row of the table."""

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

    def table(self, max_rows: int, footer: str = "") -> Table:
        """Return a table of the first ``max_rows`` devices, sorted by name."""
        from rich import box
        from rich.table import Table

        # Narrow columns: a row with the longest label and a problem fits a terminal of 80 characters.
        table = Table(title="harstream", caption=footer, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for heading, justify in (
            ("device", "left"),
            ("activity", "left"),
            ("conf.", "right"),
            ("since", "right"),
            ("rate", "right"),
            ("latency", "right"),
            ("problem", "left"),
        ):
            table.add_column(heading, justify=justify, no_wrap=heading != "problem")  # type: ignore[arg-type]
        monotonic_s = time.monotonic()
        with self._lock:
            for name in sorted(self.devices)[:max_rows]:
                device = self.devices[name]
                problem = device.problem(monotonic_s)
                waiting = "[dim]none[/]" if problem else "[dim]none yet[/]"
                table.add_row(
                    _safe(name),
                    f"[bold]{_safe(device.label)}[/]" if device.label else waiting,
                    f"{device.confidence:.2f}" if device.label else "",
                    _duration(device.t_s - device.since_s) if device.label else "",
                    f"{device.rate_hz(monotonic_s):.0f} Hz",
                    f"{1000 * device.latency_s:.1f} ms" if device.latency_s else "",
                    f"[red]{_safe(problem)}[/]" if problem else "",
                )
            if len(self.devices) > max_rows:
                table.add_row(f"[dim]and {len(self.devices) - max_rows} more[/]")
        return table


def _safe(text: str) -> str:
    """Return a text from a device as markup that shows it and does nothing else."""
    from rich.markup import escape

    return escape(escape_unprintable(text))


def _duration(seconds: float) -> str:
    """Return a duration as minutes:seconds, as hours:minutes:seconds, or in days: clocks of devices can be far off."""
    minutes, seconds = divmod(max(0, round(seconds)), 60)
    if minutes >= 24 * 60:
        return f"{min(minutes // (24 * 60), 99_999)} d"
    return f"{minutes}:{seconds:02d}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"
