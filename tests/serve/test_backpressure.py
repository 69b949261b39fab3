"""A daemon with more to do than it can: nobody starves, every queue is bounded, and what is dropped is counted."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from harstream.core.batches import SampleBatch
from harstream.core.engine import Engine
from harstream.mqtt import connection as connecting
from harstream.serve import daemon as serving
from harstream.serve import exchange
from harstream.serve.daemon import Daemon
from harstream.serve.labelling import Handover, WindowsDue
from harstream.wire.packed import FLAG_GYRO, FLAG_INT16, HEADER, MAGIC, VERSION, encode_packed

from ..constants import SPEC, T0_NS
from ..live_streams import assert_labels, expected, messages
from ..servers import Client, Mosquitto, metric, wait_until
from .daemons import WrappedClassifier, exposed, make_config, publish_all, receive_all, running, wait_for_labels

#: The lowest rate that can be resampled: one sample makes eight on the grid.
SLOW_HZ = 6.25


def long_payload(n_samples: int, t_ns: int = T0_NS, rate_hz: float = SLOW_HZ) -> bytes:
    """Return a packed message of int16, which says most with fewest bytes."""
    rows = np.random.default_rng(n_samples).integers(-900, 900, (n_samples, 6)).astype("<i2")
    rows[:, 0] += 1000
    header = HEADER.pack(MAGIC, VERSION, FLAG_GYRO | FLAG_INT16, t_ns, rate_hz, n_samples, 0)
    return header + np.array([1e-3, 1e-3], "<f4").tobytes() + rows.tobytes()


def windows_of(payloads: Sequence[bytes]) -> int:
    """Return how many windows the messages of one device make."""
    engine, n = Engine(SPEC), 0
    for payload in payloads:
        _, _, _, t_ns, rate_hz, count, _ = HEADER.unpack_from(payload)
        samples = np.random.default_rng(count).normal(size=(count, 6))
        n += len(engine.feed(SampleBatch.from_message("x", samples, t_ns=t_ns, rate_hz=rate_hz)))
    return n


def taking(handed: list[Any]) -> Callable[[Any, float | None], bool]:
    """Return a replacement of ``Labelling.hand_over`` that keeps what it gets."""

    def hand_over(item: Any, timeout_s: float | None) -> bool:
        handed.append(item)
        return True

    return hand_over


class Steps:
    """A daemon without a broker, whose main loop a test moves step by step."""

    def __init__(self, classifier, monkeypatch: pytest.MonkeyPatch) -> None:
        self.daemon = Daemon(make_config(), classifier)
        self.handed: list[Handover] = []
        monkeypatch.setattr(self.daemon.labelling, "hand_over", taking(self.handed))

    @property
    def engine(self) -> Engine:
        return self.daemon.sources[0].pipeline.engine

    def step(self) -> Counter[str]:
        """Make one step, and return the windows of each device that fell due in it."""
        self.handed.clear()
        self.daemon.step(0)
        assert len(self.handed) <= 1
        counts: Counter[str] = Counter()
        for item in self.handed:
            assert isinstance(item, WindowsDue)
            (part,) = item.parts
            assert len(part.windows) <= serving.MAX_BATCH_WINDOWS + 2 * self.engine.n_devices
            counts.update(part.windows.devices)
        return counts

    def receive(self, device: str, payload: bytes) -> None:
        receive_all(self.daemon, [(f"wearables/{device}/imu", payload)])


@pytest.fixture
def steps(classifier, monkeypatch) -> Steps:
    return Steps(classifier, monkeypatch)


def live_messages(n_turns: int) -> list[bytes]:
    """Return the messages of a device, of which each makes a window due, but for the first, which makes none."""
    stride = SPEC.stride_samples
    samples = np.tile(np.array([1, 0, 0, 0, 0, 0], np.float32), (stride, 1))
    return [encode_packed(T0_NS + k * stride * 20_000_000, 50.0, samples) for k in range(n_turns)]


# --- one device that makes others wait ---------------------------------------------------------------


def test_one_wearable_with_long_messages_silences_nobody(steps, monkeypatch):
    monkeypatch.setattr(serving, "MAX_BATCH_WINDOWS", 50)
    n_samples, n_long, live = 3000, 6, [f"live{k}" for k in range(10)]
    payloads = [long_payload(n_samples, T0_NS + round(k * n_samples * 1e9 / SLOW_HZ)) for k in range(n_long)]
    for payload in payloads:
        steps.receive("evil", payload)
    total: Counter[str] = Counter()
    for turn, payload in enumerate(live_messages(20)):
        for device in live:
            steps.receive(device, payload)
        due = steps.step()
        total += due
        # They have what is due at once, while the long messages last.
        assert all(due[device] == (turn > 0) for device in live)
        assert 30 <= due["evil"] <= 50 + 2 * 11
        assert steps.engine.busy == {"evil"}
    while steps.engine.n_pending or len(steps.daemon.inbox):
        total += steps.step()
    assert total["evil"] == windows_of(payloads)
    assert steps.daemon.inbox.dropped == 0


def test_the_further_messages_of_a_busy_device_wait_in_the_inbox(steps, monkeypatch):
    monkeypatch.setattr(serving, "MAX_BATCH_WINDOWS", 50)
    monkeypatch.setattr(serving, "MAX_BATCH_BYTES", 30_000)  # less than one of the messages
    n_samples = 3000
    for k in range(5):
        steps.receive("evil", long_payload(n_samples, T0_NS + round(k * n_samples * 1e9 / SLOW_HZ)))
    waiting = []
    while steps.engine.n_pending or len(steps.daemon.inbox):
        steps.step()
        assert steps.engine.n_pending < n_samples
        waiting.append(len(steps.daemon.inbox))
    assert set(waiting) == {4, 3, 2, 1, 0}
    assert waiting == sorted(waiting, reverse=True)


def test_one_wearable_with_many_messages_silences_nobody(steps, monkeypatch):
    monkeypatch.setattr(serving, "MAX_BATCH_MESSAGES", 100)
    samples = np.tile(np.array([1, 0, 0, 0, 0, 0], np.float32), (1, 1))
    receive_all(
        steps.daemon,
        [("wearables/evil/imu", encode_packed(T0_NS + k * 20_000_000, 50.0, samples)) for k in range(2000)],
    )
    for turn, payload in enumerate(live_messages(10)):
        for device in ("a", "b"):
            steps.receive(device, payload)
        due = steps.step()
        assert due["a"] == due["b"] == (turn > 0)
    assert len(steps.daemon.inbox) > 900


def test_a_crowd_with_long_messages_silences_nobody_and_is_bounded(steps, monkeypatch):
    monkeypatch.setattr(serving, "MAX_BATCH_WINDOWS", 50)
    monkeypatch.setattr(serving, "MAX_BATCH_BYTES", 300_000)
    monkeypatch.setattr(serving, "MAX_PENDING_OF_LONG", 10_000)
    monkeypatch.setattr(serving, "MAX_PENDING", 40_000)
    payload = long_payload(1500)  # 18 kB
    for k in range(60):
        steps.receive(f"evil{k}", payload)
    total: Counter[str] = Counter()
    for turn, message in enumerate(live_messages(50)):
        steps.receive("live", message)
        total += steps.step()
        assert turn - 2 <= total["live"] <= turn  # long messages may fill a batch or two before it is its turn
        assert 0 < steps.engine.n_pending < 10_000 + 300_000 // 12 + 1500
    assert len(steps.daemon.inbox) > 10
    while steps.engine.n_pending or len(steps.daemon.inbox):
        total += steps.step()
    each = windows_of([payload])
    assert {device: n for device, n in total.items() if device != "live"} == {f"evil{k}": each for k in range(60)}


def test_above_the_last_limit_no_message_is_taken(steps, monkeypatch):
    monkeypatch.setattr(serving, "MAX_BATCH_WINDOWS", 10)
    monkeypatch.setattr(serving, "MAX_PENDING", 1000)
    for k in range(4):
        steps.receive(f"evil{k}", long_payload(1000))
    steps.step()
    assert steps.engine.n_pending > 1000
    steps.receive("live", live_messages(1)[0])
    steps.step()
    assert len(steps.daemon.inbox) == 1
    while len(steps.daemon.inbox):
        assert steps.engine.n_pending > 0
        steps.step()
    assert steps.engine.n_pending <= 1000


def test_a_stopped_daemon_labels_what_is_pending(classifier, monkeypatch):
    monkeypatch.setattr(serving, "MAX_BATCH_WINDOWS", 20)
    daemon = Daemon(make_config(), classifier)
    payloads = [long_payload(400, T0_NS + k * 64_000_000_000) for k in range(3)]
    receive_all(daemon, [("wearables/evil/imu", payload) for payload in payloads])
    daemon.stop()
    daemon.run()
    assert daemon.labelling.windows_classified == windows_of(payloads)
    assert not daemon.sources[0].pipeline.engine.n_pending


def test_the_latency_counts_from_the_arrival_of_the_message_also_of_its_last_windows(classifier, monkeypatch):
    monkeypatch.setattr(serving, "MAX_BATCH_WINDOWS", 20)
    now, arrival = [100.0], [T0_NS / 1e9]
    daemon = Daemon(make_config(), classifier, clock=lambda: arrival[0], monotonic=lambda: now[0])
    handed: list[WindowsDue] = []
    monkeypatch.setattr(daemon.labelling, "hand_over", taking(handed))
    receive_all(daemon, [("wearables/evil/imu", long_payload(400))])
    step = 0
    while step == 0 or daemon.sources[0].pipeline.engine.n_pending:
        now[0] += 1
        arrival[0] += 1
        receive_all(daemon, [("wearables/live/imu", live_messages(step + 1)[-1])])
        daemon.step(0)
        (part,) = handed[-1].parts
        received_s = dict(zip(part.windows.devices, part.completed_s.tolist(), strict=True))
        assert received_s["evil"] == 100.0
        assert received_s.get("live", now[0]) == now[0]
        step += 1
    assert step > 2


# --- a slow model -----------------------------------------------------------------------------------------


def test_a_slow_model_fills_the_inbox_which_drops_the_oldest_and_says_so(mosquitto, classifier, subjects, monkeypatch):
    go_on, stuck = threading.Event(), threading.Event()

    def wait(_: int) -> None:
        if threading.current_thread() is not daemon.labelling._thread:
            stuck.set()  # the main loop labels a few windows itself
        go_on.wait()

    slow = WrappedClassifier(classifier, wait)
    daemon = Daemon(make_config(mosquitto.port), slow)
    daemon.inbox.max_bytes = 100_000
    hand_over = daemon.labelling.hand_over

    def hand_over_and_note(item, timeout_s):
        """Note that the main loop waits for the labelling thread, and so takes no further message."""
        if daemon.labelling._waiting.full():
            stuck.set()
        return hand_over(item, timeout_s)

    monkeypatch.setattr(daemon.labelling, "hand_over", hand_over_and_note)
    n_sent = 0
    with Client(mosquitto.port) as client:
        with running(daemon), contextlib.ExitStack() as stack:
            stack.callback(go_on.set)
            while not (stuck.is_set() and daemon.inbox.dropped and len(daemon.inbox)):
                for topic, content in messages(subjects, t0_ns=T0_NS + n_sent * 10_000_000_000):
                    client.publish(topic, content)
                    n_sent += 1
                client.flush()
                assert n_sent < 100_000, "the inbox is never full"
            text = exposed(daemon)
            assert metric(text, 'harstream_messages_dropped_total{reason="inbox"}') > 0
            assert metric(text, "harstream_inbox_messages") > 0
            assert daemon.inbox.n_bytes <= 100_000
            assert daemon.labelling._waiting.qsize() <= 2
        received = metric(exposed(daemon), "harstream_messages_received_total")
        assert received + daemon.inbox.dropped == n_sent
        wait_until(lambda: client.payloads("harstream/test/status")[-1:] == [b"stopped"], "stopped")
        # What was not dropped is labelled, and the labels of each device are in order.
        assert len(client.labels()) == daemon.labelling.windows_classified > 0
        for subject in subjects:
            times = [message["t"] for device, message in client.labels() if device == subject.name]
            assert all(a < b for a, b in pairwise(times))


def test_a_full_inbox_is_not_ready(classifier):
    daemon = Daemon(make_config(), classifier)
    daemon.inbox.max_bytes = 10_000
    receive_all(daemon, [("wearables/a/imu", bytes(2000))] * 4)
    assert not daemon.inbox.below_high_water
    daemon.step(0)
    assert daemon.inbox.below_high_water


# --- a broker or subscriber that does not read ------------------------------------------------------------


@pytest.mark.parametrize("qos", [0, 1])
def test_labels_for_a_broker_that_does_not_read_are_bounded_and_counted(
    tmp_path, classifier, subjects, monkeypatch, qos
):
    monkeypatch.setattr(connecting, "MAX_OUTGOING", 30)
    # Do not wait in the end for what the broker will not acknowledge.
    monkeypatch.setattr(exchange, "DRAIN_TIMEOUT_S", 0.0)
    monkeypatch.setattr(serving, "UNSUBSCRIBE_TIMEOUT_S", 0.0)
    wanted = len(expected(subjects, classifier))
    with Mosquitto(tmp_path) as broker:
        assert broker._process is not None
        daemon = Daemon(make_config(broker.port, qos=qos, events_topic="off"), classifier)
        with running(daemon):
            broker._process.send_signal(signal.SIGSTOP)
            if qos == 0:  # these leave as long as the system takes them, so the network thread has to be stuck
                sock: Any = daemon.connection._client._sock  # type: ignore[union-attr]
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            rounds = 1 if qos else 40
            for k in range(rounds):
                receive_all(daemon, messages(subjects, t0_ns=T0_NS + k * 600_000_000_000))
            wait_until(lambda: daemon.status().windows_classified == rounds * wanted, "every window")
            dropped = metric(exposed(daemon), 'harstream_windows_dropped_total{reason="outgoing"}')
            assert daemon.connection is not None
            connection = daemon.connection
            # At QoS 1 a message counts twice until it is written. Packets of the protocol come on top.
            wait_until(lambda: connection.outgoing <= 30 + 10, "few messages that are queued")
            if qos:
                assert dropped >= wanted - 30
            else:
                assert dropped > 0
            broker._process.send_signal(signal.SIGCONT)


def test_a_subscriber_that_does_not_read_holds_up_nobody(mosquitto, classifier, subjects):
    wanted = expected(subjects, classifier)
    stuck = socket.create_connection(("127.0.0.1", mosquitto.port))
    try:
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connect = b"\0\4MQTT\4\2\0\0\0\5stuck"
        stuck.sendall(bytes([0x10, len(connect)]) + connect)
        subscribe = b"\0\1\0\1#\1"
        stuck.sendall(bytes([0x82, len(subscribe)]) + subscribe)
        assert stuck.recv(4)[0] == 0x20  # and nothing more is read
        with (
            Client(mosquitto.port, "wearables/+/activity") as client,
            running(Daemon(make_config(mosquitto.port), classifier)) as daemon,
        ):
            publish_all(client, subjects)
            wait_for_labels(client, len(wanted))
            assert_labels(client.labels(), wanted)
            assert metric(exposed(daemon), 'harstream_windows_dropped_total{reason="outgoing"}') == 0
    finally:
        stuck.close()
