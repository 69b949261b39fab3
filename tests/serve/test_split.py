"""The daemon with wearables whose accelerometer and gyroscope have topics of their own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import pytest

from harstream.config import RunConfig
from harstream.core.problems import Problem
from harstream.datasets.base import Recording
from harstream.serve.daemon import Daemon
from harstream.serve.durable.durability import Durability
from harstream.wire.canonical import message_of

from ..constants import T0_NS
from ..live_streams import PER_MESSAGE, assert_labels, expected
from ..servers import Client, metric, wait_until
from .daemons import exposed, make_config, receive_all, running, wait_for_labels
from .test_bad_devices import shown_lines, without_values

ACC, GYRO = "w/{device}/accelerometer", "w/{device}/gyroscope"
FIELDS = '{ t = "timestamp", t_unit = "ns", rate_hz = "rate", acc = "values", gyro = "values" }'


def split(subjects: Sequence[Recording], *, payload: str = "json", topics: Sequence[str] = (ACC, GYRO)) -> Iterator:
    """Yield (topic, payload) of the messages of both sensors. The gyroscope's have other lengths, and come first."""
    numbers: list[tuple[float, str, bytes]] = []
    for subject in subjects:
        for topic, sensor, columns, size in (
            (topics[0], "acc", slice(0, 3), PER_MESSAGE),
            (topics[1], "gyro", slice(3, 6), 2 * PER_MESSAGE),
        ):
            for first in range(0, len(subject.samples), size):
                rows = subject.samples[first : first + size, columns]
                t_ns = T0_NS + round(first * 1e9 / subject.rate_hz)
                message = message_of(t_ns, subject.rate_hz, rows)
                values = message.pop("acc")
                if payload == "fields":
                    message = {"timestamp": t_ns, "rate": subject.rate_hz, "values": values}
                else:
                    message[sensor] = values
                arrival = first if sensor == "gyro" else first + size
                numbers.append((arrival, topic.replace("{device}", subject.name), json.dumps(message).encode()))
    for _, topic, content in sorted(numbers, key=lambda one: one[0]):
        yield topic, content


@pytest.mark.parametrize(
    ("topics", "settings"),
    [
        ((ACC, GYRO), {}),
        ((ACC, GYRO), {"payload": "fields", "fields": FIELDS}),
        (("w/{device}/imu", "w/{device}/imu"), {}),
    ],
    ids=["auto", "fields", "one topic"],
)
def test_labels_are_those_of_both_sensors_in_one_message(mosquitto, classifier, subjects, topics, settings):
    wanted = expected(subjects, classifier)
    config = make_config(mosquitto.port, acc_topic=topics[0], gyro_topic=topics[1], **settings)
    with Client(mosquitto.port) as client:
        with running(Daemon(config, classifier)) as daemon:
            for topic, content in split(subjects, payload=settings.get("payload", "json"), topics=topics):
                client.publish(topic, content)
            wait_for_labels(client, len(wanted))
        client.flush()
        assert_labels(client.labels(), wanted)
    assert metric(exposed(daemon), 'harstream_samples_dropped_total{reason="no_gyroscope"}') == 0


def reached(durability: Durability, position: int) -> bool:
    return durability.position >= position


def test_a_daemon_that_is_stopped_goes_on_with_what_waits(mosquitto, tmp_path, classifier, subjects):
    wanted, sent = expected(subjects, classifier), list(split(subjects))
    config = RunConfig(
        broker=mosquitto.address,
        instance="test",
        http="off",
        state_dir=tmp_path / "state",
        acc_topic=ACC,
        gyro_topic=GYRO,
    )
    with Client(mosquitto.port) as client:
        # Each cut leaves samples of some sensor that wait; messages sent meanwhile are those of the session.
        for first in range(0, len(sent), 67):
            with running(Daemon(config, classifier)) as daemon:
                for topic, content in sent[first : first + 67]:
                    client.publish(topic, content)
                client.flush()
                durability = daemon.durability
                assert durability is not None
                wait_until(partial(reached, durability, 20), "20 messages")
        with running(Daemon(config, classifier)):
            wait_for_labels(client, len(wanted))
        client.flush()
        assert_labels(client.labels(), wanted)


def detail(daemon: Daemon) -> str:
    """Return what the API tells about the problem ``gyroscope`` of device a."""
    daemon.sources.refresh(300.0)
    described = daemon.sources[0].devices._take_snapshot().describe_in_detail("a")
    assert described is not None
    assert described["problem"] == Problem.GYROSCOPE.public_name
    (one,) = described["details"]
    return str(one["detail"])


def test_a_missing_and_a_late_gyroscope_are_named_on_the_device(classifier, subjects):
    daemon = Daemon(make_config(acc_topic=ACC, gyro_topic=GYRO), classifier)
    (long,) = [Recording("a", "a", 50.0, np.tile(subjects[0].samples, (4, 1)), (), True, "waist")]
    sent = list(split([long]))
    receive_all(daemon, [(topic, content) for topic, content in sent if "acc" in topic])
    daemon.step(0)
    assert "its gyroscope is missing" in detail(daemon)
    shown = [without_values(line) for line in shown_lines() if "'belt-9'" in line]
    assert any(without_values(detail(daemon)) in line for line in shown)
    receive_all(daemon, [(topic, content) for topic, content in sent if "gyro" in topic][:5])
    daemon.step(0)
    assert "its gyroscope comes late" in detail(daemon)
    assert any(without_values(detail(daemon)) in line for line in shown)
    text = exposed(daemon)
    assert metric(text, 'harstream_samples_dropped_total{reason="no_gyroscope"}') > 2000
    assert metric(text, 'harstream_samples_dropped_total{reason="late_gyroscope"}') == 250
