"""Metrics of the daemon: each promised one exists from the start."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from harstream import __version__
from harstream.core.smoothing import SmoothedLabels
from harstream.serve.metrics import SECONDS, DaemonMetrics
from harstream.serve.status import DaemonStatus
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


@pytest.fixture
def metrics(bundle):
    status = DaemonStatus("random@0.0.1", "litert", bundle.published_labels)
    return DaemonMetrics(bundle, "litert", lambda: status)


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
    assert found == {((label, value),) if label else (): 0 for value in (values or ("",))}


def test_model_build_and_process_have_metrics(metrics):
    found = samples(metrics)
    assert found["harstream_model_info", (("backend", "litert"), ("model", "random@0.0.1"))] == 1
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
    assert bounds == [*SECONDS, math.inf]
    assert (bounds[0], bounds[-2]) == (0.0005, 10.0)


def test_numbers_that_the_daemon_keeps_are_read_at_each_scrape(bundle):
    status = DaemonStatus("random@0.0.1", "litert", bundle.published_labels, messages_waiting=3)
    metrics = DaemonMetrics(bundle, "litert", lambda: status)
    for late in (5, 8):
        status = dataclasses.replace(status, samples_late=late, devices_by_label={"SITTING": late, "OLD": 1})
        found = samples(metrics)
        assert found["harstream_inbox_messages", ()] == 3
        assert found["harstream_samples_dropped_total", (("reason", "late"),)] == late
        assert found["harstream_samples_dropped_total", (("reason", "rate"),)] == 0
        by_label = {labels[0][1]: value for (name, labels), value in found.items() if "devices_by" in name}
        assert by_label == {**dict.fromkeys(bundle.published_labels, 0), "SITTING": late, "OLD": 1}


def test_labels_of_another_model_are_counted_beside_those_before(metrics, bundle):
    label_windows(metrics, bundle.published_labels, [0, -1, -1])
    other = dataclasses.replace(bundle, name="other", labels=("SITTING", "SWIMMING"))
    metrics.set_model(other, "int8")
    label_windows(metrics, other.published_labels, [0, 1, 1, -1])
    found = samples(metrics)
    assert found["harstream_model_info", (("backend", "int8"), ("model", "other@0.0.1"))] == 1
    for label, number in {"WALKING": 1, "SITTING": 1, "SWIMMING": 2, "UNKNOWN": 3, "LAYING": 0}.items():
        assert found["harstream_windows_classified_total", (("label", label),)] == number
        assert found["harstream_confidence_count", (("label", label),)] == number
        assert ("harstream_activity_changes_total", (("label", label),)) in found


def label_windows(metrics: DaemonMetrics, published_labels: tuple[str, ...], indices: list[int]) -> None:
    smoothed = SmoothedLabels(np.array(indices), np.full(len(indices), 0.9, np.float32))
    metrics.observe_labelled(published_labels, smoothed, np.zeros(len(indices)), changes={}, n_dropped=0)
