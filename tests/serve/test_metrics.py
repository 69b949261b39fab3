"""Metrics of the daemon: each promised one exists from the start."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from harstream import __version__
from harstream.config import RunConfig
from harstream.core.smoothing import SmoothedLabels
from harstream.serve.metrics import LATENCY_SECONDS, DaemonMetrics
from harstream.serve.page.totals import quantile
from harstream.serve.status import DaemonStatus, SourceStatus
from harstream.wire.reject import REASONS

from ..constants import LABELS

#: Name of each metric to its label and the values of that label.
PROMISED: dict[str, tuple[str, tuple[str, ...]]] = {
    "messages_received_total": ("", ()),
    "messages_rejected_total": ("reason", tuple(REASONS)),
    "samples_received_total": ("", ()),
    "samples_dropped_total": (
        "reason",
        (*("late", "rate", "devices", "no_gyroscope", "late_gyroscope", "no_accelerometer", "late_accelerometer"),),
    ),
    "gaps_total": ("", ()),
    "windows_classified_total": ("label", (*LABELS, "UNKNOWN")),
    "windows_dropped_total": ("reason", ("outgoing", "refused")),
    "inference_duration_seconds_count": ("", ()),
    "inference_batch_size_count": ("", ()),
    "queue_wait_seconds_count": ("", ()),
    "latency_seconds_count": ("", ()),
    "lag_seconds_count": ("", ()),
    "inbox_messages": ("", ()),
    "devices": ("", ()),
    "mqtt_connected": ("", ()),
    "mqtt_reconnects_total": ("", ()),
    "mqtt_silences_total": ("action", ("subscribed", "reconnected")),
    "publish_refused": ("kind", ("labels", "events", "status")),
    "last_message_timestamp_seconds": ("", ()),
    "events_dropped_total": ("reason", ("outgoing", "refused")),
    "confidence_count": ("label", (*LABELS, "UNKNOWN")),
    "messages_dropped_total": ("reason", ("inbox", "partition")),
    "rates_measured_total": ("", ()),
    "reloads_total": ("result", ("done", "refused")),
    "activity_changes_total": ("label", (*LABELS, "UNKNOWN")),
    "devices_with_problem": ("problem", ("gravity", "overlap", "gyroscope", "unfamiliar", "rate", "stamps", "clock")),
    "devices_by_activity": ("label", (*LABELS, "UNKNOWN")),
}


#: Those that each source has of its own.
OF_A_SOURCE = {
    "messages_received_total",
    "messages_rejected_total",
    "samples_received_total",
    "samples_dropped_total",
    "gaps_total",
    "rates_measured_total",
    "windows_classified_total",
    "confidence_count",
    "activity_changes_total",
    "lag_seconds_count",
    "last_message_timestamp_seconds",
    "devices",
    "devices_with_problem",
    "devices_by_activity",
}
SOURCES = ("phones", "watches")


def status_of(bundle, **settings) -> DaemonStatus:
    sources = tuple(SourceStatus(name, "random@0.0.1", "litert", bundle.published_labels) for name in SOURCES)
    return DaemonStatus(sources, **settings)


def metrics_of(bundle, read_status) -> DaemonMetrics:
    made = DaemonMetrics(SOURCES, read_status)
    for name in SOURCES:
        made.set_model(name, bundle, "litert")
    return made


@pytest.fixture
def metrics(bundle):
    return metrics_of(bundle, lambda: status_of(bundle))


def samples(metrics):
    """(name, labels) to value of everything exposed."""
    text = metrics.expose().decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.mark.parametrize("name", PROMISED)
def test_a_promised_metric_starts_at_0_with_every_label_value(metrics, name):
    label, values = PROMISED[name]
    found = {labels: value for (full, labels), value in samples(metrics).items() if full == f"harstream_{name}"}
    own = [((label, value),) if label else () for value in (values or ("",))]
    sources = [(("source", source),) for source in SOURCES] if name in OF_A_SOURCE else [()]
    assert found == {tuple(sorted(labels + source)): 0 for labels in own for source in sources}


def test_without_a_name_for_the_source_there_is_no_label_for_it(bundle):
    source = SourceStatus("source1", "random@0.0.1", "litert", bundle.published_labels, devices=3)
    metrics = DaemonMetrics(["source1"], lambda: DaemonStatus((source,)), named=False)
    metrics.set_model("source1", bundle, "litert")
    found = samples(metrics)
    assert not any("source" in dict(labels) for _, labels in found)
    assert found["harstream_devices", ()] == 3
    assert found["harstream_windows_classified_total", (("label", "WALKING"),)] == 0
    assert found["harstream_model_info", (("backend", "litert"), ("model", "random@0.0.1"))] == 1


def test_model_build_and_process_have_metrics(metrics):
    found = samples(metrics)
    for source in SOURCES:
        labels = (("backend", "litert"), ("model", "random@0.0.1"), ("source", source))
        assert found["harstream_model_info", labels] == 1
    assert found["harstream_build_info", (("version", __version__),)] == 1
    assert found["process_resident_memory_bytes", ()] > 0
    assert ("process_cpu_seconds_total", ()) in found


def test_no_series_is_doubled_or_made_for_the_time_of_creation(metrics):
    lines = [line for line in metrics.expose().decode().splitlines() if not line.startswith("#")]
    series = [line.rpartition(" ")[0] for line in lines]
    assert len(series) == len(set(series))
    assert not any("_created" in name for name in series)


def test_latency_buckets_run_from_half_a_millisecond_to_ten_seconds(metrics):
    bounds = [
        float(dict(labels)["le"]) for name, labels in samples(metrics) if name == "harstream_latency_seconds_bucket"
    ]
    assert bounds == [*LATENCY_SECONDS, math.inf] == sorted(bounds)
    assert (bounds[0], bounds[-2]) == (0.0005, 10.0)


def test_messages_that_gather_look_less_late_than_the_alert_allows(metrics, bundle):
    """A quantile is interpolated up to the next bound, so that must be far below the 0.25 s of HarstreamLatencyHigh."""
    late_s = np.full(100, RunConfig().gather_s + 0.01)
    smoothed = SmoothedLabels(np.zeros(100, np.int64), np.ones(100, np.float32))
    metrics.observe_labelled("phones", bundle.published_labels, smoothed, late_s, changes={}, n_dropped=0)
    bounds, counts = metrics.latency_counts()
    value = quantile(bounds, counts, 0.99)
    assert value is not None
    assert late_s[0] < value < 0.15


def test_numbers_that_the_daemon_keeps_are_read_at_each_scrape(bundle):
    status = status_of(bundle, messages_waiting=3)
    metrics = metrics_of(bundle, lambda: status)
    for late in (5, 8):
        first, second = status.sources
        first = dataclasses.replace(first, samples_late=late, devices_by_label={"SITTING": late, "OLD": 1})
        status = dataclasses.replace(status, sources=(first, second))
        found = samples(metrics)
        assert found["harstream_inbox_messages", ()] == 3
        dropped = {
            (name, reason): found["harstream_samples_dropped_total", (("reason", reason), ("source", name))]
            for name in SOURCES
            for reason in ("late", "rate")
        }
        assert dropped == {key: late if key == ("phones", "late") else 0 for key in dropped}
        by_label = {
            dict(labels)["label"]: value
            for (name, labels), value in found.items()
            if "devices_by" in name and dict(labels)["source"] == "phones"
        }
        assert by_label == {**dict.fromkeys(bundle.published_labels, 0), "SITTING": late, "OLD": 1}


def test_labels_of_another_model_are_counted_beside_those_before(metrics, bundle):
    label_windows(metrics, bundle.published_labels, [0, -1, -1])
    other = dataclasses.replace(bundle, name="other", labels=("SITTING", "SWIMMING"))
    metrics.set_model("phones", other, "int8")
    label_windows(metrics, other.published_labels, [0, 1, 1, -1])
    found = samples(metrics)
    names = (("backend", "int8"), ("model", "other@0.0.1"), ("source", "phones"))
    assert found["harstream_model_info", names] == 1
    for label, number in {"WALKING": 1, "SITTING": 1, "SWIMMING": 2, "UNKNOWN": 3, "LAYING": 0}.items():
        labels = (("label", label), ("source", "phones"))
        assert found["harstream_windows_classified_total", labels] == number
        assert found["harstream_confidence_count", labels] == number
        assert ("harstream_activity_changes_total", labels) in found
    assert found["harstream_windows_classified_total", (("label", "SITTING"), ("source", "watches"))] == 0


def label_windows(metrics: DaemonMetrics, published_labels: tuple[str, ...], indices: list[int]) -> None:
    smoothed = SmoothedLabels(np.array(indices), np.full(len(indices), 0.9, np.float32))
    metrics.observe_labelled("phones", published_labels, smoothed, np.zeros(len(indices)), changes={}, n_dropped=0)
