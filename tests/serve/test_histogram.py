"""The histogram of arrays counts as prometheus_client's own."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram

from harstream.serve.histogram import ArrayHistogram
from harstream.serve.metrics import SECONDS


def samples(registry: CollectorRegistry) -> dict[tuple, float]:
    """Name and labels to value of everything in the registry."""
    return {
        (
            sample.name,
            *((key, float(value) if key == "le" else value) for key, value in sorted(sample.labels.items())),
        ): sample.value
        for family in registry.collect()
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


@given(st.lists(st.lists(st.floats(0, 20) | st.sampled_from(SECONDS), max_size=20), max_size=5))
def test_an_array_histogram_counts_as_the_librarys_own(batches):
    registry, reference = CollectorRegistry(), CollectorRegistry()
    array = ArrayHistogram("h", "help", SECONDS, registry)
    single = Histogram("h", "help", buckets=SECONDS, registry=reference)
    for values in batches:
        array.observe(values)
        for value in values:
            single.observe(value)
    assert samples(registry) == pytest.approx(samples(reference))


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 2)), max_size=30))
def test_an_array_histogram_with_a_label_counts_as_the_librarys_own(observed):
    registry, reference = CollectorRegistry(), CollectorRegistry()
    array = ArrayHistogram("h", "help", (0.5, 0.9), registry, ["label"], [("a",), ("b",), ("c",)])
    single = Histogram("h", "help", ["label"], buckets=(0.5, 0.9), registry=reference)
    for name in "abc":
        single.labels(name)
    array.observe([value for value, _ in observed], [index for _, index in observed])
    for value, index in observed:
        single.labels("abc"[index]).observe(value)
    assert samples(registry) == pytest.approx(samples(reference))


def test_label_values_may_be_added_later():
    registry = CollectorRegistry()
    array = ArrayHistogram("h", "help", (0.5,), registry, ["label"], [("a",), ("b",)])
    array.observe([0.1], [1])
    assert array.add_label_values([("b",), ("c",), ("a",)]).tolist() == [1, 2, 0]
    array.observe([0.2, 0.3, 0.9], [1, 2, 2])
    counts = {key[1][1]: value for key, value in samples(registry).items() if key[0] == "h_count"}
    assert counts == {"a": 0, "b": 2, "c": 2}


def test_observations_during_a_scrape_are_not_lost():
    registry = CollectorRegistry()
    array = ArrayHistogram("h", "help", SECONDS, registry)
    n, stop = 20_000, threading.Event()
    scraping = threading.Thread(target=lambda: [samples(registry) for _ in iter(stop.is_set, True)])
    scraping.start()
    for _ in range(n):
        array.observe(0.001)
    stop.set()
    scraping.join()
    assert samples(registry)["h_count",] == n
