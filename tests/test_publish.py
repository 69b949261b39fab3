"""Publishing: event times and samples, and the moment at which each message leaves."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from harstream import publish as publishing
from harstream.datasets.base import Recording
from harstream.replay import RecordedSource
from harstream.wire.payloads import decode
from harstream.wire.samples import Units
from harstream.wire.topics import TopicTemplate

from .fakes import Clock, replace_monotonic

TEMPLATE = TopicTemplate("wearables/{device}/imu")
START_NS = 1_700_000_000_123_456_000


class FakeConnection:
    """Connection that accepts every message and notes the time."""

    ready = True
    failure: BaseException | None = None

    def __init__(self, clock: Clock) -> None:
        self.published: list[tuple[str, bytes, float]] = []
        self._clock = clock

    @property
    def outgoing(self) -> int:
        return 0

    def publish(self, topic: str, payload: bytes, *, qos: int = 1) -> bool:
        self.published.append((topic, payload, self._clock()))
        return True

    def flush(self, timeout_s: float) -> bool:
        return True

    def messages(self, device: str):
        """Return (decoded message, time of publishing) of each message of a device."""
        return [
            (decode(payload, Units()), at) for topic, payload, at in self.published if topic == TEMPLATE.topic(device)
        ]


class Stop(threading.Event):
    """Event whose waits return at once and advance the clock."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.clock.now_s += timeout
        return self.is_set()


@pytest.fixture
def stop(monkeypatch) -> Stop:
    clock = Clock()
    replace_monotonic(monkeypatch, publishing, clock)
    return Stop(clock)


def publish(connection: Any, sources: list[RecordedSource], **options: Any) -> publishing.PublishCounts:
    """Publish to a `FakeConnection`."""
    return publishing.publish(connection, TEMPLATE, sources, **options)


def sources(n: int, samples: int = 100, rate_hz: float = 50.0) -> list[RecordedSource]:
    rng = np.random.default_rng(0)
    return [
        RecordedSource(Recording(f"w{i}", "s", rate_hz, rng.normal(size=(samples, 6)).round(3).astype(np.float32), ()))
        for i in range(n)
    ]


@pytest.mark.parametrize("speed", [0, 0.5, 1, 100])
@pytest.mark.parametrize("payload", ["json", "packed"])
def test_event_times_and_samples_are_those_of_the_recording_whatever_the_speed(stop, speed, payload):
    connection = FakeConnection(stop.clock)
    published = sources(2, samples=110)
    samples = [source._samples for source in published]
    counts = publish(connection, published, payload=payload, speed=speed, start_ns=START_NS, stop=stop)
    assert (counts.messages, counts.samples) == (10, 220)
    for number, offset_ns in ((0, 0), (1, 250_000_000)):  # spread over the first half second
        messages = connection.messages(f"w{number}")
        assert [message.t_ns for message, _ in messages] == [START_NS + offset_ns + 500_000_000 * k for k in range(5)]
        assert [len(message.acc) for message, _ in messages] == [25, 25, 25, 25, 10]
        assert {message.rate_hz for message, _ in messages} == {50.0}
        np.testing.assert_array_equal(
            np.concatenate([np.hstack([m.acc, m.gyro]) for m, _ in messages if m.gyro is not None]), samples[number]
        )


@pytest.mark.parametrize("payload", ["json", "packed"])
def test_what_was_recorded_without_a_gyroscope_is_published_without(stop, payload):
    connection, samples = FakeConnection(stop.clock), np.zeros((60, 6), np.float32)
    samples[:, :3] = np.random.default_rng(0).normal(size=(60, 3)).round(3)
    source = RecordedSource(Recording("w0", "s", 20.0, samples, (), has_gyro=False))
    publish(connection, [source], payload=payload, speed=0, stop=stop)
    messages = [message for message, _ in connection.messages("w0")]
    assert all(message.gyro is None for message in messages)
    np.testing.assert_array_equal(np.concatenate([message.acc for message in messages]), samples[:, :3])


@pytest.mark.parametrize("speed", [0.5, 1, 10])
def test_a_message_leaves_at_the_time_of_its_last_sample(stop, speed):
    connection = FakeConnection(stop.clock)
    publish(connection, sources(4), speed=speed, start_ns=START_NS, stop=stop)
    for number in range(4):
        for message, at in connection.messages(f"w{number}"):
            assert message.t_ns is not None
            last_sample_s = (message.t_ns - START_NS) / 1e9 + len(message.acc) / 50
            assert at - 100.0 == pytest.approx(last_sample_s / speed, abs=1e-6)


def test_messages_of_the_devices_are_spread_evenly(stop):
    connection = FakeConnection(stop.clock)
    publish(connection, sources(5), stop=stop)
    assert [topic for topic, _, _ in connection.published[:10]] == [TEMPLATE.topic(f"w{i}") for i in range(5)] * 2
    times = np.array([at for _, _, at in connection.published[:10]])
    np.testing.assert_allclose(np.diff(times), 0.1, atol=1e-6)


def test_at_speed_0_there_are_no_waits(stop):
    publish(FakeConnection(stop.clock), sources(3), speed=0, stop=stop)
    assert stop.clock() == 100.0


def test_duration_is_stream_time(stop):
    connection = FakeConnection(stop.clock)
    counts = publish(connection, sources(1, 1000), speed=10, duration_s=3, stop=stop)
    assert (counts.messages, counts.samples) == (6, 150)
    assert counts.seconds == pytest.approx(0.3)


def test_stop_ends_it(stop):
    connection = FakeConnection(stop.clock)

    def progress(seconds: float) -> None:
        if seconds >= 1.0:
            stop.set()

    publish(connection, sources(1, 1000), stop=stop, progress=progress)
    assert len(connection.published) == 2


def test_as_many_samples_a_message_as_asked_for(stop):
    connection = FakeConnection(stop.clock)
    publish(connection, sources(1), samples_per_message=30, stop=stop)
    assert [len(message.acc) for message, _ in connection.messages("w0")] == [30, 30, 30, 10]


def test_a_slow_broker_slows_the_publisher_down():
    class Slow(FakeConnection):
        most = 0

        @property
        def outgoing(self) -> int:
            self.waiting = max(0, self.waiting - 50)
            return self.waiting

        waiting = 0

        def publish(self, topic: str, payload: bytes, *, qos: int = 1) -> bool:
            self.waiting += 700
            self.most = max(self.most, self.waiting)
            return super().publish(topic, payload, qos=qos)

    connection = Slow(Clock())
    counts = publish(connection, sources(3), speed=0)
    assert counts.messages == len(connection.published) == 12
    assert connection.most <= 2_700


def test_a_connection_whose_thread_has_died_ends_it_with_its_error():
    class Dead(FakeConnection):
        failure = ZeroDivisionError("a bug")

        @property
        def outgoing(self) -> int:
            return 1_000_000

    with pytest.raises(ZeroDivisionError):
        publish(Dead(Clock()), sources(3), speed=0)
