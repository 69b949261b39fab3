"""Discovery messages: what Home Assistant asks of them, and what harstream reads back."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from harstream.wire.homeassistant import SENSORS, Discovery
from harstream.wire.topics import TopicTemplate

LABELS = ["WALKING", "STILL", "UNKNOWN"]
#: The topics that Home Assistant reads: TOPIC_MATCHER in its components/mqtt/discovery.py, behind the prefix.
TOPIC = re.compile(r"home/sensor/[a-zA-Z0-9_-]+/[a-zA-Z0-9_-]+/config")
NAMES = ["phone1", "", "ä", "日本", "a b", "quote\"'{{x}}\\", "/+#$", "x" * 256, "\U0001f3c3" * 64, "\ud800"]


def discovery(labels: str = "w/{device}/activity", owner: str = "one") -> Discovery:
    return Discovery("home", TopicTemplate(labels), "harstream/one/status", owner, "1.2.3")


def sensors(device: str, maker: Discovery, idle_s: float = 300.0) -> dict[str, dict[str, Any]]:
    published = maker.announce(device, LABELS, "phone@2.0.0", idle_s)
    return {topic: json.loads(payload) for topic, payload in published}


@pytest.mark.parametrize("device", NAMES[:-1])
def test_topics_and_unique_ids_of_any_device_have_only_allowed_characters_and_are_short(device):
    announced = sensors(device, discovery())
    assert len(announced) == len(SENSORS)
    for topic, content in announced.items():
        assert TOPIC.fullmatch(topic)
        assert len(topic) < 80
        assert re.fullmatch(r"harstream_[0-9a-f]{8}_[0-9a-f]{16}_(activity|confidence|last_seen)", content["unique_id"])
        assert content["state_topic"] == f"w/{device}/activity"
        assert content["device"]["name"] == device


def test_sensors_differ_between_devices_and_between_topics_of_labels_but_not_between_daemons():
    keys = {Discovery.key(name) for name in NAMES}
    assert len(keys) == len(NAMES)

    def ids(maker: Discovery) -> set[str]:
        return {content["unique_id"] for content in sensors("a", maker).values()}

    assert ids(discovery()) == ids(discovery(owner="two"))
    assert not ids(discovery()) & ids(discovery("v/{device}/activity"))


def test_ids_and_owners_stay_what_they_were():
    """Home Assistant keeps names, rooms and history by unique id, and the broker what an earlier version announced."""
    topics = [topic for topic, _ in discovery().announce("phone1", LABELS, "m", 300.0)]
    assert topics[0] == "home/sensor/harstream-776dd9d7-activity/b3788a131520d200/config"
    (activity, *_) = sensors("phone1", discovery()).values()
    assert activity["unique_id"] == "harstream_776dd9d7_b3788a131520d200_activity"
    assert activity["harstream"] == "7692c3ad3540bb80"


def test_a_source_that_shares_the_topics_of_labels_has_other_ids_and_the_same_topics():
    template = TopicTemplate("w/{device}/activity")
    makers = [
        Discovery("home", template, "s", "one", "1.2.3", source=source, apart=apart)
        for source, apart in (("", False), ("belts", False), ("belts", True), ("tags", True))
    ]
    ids = [next(iter(sensors("a", maker).values()))["unique_id"] for maker in makers]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 3
    assert len({maker.subscription for maker in makers}) == 3
    shown = [next(iter(sensors("a", maker).values())) for maker in makers]
    assert {one["state_topic"] for one in shown} == {"w/a/activity"}
    assert [one["device"]["model"] for one in shown[:2]] == ["phone@2.0.0", "phone@2.0.0, source belts"]


def test_a_device_has_an_enum_a_percentage_and_a_time():
    activity, confidence, seen = sensors("a", discovery()).values()
    assert (activity["device_class"], activity["options"]) == ("enum", LABELS)
    assert "unit_of_measurement" not in activity
    assert "state_class" not in activity  # Home Assistant refuses both beside options
    assert (confidence["unit_of_measurement"], confidence["entity_category"]) == ("%", "diagnostic")
    assert (seen["device_class"], seen["entity_category"]) == ("timestamp", "diagnostic")
    assert activity["device"] == confidence["device"] == seen["device"]
    assert activity["origin"] == {"name": "harstream", "sw_version": "1.2.3"}
    for sensor in (activity, confidence, seen):
        assert sensor["availability"][0]["topic"] == "harstream/one/status"


@pytest.mark.parametrize(("idle_s", "expires_s"), [(300.0, 300), (2.5, 3), (86400.0, 300)])
def test_a_label_does_not_outlive_the_device_nor_five_minutes(idle_s, expires_s):
    activity, confidence, seen = sensors("a", discovery(), idle_s).values()
    assert activity["expire_after"] == confidence["expire_after"] == expires_s
    assert "expire_after" not in seen


def test_the_first_sensor_is_announced_first_and_removed_last():
    maker = discovery()
    announced = [topic for topic, _ in maker.announce("a", LABELS, "m", 300.0)]
    removed = maker.remove(Discovery.key("a"))
    assert [topic for topic, _ in removed] == announced[::-1]
    assert {payload for _, payload in removed} == {b""}
    assert maker.subscription == announced[0].replace(Discovery.key("a"), "+")


def test_an_announcement_tells_its_owner():
    one, two = discovery(), discovery(owner="two")
    topic, payload = one.announce("a", LABELS, "m", 300.0)[0]
    said = two.read(topic, payload)
    assert (said.key, said.owner) == (Discovery.key("a"), one.owner)
    assert one.owner != two.owner


@pytest.mark.parametrize(
    "payload", [b"", b"{}", b"null", b"[]", b'{"harstream": 1}', b'{"harstream": "x"', b"\xff", b"[" * 100_000]
)
def test_other_messages_have_no_owner(payload):
    assert discovery().read("home/sensor/harstream-0-activity/k/config", payload).owner is None
