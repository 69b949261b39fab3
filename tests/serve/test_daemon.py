"""The daemon in this process, between a real broker and its clients."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from harstream.classifier import Classifier, load_classifier
from harstream.core.smoothing_section import Smoothing
from harstream.embedded import EmbeddedBroker
from harstream.evaluate.published import label_recording
from harstream.serve import daemon as serving
from harstream.serve import rejections as rejecting
from harstream.serve.daemon import Daemon

from ..constants import SPEC, T0_NS
from ..fakes import Clock
from ..live_streams import assert_labels, expected, messages
from ..servers import Client, Mosquitto, metric, wait_until
from .daemons import exposed, make_config, publish_all, receive_all, running, wait_for_labels


def wait_for_windows(daemon: Daemon, number: int) -> None:
    """Wait until the metrics of ``number`` windows are observed, which is after their publication."""
    wait_until(lambda: daemon.status().windows_classified == number, f"{number} windows")


@pytest.fixture(params=["mosquitto", "mosquitto, MQTT 3.1.1", "embedded"])
def broker(request, tmp_path) -> Iterator[tuple[int, str]]:
    """Port and MQTT version."""
    if request.param == "embedded":
        pytest.importorskip("iotcore")
        embedded = EmbeddedBroker(0)
        embedded.start()
        yield embedded.port, "3.1.1"
        embedded.close()
    else:
        with Mosquitto(tmp_path) as server:
            yield server.port, "3.1.1" if "3.1.1" in request.param else "auto"


# --- labels -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("payload", ["json", "packed"])
def test_labels_are_those_of_engine_and_network_for_the_same_recordings(broker, classifier, subjects, payload):
    port, version = broker
    wanted = expected(subjects, classifier)
    assert len({label for _, _, label, _, _ in wanted}) > 1
    with Client(port) as client:
        with running(Daemon(make_config(port, mqtt_version=version), classifier)):
            publish_all(client, subjects, payload)
            wait_for_labels(client, len(wanted))
        client.flush()
        assert_labels(client.labels(), wanted)
        assert {message["model"] for _, message in client.labels()} == {"random@0.0.1"}


@pytest.mark.parametrize("qos", [0, 1])
def test_the_last_label_of_each_device_is_retained(mosquitto, classifier, subjects, qos):
    wanted = expected(subjects, classifier)
    with Client(mosquitto.port) as client, running(Daemon(make_config(mosquitto.port, qos=qos), classifier)):
        publish_all(client, subjects)
        wait_for_labels(client, len(wanted))
    with Client(mosquitto.port, "wearables/+/activity") as client:
        wait_until(lambda: len(client.messages) == len(subjects))
        assert all(retained for _, _, retained in client.messages)
        for device, message in client.labels():
            assert message["t"] == pytest.approx(max(t for at, t, *_ in wanted if at == device))


def test_messages_delivered_twice_change_nothing_and_are_counted_as_late(mosquitto, classifier, subjects):
    wanted = expected(subjects, classifier)
    with Client(mosquitto.port) as client:
        with running(Daemon(make_config(mosquitto.port), classifier)) as daemon:
            for topic, content in messages(subjects):
                client.publish(topic, content)
                client.publish(topic, content)
            wait_for_labels(client, len(wanted))
        assert_labels(client.labels(), wanted)
    samples = sum(len(subject.samples) for subject in subjects)
    assert metric(exposed(daemon), 'harstream_samples_dropped_total{reason="late"}') == samples


def test_units_may_be_configured(mosquitto, classifier, subjects):
    wanted = expected(subjects[:2], classifier)
    with Client(mosquitto.port) as client:
        with running(Daemon(make_config(mosquitto.port, acc_unit="m/s2", gyro_unit="deg/s"), classifier)):
            for topic, content in messages(subjects[:2]):
                data = json.loads(content)
                data["acc"] = (np.array(data["acc"]) * 9.80665).tolist()
                data["gyro"] = np.degrees(data["gyro"]).tolist()
                client.publish(topic, json.dumps(data).encode())
            wait_for_labels(client, len(wanted))
        assert_labels(client.labels(), wanted)


def test_units_of_accelerations_that_no_one_states_are_told_from_gravity(mosquitto, classifier, subjects):
    wanted = expected(subjects, classifier)
    with Client(mosquitto.port) as client, running(Daemon(make_config(mosquitto.port), classifier)) as daemon:
        for number, subject in enumerate(subjects):
            factor = (9.80665, 1000.0, 1.0)[number % 3]
            for topic, content in messages([subject]):
                data = json.loads(content)
                data["acc"] = (np.array(data["acc"]) * factor).tolist()
                client.publish(topic, json.dumps(data).encode())
        wait_for_labels(client, len(wanted))
        assert_labels(client.labels(), wanted)
    health = daemon.sources[0].pipeline.engine.health()
    units = dict(zip(health.devices, health.acc_unit, strict=True))
    assert {units[f"subject-{number}"] for number in range(0, len(subjects), 3)} == {"m/s2"}


def test_other_topics_may_be_configured(mosquitto, classifier, subjects):
    config = make_config(mosquitto.port, topic="site/{device}", labels_topic="labels/of/{device}")
    with Client(mosquitto.port) as client, running(Daemon(config, classifier)):
        for topic, content in messages(subjects[:1]):
            client.publish(f"site/{topic.split('/')[1]}", content)
        wait_until(lambda: client.payloads("labels/of/subject-0"), "a label")


def test_a_device_may_have_any_name_that_a_topic_may_have(mosquitto, classifier, subjects):
    names = ["ward\u00a07", "\U0001f469\u200d\u2695\ufe0f", "\u200fחדר", "\u202ex", "\U0001fae9", "a\u2028b"]
    with Client(mosquitto.port) as client, running(Daemon(make_config(mosquitto.port), classifier)):
        for _, content in messages(subjects[:1]):
            for name in names:
                client.publish(f"wearables/{name}/imu", content)
        wait_until(lambda: {device for device, _ in client.labels()} == set(names), "a label of each device")


# --- smoothing and events -----------------------------------------------------------------------------


@pytest.fixture
def smoothed(random_bundle, tmp_path) -> Classifier:
    """Return the classifier of a bundle with an HMM that abstains and holds events back."""
    folder = shutil.copytree(random_bundle, tmp_path / "smoothed")
    data = json.loads((folder / "bundle.json").read_text())
    data["smoothing"] = Smoothing("hmm", 0.7, dwell_s=5.0, fixed_lag_windows=2).to_dict()
    (folder / "bundle.json").write_text(json.dumps(data))
    return load_classifier(folder)


def test_labels_and_events_are_those_of_the_smoother_for_the_same_recordings(
    mosquitto, smoothed, subjects, monkeypatch
):
    monkeypatch.setattr(serving, "EVICT_EVERY_S", 0.05)
    monkeypatch.setattr(serving, "IDLE_WAIT_S", 0.05)
    now = [time.monotonic()]
    wanted = expected(subjects, smoothed)
    assert "UNKNOWN" in {label for _, _, label, _, _ in wanted}
    published = {w.name: label_recording(w, smoothed, T0_NS).events for w in subjects}
    n_events = sum(map(len, published.values()))
    with Client(mosquitto.port) as client:
        with running(Daemon(make_config(mosquitto.port), smoothed, monotonic=lambda: now[0])) as daemon:
            publish_all(client, subjects)
            wait_for_labels(client, len(wanted))
            wait_for_windows(daemon, len(wanted))
            text = exposed(daemon)
            now[0] += 1000  # every device is idle
            wait_until(lambda: sum(topic.endswith("/event") for topic, _, _ in client.messages) == n_events, "events")
        assert_labels(client.labels(), wanted)
        for subject in subjects:
            names = [*smoothed.bundle.labels]
            got = [json.loads(payload) for payload in client.payloads(f"wearables/{subject.name}/activity/event")]
            due = published[subject.name]
            assert [(e["event"], e["label"]) for e in got] == [(e.kind, names[e.label]) for e in due]
            np.testing.assert_allclose([e["t"] for e in got], [e.t_ns / 1e9 for e in due], rtol=0, atol=2e-6)
            np.testing.assert_allclose([e["confidence"] for e in got], [e.confidence for e in due], atol=1e-3)
            assert [e.get("duration_s", 0) for e in got] == pytest.approx([e.duration_s for e in due], abs=1e-5)
            assert {e["model"] for e in got} == {"random@0.0.1"}
            assert got[-1]["event"] == "exit"
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
        with running(Daemon(make_config(mosquitto.port, smoothing="none", events_topic="off"), smoothed)):
            publish_all(client, subjects)
            wait_for_labels(client, len(wanted))
        assert_labels(client.labels(), wanted)
        assert not [topic for topic, _, _ in client.messages if topic.endswith("/event")]


def test_events_go_to_their_topic_and_a_stop_is_no_exit_but_loses_none(mosquitto, smoothed, subjects):
    n_labels = len(expected(subjects[:1], smoothed))
    *before, exit_at_last = label_recording(subjects[0], smoothed, T0_NS).events
    assert exit_at_last.kind == "exit"  # a device exits when it is evicted, not when the daemon stops
    with Client(mosquitto.port) as client:
        config = make_config(mosquitto.port, events_topic="changes/of/{device}")
        with running(Daemon(config, smoothed)):
            publish_all(client, subjects[:1])
            wait_for_labels(client, n_labels)
        client.flush()
        wait_until(lambda: len(client.payloads("changes/of/subject-0")) >= len(before), "the events held back")
        got = [json.loads(payload) for payload in client.payloads("changes/of/subject-0")]
    labels = smoothed.bundle.labels
    assert [(event["event"], event["label"]) for event in got] == [(e.kind, labels[e.label]) for e in before]


def test_events_that_could_not_be_published_are_counted(smoothed, subjects):
    daemon = Daemon(make_config(), smoothed)  # without a connection
    receive_all(daemon, messages(subjects))
    daemon.stop()
    daemon.run()
    assert metric(exposed(daemon), 'harstream_events_dropped_total{reason="outgoing"}') >= len(subjects)


# --- messages that are not used --------------------------------------------------------------------


def test_poison_changes_nothing_for_others_and_is_counted_by_reason(
    mosquitto, classifier, subjects, caplog, monkeypatch
):
    monkeypatch.setattr(rejecting, "_LOG_EVERY_S", 1e9)
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
        with running(Daemon(make_config(mosquitto.port), classifier)) as daemon:
            for i, (topic, content) in enumerate(messages(subjects)):
                bad = list(poison.values())[i % len(poison)]
                client.publish(topic, bad)
                client.publish("wearables/other/imu", bad)
                client.publish(topic, content)
            wait_for_labels(client, len(wanted))
        assert_labels(client.labels(), wanted)
    n = sum(1 for _ in messages(subjects))
    text = exposed(daemon)
    for reason in poison:
        assert metric(text, f'harstream_messages_rejected_total{{reason="{reason}"}}') == 2 * n / len(poison)
    assert metric(text, "harstream_messages_received_total") == 3 * n
    assert metric(text, "harstream_devices") == len(subjects)
    rejections = [record.getMessage() for record in caplog.records if record.getMessage().startswith("rejected")]
    assert len(rejections) == 1  # not one for each
    assert max(map(len, rejections)) < 1000  # whatever was in it


def test_a_huge_message_is_counted_as_too_large_and_costs_no_connection(mosquitto, classifier, subjects):
    with Client(mosquitto.port) as client, running(Daemon(make_config(mosquitto.port), classifier)) as daemon:
        client.publish("wearables/evil/imu", bytes(20_000_000))
        publish_all(client, subjects[:1])
        wait_for_labels(client, len(expected(subjects[:1], classifier)))
        text = exposed(daemon)
        assert metric(text, 'harstream_messages_rejected_total{reason="too_large"}') == 1
        assert daemon.connection is not None
        assert daemon.connection.connects == 1


def test_a_message_larger_than_the_inbox_does_not_push_the_others_out(classifier, subjects):
    daemon = Daemon(make_config(), classifier)
    daemon.inbox.max_bytes = 2_000_000
    sent = list(messages(subjects))
    receive_all(daemon, sent)
    daemon.receive([("wearables/evil/imu", bytes(3_000_000), False, 0)])
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
        with running(Daemon(make_config(mosquitto.port, mqtt_version="3.1.1"), classifier)) as daemon:
            for topic, content in sent[1:]:
                client.publish(topic, content, retain=True)  # but live ones may be marked so
            wait_until(lambda: len(client.labels()) >= 10, "labels")
    assert metric(exposed(daemon), 'harstream_messages_rejected_total{reason="retained"}') == 1


def test_samples_of_devices_beyond_the_limit_are_dropped_counted_and_logged_once(
    mosquitto, classifier, subjects, caplog
):
    wanted = expected(subjects[:2], classifier)
    with Client(mosquitto.port) as client:
        with running(Daemon(make_config(mosquitto.port, max_devices=2), classifier)) as daemon:
            publish_all(client, subjects)
            wait_for_labels(client, len(wanted))
            # The last label may come before the last messages of the other devices.
            n_sent = len(list(messages(subjects)))
            wait_until(lambda: daemon.status().messages_received == n_sent, "every message")
        assert_labels(client.labels(), wanted)
    dropped = sum(len(subject.samples) for subject in subjects[2:])
    assert metric(exposed(daemon), 'harstream_samples_dropped_total{reason="devices"}') == dropped
    assert len([line for line in caplog.messages if line.startswith("the device table is full: 2 devices")]) == 1


def test_messages_dropped_by_a_full_inbox_are_counted(classifier, subjects):
    daemon = Daemon(make_config(), classifier)
    daemon.inbox.max_bytes = 10_000
    sent = list(messages(subjects))
    receive_all(daemon, sent)
    kept = len(daemon.inbox)
    daemon.step(0)
    assert 0 < kept < len(sent)
    assert metric(exposed(daemon), 'harstream_messages_dropped_total{reason="inbox"}') == len(sent) - kept


# --- metrics ------------------------------------------------------------------------------------------


def test_the_numbers_add_up_and_no_device_is_in_them(mosquitto, classifier, subjects):
    wanted = expected(subjects, classifier)
    sent = list(messages(subjects))
    with Client(mosquitto.port) as client, running(Daemon(make_config(mosquitto.port), classifier)) as daemon:
        for topic, content in sent:
            client.publish(topic, content)
        wait_for_labels(client, len(wanted))
        wait_until(lambda: daemon.status().messages_received == len(sent), "every message")
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
    daemon = Daemon(make_config(), classifier, clock=lambda: 1000.0)
    receive_all(daemon, messages(subjects[:1]))
    daemon.step(0)
    assert metric(exposed(daemon), "harstream_lag_seconds_sum") == 0


def test_messages_longer_than_a_window_are_labelled_through_a_jump_of_the_clock(classifier, subjects):
    now = Clock(T0_NS / 1e9)
    daemon = Daemon(make_config(), classifier, clock=now, monotonic=Clock(50.0))
    daemon.labelling.start()
    samples = np.resize(subjects[0].samples, (8, 4 * SPEC.window_samples, 6))
    for k, part in enumerate(samples):  # the first one after the jump waits for the second one
        t_s = T0_NS / 1e9 + k * part.shape[0] / 50 + (5000 if k >= 4 else 0)
        payload = json.dumps({"t": t_s, "rate_hz": 50, "acc": part[:, :3].tolist(), "gyro": part[:, 3:].tolist()})
        now.now_s += 1
        daemon.receive([("wearables/long/imu", payload.encode(), False, 0)])
        daemon.step(0)
    daemon.labelling.finish()
    assert daemon.labelling.windows_classified >= 8 * 4
    assert metric(exposed(daemon), "harstream_latency_seconds_sum") == 0


def test_labels_that_could_not_be_published_are_counted(classifier, subjects):
    daemon = Daemon(make_config(), classifier)  # without a connection
    receive_all(daemon, messages(subjects))
    daemon.stop()
    daemon.run()
    wanted = len(expected(subjects, classifier))
    assert metric(exposed(daemon), 'harstream_windows_dropped_total{reason="outgoing"}') == wanted


# --- eviction -----------------------------------------------------------------------------------------


def test_an_idle_device_is_evicted_and_its_label_cleared(mosquitto, classifier, subjects, monkeypatch):
    monkeypatch.setattr(serving, "EVICT_EVERY_S", 0.05)
    monkeypatch.setattr(serving, "IDLE_WAIT_S", 0.05)
    now = [time.monotonic()]
    n_each = len(expected(subjects[:1], classifier))
    with Client(mosquitto.port) as client:
        daemon = Daemon(make_config(mosquitto.port, idle_s=60), classifier, monotonic=lambda: now[0])
        with running(daemon):
            publish_all(client, subjects[:2])
            wait_until(lambda: len(client.labels()) == 2 * n_each, "labels")
            now[0] += 50
            publish_all(client, subjects[2:3])  # the third one is not idle
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
            publish_all(client, subjects[:1])  # the device is back, and starts from the beginning
            wait_until(lambda: len(client.labels()) == 4 * n_each, "the labels of the one that came back")


@pytest.mark.parametrize("jump_s", [3600.0, -3600.0])
def test_a_jump_of_the_machines_clock_evicts_no_device_keeps_none_for_ever_and_is_no_latency(
    classifier, subjects, jump_s
):
    now, monotonic = Clock(1.8e9), Clock(50.0)
    daemon = Daemon(make_config(idle_s=60), classifier, clock=now, monotonic=monotonic)
    sent = list(messages(subjects))
    half = len(sent) // 2
    daemon.labelling.start()
    receive_all(daemon, sent[:half])
    daemon.step(0)
    now.now_s += jump_s
    monotonic.now_s += 10
    daemon.step(0)
    assert daemon.status().devices == len(subjects)
    receive_all(daemon, sent[half:])
    now.now_s += jump_s  # between the arrival and the publication
    monotonic.now_s += 0.5
    daemon.step(0)
    monotonic.now_s += 55
    daemon.step(0)
    assert daemon.status().devices == len(subjects)
    monotonic.now_s += 10
    daemon.step(0)
    assert daemon.status().devices == 0
    daemon.labelling.finish()
    n_windows = len(expected(subjects, classifier))
    assert metric(exposed(daemon), "harstream_latency_seconds_count") == n_windows
    assert 0 < metric(exposed(daemon), "harstream_latency_seconds_sum") < 100 * n_windows
    assert metric(exposed(daemon), "harstream_queue_wait_seconds_sum") == 0.5 * (len(sent) - half)
