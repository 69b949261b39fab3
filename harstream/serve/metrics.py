"""Prometheus metrics of the daemon.

Every label value exists with 0 from the start, so that a rate can be computed from the first event on. What belongs to
one source has the label ``source``, whose values are those of the settings; a daemon whose settings name no source has
series without it. The name of a device is never a label value.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np
from prometheus_client import (
    CONTENT_TYPE_PLAIN_0_0_4,
    CollectorRegistry,
    Counter,
    Gauge,
    Info,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from harstream import __version__
from harstream.bundle import Bundle
from harstream.core.batches import Float64, Int64, SampleBatch
from harstream.core.problems import Problem
from harstream.core.smoothing import SmoothedLabels
from harstream.serve.histogram import ArrayHistogram
from harstream.serve.refusals import EVENTS, KINDS, LABELS
from harstream.serve.status import DaemonStatus, SourceStatus
from harstream.wire.reject import REASONS, Rejection

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
_Family = TypeVar("_Family", CounterMetricFamily, GaugeMetricFamily)

#: Upper bounds of histogram buckets.
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
#: Messages that gather wait for 0.1 s. Without a bound just above, their latency would look like one of nearly 0.25 s.
LATENCY_SECONDS = (*SECONDS[:8], 0.125, *SECONDS[8:])
_LAG_SECONDS = (*SECONDS, 30.0, 60.0, 300.0, 3600.0)
_BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048)
_CONFIDENCES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)


class DaemonMetrics:
    """Registry of the daemon's metrics, with one method for each stage that observes them.

    Numbers that the daemon keeps anyway are not counted again: each scrape reads them from a status snapshot.

    Args:
        sources: Names of the sources.
        read_status: Returns a status snapshot.
        named: Whether the settings name the sources, so that series have the label ``source``.

    """

    def __init__(self, sources: Sequence[str], read_status: Callable[[], DaemonStatus], *, named: bool = True) -> None:
        # A time of creation for each series would double their number.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry(auto_describe=False) if named else _Unnamed(auto_describe=False)
        self.registry.register(_StatusCollector(read_status))

        def counter(name: str, help_text: str, **values: Iterable[str]) -> Counter:
            """Return a counter with these labels and all combinations of their values."""
            metric = Counter(f"harstream_{name}", help_text, list(values), registry=self.registry)
            for combination in itertools.product(*values.values()) if values else ():
                metric.labels(*combination)
            return metric

        def histogram(name: str, help_text: str, buckets: Sequence[float] = SECONDS) -> ArrayHistogram:
            return ArrayHistogram(f"harstream_{name}", help_text, buckets, self.registry)

        self._messages_rejected = counter(
            "messages_rejected", "Malformed messages, by reason", source=sources, reason=REASONS
        )
        self._last_message_timestamp = Gauge(
            "harstream_last_message_timestamp_seconds",
            "Arrival time of the newest message",
            ["source"],
            registry=self.registry,
        )
        for source in sources:
            self._last_message_timestamp.labels(source)
        self._queue_wait = histogram(
            "queue_wait_seconds",
            "Time that a message waited in the inbox for the main loop, not for others with which it was taken",
        )
        self._lag = ArrayHistogram(
            "harstream_lag_seconds",
            "Time from the event time of a message's last sample to its arrival",
            _LAG_SECONDS,
            self.registry,
            ["source"],
            [(source,) for source in sources],
        )
        self._lag_rows = {source: row for row, source in enumerate(sources)}
        self._inference_duration = histogram("inference_duration_seconds", "Time to classify a batch of windows")
        self._inference_batch_size = histogram("inference_batch_size", "Windows in a batch", _BATCH_SIZES)
        self._latency = histogram(
            "latency_seconds",
            "Time from the arrival of a window's last sample to the publication of its label",
            LATENCY_SECONDS,
        )
        self._windows_classified = counter(
            "windows_classified", "Classified windows, by published label; UNKNOWN is one", source=(), label=()
        )
        self._windows_dropped = counter(
            "windows_dropped",
            "Classified windows whose label was not published, by reason: outgoing (too many wait for the broker), "
            "refused (the broker does not accept them)",
            reason=["outgoing", "refused"],
        )
        self._confidence = ArrayHistogram(
            "harstream_confidence",
            "Confidence of published labels",
            _CONFIDENCES,
            self.registry,
            ["source", "label"],
            (),
        )
        self._activity_changes = counter(
            "activity_changes", "Changes of a device's label, by new label", source=(), label=()
        )
        self._events_dropped = counter(
            "events_dropped",
            "Events that were not published, by reason: outgoing (too many wait for the broker), "
            "refused (the broker does not accept them)",
            reason=["outgoing", "refused"],
        )
        self._mqtt_reconnects = counter("mqtt_reconnects", "Connections to the broker after the first")
        self._mqtt_silences = counter(
            "mqtt_silences",
            "Times that topics of samples fell silent, by what was done: subscribed (to them again), reconnected",
            action=["subscribed", "reconnected"],
        )
        self._reloads = counter(
            "reloads",
            "Reloads of settings and model, by result: done, refused",
            result=["done", "refused"],
        )
        # Source and published labels to their rows in the histogram.
        self._confidence_rows: dict[tuple[str, tuple[str, ...]], Int64] = {}
        self._model = Info("harstream_model", "The model in use", ["source"], registry=self.registry)
        Info("harstream_build", "The running program", registry=self.registry).info({"version": __version__})
        ProcessCollector(registry=self.registry)

    def set_model(self, source: str, bundle: Bundle, backend: str) -> None:
        """Name the model in use by a source, and add its labels. Counts of the labels of earlier models stay."""
        labels = bundle.published_labels
        for metric in (self._windows_classified, self._activity_changes):
            for label in labels:
                metric.labels(source, label)
        rows = self._confidence.add_label_values([(source, label) for label in labels])
        self._confidence_rows[source, labels] = rows
        self._model.labels(source).info({"model": bundle.id, "backend": backend})

    # --- stages, in the order of the data path ------------------------------------------------

    def observe_decoded(
        self,
        source: str,
        arrival_s: float,
        waited_s: Float64,
        batch: SampleBatch,
        rejections: Sequence[Rejection],
        *,
        default_rate_hz: float,
    ) -> None:
        """Observe a batch of messages of one source.

        Args:
            source: Its name.
            arrival_s: Arrival time of the newest message, in seconds since the epoch.
            waited_s: Time that each message was in the inbox, also of the rejected ones.
            batch: The well-formed messages.
            rejections: The others.
            default_rate_hz: Sample rate of messages that do not announce one.

        """
        self._last_message_timestamp.labels(source).set(arrival_s)
        self._queue_wait.observe(waited_s)
        rate_hz = np.where(batch.rate_hz > 0, batch.rate_hz, default_rate_hz)
        last_sample_s = batch.t_ns / 1e9 + (batch.counts - 1) / rate_hz
        self._lag.observe(np.maximum(batch.arrival_s - last_sample_s, 0)[batch.stamped], self._lag_rows[source])
        if rejections:
            for reason, number in collections.Counter(rejection.reason for rejection in rejections).items():
                self._messages_rejected.labels(source, reason).inc(number)

    def observe_classified(self, n_windows: int, duration_s: float) -> None:
        """Observe one call of the classifier."""
        self._inference_duration.observe(duration_s)
        self._inference_batch_size.observe(n_windows)

    def observe_labelled(
        self,
        source: str,
        published_labels: tuple[str, ...],
        smoothed: SmoothedLabels,
        latency_s: Float64,
        *,
        changes: Mapping[str, int],
        n_dropped: int,
    ) -> None:
        """Observe the labels of a batch of windows of one source.

        Args:
            source: Its name.
            published_labels: Names of the label indices, UNKNOWN last; those of a model passed to ``set_model``.
            smoothed: Label and confidence of each window.
            latency_s: Latency of each window in seconds, shape (n_windows,).
            changes: Number of devices that changed to a label, by that label.
            n_dropped: Labels that were not published.

        """
        self._latency.observe(latency_s)
        rows = self._confidence_rows[source, published_labels]
        self._confidence.observe(smoothed.confidence, rows[smoothed.label])
        for index, number in collections.Counter(smoothed.label.tolist()).items():
            self._windows_classified.labels(source, published_labels[index]).inc(number)
        for label, number in changes.items():
            self._activity_changes.labels(source, label).inc(number)
        if n_dropped:
            self._windows_dropped.labels("outgoing").inc(n_dropped)

    def observe_events(self, n_dropped: int) -> None:
        """Observe the publication of events, of which ``n_dropped`` were not published."""
        self._events_dropped.labels("outgoing").inc(n_dropped)

    def latency_counts(self) -> tuple[Float64, Int64]:
        """Return the upper bounds of the buckets of the latency in seconds, and the number of windows in each."""
        return self._latency.counts()

    # --- incidents ----------------------------------------------------------------------------

    def observe_reconnect(self) -> None:
        """Observe a connection to the broker after the first."""
        self._mqtt_reconnects.inc()

    def observe_silence(self, action: str) -> None:
        """Observe what was done about topics that had fallen silent: ``subscribed`` or ``reconnected``."""
        self._mqtt_silences.labels(action).inc()

    def observe_refused(self, kind: str, number: int) -> None:
        """Observe messages of a kind that the broker refused. The gauge tells about the status."""
        dropped = {LABELS: self._windows_dropped, EVENTS: self._events_dropped}.get(kind)
        if dropped is not None:
            dropped.labels("refused").inc(number)

    def observe_reload(self, result: str) -> None:
        """Observe a reload with the result ``done`` or ``refused``."""
        self._reloads.labels(result).inc()

    def expose(self) -> bytes:
        """Return all metrics in Prometheus' text format, whose media type is ``CONTENT_TYPE``."""
        return generate_latest(self.registry)


class _Unnamed(CollectorRegistry):
    """Registry that leaves out the label ``source``."""

    def collect(self) -> Iterable[Metric]:
        """Yield the metrics."""
        for family in super().collect():
            family.samples = [
                sample._replace(labels={name: value for name, value in sample.labels.items() if name != "source"})
                for sample in family.samples
            ]
            yield family


class _StatusCollector(Collector):
    """Metrics whose values each scrape reads from one status snapshot."""

    def __init__(self, read_status: Callable[[], DaemonStatus]) -> None:
        self._read_status = read_status

    def collect(self) -> Iterable[CounterMetricFamily | GaugeMetricFamily]:
        """Yield the metrics."""
        status = self._read_status()
        sources = status.sources

        def by_source(read: Callable[[SourceStatus], float]) -> dict[tuple[str, ...], float]:
            return {(source.name,): read(source) for source in sources}

        def by_source_and(read: Callable[[SourceStatus], Mapping[str, float]]) -> dict[tuple[str, ...], float]:
            return {(source.name, value): number for source in sources for value, number in read(source).items()}

        yield _counter(
            "messages_received", "Messages taken from the inbox", by_source(lambda one: one.messages_received), "source"
        )
        yield _counter(
            "messages_dropped",
            "Messages dropped unread, by reason: inbox (it was full, and the oldest were dropped), "
            "partition (another worker serves it, or may serve it)",
            {("inbox",): status.messages_dropped, ("partition",): status.messages_foreign},
            "reason",
        )
        yield _counter(
            "samples_received", "Samples in well-formed messages", by_source(lambda one: one.samples_received), "source"
        )
        yield _counter(
            "samples_dropped",
            "Valid samples not used, by reason: late (not newer than the newest accepted), "
            "rate (cannot be resampled), devices (max-devices reached); of two sensors with messages of their own: "
            "no_gyroscope (of the accelerometer: none of the gyroscope at their time, or not in time), late_gyroscope "
            "(it came too late, or told again of a time), and no_accelerometer and late_accelerometer, the other way "
            "round",
            by_source_and(
                lambda one: {
                    "late": one.samples_late,
                    "rate": one.samples_rate,
                    "devices": one.samples_devices,
                    **dataclasses.asdict(one.pairing),
                }
            ),
            "source",
            "reason",
        )
        yield _counter(
            "gaps", "Gaps in the samples of a device, bridged or not", by_source(lambda one: one.gaps), "source"
        )
        yield _counter(
            "rates_measured",
            "Times a device was found to send at another rate than it announced, by the spacing of its messages",
            by_source(lambda one: one.rates_measured),
            "source",
        )
        yield _gauge("inbox_messages", "Messages waiting in the inbox", status.messages_waiting)
        yield _gauge("partitions", "Partitions served; 0 if the topic has none", status.partitions)
        yield _counter(
            "partition_changes",
            "Partitions that a worker began to serve (gained) or ceased to serve (lost)",
            {("gained",): status.partitions_gained, ("lost",): status.partitions_lost},
            "change",
        )
        yield _gauge("devices", "Devices with state", by_source(lambda one: one.devices), "source")
        yield _gauge(
            "devices_by_activity",
            "Devices by their last label",
            by_source_and(lambda one: {**dict.fromkeys(one.labels, 0), **one.devices_by_label}),
            "source",
            "label",
        )
        yield _gauge(
            "devices_with_problem",
            "Devices that have a problem, by problem; /api/devices names them",
            by_source_and(lambda one: {**{problem.public_name: 0 for problem in Problem}, **one.devices_by_problem}),
            "source",
            "problem",
        )
        yield _gauge(
            "publish_refused",
            "1 while the broker refuses messages of a kind, else 0",
            {(kind,): float(kind in status.refused) for kind in KINDS},
            "kind",
        )
        yield _counter(
            "log_lines_dropped",
            "Log lines that were not written, because standard error was not read in time or not writable",
            status.log_lines_dropped,
        )
        yield _gauge("mqtt_connected", "1 while connected and subscribed, else 0", status.connected)
        durable = status.durability
        yield _gauge(
            "messages_unacknowledged",
            "Durable mode: messages that wait until they are on disk and their labels accepted",
            durable.unacknowledged,
        )
        yield _counter("messages_repeated", "Durable mode: messages that the broker sent again", durable.repeated)
        yield _counter(
            "messages_restored", "Durable mode: messages fed again from the journals at the start", durable.restored
        )
        yield _counter(
            "devices_restored",
            "Workers with a state folder: devices that go on with the state that another worker has left",
            durable.devices_restored,
        )
        yield _counter(
            "checkpoints", "Durable mode: checkpoints written; workers: states of partitions", durable.checkpoints
        )
        yield _gauge("checkpoint_seconds", "State folder: time that the last of these took", durable.checkpoint_s)
        yield _gauge("journal_bytes", "Durable mode: size of the present journal", durable.journal_bytes)
        yield _counter(
            "state_failures",
            "Failed writes to the state folder, such as on a full disk; workers: also failed and slow reads",
            durable.failures,
        )


def _family(
    kind: type[_Family], name: str, help_text: str, values: float | Mapping[tuple[str, ...], float], *labels: str
) -> _Family:
    """Return a metric with one value, or with one for each tuple of values of ``labels``."""
    family = kind(f"harstream_{name}", help_text, labels=labels)
    for label_values, value in values.items() if isinstance(values, Mapping) else [((), values)]:
        family.add_metric(label_values, value)
    return family


_counter = functools.partial(_family, CounterMetricFamily)
_gauge = functools.partial(_family, GaugeMetricFamily)
