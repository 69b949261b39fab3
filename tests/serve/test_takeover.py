"""A daemon takes devices over with their partitions, and gives them up."""

from __future__ import annotations

import dataclasses
import json
import logging
import threading
import time
from collections.abc import Iterator

import pytest

from harstream.errors import BrokerError
from harstream.mqtt.urls import BrokerSettings
from harstream.serve import takeover as taking
from harstream.serve import workers as working
from harstream.serve.daemon import Daemon
from harstream.serve.takeover import Gained, Lost

from ..fakes import Clock
from ..servers import Client, Mosquitto, metric, mosquitto_passwords, wait_until
from .daemons import exposed, failing, make_worker, partitioned, running


def settings_of(daemon: Daemon) -> BrokerSettings:
    """Return how the daemon reaches its broker."""
    settings = daemon.config.read_broker_settings()
    assert settings is not None
    return settings


# --- the main loop's part, without a broker -------------------------------------------------------------


@pytest.fixture
def daemon(classifier) -> Iterator[Daemon]:
    """Return a daemon that is not connected and whose steps the test takes."""
    made = make_worker(0, classifier, 0)
    made.monotonic = Clock()
    made.labelling.start()
    yield made
    made.labelling.finish()


def receive(daemon: Daemon, sent) -> None:
    for topic, payload in sent:
        daemon.receive([(topic, payload, False, 0)])


def changed(daemon: Daemon) -> list[Gained | Lost]:
    """Return the list to which the changes are added that the daemon has completed."""
    done: list[Gained | Lost] = []
    assert daemon.takeover is not None
    daemon.takeover.confirm = done.append
    return done


def test_the_devices_of_a_lost_partition_are_forgotten_and_those_of_others_stay(daemon, subjects):
    done = changed(daemon)
    receive(daemon, partitioned(subjects[:2]))
    daemon.step(0)
    assert daemon.sources[0].pipeline.engine.n_devices == 2
    daemon.takeover.ask(Lost([1]))
    daemon.step(0)
    wait_until(lambda: done == [Lost([1])], "the end of the change")
    assert daemon.sources[0].pipeline.engine.health().devices == [subjects[0].name]
    assert daemon.sources[0].pipeline.last_labels.devices == [subjects[0].name]
    assert not daemon.sources[0].pipeline.last_labels.to_clear


def test_a_lost_partition_waits_for_its_messages_and_not_for_ever(daemon, subjects, monkeypatch):
    done = changed(daemon)
    monkeypatch.setattr("harstream.serve.daemon.MAX_BATCH_MESSAGES", 1)
    sent = list(partitioned(subjects[:2]))
    receive(daemon, sent)
    daemon.takeover.ask(Lost([1]))
    for _ in range(5):
        daemon.step(0)
    assert done == []
    daemon.monotonic.now_s += taking._DRAIN_S
    daemon.step(0)
    wait_until(lambda: done == [Lost([1])], "the end of the change")
    while len(daemon.inbox):  # messages of both
        daemon.step(0)
    assert daemon.sources[0].pipeline.engine.health().devices == [subjects[0].name]
    receive(daemon, sent[-2:])  # later ones do not come, but if the partition is gained again
    daemon.takeover.ask(Gained([1]))
    daemon.step(0)
    daemon.step(0)
    assert daemon.sources[0].pipeline.engine.n_devices == 2
    assert done == [Lost([1]), Gained([1])]


def test_a_device_begins_anew_when_its_partition_comes_back(daemon, subjects):
    done = changed(daemon)
    sent = list(partitioned(subjects[:1]))
    receive(daemon, sent[:8])  # 200 samples
    daemon.step(0)
    daemon.takeover.ask(Lost([0]))
    daemon.step(0)
    daemon.takeover.ask(Gained([0]))
    daemon.step(0)
    receive(daemon, sent[8:13])  # 125 samples: no window without those before
    daemon.step(0)
    assert daemon.sources[0].pipeline.engine.n_devices == 1
    daemon.takeover.ask(Lost([0]))  # follows all windows
    daemon.step(0)
    wait_until(lambda: len(done) == 3, "the changes")
    assert daemon.labelling.windows_classified == 2


def test_nothing_is_labelled_without_a_lease_nor_in_a_closed_partition(daemon, subjects):
    sent = list(partitioned(subjects[:2]))
    receive(daemon, sent)
    daemon.takeover.lease_end_s = daemon.monotonic.now_s - 0.1
    daemon.step(0)
    assert daemon.status().messages_foreign == len(sent)
    assert daemon.sources[0].pipeline.engine.n_devices == 0
    daemon.takeover.lease_end_s = daemon.monotonic.now_s + 0.1
    daemon.takeover.closed = frozenset({1})
    receive(daemon, sent)
    daemon.step(0)
    assert daemon.sources[0].pipeline.engine.health().devices == [subjects[0].name]
    assert metric(exposed(daemon), 'harstream_messages_dropped_total{reason="partition"}') == 1.5 * len(sent)


# --- with a broker --------------------------------------------------------------------------------------


def wait_to_serve(daemon: Daemon, *partitions: int) -> None:
    """Wait until a worker serves exactly these partitions."""
    wanted = {f"p/{partition}/wearables/+/imu" for partition in partitions}
    workers = daemon.workers
    assert workers is not None
    own, guests = workers.subscriptions, workers._guests
    wait_until(lambda: own.accepted | guests.accepted == wanted, f"partitions {partitions}")


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_a_worker_that_stops_hands_its_devices_over_and_gets_them_back(mosquitto, classifier, subjects, version):
    pair = subjects[:2]
    names = [subject.name for subject in pair]
    sent = list(partitioned(pair))
    with Client(mosquitto.port) as client:

        def send(first: int, last: int) -> None:
            for topic, payload in sent[first:last]:
                client.publish(topic, payload)

        def labelled(number: int) -> None:
            wait_until(lambda: len(client.labels()) >= number, f"{number} labels")

        def last_retained() -> dict[str, bytes]:
            with Client(mosquitto.port, "wearables/+/activity") as late:
                wait_until(lambda: len(late.messages) == 2, "the retained labels")
                return {topic: payload for topic, payload, _ in late.messages}

        def events(name: str) -> list[str]:
            return [json.loads(event)["event"] for event in client.payloads(f"wearables/{name}/activity/event")]

        with running(make_worker(mosquitto.port, classifier, 0, mqtt_version=version)) as first:
            with running(make_worker(mosquitto.port, classifier, 1, mqtt_version=version)) as second:
                wait_to_serve(first, 0)
                wait_to_serve(second, 1)
                send(0, 24)  # 300 samples of each: three windows
                labelled(6)
                assert [each.sources[0].pipeline.engine.n_devices for each in (first, second)] == [1, 1]
            wait_to_serve(first, 0, 1)
            assert first.workers is not None
            assert first.workers.subscriptions.accepted == {"p/0/wearables/+/imu"}  # the other has its own connection
            assert second.sources[0].pipeline.engine.n_devices == 0
            wait_until(lambda: events(names[1])[-1:] == ["exit"], "the end of the activities of the second")
            send(24, 44)  # 250 samples: two windows of the second device, four of the other
            labelled(12)
            assert first.sources[0].pipeline.engine.n_devices == 2
            assert metric(exposed(first), "harstream_partitions") == 2
            assert metric(exposed(first), 'harstream_partition_changes_total{change="gained"}') == 2
            with running(make_worker(mosquitto.port, classifier, 1, mqtt_version=version)) as again:
                wait_to_serve(again, 1)
                wait_to_serve(first, 0)
                assert metric(exposed(first), 'harstream_partition_changes_total{change="lost"}') == 1
                assert first.sources[0].pipeline.engine.health().devices == [names[0]]
                before = last_retained()
                # Idle devices are evicted; the label of the one that it gave up is not its own any more.
                first.config = dataclasses.replace(first.config, idle_s=1.0)
                wait_until(lambda: first.sources[0].pipeline.engine.n_devices == 0, "the eviction")
                wait_until(lambda: not client.payloads(f"wearables/{names[0]}/activity")[-1], "the clearing")
                with Client(mosquitto.port, "wearables/+/activity") as late:
                    wait_until(lambda: late.messages, "the other retained label")
                    assert [(topic, payload) for topic, payload, _ in late.messages] == [
                        (f"wearables/{names[1]}/activity", before[f"wearables/{names[1]}/activity"])
                    ]
                # No device had two workers: no window is labelled twice.
                keys = [(device, label["t"]) for device, label in client.labels()]
                assert len(keys) == len(set(keys))


def test_two_daemons_with_one_number_do_not_label_a_device_twice(mosquitto, classifier, subjects, caplog):
    caplog.set_level(logging.WARNING)
    with (
        Client(mosquitto.port) as client,
        running(make_worker(mosquitto.port, classifier, 0, workers=1)),
        running(make_worker(mosquitto.port, classifier, 0, workers=1)) as twin,
    ):
        assert twin.connected
        assert not twin.served_partitions
        for topic, payload in partitioned(subjects[:2]):
            client.publish(topic, payload)
        wait_until(lambda: len(client.labels()) >= 22, "the labels")
        assert twin.status().messages_received == 0
    assert "another daemon is worker 0/1 too" in caplog.text
    keys = [(device, label["t"]) for device, label in client.labels()]
    assert len(keys) == len(set(keys)) == 22


def test_an_error_in_the_thread_of_the_workers_ends_the_daemon(mosquitto, classifier, monkeypatch):
    def fail(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    with running(make_worker(mosquitto.port, classifier, 0)) as daemon:
        monkeypatch.setattr(daemon.workers, "_reassign", fail)
        wait_until(lambda: daemon.failure is not None, "the error")
    assert isinstance(daemon.failure, ZeroDivisionError)


def test_an_error_in_the_labelling_thread_leaves_the_partitions_to_others(mosquitto, classifier, subjects):
    with running(make_worker(mosquitto.port, failing(classifier, 1), 0)) as daemon, Client(mosquitto.port) as client:
        for topic, payload in partitioned(subjects[:1]):
            client.publish(topic, payload)
        wait_until(lambda: daemon.failure is not None, "the error")

        def said_farewell() -> bool:
            last = json.loads((client.payloads("harstream/harstream/workers/0") or [b"{}"])[-1])
            return last.get("state") == "leaving" and not last["partitions"]

        wait_until(said_farewell, "the farewell")


def test_a_broker_that_does_not_deliver_heartbeats_ends_the_start(tmp_path, classifier, monkeypatch):
    monkeypatch.setattr(working, "_ECHO_S", 2.0)
    passwords, acl = mosquitto_passwords(tmp_path / "passwords", ann="right"), tmp_path / "acl"
    acl.write_text("user ann\ntopic readwrite harstream/test/status\ntopic read p/#\n")
    acl.chmod(0o644)
    lines = f"allow_anonymous false\npassword_file {passwords}\nacl_file {acl}"
    with Mosquitto(tmp_path, lines=lines) as broker:
        daemon = make_worker(broker.port, classifier, 0, user="ann", password="right")
        with pytest.raises(BrokerError, match="let user 'ann' publish to harstream/harstream/workers/0"):
            daemon.connect(settings_of(daemon))
    assert not daemon.connected


def test_a_stop_during_the_start_ends_it(mosquitto, classifier, monkeypatch):
    monkeypatch.setattr(working, "_HOME_S", 1e9)
    with running(make_worker(mosquitto.port, classifier, 0, workers=1)):
        twin = make_worker(mosquitto.port, classifier, 0, workers=1)  # which waits for its partitions
        threading.Timer(2.0, twin.stop).start()
        began_s = time.monotonic()
        twin.connect(settings_of(twin))
        assert twin.stopping.is_set()
        assert time.monotonic() - began_s > 1
        twin.labelling.start()
        twin.drain()
