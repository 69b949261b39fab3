"""Every promised metric, there from the start; no device is ever a label."""

from __future__ import annotations

import math
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.parser import text_string_to_metric_families

from harstream import __version__
from harstream.serve.metrics import SECONDS, ArrayHistogram, Metrics
from harstream.wire.reject import REASONS

from ..conftest import LABELS

#: Section 8 of the design: name to its label and the values that label has.
PROMISED: dict[str, tuple[str, tuple[str, ...]]] = {
    "messages_received_total": ("", ()),
    "messages_rejected_total": ("reason", tuple(REASONS)),
    "samples_received_total": ("", ()),
    "samples_dropped_total": ("reason", ("late", "rate", "devices")),
    "gaps_total": ("", ()),
    "windows_classified_total": ("label", (*LABELS, "UNKNOWN")),
    "windows_dropped_total": ("reason", ("outgoing",)),
    "inference_duration_seconds_count": ("", ()),
    "inference_batch_size_count": ("", ()),
    "queue_wait_seconds_count": ("", ()),
    "latency_seconds_count": ("", ()),
    "lag_seconds_count": ("", ()),
    "inbox_messages": ("", ()),
    "devices": ("", ()),
    "mqtt_connected": ("", ()),
    "mqtt_reconnects_total": ("", ()),
    "last_message_timestamp_seconds": ("", ()),
    "events_dropped_total": ("reason", ("outgoing",)),
    "confidence_count": ("label", (*LABELS, "UNKNOWN")),
    "activity_changes_total": ("label", (*LABELS, "UNKNOWN")),
    "devices_by_activity": ("label", (*LABELS, "UNKNOWN")),
}


@pytest.fixture
def metrics(bundle):
    return Metrics(bundle, "litert")


def samples(metrics):
    """(name, labels) to value of everything exposed."""
    text = metrics.expose().decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.mark.parametrize("name", PROMISED)
def test_a_promised_metric_is_there_at_0_with_every_label_value(metrics, name):
    label, values = PROMISED[name]
    found = {labels: value for (full, labels), value in samples(metrics).items() if full == f"harstream_{name}"}
    assert found == {((label, value),) if label else (): 0 for value in (values or ("",))}


def test_model_build_and_process_are_told(metrics):
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


@given(st.lists(st.lists(st.floats(0, 20) | st.sampled_from(SECONDS), max_size=20), max_size=5))
def test_an_array_histogram_counts_as_the_librarys_own(takes):
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    array, single = ArrayHistogram("h", "help", SECONDS, ours), Histogram("h", "help", buckets=SECONDS, registry=theirs)
    for values in takes:
        array.observe(values)
        for value in values:
            single.observe(value)
    assert told(ours) == pytest.approx(told(theirs))


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 2)), max_size=30))
def test_an_array_histogram_with_a_label_counts_as_the_librarys_own(observed):
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    array = ArrayHistogram("h", "help", (0.5, 0.9), ours, "label", ("a", "b", "c"))
    single = Histogram("h", "help", ["label"], buckets=(0.5, 0.9), registry=theirs)
    for name in "abc":
        single.labels(name)
    array.observe([value for value, _ in observed], [which for _, which in observed])
    for value, which in observed:
        single.labels("abc"[which]).observe(value)
    assert told(ours) == pytest.approx(told(theirs))


def told(registry):
    return {
        (
            sample.name,
            *((key, float(value) if key == "le" else value) for key, value in sorted(sample.labels.items())),
        ): sample.value
        for family in registry.collect()
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def test_numbers_kept_elsewhere_are_read_when_asked(metrics):
    numbers = {"inbox": 3, "late": 5}
    metrics.inbox_messages.watch(lambda: numbers["inbox"])
    metrics.samples_dropped.watch(lambda: numbers["late"], "late")
    for late in (5, 8):
        numbers["late"] = late
        found = samples(metrics)
        assert found["harstream_inbox_messages", ()] == 3
        assert found["harstream_samples_dropped_total", (("reason", "late"),)] == late
        assert found["harstream_samples_dropped_total", (("reason", "rate"),)] == 0


def test_observations_while_somebody_asks_are_not_lost(metrics):
    """Two threads: one observes, one scrapes."""
    n, stop = 20_000, threading.Event()
    asking = threading.Thread(target=lambda: [metrics.expose() for _ in iter(stop.is_set, True)])
    asking.start()
    for _ in range(n):
        metrics.latency.observe(0.001)
    stop.set()
    asking.join()
    assert samples(metrics)["harstream_latency_seconds_count", ()] == n
