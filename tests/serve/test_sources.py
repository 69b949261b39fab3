"""Several sources in one daemon: each has its messages, its model and its devices, and they share the rest."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import numpy as np

from harstream.publish import ENCODERS
from harstream.serve import devices as health
from harstream.serve.daemon import Daemon

from ..constants import T0_NS
from ..live_streams import PER_MESSAGE, assert_labels, expected
from ..servers import Client, http_get, metric, wait_until
from .daemons import WrappedClassifier, exposed, running
from .sources import LABELS_OF, TABLES, Publishing, interleaved, labels_of, renamed, sources_config, stream
from .test_http import serving_http


def test_each_source_is_labelled_by_its_own_model_through_one_connection(
    mosquitto, classifier, other_classifier, subjects
):
    """One subject sends by each source, under one name: its labels are those of a daemon for that source alone."""
    subject = subjects[0]
    config = sources_config(mosquitto.port)
    sent = interleaved(*(stream(source, subject, "a") for source in LABELS_OF))
    wanted = {
        "belts": renamed(expected([subject], classifier), "a"),
        "boards": renamed(expected([subject], other_classifier), "a"),
        "tags": renamed(expected([subject], classifier), "a"),
    }
    with Client(mosquitto.port) as client, running(Daemon(config, classifier, other_classifier, classifier)) as daemon:
        for topic, payload in sent:
            client.publish(topic, payload)
        wait_until(lambda: all(len(labels_of(client, name)) >= len(wanted[name]) for name in wanted), "labels")
        assert daemon.status().devices == 3
    for source, labels in wanted.items():
        # The boards send text in m/s2; float32 rounds a little otherwise.
        assert_labels(labels_of(client, source), labels)
    assert {message["model"] for _, message in labels_of(client, "boards")} == {other_classifier.bundle.id}
    topics = {topic for topic, _, _ in client.messages}
    assert "boards/a/event" in topics
    assert not any(topic.startswith("tags/") and "event" in topic for topic in topics)
    text = exposed(daemon)
    for source in LABELS_OF:
        of = f'source="{source}"'
        assert metric(text, f"harstream_messages_received_total{{{of}}}") == len(sent) / 3
        assert metric(text, f"harstream_samples_received_total{{{of}}}") == len(subject.samples)
        assert metric(text, f"harstream_devices{{{of}}}") == 1
        assert metric(text, f"harstream_lag_seconds_count{{{of}}}") == len(sent) / 3
        for label, number in Counter(label[2] for label in wanted[source]).items():
            assert metric(text, f'harstream_windows_classified_total{{label="{label}",{of}}}') == number
    series = 'harstream_model_info{backend="litert",model="%s",source="%s"}'
    assert metric(text, series % (other_classifier.bundle.id, "boards")) == 1
    assert metric(text, series % (classifier.bundle.id, "tags")) == 1
    assert metric(text, "harstream_queue_wait_seconds_count") == len(sent)


def test_windows_of_sources_with_one_model_are_one_batch(classifier, other_classifier, subjects):
    shared, apart = WrappedClassifier(classifier), WrappedClassifier(other_classifier)
    daemon = Publishing(sources_config(), shared, apart, shared)
    streams = [stream(source, subjects[0]) for source in LABELS_OF]
    daemon.feed(interleaved(*streams))
    assert len(apart.batch_sizes) == len(shared.batch_sizes) == 1
    assert shared.batch_sizes[0] == 2 * apart.batch_sizes[0]


def test_two_devices_of_one_name_keep_two_states(classifier, subjects):
    """Check that no label of one depends on what the other sends, as if it were alone."""
    first, second = subjects[:2]
    together = Publishing(sources_config(), classifier, classifier, classifier)
    alone = Publishing(sources_config(), classifier, classifier, classifier)
    for both in zip(stream("belts", first, "a"), stream("tags", second, "a"), strict=True):
        together.feed(both)
        alone.feed(both[:1])
    of = [
        [payload for topic, payload in daemon.published if topic == "wearables/a/activity"]
        for daemon in (together, alone)
    ]
    assert of[0] == of[1] != []
    assert [source.pipeline.engine.devices for source in together.sources] == [["a"], [], ["a"]]
    # The eviction of one leaves the other alone.
    tags = together.sources[2]
    assert tags.evict(np.inf, 60.0) == ["a"]
    together.labelling.evict(tags.pipeline, ["a"])
    assert together.published[-1] == ("tags/a/activity", b"")
    assert together.sources[0].pipeline.engine.devices == together.sources[0].pipeline.last_labels.devices == ["a"]
    assert tags.pipeline.last_labels.devices == []


def test_sources_that_publish_to_one_topic_name_the_devices_that_share_a_name(classifier, subjects, caplog):
    tables = [dict(TABLES[0]), {**TABLES[2], "labels_topic": "wearables/{device}/activity"}]
    now = [1000.0]
    daemon = Publishing(sources_config(tables=tables), classifier, classifier, monotonic=lambda: now[0])
    daemon.feed([*stream("belts", subjects[0], "a"), *stream("belts", subjects[1], "b")])
    daemon.feed([*stream("tags", subjects[0], "a"), *stream("tags", subjects[1], "c")])
    for _ in range(3):
        now[0] += health.REVIEW_EVERY_S
        daemon.sources.refresh(60.0)
    named = [record.getMessage() for record in caplog.records if "overlap" in record.getMessage()]
    assert named == [
        f"source {own}: device 'a' has the problem overlap: the source {other!r} has a device of this name "
        "too, and both publish their labels to wearables/a/activity; give the sources labels topics of their own, or "
        "each device its own name (see docs/how-to/troubleshoot.md#overlap)"
        for own, other in (("belts", "tags"), ("tags", "belts"))
    ]
    for source in ("belts", "tags"):
        assert metric(exposed(daemon), f'harstream_devices_with_problem{{problem="overlap",source="{source}"}}') == 1
    with serving_http(daemon) as url:
        for one in daemon.sources:
            one.devices._wanted = True
        daemon.sources.refresh(60.0)
        listed = json.loads(http_get(f"{url}/api/devices?problem=overlap")[1])
        assert [(one["device"], one["source"], one["problem"]) for one in listed["devices"]] == [
            ("a", "belts", "overlap"),
            ("a", "tags", "overlap"),
        ]
        shown = json.loads(http_get(f"{url}/api/devices/a?source=tags")[1])
        assert shown["problems"] == ["overlap"]
        (detail,) = shown["details"]
        assert "the source 'belts' has a device of this name too" in detail["detail"]
    # It ends with one of the two, and their labels were labels all the time.
    assert {json.loads(payload)["label"] for topic, payload in daemon.published if topic.endswith("y")} != {"UNKNOWN"}
    daemon.sources[1].evict(np.inf, 60.0)
    now[0] += health.REVIEW_EVERY_S
    daemon.sources.refresh(60.0)
    now[0] += 1
    daemon.sources.refresh(60.0)
    assert daemon.sources[0].devices.counts["overlap"] == 0


def test_the_api_lists_the_devices_of_all_sources_or_one(classifier, subjects):
    daemon = Publishing(sources_config(), classifier, classifier, classifier)
    for source, devices in {"belts": ("a", "b"), "boards": ("a",), "tags": ("c",)}.items():
        for device in devices:
            daemon.feed(stream(source, subjects[0], device)[:2])
    daemon.feed([("boards/bad", b"nonsense")])

    def get(url: str) -> tuple[int, Any]:
        for one in daemon.sources:
            one.devices._wanted = True
        daemon.sources.refresh(60.0)
        status, body = http_get(url)
        return status, json.loads(body)

    def names(found: dict[str, Any]) -> list[tuple[str, str]]:
        return [(device["source"], device["device"]) for device in found["devices"]]

    every = [("belts", "a"), ("belts", "b"), ("boards", "a"), ("boards", "bad"), ("tags", "c")]
    with serving_http(daemon) as url:
        of_all = f"{url}/api/devices"
        assert names(get(of_all)[1]) == every
        for offset in range(6):
            _, found = get(f"{of_all}?offset={offset}&limit=2")
            assert (names(found), found["total"]) == (every[offset : offset + 2], 5)
        _, found = get(f"{of_all}?source=boards")
        assert (names(found), found["total"]) == (every[2:4], 2)
        status, found = get(f"{of_all}?source=none")
        assert (status, found["error"]) == (400, "source is 'none', expected one of belts, boards, tags")
        assert get(f"{of_all}/c")[1]["source"] == "tags"
        status, found = get(f"{of_all}/a")
        assert (status, "several sources have a device 'a': belts, boards; add ?source=" in found["error"]) == (
            409,
            True,
        )
        assert get(f"{of_all}/a?source=boards")[1]["source"] == "boards"
        assert get(f"{of_all}/b?source=boards")[0] == 404
        assert get(f"{of_all}/bad")[1]["source"] == "boards"


def test_rejections_and_the_device_table_are_those_of_a_source(classifier, subjects, caplog):
    daemon = Publishing(sources_config(max_devices=1), classifier, classifier, classifier)
    for device in ("a", "b"):
        daemon.feed(stream("tags", subjects[0], device)[:4])
    daemon.feed([("tags/a", b"nonsense"), *stream("belts", subjects[0], "a")[:4]])
    daemon.sources.refresh(60.0)
    assert [source.pipeline.engine.n_devices for source in daemon.sources] == [1, 0, 1]
    lines = [record.getMessage() for record in caplog.records]
    assert [line.partition(": ")[0] for line in lines if "rejected messages" in line] == ["source tags"]
    assert [line.partition(": ")[0] for line in lines if "device table is full" in line] == ["source tags"]
    text = exposed(daemon)
    samples = 4 * PER_MESSAGE
    dropped = {
        name: metric(text, f'harstream_samples_dropped_total{{reason="devices",source="{name}"}}') for name in LABELS_OF
    }
    assert dropped == {"belts": 0, "boards": 0, "tags": samples}
    assert metric(text, 'harstream_messages_rejected_total{reason="packed",source="tags"}') == 1


def test_a_message_that_no_source_asked_for_is_rejected_and_counted(classifier):
    daemon = Publishing(sources_config(), classifier, classifier, classifier)
    daemon.feed([("other/topic", b"{}")])
    assert metric(exposed(daemon), 'harstream_messages_rejected_total{reason="device",source="belts"}') == 1


def test_the_topics_whose_source_is_remembered_are_bounded(classifier, monkeypatch):
    monkeypatch.setattr("harstream.serve.source._MAX_TOPIC_BYTES", 2_000)
    daemon = Publishing(sources_config(), classifier, classifier, classifier)
    for number in range(100):
        daemon.feed([(f"tags/device-{number}", b"nonsense")])
        assert len(daemon.sources._by_topic) < 20
    assert daemon.sources[2].status().messages_received == 100


def test_a_long_message_of_one_source_holds_up_no_other(classifier, subjects, monkeypatch):
    """The windows of a batch are shared, and only the device whose samples are pending waits."""
    monkeypatch.setattr("harstream.serve.daemon.MAX_BATCH_WINDOWS", 6)
    daemon = Publishing(sources_config(), classifier, classifier, classifier)
    daemon.labelling.start()
    long = np.tile(subjects[0].samples, (3, 1))
    daemon.receive([("tags/long", ENCODERS["packed"](T0_NS, 50.0, long), False, 0)])
    daemon.step(0)
    assert daemon.sources.n_pending
    is_busy = daemon.sources.busy()
    assert is_busy("tags/long")
    assert not is_busy("tags/a")
    assert not is_busy("wearables/long/imu")  # a namesake of another source
    for topic, payload in stream("belts", subjects[1], "long"):
        daemon.receive([(topic, payload, False, 0)])
    steps = 0
    while daemon.sources.n_pending or len(daemon.inbox):
        daemon.step(0)
        steps += 1
    daemon.labelling.finish()
    assert daemon.labelling.failure is None
    assert steps > 3
    counts = Counter(topic for topic, _ in daemon.published if topic.endswith("/activity"))
    wanted = len(expected(subjects[1:2], classifier))
    assert counts["wearables/long/activity"] == wanted
    assert counts["tags/long/activity"] > 2 * wanted
