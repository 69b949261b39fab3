"""A live table of devices and what they are doing, from what is on the broker."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from harstream.mqtt.connection import Connection
from harstream.mqtt.urls import BrokerSettings
from harstream.wire.payloads import Units, decode
from harstream.wire.reject import Reject
from harstream.wire.topics import TopicTemplate

if TYPE_CHECKING:
    from rich.table import Table

#: Over how long the sample rate is measured.
_RATE_S = 5.0
_LATENCIES = 2_000


class _Label(msgspec.Struct):
    t: float
    label: str
    confidence: float


@dataclass(slots=True)
class DeviceState:
    """What is seen of one device."""

    label: str = ""
    confidence: float = 0.0
    since_s: float = 0.0  # event time of the first label of this run of equal ones
    labels: int = 0
    latency_s: float = 0.0
    arrival_s: float = 0.0  # of its newest samples
    recent: deque[tuple[float, int]] = field(default_factory=deque)  # arrival and count of samples

    def arrived(self, now_s: float, count: int) -> None:
        """Samples have come."""
        self.arrival_s = now_s
        self.recent.append((now_s, count))
        self._forget(now_s)

    def _forget(self, now_s: float) -> None:
        while self.recent and self.recent[0][0] < now_s - _RATE_S:
            self.recent.popleft()

    def rate_hz(self, now_s: float) -> float:
        """Samples per second over the last seconds."""
        self._forget(now_s)
        if len(self.recent) < 2:
            return 0.0
        # The first message's samples were taken before it came.
        return sum(count for _, count in list(self.recent)[1:]) / max(self.recent[-1][0] - self.recent[0][0], 1e-9)


class Watch:
    """Subscribes to samples and labels, and keeps a state per device."""

    def __init__(self, settings: BrokerSettings, client_id: str, samples: TopicTemplate, labels: TopicTemplate) -> None:
        self._samples, self._labels = samples, labels
        self._lock = threading.Lock()
        self.devices: dict[str, DeviceState] = {}
        self.latencies_s: deque[float] = deque(maxlen=_LATENCIES)
        self.n_labels = 0
        self.n_samples = 0
        self._connections = [
            Connection(
                settings, f"{client_id}-samples", subscriptions=[samples.subscription], qos=0, on_message=self._sample
            ),
            Connection(
                settings,
                f"{client_id}-labels",
                subscriptions=[labels.subscription],
                qos=0,
                retained=True,
                on_message=self._label,
            ),
        ]

    def open(self) -> None:
        """Raises BrokerError where the broker is not there or refuses us."""
        for connection in self._connections:
            connection.open()

    def close(self) -> None:
        for connection in self._connections:
            connection.close()

    def _sample(self, topic: str, payload: bytes, retained: bool) -> None:
        device, now = self._samples.device(topic), time.monotonic()
        try:
            count = len(decode(payload, Units()).acc)
        except Reject:
            return
        if device is None or retained:
            return
        with self._lock:
            self.devices.setdefault(device, DeviceState()).arrived(now, count)
            self.n_samples += count

    def _label(self, topic: str, payload: bytes, retained: bool) -> None:
        device, now = self._labels.device(topic), time.monotonic()
        if device is None:
            return
        with self._lock:
            if not payload:  # evicted
                self.devices.pop(device, None)
                return
            try:
                message = msgspec.json.decode(payload, type=_Label)
            except msgspec.DecodeError:
                return
            state = self.devices.setdefault(device, DeviceState())
            if message.label != state.label:
                state.label, state.since_s = message.label, message.t
            state.confidence = message.confidence
            if not retained:
                self.n_labels += 1
                state.labels += 1
                if state.arrival_s:
                    state.latency_s = now - state.arrival_s
                    self.latencies_s.append(state.latency_s)

    def table(self, most: int, footer: str = "") -> Table:
        """Device, activity, confidence, since when, rate, latency; the first ``most`` devices by name."""
        from rich.markup import escape
        from rich.table import Table

        table = Table(title="harstream", caption=footer, expand=False)
        for name, justify in (
            ("device", "left"),
            ("activity", "left"),
            ("confidence", "right"),
            ("since", "right"),
            ("rate", "right"),
            ("latency", "right"),
        ):
            table.add_column(name, justify=justify)  # type: ignore[arg-type]
        now, now_s = time.monotonic(), time.time()
        with self._lock:
            for device in sorted(self.devices)[:most]:
                state = self.devices[device]
                table.add_row(
                    escape(device),
                    f"[bold]{escape(state.label)}[/]" if state.label else "[dim]waiting for a window[/]",
                    f"{state.confidence:.2f}" if state.label else "",
                    _ago(now_s - state.since_s) if state.label else "",
                    f"{state.rate_hz(now):.0f} Hz",
                    f"{1000 * state.latency_s:.1f} ms" if state.latency_s else "",
                )
            if len(self.devices) > most:
                table.add_row(f"[dim]and {len(self.devices) - most} more[/]")
        return table


def _ago(seconds: float) -> str:
    seconds = max(0, round(seconds))
    return f"{seconds} s" if seconds < 60 else f"{seconds // 60} min {seconds % 60:02d} s"
