"""Announcement to Home Assistant: which retained messages the broker has, whatever daemons, devices and people do."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from harstream.config import RunConfig
from harstream.errors import ConfigError
from harstream.serve.announcements import Announcements
from harstream.serve.daemon import Daemon
from harstream.serve.homeassistant import HomeAssistant
from harstream.source_config import default_name
from harstream.wire.homeassistant import Discovery
from harstream.wire.topics import TopicTemplate

from ..live_streams import expected
from ..servers import Client, Mosquitto, mosquitto_passwords, wait_until
from .daemons import make_config, make_worker, partitioned, publish_all, running, wait_for_labels
from .sources import LABELS_OF, interleaved, sources_config, stream

LABELS = ["A", "B", "UNKNOWN"]
#: Name of the one source without a table.
SOURCE = default_name(1)
IDLE_S = 300.0


@pytest.fixture(params=["auto", "3.1.1"])
def version(request) -> str:
    return request.param


@pytest.fixture
def broker(tmp_path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path) as server:
        yield server


class Clock:
    """Monotonic time that only the test moves."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


Start = Callable[..., HomeAssistant]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def start(broker, clock, version) -> Iterator[Start]:
    """Connect parts of daemons, which are disconnected after the test."""
    started: list[HomeAssistant] = []

    def begin(models: Sequence[tuple[Sequence[str], str]] = (), **settings) -> HomeAssistant:
        fixed = {"homeassistant": True, "mqtt_version": version, "idle_s": IDLE_S, "max_devices": 9}
        config = RunConfig(broker=f"127.0.0.1:{broker.port}", **{"instance": "test", **fixed, **settings})
        part = HomeAssistant(config, models or [(LABELS, "m@1")] * len(config.sources), clock, lambda: None)
        address = config.read_broker_settings()
        assert address is not None
        started.append(part)
        part.open(address, address.name_client("test"), threading.Event())
        return part

    yield begin
    for part in started:
        part.close(10.0)
        assert part.failure is None


class Retained:
    """Messages that the broker retains for Home Assistant: by device the sensors, and those that came since."""

    def __init__(self, port: int, prefix: str = "homeassistant") -> None:
        self.client = Client(port, f"{prefix}/sensor/#")

    def __enter__(self) -> Retained:
        self.client.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.client.__exit__()

    @property
    def sensors(self) -> list[dict[str, Any]]:
        """Content of the last message on each topic."""
        last = {topic: payload for topic, payload, _ in list(self.client.messages)}
        return [json.loads(payload) for _, payload in sorted(last.items()) if payload]

    @property
    def devices(self) -> dict[str, list[dict[str, Any]]]:
        devices: dict[str, list[dict[str, Any]]] = {}
        for content in self.sensors:
            devices.setdefault(content["device"]["name"], []).append(content)
        return devices

    def activities(self) -> dict[str, dict[str, Any]]:
        """Return the sensors of activities by the topics that they read, if each of these has one."""
        found = [content for content in self.sensors if content["name"] == "Activity"]
        by_topic = {content["state_topic"]: content for content in found}
        assert len(by_topic) == len(found)
        return by_topic

    @property
    def number(self) -> int:
        """Number of messages that are no removal."""
        return sum(bool(payload) for _, payload, _ in list(self.client.messages))

    def announcements(self, device: str) -> int:
        """Return how often a device was announced."""
        contents = [json.loads(payload) for _, payload, _ in list(self.client.messages) if payload]
        return sum(content["device"]["name"] == device and content["name"] == "Activity" for content in contents)

    def wait(self, *devices: str) -> None:
        """Wait until just these devices have all sensors."""
        wait_until(
            lambda: self.devices.keys() == set(devices) and all(len(sensors) == 3 for sensors in self.devices.values()),
            f"the devices {devices}",
        )

    def stays(self, part: HomeAssistant, *devices: str) -> None:
        """Check that just these devices have sensors when the part has done all that it was asked to."""
        part.note_labelled(SOURCE, ["barrier"])
        self.wait(*devices, "barrier")
        part.note_gone(SOURCE, ["barrier"], for_good=True)
        self.wait(*devices)


@pytest.fixture
def retained(broker) -> Iterator[Retained]:
    with Retained(broker.port) as watcher:
        yield watcher


def test_a_device_is_announced_at_its_first_label_and_removed_when_it_is_forgotten(start, retained):
    part = start()
    part.note_labelled(SOURCE, ["a", "b", "a"])
    retained.wait("a", "b")
    part.note_labelled(SOURCE, ["a", "b"])
    retained.stays(part, "a", "b")
    assert retained.number == 9  # with the barrier's
    part.note_gone(SOURCE, ["a"], for_good=True)
    retained.wait("b")
    part.note_labelled(SOURCE, ["a"])
    retained.wait("a", "b")


def test_the_prefix_can_be_another_one(start, broker):
    part = start(homeassistant_prefix="haus")
    with Retained(broker.port, "haus") as there:
        part.note_labelled(SOURCE, ["a"])
        there.wait("a")


@pytest.mark.parametrize(
    ("prefix", "topic"),
    [("homeassistant", "homeassistant/status"), ("haus", "haus/status"), ("haus", "homeassistant/status")],
)
def test_when_home_assistant_starts_every_device_is_announced_again(start, broker, prefix, topic):
    part = start(homeassistant_prefix=prefix)
    with Retained(broker.port, prefix) as there:
        part.note_labelled(SOURCE, ["a", "b"])
        there.wait("a", "b")
        before = there.number
        there.client.publish(topic, b"offline")
        there.client.publish(topic, b"online")
        wait_until(lambda: there.number == before + 6, "both devices again")


def test_another_model_has_other_labels(start, retained):
    part = start()
    part.note_labelled(SOURCE, ["a"])
    retained.wait("a")
    part.change_model(SOURCE, ["C", "UNKNOWN"], "m@2")
    wait_until(lambda: retained.devices["a"][0].get("options") == ["C", "UNKNOWN"], "the other labels")
    assert retained.devices["a"][0]["device"]["model"] == "m@2"


def test_more_devices_than_are_published_at_once(start, retained):
    part = start()
    devices = [f"d{number}" for number in range(400)]
    part.note_labelled(SOURCE, devices)
    retained.wait(*devices)
    part.note_gone(SOURCE, devices, for_good=True)
    retained.wait()


def test_what_an_earlier_life_announced_is_removed_if_the_device_does_not_come_back(start, retained, clock):
    earlier = start()
    earlier.note_labelled(SOURCE, ["stays", "goes"])
    retained.wait("stays", "goes")
    earlier.close(10.0)
    part = start()
    wait_until(lambda: len(part._sources[SOURCE]._later_s) == 2, "what the broker retains")
    part.note_labelled(SOURCE, ["stays"])
    clock.now_s += IDLE_S - 1
    retained.stays(part, "stays", "goes")
    clock.now_s += 2
    retained.wait("stays")
    clock.now_s += 10 * IDLE_S
    retained.stays(part, "stays")


@pytest.mark.parametrize("other", [{"instance": "other"}, {"topic": "v/{device}/imu"}, {"partitions": "0"}], ids=str)
def test_announcements_of_another_daemon_are_its_own(start, retained, clock, other):
    here = {"topic": "w/{partition}/{device}", "partitions": "1"} if "partitions" in other else {}
    another = start(**{**here, **other})
    another.note_labelled(SOURCE, ["a"])
    retained.wait("a")
    part = start(**here)
    clock.now_s += 10 * IDLE_S
    part.note_gone(SOURCE, ["a"], for_good=True)
    retained.stays(part, "a")


def test_a_device_that_comes_here_is_announced_again_and_left_alone_by_the_earlier_owner(start, retained, clock):
    one, two = start(topic="one/{device}"), start(topic="two/{device}")
    one.note_labelled(SOURCE, ["a"])
    retained.wait("a")
    owner = retained.devices["a"][0]["harstream"]
    two.note_labelled(SOURCE, ["a"])
    wait_until(lambda: retained.devices["a"][0]["harstream"] != owner, "the other owner")
    retained.stays(one, "a")
    before = retained.announcements("a")
    retained.client.publish("homeassistant/status", b"online")
    wait_until(lambda: retained.announcements("a") > before, "the new owner's announcement")
    retained.stays(one, "a")
    retained.stays(two, "a")
    assert retained.announcements("a") == before + 1
    one.note_gone(SOURCE, ["a"], for_good=True)
    clock.now_s += 10 * IDLE_S
    retained.stays(one, "a")
    two.note_gone(SOURCE, ["a"], for_good=True)
    retained.wait()


class Announced:
    """Announcements of one daemon, of which the device ``a`` is to be published, and what the broker says of it."""

    def __init__(self, clock: Clock) -> None:
        self.discovery = Discovery("homeassistant", TopicTemplate("w/{device}/activity"), "s", "one", "1.2.3")
        self.part = Announcements(self.discovery, LABELS, "m@1", max_devices=9, idle_s=IDLE_S, monotonic=clock)
        self.key = Discovery.key("a")
        self.part.note_labelled(["a"])
        self._topic, self.own = self.part.messages([self.key])[0]
        self.other = self.own.replace(self.discovery.owner.encode(), b"other")

    def hear(self, *payloads: bytes) -> None:
        for payload in payloads:
            self.part.hear(self._topic, payload)

    def publish(self) -> None:
        self.part.note_published(list(self.part.due))


def test_the_last_announcement_that_the_broker_delivers_names_the_owner(clock):
    a = Announced(clock)
    a.hear(a.other)  # retained from before, while our own is about to be published
    assert list(a.part.due) == [a.key]
    a.publish()
    a.hear(a.other)  # the broker got it before ours
    a.part.announce_all()
    assert list(a.part.due) == [a.key]
    a.publish()
    a.hear(a.own, a.own, a.other)
    a.part.announce_all()
    assert not a.part.due


def test_what_another_daemon_said_before_does_not_hold_up_a_removal(clock):
    a = Announced(clock)
    a.publish()
    a.hear(a.other, b"")  # of the other daemon
    a.part.note_gone(["a"], for_good=True)
    assert a.part.messages(list(a.part.due)) == a.discovery.remove(a.key)


def test_what_is_read_back_of_an_earlier_announcement_is_not_the_last_one(clock):
    a = Announced(clock)
    a.publish()
    a.part.note_gone(["a"], for_good=True)
    a.publish()
    a.part.note_labelled(["a"])
    a.publish()
    a.hear(a.own, b"", a.other, b"")
    a.part.note_gone(["a"], for_good=True)
    assert a.part.messages(list(a.part.due)) == a.discovery.remove(a.key)


def test_on_a_new_connection_what_the_broker_retains_counts(clock):
    a = Announced(clock)
    a.publish()  # and lost with the connection
    a.part.connect()
    a.publish()
    a.hear(a.own, a.other)
    a.part.announce_all()
    assert not a.part.due


def test_a_device_that_is_left_to_another_worker_which_does_not_take_it_is_removed(start, retained, clock):
    part = start()
    part.note_labelled(SOURCE, ["a"])
    retained.wait("a")
    part.note_gone(SOURCE, ["a"], for_good=False)
    retained.stays(part, "a")
    clock.now_s += IDLE_S + 1
    retained.wait()


def test_what_somebody_removes_while_it_has_labels_comes_back_a_little_later(start, retained, clock):
    part = start()
    part.note_labelled(SOURCE, ["a"])
    retained.wait("a")
    for topic in sorted({topic for topic, _, _ in list(retained.client.messages)}):
        retained.client.publish(topic, b"", retain=True)
    retained.wait()
    retained.stays(part)
    clock.now_s += 6
    retained.wait("a")


def test_a_broker_that_has_forgotten_everything_is_told_again(tmp_path, start, broker):
    part = start()
    with Retained(broker.port) as before:
        part.note_labelled(SOURCE, ["a"])
        before.wait("a")
    broker.stop()
    broker.start()
    with Retained(broker.port) as after:
        after.wait("a")


def test_strange_messages_on_the_topics_are_passed_over(start, retained):
    part = start()
    part.note_labelled(SOURCE, ["a"])
    retained.wait("a")
    topic = next(topic for topic, _, _ in list(retained.client.messages) if "activity" in topic)
    foreign = topic.replace(Discovery.key("a"), "0000")
    for payload in (b"{}", b"\xff", b'{"harstream": []}', b"[" * 10_000):
        retained.client.publish(foreign, payload, retain=True)
    retained.client.publish(foreign, b"", retain=True)
    wait_until(lambda: retained.client.payloads(foreign)[-1:] == [b""], "the last of them")
    retained.stays(part, "a")


# --- several sources --------------------------------------------------------------------------------

#: Two sources with topics of their own, and a third one that publishes to those of the first.
BELTS, TAGS = {"name": "belts"}, {"name": "tags", "topic": "tags/{device}", "labels_topic": "tags/{device}/activity"}
STRAPS = {"name": "straps", "topic": "straps/{device}"}
OF_BELTS, OF_TAGS = "wearables/a/activity", "tags/a/activity"


def test_devices_of_one_name_from_two_sources_are_two_devices_with_their_own_topics_and_labels(start, retained):
    part = start([(LABELS, "m@1"), (["C", "UNKNOWN"], "n@2")], source=(BELTS, TAGS))
    part.note_labelled("belts", ["a"])
    wait_until(lambda: len(retained.sensors) == 3, "the one")
    part.note_labelled("tags", ["a"])
    wait_until(lambda: len(retained.sensors) == 6, "both")
    activities = retained.activities()
    assert {topic: (one["options"], one["device"]["model"]) for topic, one in activities.items()} == {
        OF_BELTS: (LABELS, "m@1, source belts"),
        OF_TAGS: (["C", "UNKNOWN"], "n@2, source tags"),
    }
    assert len({content["unique_id"] for content in retained.sensors}) == 6
    assert len({content["device"]["identifiers"][0] for content in retained.sensors}) == 2
    part.change_model("tags", ["D", "UNKNOWN"], "n@3")
    wait_until(lambda: retained.activities()[OF_TAGS]["options"] == ["D", "UNKNOWN"], "the other labels")
    assert retained.activities()[OF_BELTS] == activities[OF_BELTS]
    part.note_gone("belts", ["a"], for_good=True)
    wait_until(lambda: list(retained.activities()) == [OF_TAGS], "the end of the one")
    part.note_gone("tags", ["a"], for_good=True)
    retained.wait()


def test_sources_that_share_a_topic_of_labels_share_no_ids_and_those_of_the_first_stay(start, retained, clock):
    alone = start()
    alone.note_labelled(SOURCE, ["a"])
    retained.wait("a")
    ids = {content["unique_id"]: content["harstream"] for content in retained.sensors}
    alone.close(10.0)
    part = start(source=(BELTS, TAGS, STRAPS))
    for source in ("belts", "straps"):
        part.note_labelled(source, ["a"])
    wait_until(lambda: len(retained.sensors) == 6, "both")
    after = {content["unique_id"]: content["harstream"] for content in retained.sensors}
    assert ids.items() <= after.items()  # the same sensors, with the same owner
    assert {content["state_topic"] for content in retained.sensors} == {OF_BELTS}
    part.note_gone("belts", ["a"], for_good=True)
    wait_until(lambda: len(retained.sensors) == 3, "the end of the one")
    assert {content["unique_id"] for content in retained.sensors} == after.keys() - ids.keys()


def test_what_an_earlier_life_announced_of_each_source_is_removed_unless_it_comes_back_there(start, retained, clock):
    earlier = start(source=(BELTS, TAGS))
    for source in ("belts", "tags"):
        earlier.note_labelled(source, ["a", "b"])
    wait_until(lambda: len(retained.sensors) == 12, "all")
    earlier.close(10.0)
    part = start(source=(BELTS, TAGS))
    wait_until(lambda: all(len(one._later_s) == 2 for one in part._sources.values()), "what the broker retains")
    part.note_labelled("belts", ["a"])
    part.note_labelled("tags", ["b"])
    clock.now_s += IDLE_S + 1
    wait_until(lambda: retained.activities().keys() == {OF_BELTS, "tags/b/activity"}, "those that came back")
    assert len(retained.sensors) == 6


def test_when_home_assistant_starts_the_devices_of_every_source_are_announced_again(start, retained):
    part = start(source=(BELTS, TAGS))
    for source in ("belts", "tags"):
        part.note_labelled(source, [f"{source}{number}" for number in range(120)])  # more than are published at once
    wait_until(lambda: retained.number == 720, "all")
    retained.client.publish("homeassistant/status", b"online")
    wait_until(lambda: retained.number == 1440, "all again")
    assert len(retained.sensors) == 720


# --- in the daemon ----------------------------------------------------------------------------------


def test_a_daemon_announces_what_it_labels_and_removes_what_it_evicts(broker, classifier, subjects, retained):
    devices = {subject.name for subject in subjects}
    with Client(broker.port) as client:
        config = make_config(broker.port, homeassistant=True, idle_s=1.0)
        with running(Daemon(config, classifier)):
            publish_all(client, subjects)
            wait_until(
                lambda: (
                    {
                        content["device"]["name"]
                        for _, payload in sent(client)
                        if payload
                        for content in [json.loads(payload)]
                    }
                    == devices
                ),
                "all",
            )
            retained.wait()
    labels = [*classifier.bundle.published_labels]
    activity = next(json.loads(payload) for topic, payload in sent(client) if payload and "-activity/" in topic)
    assert activity["options"] == labels
    assert activity["availability"][0]["topic"] == "harstream/test/status"


def test_a_daemon_announces_the_devices_of_each_source_and_removes_what_it_evicts(
    broker, classifier, other_classifier, subjects, retained
):
    config = sources_config(broker.port, homeassistant=True, idle_s=1.0)
    streams = [stream(source, subjects[0], "a") for source in LABELS_OF]
    labels = {"belts": classifier, "boards": other_classifier, "tags": classifier}
    with Client(broker.port) as client, running(Daemon(config, *labels.values())):
        for topic, payload in interleaved(*streams):
            client.publish(topic, payload)
        wait_until(lambda: retained.number >= 9, "all")
        retained.wait()
        announced = [json.loads(payload) for topic, payload in sent(client) if payload and "-activity/" in topic]
    assert {one["state_topic"]: one["options"] for one in announced} == {
        f"{LABELS_OF[source]}/a/activity": [*labels[source].bundle.published_labels] for source in LABELS_OF
    }


def sent(client: Client) -> Sequence[tuple[str, bytes]]:
    return [(topic, payload) for topic, payload, _ in list(client.messages) if topic.startswith("homeassistant/")]


def test_a_stop_leaves_the_announcements(broker, classifier, subjects, retained):
    with Client(broker.port) as client, running(Daemon(make_config(broker.port, homeassistant=True), classifier)):
        publish_all(client, subjects)
        wait_for_labels(client, len(expected(subjects, classifier)))
    retained.wait(*(subject.name for subject in subjects))


def test_off_nothing_is_announced_and_there_is_no_further_connection(broker, classifier, subjects):
    with Client(broker.port) as client:
        daemon = Daemon(make_config(broker.port), classifier)
        with running(daemon):
            publish_all(client, subjects)
            wait_for_labels(client, len(expected(subjects, classifier)))
        assert daemon.homeassistant is None
        assert sent(client) == []


def test_a_worker_that_takes_over_becomes_the_owner(broker, classifier, subjects, retained):
    first, second = [name.name for name in subjects[:2]]
    with Client(broker.port) as client:
        one = make_worker(broker.port, classifier, 0, homeassistant=True)
        with running(one):
            with running(make_worker(broker.port, classifier, 1, homeassistant=True)):
                for topic, payload in partitioned(subjects[:2]):
                    client.publish(topic, payload)
                retained.wait(first, second)
                owners = {name: sensors[0]["harstream"] for name, sensors in retained.devices.items()}
                assert len(set(owners.values())) == 2
            wait_until(lambda: set(one.served_partitions) == {0, 1}, "the takeover")
            for topic, payload in partitioned(subjects[:2]):
                client.publish(topic, payload)
            wait_until(lambda: retained.devices[second][0]["harstream"] == owners[first], "the other owner")
        retained.wait(first, second)


def test_a_broker_that_does_not_retain_announcements_for_it_is_named(tmp_path, classifier, caplog):
    passwords, acl = mosquitto_passwords(tmp_path / "passwords", ann="right"), tmp_path / "acl"
    acl.write_text("user ann\ntopic readwrite wearables/#\ntopic readwrite harstream/#\ntopic read homeassistant/#\n")
    lines = f"allow_anonymous false\npassword_file {passwords}\nacl_file {acl}"
    with Mosquitto(tmp_path, "", lines) as guarded:
        config = make_config(guarded.port, homeassistant=True, user="ann", password="right")
        with running(Daemon(config, classifier)) as daemon:
            assert daemon.homeassistant is not None
            daemon.homeassistant.note_labelled(SOURCE, ["a"])
            wait_until(
                lambda: "homeassistant: the broker refuses to retain homeassistant/sensor/" in caplog.text, "a line"
            )
    assert "let user 'ann' publish to homeassistant/sensor/+/+/config" in caplog.text


def test_settings_that_cannot_work_are_errors():
    with pytest.raises(ConfigError, match="homeassistant: it needs retained messages; leave out no-retain"):
        make_config(1, homeassistant=True, retain=False)
    for prefix in ("", "a/b", "a#"):
        with pytest.raises(ConfigError, match=r"homeassistant-prefix: .* is not one level of a topic"):
            make_config(1, homeassistant=True, homeassistant_prefix=prefix)
