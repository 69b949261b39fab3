"""The daemon when the broker restarts, when it is stopped, and when a bug ends it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest

from harstream.core.batches import SampleBatch, WindowBatch
from harstream.mqtt.client import InboundMessage
from harstream.serve import daemon as serving
from harstream.serve.daemon import Daemon

from ..live_streams import assert_labels, expected, messages
from ..servers import Client, Mosquitto, metric, wait_until
from .daemons import exposed, failing, make_config, publish_all, receive_all, running, slow, wait_for_labels

# --- restart of the broker ------------------------------------------------------------------------------


def test_a_restarted_broker_gets_everything_that_comes_after(tmp_path, classifier, subjects):
    wanted = expected(subjects, classifier)
    with Mosquitto(tmp_path) as broker, running(Daemon(make_config(broker.port), classifier)) as daemon:
        broker.stop()
        wait_until(lambda: not daemon.connected, "the loss to be noticed")
        assert not daemon.status().ready
        broker.start()
        wait_until(lambda: daemon.status().ready, "the connection")
        with Client(broker.port) as client:
            wait_until(lambda: b"online" in client.payloads("harstream/test/status"), "the status")
            publish_all(client, subjects)
            wait_for_labels(client, len(wanted))
            assert_labels(client.labels(), wanted)
        assert metric(exposed(daemon), "harstream_mqtt_reconnects_total") >= 1


def test_the_retained_status_is_online_and_then_stopped(mosquitto, classifier):
    with Client(mosquitto.port) as client:
        with running(Daemon(make_config(mosquitto.port), classifier)):
            wait_until(lambda: client.states("harstream/test/status") == [b"online"], "online")
        wait_until(lambda: client.states("harstream/test/status") == [b"online", b"stopped"], "stopped")
    with Client(mosquitto.port) as client:
        wait_until(lambda: client.messages)
        assert client.messages == [("harstream/test/status", b"stopped", True)]


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_the_status_survives_the_late_will_and_the_stop_of_a_predecessor(mosquitto, classifier, version):
    topic = "harstream/test/status"
    config = make_config(mosquitto.port, mqtt_version=version)
    with Client(mosquitto.port, topic) as client:
        with running(Daemon(config, classifier)):
            wait_until(
                lambda: client.payloads(topic) == [b"online"] * 2, "the first, before and after its subscription"
            )
            dead = Daemon(config, classifier)
            with running(dead):
                wait_until(lambda: client.payloads(topic) == [b"online"] * 4, "the second")
                connection: Any = dead.connection
                connection._client._sock.shutdown(socket.SHUT_RDWR)  # the broker publishes its will
                wait_until(lambda: b"offline" in client.payloads(topic), "the will")
                wait_until(lambda: client.payloads(topic)[-1] == b"online", "the correction")
                wait_until(lambda: connection.connects == 2 and connection.ready, "the second to be back")
            wait_until(lambda: b"stopped" in client.payloads(topic), "the stop of the second")
            wait_until(lambda: client.payloads(topic)[-1] == b"online", "the correction")
        wait_until(lambda: client.payloads(topic)[-1] == b"stopped", "the stop of the first")
    with Client(mosquitto.port, topic) as client:
        wait_until(lambda: client.messages)
        assert client.messages == [(topic, b"stopped", True)]


def test_without_retained_messages_and_will_the_broker_keeps_nothing(mosquitto, classifier, subjects, monkeypatch):
    monkeypatch.setattr(serving, "EVICT_EVERY_S", 0.05)
    monkeypatch.setattr(serving, "IDLE_WAIT_S", 0.05)
    now = [time.monotonic()]
    wanted = expected(subjects, classifier)
    config = make_config(mosquitto.port, retain=False, will=False, idle_s=60)
    with Client(mosquitto.port) as client:
        with running(Daemon(config, classifier, monotonic=lambda: now[0])) as daemon:
            publish_all(client, subjects)
            wait_for_labels(client, len(wanted))
            assert_labels(client.labels(), wanted)
            now[0] += 61
            wait_until(lambda: daemon.status().devices == 0, "the eviction")
            wait_until(lambda: not daemon.sources[0].pipeline.last_labels.to_clear, "the labels to be forgotten")
        wait_until(lambda: client.payloads("harstream/test/status")[-1:] == [b"stopped"], "stopped")
        assert not [topic for topic, payload, _ in client.messages if not payload]  # nothing is cleared
    with Client(mosquitto.port) as client:
        client.publish("after", b"")
        wait_until(lambda: client.payloads("after"))
        assert [topic for topic, _, retained in client.messages if retained] == []


def test_a_daemon_that_waits_for_a_broker_can_be_stopped(classifier):
    daemon = Daemon(make_config(), classifier)
    threading.Timer(0.1, daemon.stop).start()  # probably while it waits; before is as good
    with running(daemon):
        pass
    assert not daemon.connected


# --- drain --------------------------------------------------------------------------------------------


def test_everything_received_is_labelled_before_it_stops(mosquitto, classifier, subjects):
    wanted = expected(subjects, classifier)
    with Client(mosquitto.port) as client:
        with running(Daemon(make_config(mosquitto.port), slow(classifier))):
            publish_all(client, subjects)
            client.flush()  # the broker has them all, and the daemon is stopped now
        wait_until(lambda: client.payloads("harstream/test/status")[-1:] == [b"stopped"], "stopped")
        assert_labels(client.labels(), wanted)


def test_messages_still_on_their_way_to_a_stopping_daemon_are_labelled_too(mosquitto, classifier, subjects):
    class SlowReceiver(Daemon):
        def receive(self, messages: Sequence[InboundMessage]) -> None:
            time.sleep(0.002 * len(messages))
            super().receive(messages)

    wanted = expected(subjects, classifier)
    with Client(mosquitto.port) as client:
        with running(SlowReceiver(make_config(mosquitto.port), classifier)):
            publish_all(client, subjects)
            client.flush()
        wait_until(lambda: client.payloads("harstream/test/status")[-1:] == [b"stopped"], "stopped")
        assert_labels(client.labels(), wanted)


@pytest.mark.parametrize("fail_at", [1, 2])
def test_a_bug_in_the_labelling_thread_ends_the_run_with_it(mosquitto, classifier, subjects, fail_at):
    sent = list(messages(subjects))
    half = len(sent) // 2
    with Client(mosquitto.port) as client:
        with running(Daemon(make_config(mosquitto.port), failing(classifier, at=fail_at))) as daemon:
            receive_all(daemon, sent[:half])
            if fail_at == 2:
                wait_until(client.labels, "labels of the first batch")
            receive_all(daemon, sent[half:])
            wait_until(daemon.stopping.is_set, "the end")
        assert isinstance(daemon.failure, ZeroDivisionError)
        wait_until(lambda: client.payloads("harstream/test/status")[-1:] == [b"offline"], "goodbye")
        assert bool(client.labels()) is (fail_at == 2)


def test_a_bug_in_the_main_loop_ends_the_run_after_the_windows_before_are_published(
    mosquitto, classifier, subjects, monkeypatch
):
    monkeypatch.setattr(serving, "MAX_BATCH_MESSAGES", 8)
    daemon = Daemon(make_config(mosquitto.port), slow(classifier))
    receive_all(daemon, messages(subjects))
    feed, n_windows = daemon.sources[0].pipeline.engine.feed, [0]

    def feed_then_fail(batch: SampleBatch, now_s: float, max_windows: int) -> WindowBatch:
        windows = feed(batch, now_s, max_windows)
        if n_windows[0] > 10:
            raise ZeroDivisionError("a bug")
        n_windows[0] += len(windows)
        return windows

    monkeypatch.setattr(daemon.sources[0].pipeline.engine, "feed", feed_then_fail)
    with Client(mosquitto.port) as client:
        with running(daemon):
            wait_until(lambda: daemon.failure is not None, "the end")
        wait_until(lambda: client.payloads("harstream/test/status")[-1:] == [b"offline"], "goodbye")
        wait_for_labels(client, n_windows[0])
        assert len(client.labels()) == n_windows[0] < len(expected(subjects, classifier))


class LastError(BaseException):
    """Error that no handler expects."""


def test_a_dead_network_thread_ends_the_run_with_its_error_and_the_daemon_is_not_ready(
    mosquitto, classifier, subjects, monkeypatch
):
    def fail(*_: Any) -> None:
        raise LastError

    daemon = Daemon(make_config(mosquitto.port), classifier)
    settings = daemon.config.read_broker_settings()
    assert settings is not None
    daemon.connect(settings)
    assert daemon.status().ready
    connection: Any = daemon.connection
    with Client(mosquitto.port) as client:
        connection._client.on_messages = fail
        publish_all(client, subjects[:1])
        with pytest.raises(LastError):
            daemon.run()  # drains, although nothing can be published any more
        wait_until(lambda: client.states("harstream/test/status")[-1:] == [b"offline"], "the will")
    assert not daemon.connected
    assert not daemon.status().ready
