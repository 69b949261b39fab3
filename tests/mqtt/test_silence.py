"""A connection that is well, but over which the messages of a topic do not come any more."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.client import topic_matches_sub

from harstream.mqtt import connection as mqtt
from harstream.mqtt import failures, silence
from harstream.mqtt.connection import Connection
from harstream.mqtt.presence import Presence
from harstream.mqtt.silence import Silence, SilenceWatch
from harstream.mqtt.urls import BrokerSettings, BrokerUrl

from ..fakes import Clock, replace_monotonic
from ..servers import DEADLINE_S, Client, wait_until
from .brokers import Peer, scripted

LEVELS = st.sampled_from(["a", "b", "1", ""])
TOPICS = st.lists(LEVELS, min_size=1, max_size=4).map("/".join)
FILTERS = st.builds(
    lambda levels, rest: "/".join([*levels, "#"] if rest else levels),
    st.lists(LEVELS | st.just("+"), min_size=1, max_size=4),
    st.booleans(),
)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    replace_monotonic(monkeypatch, silence, clock)
    return clock


def after(watch: SilenceWatch, clock: Clock, seconds: float, *topics: str) -> list[tuple[float, Silence]]:
    """Let time pass with messages on some topics before each check; return what is found, with the seconds passed."""
    found, passed_s = [], 0.0
    while passed_s < seconds:
        clock.now_s += watch.every_s
        passed_s += watch.every_s
        watch.hear([(topic, b"", False, 0) for topic in topics] or [("x", b"", True, 0)])
        if (one := watch.check()) != Silence():
            found.append((passed_s, one))
    return found


def test_a_topic_that_falls_silent_is_subscribed_to_again_and_then_the_connection_made_again_once(clock):
    watch = SilenceWatch(["w/+/imu"], 80)
    assert after(watch, clock, 1000) == []  # it never had a message
    assert after(watch, clock, 1000, "w/1/imu") == []
    assert after(watch, clock, 1000) == [(80, Silence(("w/+/imu",))), (160, Silence((), True))]
    watch.restart()
    assert after(watch, clock, 1000) == []
    assert after(watch, clock, 10, "w/1/imu") == []
    assert after(watch, clock, 100) == [(80, Silence(("w/+/imu",)))]
    assert after(watch, clock, 10, "w/1/imu") == []  # that helped
    assert after(watch, clock, 70) == []


def test_only_the_silent_one_of_several_topics_is_subscribed_to_again_and_the_connection_stays(clock):
    watch = SilenceWatch(["w/1/+", "w/2/+", "w/3/+"], 80)
    assert after(watch, clock, 100, "w/1/x", "w/2/y") == []
    assert after(watch, clock, 1000, "w/2/y") == [(80, Silence(("w/1/+",)))]
    assert after(watch, clock, 200) == [(80, Silence(("w/2/+",))), (160, Silence((), True))]


def test_what_had_messages_before_an_outage_is_expected_to_have_some_after_it(clock):
    watch = SilenceWatch(["w/1/+", "w/2/+"], 80)
    after(watch, clock, 10, "w/1/x")
    clock.now_s += 3600
    watch.restart()
    assert after(watch, clock, 70) == []
    assert after(watch, clock, 100) == [(10, Silence(("w/1/+",))), (90, Silence((), True))]


def test_messages_retained_by_the_broker_are_no_sign_of_life(clock):
    for filters in (["w/+"], ["w/+", "v/+"]):
        watch = SilenceWatch(filters, 80)
        after(watch, clock, 10, "w/1")
        for _ in range(8):
            clock.now_s += 10
            watch.hear([("w/1", b"", True, 0)])
            found = watch.check()
        assert found == Silence(("w/+",))


@given(st.lists(FILTERS, unique=True, min_size=2, max_size=4), st.lists(TOPICS, max_size=5))
def test_topics_and_filters_match_as_in_paho(filters: list[str], topics: list[str]) -> None:
    watch = SilenceWatch(filters, 80)
    watch.hear([(topic, b"", False, 0) for topic in topics])
    assert watch._unheard == {each for each in filters if not any(topic_matches_sub(each, topic) for topic in topics)}


# --- with brokers ---------------------------------------------------------------------------------------


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Connection]]:
    """Open connections, which are closed after the test."""
    monkeypatch.setattr(mqtt, "HANDSHAKE_S", DEADLINE_S)
    monkeypatch.setattr(failures, "EARLY_S", 0.0)
    opened: list[Connection] = []

    def begin(port: int, version: str, **options: Any) -> Connection:
        settings = BrokerSettings(BrokerUrl.parse(f"127.0.0.1:{port}"), version)
        opened.append(Connection(settings, "x", subscriptions=["a"], silence_s=0.4, **options))
        opened[-1].open()
        return opened[-1]

    yield begin
    for connection in opened:
        connection.close()


class Forgetful:
    """Script of a broker that sends one message after some of its SUBACKs and then forgets the subscription.

    Attributes:
        subscribes: Number of the connection of each SUBSCRIBE.
        ends: Type of the last packet of each connection.

    """

    def __init__(self, *answered: int) -> None:
        self.subscribes, self.ends = list[int](), list[int]()
        self._answered, self._connections = answered, 0

    def __call__(self, peer: Peer) -> None:
        peer.accept()
        self._connections += 1
        kind = 1
        while kind not in (0, 0xE0):
            kind, body = peer.packet()
            version_5 = peer.version == 5
            if kind == 0x80:
                self.subscribes.append(self._connections)
                peer.sock.sendall(b"\x90\x04" + body[:2] + b"\0\1" if version_5 else b"\x90\x03" + body[:2] + b"\1")
                if len(self.subscribes) in self._answered:
                    peer.sock.sendall(b"\x30\x04\x00\x01a\x00" if version_5 else b"\x30\x03\x00\x01a")
            elif kind == 0xC0:
                peer.sock.sendall(b"\xd0\x00")
        self.ends.append(kind)


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_a_new_subscription_brings_the_messages_back(connect, version, caplog):
    caplog.set_level("INFO")
    broker, received, actions = Forgetful(1, 2), list[Any](), list[str]()
    with scripted(broker) as port:
        connection = connect(port, version, on_messages=received.extend, on_silence=actions.append)
        wait_until(lambda: len(received) == 2, "the message after the second subscription")
        assert (broker.subscribes, connection.connects, connection.ready) == ([1, 1], 1, True)
    assert actions[0] == "subscribed"
    line = f"broker mqtt://127.0.0.1:{port}: no message on a for 0.4 s, where some came before; subscribing again"
    assert line in caplog.messages


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_if_that_does_not_help_a_new_connection_does_and_the_old_one_is_left_in_order(connect, version, caplog):
    broker, received, actions = Forgetful(1, 3), list[Any](), list[str]()
    with scripted(broker) as port:
        connect(port, version, on_messages=received.extend, on_silence=actions.append)
        wait_until(lambda: len(received) == 2, "the message of the second connection")
        assert broker.subscribes[:3] == [1, 1, 2]
        assert broker.ends[0] == 0xE0  # a DISCONNECT, so that the broker does not publish the will
    assert actions[:2] == ["subscribed", "reconnected"]
    lost = [line for line in caplog.messages if "connection lost" in line]
    assert lost[0] == (
        f"broker mqtt://127.0.0.1:{port}: connection lost (no message on a for 0.8 s, also after a new subscription); "
        "reconnecting at once"
    )


def test_a_broker_that_refuses_what_it_had_accepted_is_left(connect, caplog):
    def refuse_later(peer: Peer) -> None:
        codes = iter(b"\x01\x87\x01")
        peer.accept()
        kind = 1
        while kind:
            kind, body = peer.packet()
            if kind == 0x80:
                peer.sock.sendall(b"\x90\x04" + body[:2] + b"\0" + bytes([next(codes)]) + b"\x30\x04\x00\x01a\x00")

    with scripted(refuse_later) as port:
        connection = connect(port, "5")
        wait_until(lambda: connection.connects == 2 and connection.ready, "the next connection")
    assert "connection lost (refused a subscription that it had accepted before)" in caplog.text


@pytest.mark.parametrize("session", [True, False])
def test_a_session_whose_subscription_is_granted_qos_0_is_one_warning(connect, caplog, session):
    def grant(peer: Peer) -> None:
        peer.accept()
        kind = 1
        while kind:
            kind, body = peer.packet()
            if kind == 0x80:
                peer.sock.sendall(b"\x90\x04" + body[:2] + b"\0\0")

    with scripted(grant) as port:
        assert connect(port, "5", session=session).ready
    assert ("it grants QoS 0 to the subscription to a, so messages are lost" in caplog.text) == session


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_a_broker_that_waits_for_acknowledgements_is_not_taken_for_silent(mosquitto, connect, version):
    received, actions = list[Any](), list[str]()
    connection = connect(mosquitto.port, version, session=True, on_messages=received.extend, on_silence=actions.append)
    with Client(mosquitto.port) as client:
        client.publish("a", b"x")
        wait_until(lambda: received, "the message")
        time.sleep(6 * 0.4)
        assert (actions, connection.connects) == ([], 1)
        connection.acknowledge([received[0][3]])
        wait_until(lambda: "subscribed" in actions, "a new subscription")


def test_wearables_that_are_all_off_cost_one_reconnection_without_a_word_on_the_status_topic(mosquitto, connect):
    again = threading.Event()

    def note(action: str) -> None:
        if action == "reconnected":
            again.set()

    with Client(mosquitto.port) as client:
        connection = connect(mosquitto.port, "5", presence=Presence("status"), on_silence=note)
        client.publish("a", b"x")
        assert again.wait(DEADLINE_S)
        wait_until(lambda: connection.connects == 2 and connection.ready, "the next connection")
        client.publish("b", b"")
        wait_until(lambda: client.payloads("b"), "a message behind the others")
        assert client.states("status") == [b"online"]
