"""What the daemon tells Prometheus. Every label value exists at 0 from the start; no device is ever one."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt
from prometheus_client import CollectorRegistry, Info, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from harstream import __version__
from harstream.bundle import Bundle
from harstream.wire.reject import REASONS

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_LAG_SECONDS = (*SECONDS, 30.0, 60.0, 300.0, 3600.0)
_BATCH = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048)
#: Calls of a histogram that wait to be sorted: a second's worth or so.
_MOST_WAITING = 256
_CONFIDENCE = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)


class Tally(Collector):
    """A counter or gauge that costs the loop an addition: what Prometheus wants is made when it asks.

    Each label value of it has one writer. With ``watch`` the numbers are read where they are kept anyway.
    """

    def __init__(
        self,
        family: type[CounterMetricFamily] | type[GaugeMetricFamily],
        name: str,
        help_text: str,
        registry: CollectorRegistry,
        label: str = "",
        label_values: Sequence[str] = ("",),
    ) -> None:
        self._family, self._name, self._help, self._label = family, name, help_text, label
        self._values: dict[str, float] = dict.fromkeys(label_values, 0)
        self._watched: dict[str, Callable[[], float]] = {}
        registry.register(self)

    def add(self, number: float = 1, label_value: str = "") -> None:
        self._values[label_value] += number

    def set(self, number: float) -> None:
        self._values[""] = number

    def know(self, label_values: Iterable[str]) -> None:
        """These exist from now on too."""
        self._values = dict.fromkeys(label_values, 0) | self._values

    def watch(self, read: Callable[[], float], label_value: str = "") -> None:
        self._watched[label_value] = read

    def collect(self) -> Iterable[CounterMetricFamily | GaugeMetricFamily]:
        family = self._family(self._name, self._help, labels=[self._label] if self._label else [])
        for value, number in self._values.items():
            watched = self._watched.get(value)
            family.add_metric([value] if self._label else [], number if watched is None else watched())
        yield family


class ArrayHistogram(Collector):
    """A histogram of many observations in one call, sorted into buckets when somebody asks or when many wait."""

    def __init__(
        self,
        name: str,
        help_text: str,
        buckets: Sequence[float],
        registry: CollectorRegistry,
        label: str = "",
        label_values: Sequence[str] = ("",),
    ) -> None:
        self._name, self._help, self._label = name, help_text, label
        self._label_values = list(label_values)
        self._buckets = np.asarray(buckets, np.float64)
        self._counts = np.zeros((len(self._label_values), len(buckets) + 1), np.int64)
        self._sums = np.zeros(len(self._label_values))
        self._waiting: deque[tuple[npt.ArrayLike, npt.ArrayLike]] = deque()
        self._sorting = threading.Lock()
        registry.register(self)

    def know(self, label_values: Sequence[str]) -> npt.NDArray[np.int64]:
        """The indices of these label values, which exist from now on if they did not."""
        with self._sorting:
            new = [value for value in label_values if value not in self._label_values]
            self._counts = np.concatenate([self._counts, np.zeros((len(new), self._counts.shape[1]), np.int64)])
            self._sums = np.concatenate([self._sums, np.zeros(len(new))])
            self._label_values = [*self._label_values, *new]
            return np.array([self._label_values.index(value) for value in label_values], np.int64)

    def observe(self, values: npt.ArrayLike, which: npt.ArrayLike = 0) -> None:
        """Count ``values``, each under the label value with index ``which``. They are kept, not copied."""
        self._waiting.append((values, which))
        if len(self._waiting) >= _MOST_WAITING:
            self._sort()

    def _sort(self) -> None:
        with self._sorting:
            waiting = [self._waiting.popleft() for _ in range(len(self._waiting))]  # others may follow meanwhile
            if not waiting:
                return
            arrays = [np.atleast_1d(np.asarray(values, np.float64)) for values, _ in waiting]
            indices = [
                np.broadcast_to(np.asarray(which, np.int64), array.shape)
                for array, (_, which) in zip(arrays, waiting, strict=True)
            ]
            array, index = np.concatenate(arrays), np.concatenate(indices)
            slots = index * (len(self._buckets) + 1) + np.searchsorted(self._buckets, array)
            self._counts += np.bincount(slots, minlength=self._counts.size).reshape(self._counts.shape)
            self._sums += np.bincount(index, array, minlength=len(self._sums))

    def collect(self) -> Iterable[HistogramMetricFamily]:
        self._sort()
        family = HistogramMetricFamily(self._name, self._help, labels=[self._label] if self._label else [])
        bounds = [*(f"{bound:g}" for bound in self._buckets), "+Inf"]
        with self._sorting:
            rows = list(zip(self._label_values, self._counts, self._sums, strict=True))
        for value, counts, total in rows:
            cumulative = list(zip(bounds, np.cumsum(counts).tolist(), strict=True))
            family.add_metric([value] if self._label else [], cumulative, float(total))
        yield family


class Metrics:
    """The registry and everything in it, by the name it has there less ``harstream_``."""

    def __init__(self, bundle: Bundle, backend: str, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry(auto_describe=False)
        labels = bundle.published_labels

        def counter(name: str, text: str, label: str = "", values: Sequence[str] = ("",)) -> Tally:
            return Tally(CounterMetricFamily, f"harstream_{name}", text, self.registry, label, values)

        def gauge(name: str, text: str, label: str = "", values: Sequence[str] = ("",)) -> Tally:
            return Tally(GaugeMetricFamily, f"harstream_{name}", text, self.registry, label, values)

        def histogram(name: str, text: str, buckets: Sequence[float] = SECONDS) -> ArrayHistogram:
            return ArrayHistogram(f"harstream_{name}", text, buckets, self.registry)

        self.messages_received = counter("messages_received", "Messages taken from the inbox")
        self.messages_rejected = counter("messages_rejected", "Malformed messages, by reason", "reason", [*REASONS])
        self.messages_dropped = counter(
            "messages_dropped", "Messages shed unread, by reason: inbox (full, the oldest went)", "reason", ["inbox"]
        )
        self.samples_received = counter("samples_received", "Samples in well-formed messages")
        self.samples_dropped = counter(
            "samples_dropped",
            "Valid samples not used, by reason: late (not newer than the newest accepted), "
            "rate (cannot be resampled), devices (max-devices reached)",
            "reason",
            ["late", "rate", "devices"],
        )
        self.gaps = counter("gaps", "Gaps in the samples of a device, bridged or not")
        self.rates_measured = counter(
            "rates_measured",
            "Times a device was found to send at another rate than it said, by the spacing of messages",
        )
        self.windows_classified = counter(
            "windows_classified", "Windows classified, by the label published; UNKNOWN is one", "label", labels
        )
        self.windows_dropped = counter(
            "windows_dropped",
            "Classified windows whose label was not published, by reason: outgoing (too many await the broker)",
            "reason",
            ["outgoing"],
        )
        self.events_dropped = counter(
            "events_dropped",
            "Events not published, by reason: outgoing (too many await the broker)",
            "reason",
            ["outgoing"],
        )
        self.inference_duration = histogram("inference_duration_seconds", "Time to classify a batch of windows")
        self.inference_batch_size = histogram("inference_batch_size", "Windows in a batch", _BATCH)
        self.queue_wait = histogram("queue_wait_seconds", "Time a message waited in the inbox")
        self.latency = histogram("latency_seconds", "Arrival of a window's last sample to publication")
        self.lag = histogram("lag_seconds", "Event time of a message's last sample to its arrival", _LAG_SECONDS)
        self.confidence = ArrayHistogram(
            "harstream_confidence", "Confidence of published labels", _CONFIDENCE, self.registry, "label", labels
        )
        self.inbox_messages = gauge("inbox_messages", "Messages waiting in the inbox")
        self.devices = gauge("devices", "Devices with state")
        self.mqtt_connected = gauge("mqtt_connected", "1 while connected and subscribed")
        self.mqtt_reconnects = counter("mqtt_reconnects", "Connections after the first")
        self.last_message_timestamp = gauge("last_message_timestamp_seconds", "Arrival of the newest message")
        self.activity_changes = counter(
            "activity_changes", "Changes of a device's label, by new label", "label", labels
        )
        self.devices_by_activity = gauge("devices_by_activity", "Devices by their last label", "label", labels)
        self.reloads = counter(
            "reloads", "Settings and model read again, by result: done, or refused", "result", ["done", "refused"]
        )
        self._model = Info("harstream_model", "The model served", registry=self.registry)
        self._model.info({"model": bundle.id, "backend": backend})
        Info("harstream_build", "This program", registry=self.registry).info({"version": __version__})
        ProcessCollector(registry=self.registry)

    def serve(self, bundle: Bundle, backend: str) -> None:
        """Another model from now on; what was counted of the labels of the one before stays."""
        labels = bundle.published_labels
        for tally in (self.windows_classified, self.activity_changes, self.devices_by_activity):
            tally.know(labels)
        self.confidence.know(labels)
        self._model.info({"model": bundle.id, "backend": backend})

    def expose(self) -> bytes:
        """The text format that Prometheus scrapes."""
        return generate_latest(self.registry)
