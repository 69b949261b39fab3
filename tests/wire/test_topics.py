"""Topic templates name the device of a topic, and the topics of a device."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harstream.errors import ConfigError
from harstream.wire.topics import MAX_DEVICE_LENGTH, TopicTemplate, escape_unprintable

TEMPLATE = TopicTemplate("wearables/{device}/imu")


@pytest.mark.parametrize(
    ("template", "subscription", "topic"),
    [
        ("wearables/{device}/imu", "wearables/+/imu", "wearables/w1/imu"),
        ("{device}", "+", "w1"),
        ("{device}/imu", "+/imu", "w1/imu"),
        ("site/7/{device}", "site/7/+", "site/7/w1"),
        ("/{device}/", "/+/", "/w1/"),
    ],
)
def test_a_template_subscribes_to_every_device_and_names_each(template, subscription, topic):
    made = TopicTemplate(template)
    assert made.subscription == subscription
    assert made.topic("w1") == topic
    assert made.device(topic) == "w1"


@pytest.mark.parametrize(
    "topic",
    [
        "wearables/a/b/imu",
        "wearables//imu",
        "wearables/imu",
        "wearables/a/imu/",
        "wearables/a/activity",
        "Wearables/a/imu",
        "",
        "wearables/a+/imu",
        "wearables/#/imu",
        "wearables/a\x00b/imu",
        "wearables/a\nb/imu",
        "wearables/a\x7f/imu",
        "wearables/a\u0085/imu",
        "wearables/a\u009fb/imu",
        "wearables/a\ud800b/imu",
        "wearables/\ufdd0/imu",
        "wearables/\uffff/imu",
        "wearables/\U0010fffe/imu",
        f"wearables/{'x' * (MAX_DEVICE_LENGTH + 1)}/imu",
    ],
)
def test_a_topic_without_an_acceptable_device_names_none(topic):
    assert TEMPLATE.device(topic) is None


@pytest.mark.parametrize(
    "name",
    [
        "w1",
        "ward 7 bed 2",
        "Ω-Meßgerät",
        "腕時計",
        "a:b.c@d",
        "{device}",
        "x" * MAX_DEVICE_LENGTH,
        "ward\u00a07",  # no-break space
        "\U0001f469\u200d\u2695\ufe0f",  # a health worker: emoji with a zero-width joiner
        "\u200fחדר 7",  # right-to-left mark
        "a\u2028b",
        "\ufeffa",
        "\U0001fae9",  # an emoji of Unicode 16, which Python 3.11 does not know
        "\U000e0fff",  # not assigned yet
        "\ue000",  # private use
    ],
)
def test_a_device_may_be_called_anything_without_control_characters(name):
    assert TEMPLATE.device(f"wearables/{name}/imu") == name


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("ward 7, Ω 腕", "ward 7, Ω 腕"),
        ("a'b\\c", "a'b\\c"),
        ("a\u202eb\x1b[2J\n\ud800", r"a\u202eb\x1b[2J\n\ud800"),
        ("\u2028\u2066", r"\u2028\u2066"),
    ],
)
def test_a_name_is_printed_without_controls_of_the_terminal_and_of_the_direction(text, shown):
    assert escape_unprintable(text) == shown


@given(st.text(max_size=300))
def test_whatever_a_device_is_called_its_labels_go_to_one_topic_of_its_own_or_nowhere(name):
    labels = TopicTemplate("wearables/{device}/activity")
    device = TEMPLATE.device(f"wearables/{name}/imu")
    assert device in (None, name)
    if device is not None:
        topic = labels.topic(device)
        assert topic.count("/") == 2
        assert not any(char in "+#" or ord(char) < 32 or 0x7F <= ord(char) < 0xA0 for char in topic)
        assert labels.device(topic) == name


@pytest.mark.parametrize(
    "text",
    [
        "",
        "wearables/imu",
        "wearables/device/imu",
        "{device}/{device}",
        "wearables/{name}/imu",
        "wearables/{device}/{x}",
        "wearables/w-{device}/imu",
        "wearables/+/{device}",
        "wearables/{device}/#",
        "wearables/{device}/a\x00b",
        "wearables/{device}/a\x7fb",
        "wearables/{device}/a\uffffb",
    ],
)
def test_a_template_needs_exactly_one_device_and_no_wildcard(text):
    with pytest.raises(ConfigError, match=r"^labels-topic: "):
        TopicTemplate(text, "labels-topic")


@pytest.mark.parametrize("text", ["ward\u00a07/{device}", "{device}/\u200fחדר", "\U0001fae9/{device}"])
def test_a_template_may_have_any_character_that_a_topic_may_have(text):
    assert TopicTemplate(text).text == text


def test_a_shared_subscription_is_refused_with_the_reason():
    with pytest.raises(ConfigError, match=r"shared subscription.* no window is complete"):
        TopicTemplate("$share/group/wearables/{device}/imu")


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        ("wearables/{device}/imu", "wearables/{device}/activity", False),
        ("wearables/{device}/imu", "wearables/{device}/imu", True),
        ("wearables/{device}/imu", "wearables/a/{device}", True),
        ("{device}", "labels/{device}", False),
        ("{device}/x", "labels/{device}", True),
        ("{device}/x", "{device}/y", False),
    ],
)
def test_templates_overlap_where_one_topic_fits_both(one, other, overlap):
    assert TopicTemplate(one).overlaps(TopicTemplate(other)) is overlap
    assert TopicTemplate(other).overlaps(TopicTemplate(one)) is overlap


# --- partitions ---------------------------------------------------------------------------------------

PARTITIONED = TopicTemplate("p/{partition}/wearables/{device}/imu", may_partition=True)


def test_partitions_are_subscribed_to_one_by_one_or_all_at_once():
    assert PARTITIONED.has_partition
    assert not TEMPLATE.has_partition
    assert PARTITIONED.subscriptions() == ("p/+/wearables/+/imu",)
    assert PARTITIONED.subscriptions([0, 12]) == ("p/0/wearables/+/imu", "p/12/wearables/+/imu")
    assert TEMPLATE.subscriptions() == ("wearables/+/imu",)


@pytest.mark.parametrize(
    ("topic", "device"),
    [
        ("p/0/wearables/w1/imu", "w1"),
        ("p/63/wearables/w1/imu", "w1"),
        ("p/x/wearables/w1/imu", None),
        ("p//wearables/w1/imu", None),
        ("p/1/wearables/w1/imu/more", None),
        ("p/1/2/wearables/w1/imu", None),
        ("wearables/w1/imu", None),
    ],
)
def test_a_partition_is_a_number_and_no_part_of_the_name(topic, device):
    assert PARTITIONED.device(topic) == device


@pytest.mark.parametrize(
    ("topic", "partition"),
    [("p/63/wearables/w1/imu", 63), ("p/0/wearables/+/imu", 0), ("p/x/wearables/w1/imu", None), ("p", None)],
)
def test_a_topic_and_a_topic_filter_tell_their_partition(topic, partition):
    assert PARTITIONED.partition(topic) == partition
    assert TEMPLATE.partition(topic) is None


@pytest.mark.parametrize("text", ["{partition}/{partition}/{device}", "{partition}", "a{partition}/{device}"])
def test_a_partition_is_one_level_of_its_own(text):
    with pytest.raises(ConfigError):
        TopicTemplate(text, may_partition=True)


def test_only_the_topic_of_samples_may_have_a_partition():
    with pytest.raises(ConfigError, match="labels-topic"):
        TopicTemplate("p/{partition}/{device}", "labels-topic")


def test_a_partitioned_topic_overlaps_with_what_it_would_receive():
    assert PARTITIONED.overlaps(TopicTemplate("p/7/wearables/{device}/imu"))
    assert not PARTITIONED.overlaps(TopicTemplate("wearables/{device}/imu"))


def test_a_topic_without_a_device_fits_itself_only():
    template = TopicTemplate("sensor-logger/all", may_omit_device=True)
    assert not template.has_device
    assert (template.subscription, template.subscriptions()) == ("sensor-logger/all", ("sensor-logger/all",))
    assert template.matches("sensor-logger/all")
    assert not template.matches("sensor-logger/x")
    assert not template.matches("sensor-logger")
    assert template.device("sensor-logger/all") is None
    assert template.overlaps(TopicTemplate("sensor-logger/{device}"))
    assert not template.overlaps(TopicTemplate("sensor-logger/{device}/activity"))
    assert TEMPLATE.matches("wearables/a+b/imu")


@pytest.mark.parametrize("text", ["", "a/{partition}/b", "a/{x}", "a/+", "a/#", "{device}/{device}", "$share/g/a"])
def test_other_templates_without_a_device_are_refused(text):
    with pytest.raises(ConfigError):
        TopicTemplate(text, may_partition=True, may_omit_device=True)
