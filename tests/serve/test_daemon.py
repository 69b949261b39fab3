"""The daemon in this process, between a real broker and the public."""

from __future__ import annotations

import contextlib
import ctypes
import json
import resource
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from harstream.bundle import Bundle
from harstream.classifier import Classifier, load_classifier
from harstream.config import RunConfig
from harstream.core.batches import SampleBatch, WindowBatch
from harstream.core.smoothing import Smoothing
from harstream.embedded import EmbeddedBroker
from harstream.evaluate.published import label_recording
from harstream.mqtt.client import InboundMessage
from harstream.serve import daemon as serving
from harstream.serve import page
from harstream.serve.daemon import Daemon
from harstream.serve.http import HttpServer

from ..live_streams import T0_NS, assert_labels, expected, messages
from ..servers import Client, Mosquitto, free_port, http_get, metric, wait_until


def config(port: int = 1, **settings) -> RunConfig:
    return RunConfig(broker=f"127.0.0.1:{port}", instance="test", http="off", **settings)


@contextmanager
def running(daemon: Daemon) -> Iterator[Daemon]:
    """Connected and looping in a thread; stopped and drained in the end. What ``run`` raises is in ``failure``."""

    def run() -> None:
        with contextlib.suppress(ZeroDivisionError):  # what the tests of bugs raise
            daemon.run()

    settings = daemon.config.read_broker_settings()
    assert settings is not None
    daemon.connect(settings)
    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield daemon
    finally:
        daemon.stop()
        thread.join()


def exposed(daemon: Daemon) -> str:
    return daemon.metrics.expose().decode()


class Slow:
    """A classifier that takes its time, or fails at a given call."""

    def __init__(self, inner: Classifier, seconds: float = 0.0, fail_at: int = 0) -> None:
        self.inner, self.seconds, self.fail_at, self.calls = inner, seconds, fail_at, 0
        self.bundle: Bundle = inner.bundle
        self.backend = inner.backend

    def predict(self, windows):
        self.calls += 1
        if self.calls == self.fail_at:
            raise ZeroDivisionError("a bug")
        time.sleep(self.seconds)
        return self.inner.predict(windows)


@pytest.fixture(params=["mosquitto", "mosquitto, MQTT 3.1.1", "embedded"])
def broker(request, tmp_path) -> Iterator[tuple[int, str]]:
    """Port and MQTT version."""
    if request.param == "embedded":
        pytest.importorskip("amqtt")
        embedded = EmbeddedBroker(0)
        embedded.start()
        yield embedded.port, "3.1.1"
        embedded.close()
    else:
        with Mosquitto(tmp_path) as server:
            yield server.port, "3.1.1" if "3.1.1" in request.param else "auto"


# --- labels -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("payload", ["json", "packed"])
def test_labels_are_what_engine_and_network_say_of_the_same_recordings(broker, classifier, subjects, payload):
    port, version = broker
    wanted = expected(subjects, classifier)
    assert len({label for _, _, label, _, _ in wanted}) > 1
    with Client(port) as client:
        with running(Daemon(config(port, mqtt_version=version), classifier)):
            for topic, content in messages(subjects, payload):
                client.publish(topic, content)
            wait_until(lambda: len(client.labels()) >= len(wanted), "every label")
        client.flush()
        assert_labels(client.labels(), wanted)
        assert {message["model"] for _, message in client.labels()} == {"random@0.0.1"}


@pytest.mark.parametrize("qos", [0, 1])
def test_the_last_label_of_each_device_is_retained(mosquitto, classifier, subjects, qos):
    wanted = expected(subjects, classifier)
    with Client(mosquitto.port) as client, running(Daemon(config(mosquitto.port, qos=qos), classifier)):
        for topic, content in messages(subjects):
            client.publish(topic, content)
        wait_until(lambda: len(client.labels()) >= len(wanted), "every label")
    with Client(mosquitto.port, "wearables/+/activity") as client:
        wait_until(lambda: len(client.messages) == len(subjects))
        assert all(retained for _, _, retained in client.messages)
        for device, message in client.labels():
            assert message["t"] == pytest.approx(max(t for at, t, *_ in wanted if at == device))


def test_messages_delivered_twice_change_nothing_and_are_counted_as_late(mosquitto, classifier, subjects):
    wanted = expected(subjects, classifier)
    with Client(mosquitto.port) as client:
        with running(Daemon(config(mosquitto.port), classifier)) as daemon:
            for topic, content in messages(subjects):
                client.publish(topic, content)
                client.publish(topic, content)
            wait_until(lambda: len(client.labels()) >= len(wanted), "every label")
        assert_labels(client.labels(), wanted)
    samples = sum(len(subject.samples) for subject in subjects)
    assert metric(exposed(daemon), 'harstream_samples_dropped_total{reason="late"}') == samples


def test_units_may_be_configured(mosquitto, classifier, subjects):
    wanted = expected(subjects[:2], classifier)
    with Client(mosquitto.port) as client:
        with running(Daemon(config(mosquitto.port, acc_unit="m/s2", gyro_unit="deg/s"), classifier)):
            for topic, content in messages(subjects[:2]):
                data = json.loads(content)
                data["acc"] = (np.array(data["acc"]) * 9.80665).tolist()
                data["gyro"] = np.degrees(data["gyro"]).tolist()
                client.publish(topic, json.dumps(data).encode())
            wait_until(lambda: len(client.labels()) >= len(wanted), "every label")
        assert_labels(client.labels(), wanted)


def test_other_topics_may_be_configured(mosquitto, classifier, subjects):
    made = config(mosquitto.port, topic="site/{device}", labels_topic="said/of/{device}")
    with Client(mosquitto.port) as client, running(Daemon(made, classifier)):
        for topic, content in messages(subjects[:1]):
            client.publish(f"site/{topic.split('/')[1]}", content)
        wait_until(lambda: client.payloads("said/of/subject-0"), "a label")


# --- smoothing and events -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def smoothed(random_bundle, tmp_path_factory) -> Classifier:
    """The small bundle, with an hmm that abstains and holds events back."""
    folder = shutil.copytree(random_bundle, tmp_path_factory.mktemp("smoothed") / "bundle")
    data = json.loads((folder / "bundle.json").read_text())
    data["smoothing"] = Smoothing("hmm", 0.6, dwell_s=5.0, fixed_lag_windows=2).to_dict()
    (folder / "bundle.json").write_text(json.dumps(data))
    return load_classifier(folder)


def test_labels_and_events_are_what_the_smoother_says_of_the_same_recordings(
    mosquitto, smoothed, subjects, monkeypatch
):
    monkeypatch.setattr(serving, "EVICT_EVERY_S", 0.05)
    monkeypatch.setattr(serving, "IDLE_WAIT_S", 0.05)
    now = [time.time()]
    wanted = expected(subjects, smoothed)
    assert "UNKNOWN" in {label for _, _, label, _, _ in wanted}
    published = {w.name: label_recording(w, smoothed, T0_NS).events for w in subjects}
    n_events = sum(map(len, published.values()))
    with Client(mosquitto.port) as client:
        with running(Daemon(config(mosquitto.port), smoothed, clock=lambda: now[0])) as daemon:
            for topic, content in messages(subjects):
                client.publish(topic, content)
            wait_until(lambda: len(client.labels()) >= len(wanted), "every label")
            text = exposed(daemon)
            now[0] += 1000
            wait_until(lambda: sum(topic.endswith("/event") for topic, _, _ in client.messages) == n_events, "events")
        assert_labels(client.labels(), wanted)
        for subject in subjects:
            names = [*smoothed.bundle.labels]
            heard = [json.loads(payload) for payload in client.payloads(f"wearables/{subject.name}/activity/event")]
            ours = published[subject.name]
            assert [(e["event"], e["label"]) for e in heard] == [(e.kind, names[e.label]) for e in ours]
            np.testing.assert_allclose([e["t"] for e in heard], [e.t_ns / 1e9 for e in ours], rtol=0, atol=2e-6)
            np.testing.assert_allclose([e["confidence"] for e in heard], [e.confidence for e in ours], atol=1e-3)
            assert [e.get("duration_s", 0) for e in heard] == pytest.approx([e.duration_s for e in ours], abs=1e-5)
            assert {e["model"] for e in heard} == {"random@0.0.1"}
            assert heard[-1]["event"] == "exit"
    with Client(mosquitto.port) as later:
        later.flush()
        assert not [topic for topic, _, _ in later.messages if topic.endswith("/event")]  # not retained
    unknown = sum(label == "UNKNOWN" for _, _, label, _, _ in wanted)
    assert metric(text, 'harstream_windows_classified_total{label="UNKNOWN"}') == unknown
    assert metric(text, 'harstream_confidence_count{label="UNKNOWN"}') == unknown
    devices = [metric(text, f'harstream_devices_by_activity{{label="{label}"}}') for label in (*names, "UNKNOWN")]
    assert sum(devices) == len(subjects)


def test_smoothing_and_events_may_be_turned_off(mosquitto, smoothed, classifier, subjects):
    wanted = expected(subjects, classifier)  # without smoothing
    with Client(mosquitto.port) as client:
        with running(Daemon(config(mosquitto.port, smoothing="none", events_topic="off"), smoothed)):
            for topic, content in messages(subjects):
                client.publish(topic, content)
            wait_until(lambda: len(client.labels()) >= len(wanted), "every label")
        assert_labels(client.labels(), wanted)
        assert not [topic for topic, _, _ in client.messages if topic.endswith("/event")]


def test_events_go_where_they_are_told_and_a_stop_is_no_exit_but_loses_none(mosquitto, smoothed, subjects):
    made = config(mosquitto.port, events_topic="changes/of/{device}")
    *before, exit_at_last = label_recording(subjects[0], smoothed, T0_NS).events  # of which some are held back
    assert exit_at_last.kind == "exit"
    with Client(mosquitto.port) as client:
        with running(Daemon(made, smoothed)):
            for topic, content in messages(subjects[:1]):
                client.publish(topic, content)
            wait_until(lambda: len(client.labels()) >= len(expected(subjects[:1], smoothed)), "every label")
        client.flush()
        heard = [json.loads(payload) for payload in client.payloads("changes/of/subject-0")]
    labels = smoothed.bundle.labels
    assert [(event["event"], event["label"]) for event in heard] == [(e.kind, labels[e.label]) for e in before]


def test_events_that_could_not_be_handed_over_are_counted(smoothed, subjects):
    daemon = Daemon(config(), smoothed)  # without a connection
    for topic, content in messages(subjects):
        daemon.receive([(topic, content, False)])
    daemon.stop()
    daemon.run()
    assert metric(exposed(daemon), 'harstream_events_dropped_total{reason="outgoing"}') >= len(subjects)


# --- what comes in that should not --------------------------------------------------------------------


def test_poison_changes_nothing_for_others_and_is_counted_by_reason(mosquitto, classifier, subjects, caplog):
    wanted = expected(subjects, classifier)
    poison = {
        "units": b'{"units": {"acc": "%s"}, "acc": [[0, 0, 1]]}' % (b"x" * 10_000),
        "json": b"\x00\xff\xfe",
        "packed": b"HS\x09" + bytes(30),
        "shape": b"[1]",
        "not_finite": b'{"acc": [[NaN, 0, 0]]}',
        "time": b'{"t": -1, "acc": [[0, 0, 1]], "gyro": [[0, 0, 0]]}',
        "rate": b'{"rate_hz": -1, "acc": [[0, 0, 1]], "gyro": [[0, 0, 0]]}',
        "empty": b"",
        "gyroscope": b'{"acc": [[0, 0, 1]]}',
        "too_large": b" " * 300_000,
    }
    with Client(mosquitto.port, "wearables/+/activity") as client:
        with running(Daemon(config(mosquitto.port), classifier)) as daemon:
            for i, (topic, content) in enumerate(messages(subjects)):
                bad = list(poison.values())[i % len(poison)]
                client.publish(topic, bad)
                client.publish("wearables/other/imu", bad)
                client.publish(topic, content)
            wait_until(lambda: len(client.labels()) >= len(wanted), "every label")
        assert_labels(client.labels(), wanted)
    n = sum(1 for _ in messages(subjects))
    text = exposed(daemon)
    for reason in poison:
        assert metric(text, f'harstream_messages_rejected_total{{reason="{reason}"}}') == 2 * n / len(poison)
    assert metric(text, "harstream_messages_received_total") == 3 * n
    assert metric(text, "harstream_devices") == len(subjects)
    rejections = [record.getMessage() for record in caplog.records if "rejected" in record.getMessage()]
    assert 0 < len(rejections) <= 6  # not one for each
    assert max(map(len, rejections)) < 1000  # whatever was in it


def test_a_message_larger_than_the_inbox_does_not_push_the_others_out(classifier, subjects):
    daemon = Daemon(config(), classifier)
    daemon.inbox.max_bytes = 2_000_000
    sent = list(messages(subjects))
    for topic, content in sent:
        daemon.receive([(topic, content, False)])
    daemon.receive([("wearables/evil/imu", bytes(3_000_000), False)])
    assert daemon.inbox.dropped == 0
    daemon.step(0)
    text = exposed(daemon)
    assert metric(text, "harstream_messages_received_total") == len(sent) + 1
    assert metric(text, 'harstream_messages_rejected_total{reason="too_large"}') == 1


def test_retained_samples_are_old_and_ignored(mosquitto, classifier, subjects):
    sent = list(messages(subjects[:1]))
    with Client(mosquitto.port) as client:
        client.publish(*sent[0], retain=True)
        client.flush()
        with running(Daemon(config(mosquitto.port, mqtt_version="3.1.1"), classifier)) as daemon:
            for topic, content in sent[1:]:
                client.publish(topic, content, retain=True)  # but live ones may be marked so
            wait_until(lambda: len(client.labels()) >= 10, "labels")
    assert metric(exposed(daemon), 'harstream_messages_rejected_total{reason="retained"}') == 1


def test_devices_beyond_the_limit_are_shed_and_counted(mosquitto, classifier, subjects):
    wanted = expected(subjects[:2], classifier)
    with Client(mosquitto.port) as client:
        with running(Daemon(config(mosquitto.port, max_devices=2), classifier)) as daemon:
            for topic, content in messages(subjects):
                client.publish(topic, content)
            wait_until(lambda: len(client.labels()) >= len(wanted), "every label")
        assert_labels(client.labels(), wanted)
    shed = sum(len(subject.samples) for subject in subjects[2:])
    assert metric(exposed(daemon), 'harstream_samples_dropped_total{reason="devices"}') == shed


def test_messages_shed_by_a_full_inbox_are_counted(classifier, subjects):
    daemon = Daemon(config(), classifier)
    daemon.inbox.max_bytes = 10_000
    sent = list(messages(subjects))
    for topic, content in sent:
        daemon.receive([(topic, content, False)])
    kept = len(daemon.inbox)
    daemon.step(0)
    assert 0 < kept < len(sent)
    assert metric(exposed(daemon), 'harstream_messages_dropped_total{reason="inbox"}') == len(sent) - kept


# --- metrics ------------------------------------------------------------------------------------------


def test_the_numbers_add_up_and_no_device_is_in_them(mosquitto, classifier, subjects):
    wanted = expected(subjects, classifier)
    sent = list(messages(subjects))
    with Client(mosquitto.port) as client, running(Daemon(config(mosquitto.port), classifier)) as daemon:
        for topic, content in sent:
            client.publish(topic, content)
        wait_until(lambda: len(client.labels()) >= len(wanted), "every label")
        assert metric(exposed(daemon), "harstream_mqtt_connected") == 1
    text = exposed(daemon)
    assert metric(text, "harstream_messages_received_total") == len(sent)
    assert metric(text, "harstream_queue_wait_seconds_count") == len(sent)
    assert metric(text, "harstream_lag_seconds_count") == len(sent)
    assert metric(text, 'harstream_lag_seconds_bucket{le="3600"}') == 0  # recorded long ago
    assert metric(text, "harstream_samples_received_total") == sum(len(subject.samples) for subject in subjects)
    assert metric(text, "harstream_latency_seconds_count") == len(wanted)
    assert metric(text, "harstream_latency_seconds_sum") > 0
    assert metric(text, "harstream_inference_batch_size_sum") == len(wanted)
    assert metric(text, "harstream_inference_duration_seconds_count") == metric(
        text, "harstream_inference_batch_size_count"
    )
    assert metric(text, "harstream_mqtt_connected") == 0
    assert metric(text, "harstream_mqtt_reconnects_total") == 0
    assert metric(text, "harstream_devices") == len(subjects)
    assert time.time() - metric(text, "harstream_last_message_timestamp_seconds") < 3600
    last = {device: label for device, _, label, _, _ in wanted}
    names = {name: [label for device, _, label, _, _ in wanted if device == name] for name in last}
    for label in classifier.bundle.published_labels:
        count = sum(one == label for labels in names.values() for one in labels)
        changes = sum(b == label != a for labels in names.values() for a, b in pairwise(labels))
        now = sum(one == label for one in last.values())
        assert metric(text, f'harstream_windows_classified_total{{label="{label}"}}') == count
        assert metric(text, f'harstream_confidence_count{{label="{label}"}}') == count
        assert metric(text, f'harstream_activity_changes_total{{label="{label}"}}') == changes
        assert metric(text, f'harstream_devices_by_activity{{label="{label}"}}') == now
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            assert not any("subject" in value for value in sample.labels.values())


def test_a_device_whose_clock_is_ahead_has_no_negative_lag(classifier, subjects):
    daemon = Daemon(config(), classifier, clock=lambda: 1000.0)
    for topic, content in messages(subjects[:1]):
        daemon.receive([(topic, content, False)])
    daemon.step(0)
    assert metric(exposed(daemon), "harstream_lag_seconds_sum") == 0


def test_labels_that_could_not_be_handed_over_are_counted(classifier, subjects):
    daemon = Daemon(config(), classifier)  # without a connection
    for topic, content in messages(subjects):
        daemon.receive([(topic, content, False)])
    daemon.stop()
    daemon.run()
    wanted = len(expected(subjects, classifier))
    assert metric(exposed(daemon), 'harstream_windows_dropped_total{reason="outgoing"}') == wanted


# --- eviction -----------------------------------------------------------------------------------------


def test_an_idle_device_is_forgotten_and_its_label_taken_back(mosquitto, classifier, subjects, monkeypatch):
    monkeypatch.setattr(serving, "EVICT_EVERY_S", 0.05)
    monkeypatch.setattr(serving, "IDLE_WAIT_S", 0.05)
    now = [time.time()]
    n_each = len(expected(subjects[:1], classifier))
    with Client(mosquitto.port) as client:
        daemon = Daemon(config(mosquitto.port, idle_s=60), classifier, clock=lambda: now[0])
        with running(daemon):
            for topic, content in messages(subjects[:2]):
                client.publish(topic, content)
            wait_until(lambda: len(client.labels()) == 2 * n_each, "labels")
            now[0] += 50
            for topic, content in messages(subjects[2:3]):  # a third one is still there
                client.publish(topic, content)
            wait_until(lambda: len(client.labels()) == 3 * n_each, "more labels")
            now[0] += 20
            wait_until(lambda: client.payloads("wearables/subject-0/activity")[-1] == b"", "the first to be cleared")
            wait_until(lambda: client.payloads("wearables/subject-1/activity")[-1] == b"", "the second to be cleared")
            text = exposed(daemon)
            assert metric(text, "harstream_devices") == 1
            assert (
                sum(
                    metric(text, f'harstream_devices_by_activity{{label="{label}"}}')
                    for label in classifier.bundle.labels
                )
                == 1
            )
            with Client(mosquitto.port, "wearables/+/activity") as later:
                wait_until(lambda: later.messages)
                assert [topic for topic, _, _ in later.messages] == ["wearables/subject-2/activity"]
            for topic, content in messages(subjects[:1]):  # back again, as new
                client.publish(topic, content)
            wait_until(lambda: len(client.labels()) == 4 * n_each, "the labels of the one that came back")


def test_memory_of_takes_gone_by_goes_back_to_the_system():
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

    # Below the size that glibc asks the system for by itself, and the last one stays: it would hold all the others.
    pieces = [bytearray(64 * 1024) for _ in range(1600)]
    last = pieces.pop()
    pieces.clear()
    before = resident()
    serving._give_back()
    if hasattr(ctypes.CDLL(None), "malloc_trim"):  # another C library has nothing to ask for it with
        assert resident() < before - 80e6
    assert len(last)


def test_labels_that_could_not_be_taken_back_at_once_are_taken_back_later(classifier, subjects):
    class Broker:
        """Takes as many messages as there is room for."""

        ready, connects = True, 1

        def __init__(self) -> None:
            self.room, self.taken = 0, []  # type: ignore[var-annotated]

        def publish_all(self, messages: list[tuple[str, bytes]], **_: object) -> int:
            taken = messages[: self.room]
            self.room -= len(taken)
            self.taken += taken
            return len(taken)

    daemon = Daemon(RunConfig(broker="x", instance="test", events_topic="off"), classifier)
    daemon.connection = broker = Broker()  # type: ignore[assignment]
    broker.room = 100
    due = [daemon.engine.feed(SampleBatch.from_message(w.name, w.samples, t_ns=0, rate_hz=50)) for w in subjects[:3]]
    daemon.classify(WindowBatch.concatenate(due))
    names = [w.name for w in subjects[:3]]
    broker.taken.clear()
    for room, cleared in ((1, names[:1]), (0, names[:1]), (9, names)):
        broker.room = room
        daemon._clear(names if room == 1 else [])
        assert broker.taken == [(f"wearables/{name}/activity", b"") for name in cleared]
    assert not daemon._uncleared


# --- the broker goes and comes ------------------------------------------------------------------------


def test_a_restarted_broker_gets_everything_that_comes_after(tmp_path, classifier, subjects):
    wanted = expected(subjects, classifier)
    with Mosquitto(tmp_path) as broker, running(Daemon(config(broker.port), classifier)) as daemon:
        broker.stop()
        wait_until(lambda: not daemon.connected, "the loss to be noticed")
        assert not daemon.ready
        broker.start()
        wait_until(lambda: daemon.ready, "the connection")
        with Client(broker.port) as client:
            wait_until(lambda: b"online" in client.payloads("harstream/test/status"), "the status")
            for topic, content in messages(subjects):
                client.publish(topic, content)
            wait_until(lambda: len(client.labels()) >= len(wanted), "every label")
            assert_labels(client.labels(), wanted)
        assert metric(exposed(daemon), "harstream_mqtt_reconnects_total") == 1


def test_the_status_is_retained_and_says_online_then_stopped(mosquitto, classifier):
    with Client(mosquitto.port) as client:
        with running(Daemon(config(mosquitto.port), classifier)):
            wait_until(lambda: client.payloads("harstream/test/status") == [b"online"], "online")
        wait_until(lambda: client.payloads("harstream/test/status") == [b"online", b"stopped"], "stopped")
    with Client(mosquitto.port) as client:
        wait_until(lambda: client.messages)
        assert client.messages == [("harstream/test/status", b"stopped", True)]


def test_stopped_while_still_waiting_for_a_broker_it_ends(classifier):
    daemon = Daemon(config(free_port()), classifier)
    threading.Timer(0.1, daemon.stop).start()
    with running(daemon):
        pass
    assert not daemon.connected


# --- drain --------------------------------------------------------------------------------------------


def test_everything_received_is_labelled_before_it_stops(mosquitto, classifier, subjects):
    wanted = expected(subjects, classifier)
    sent = list(messages(subjects))
    with Client(mosquitto.port) as client:
        slow = Slow(classifier, seconds=0.05)
        with running(Daemon(config(mosquitto.port), slow)):  # type: ignore[arg-type]
            for topic, content in sent:
                client.publish(topic, content)
            client.flush()  # the broker has them all, and the daemon is told to stop now
        wait_until(lambda: client.payloads("harstream/test/status")[-1:] == [b"stopped"], "stopped")
        assert_labels(client.labels(), wanted)


def test_what_was_still_on_its_way_to_us_is_labelled_too(mosquitto, classifier, subjects):
    class Slow(Daemon):
        def receive(self, messages: Sequence[InboundMessage]) -> None:
            time.sleep(0.002 * len(messages))
            super().receive(messages)

    wanted = expected(subjects, classifier)
    with Client(mosquitto.port) as client:
        with running(Slow(config(mosquitto.port), classifier)):
            for topic, content in messages(subjects):
                client.publish(topic, content)
            client.flush()
        wait_until(lambda: client.payloads("harstream/test/status")[-1:] == [b"stopped"], "stopped")
        assert_labels(client.labels(), wanted)


@pytest.mark.parametrize("fail_at", [1, 2])
def test_a_bug_in_the_classifying_thread_ends_the_run_with_it(mosquitto, classifier, subjects, fail_at):
    with Client(mosquitto.port) as client:
        broken = Slow(classifier, fail_at=fail_at)
        with running(Daemon(config(mosquitto.port), broken)) as daemon:  # type: ignore[arg-type]
            for topic, content in messages(subjects):
                client.publish(topic, content)
                client.flush()
                if daemon.stopping.is_set():
                    break
            wait_until(daemon.stopping.is_set, "the end")
        assert isinstance(daemon.failure, ZeroDivisionError)
        assert bool(client.labels()) is (fail_at == 2)
        wait_until(lambda: client.payloads("harstream/test/status")[-1] == b"offline", "goodbye")


def test_a_bug_in_the_loop_ends_the_run_after_what_was_handed_over_is_published(mosquitto, classifier, subjects):
    with Client(mosquitto.port) as client:
        daemon = Daemon(config(mosquitto.port), Slow(classifier, seconds=0.05))  # type: ignore[arg-type]
        feed, windows = daemon.engine.feed, []

        def feed_then_fail(batch):
            due = feed(batch)
            windows.append(len(due))
            if sum(windows) > 10:
                windows.pop()
                raise ZeroDivisionError("a bug")
            return due

        daemon.engine.feed = feed_then_fail  # type: ignore[method-assign]
        with running(daemon):
            for topic, content in messages(subjects):
                client.publish(topic, content)
                client.flush()
                if daemon.stopping.is_set():
                    break
                wait_until(lambda: daemon.failure is not None or not len(daemon.inbox))
            wait_until(lambda: daemon.failure is not None, "the end")
        wait_until(lambda: client.payloads("harstream/test/status")[-1] == b"offline", "goodbye")
        assert len(client.labels()) == sum(windows) > 0


# --- http ---------------------------------------------------------------------------------------------


def test_readiness_follows_subscription_inbox_and_broker(tmp_path, classifier):
    broker = Mosquitto(tmp_path)
    daemon = Daemon(config(broker.port), classifier)
    server = HttpServer(("127.0.0.1", 0), page.routes(daemon))
    server.start()
    assert http_get(f"{server.url}/readyz")[0] == 503
    assert http_get(f"{server.url}/healthz") == (200, "ok\n")
    with broker, running(daemon):
        assert http_get(f"{server.url}/readyz") == (200, "ok\n")
        full, daemon.inbox.max_bytes = daemon.inbox.max_bytes, 0
        assert http_get(f"{server.url}/readyz")[0] == 503
        daemon.inbox.max_bytes = full
        broker.stop()
        wait_until(lambda: http_get(f"{server.url}/readyz")[0] == 503, "not ready")
        assert http_get(f"{server.url}/healthz")[0] == 200
        broker.start()
        wait_until(lambda: http_get(f"{server.url}/readyz")[0] == 200, "ready again")
    assert http_get(f"{server.url}/readyz")[0] == 503
    server.close()


def test_health_is_whether_the_loop_moves_and_waiting_for_a_broker_is_healthy(classifier, monkeypatch):
    daemon = Daemon(config(), classifier)
    monkeypatch.setattr(serving, "HEARTBEAT_S", 0.0)
    assert daemon.alive  # there is no loop yet
    daemon.step(0)
    wait_until(lambda: not daemon.alive, "the heartbeat to be missed")
    monkeypatch.setattr(serving, "HEARTBEAT_S", 60.0)
    daemon.step(0)
    assert daemon.alive


def test_metrics_and_a_page_to_look_at(classifier, subjects):
    daemon = Daemon(config(), classifier)
    for topic, content in messages(subjects):
        daemon.receive([(topic, content, False)])
    daemon.step(0)
    server = HttpServer(("127.0.0.1", 0), page.routes(daemon))
    server.start()
    status, text = http_get(f"{server.url}/metrics")
    assert status == 200
    assert metric(text, "harstream_messages_received_total") == sum(1 for _ in messages(subjects))
    status, text = http_get(f"{server.url}/")
    assert status == 200
    assert "random@0.0.1" in text
    assert "WALKING_UPSTAIRS" in text
    assert "UNKNOWN" in text
    assert "subject" not in text
    server.close()
