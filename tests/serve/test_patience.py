"""Messages that complete no window wait for others, and the main loop labels a few windows itself."""

from __future__ import annotations

import math
import threading
import time

import pytest

from harstream.core.batches import WindowBatch
from harstream.publish import ENCODERS
from harstream.serve import labelling as labelling_thread
from harstream.serve.daemon import Daemon
from harstream.serve.inbox import Inbox
from harstream.wire.decoder import Message

from ..constants import SECOND, T0_NS
from ..servers import metric
from .daemons import exposed, make_config
from .test_inbox import message as numbered
from .test_inbox import waiting
from .test_labelling import Broker, broker, due_now, labelling, make_pipeline, windows_of  # noqa: F401

RATE_HZ, N = 50.0, 25
TOPIC = "wearables/a/imu"


def message(samples, number: int) -> Message:
    part = samples[N * number : N * (number + 1)]
    t_ns = T0_NS + round(number * N / RATE_HZ * SECOND)
    return Message(TOPIC, ENCODERS["json"](t_ns, RATE_HZ, part), t_ns / 1e9, received_s=time.monotonic())


def test_messages_are_patient_exactly_up_to_the_one_that_completes_a_window(classifier, subjects):
    daemon = Daemon(make_config(gather_s=0.05), classifier)
    assert daemon.inbox.gather_s == 0.05
    spec, samples = classifier.bundle.spec, subjects[0].samples
    due = [k for k in range(20) if (k + 1) * N >= spec.window_samples]
    at = 0
    for number in range(20):
        windows = sum(len(part.windows) for part in daemon.make_windows([message(samples, number)]).parts)
        at += N
        made = max((at - spec.window_samples) // spec.stride_samples + 1, 0)
        left = spec.window_samples + made * spec.stride_samples - at
        assert daemon.inbox.patient.get(TOPIC, 0) == (left - 1) // N, number
        assert windows == (number in due and made - max((at - N - spec.window_samples) // spec.stride_samples + 1, 0))
    daemon.make_windows([Message(TOPIC, b"{", T0_NS / 1e9)])
    assert TOPIC not in daemon.inbox.patient  # a device that sends anything else is looked at soon


def test_no_message_is_patient_in_durable_mode(classifier, subjects, tmp_path):
    """The broker waits for the acknowledgement of each, and may send no other before."""
    daemon = Daemon(make_config(state_dir=tmp_path, client_id="test"), classifier)
    try:
        daemon.make_windows([message(subjects[0].samples, 0)])
        assert not daemon.inbox.patient
        assert daemon.inbox.gather_s == 0
    finally:
        assert daemon.durability is not None
        daemon.durability.finish()


def test_in_batches_of_many_devices_no_message_is_patient(classifier, subjects):
    daemon = Daemon(make_config(), classifier)
    daemon.make_windows([message(subjects[0].samples, 0)])
    assert daemon.inbox.patient == {TOPIC: (classifier.bundle.spec.window_samples - N - 1) // N}
    others = [message(subjects[0].samples, 0)._replace(topic=f"wearables/b{k}/imu") for k in range(20)]
    daemon.make_windows([message(subjects[0].samples, 1), *others])
    assert not daemon.inbox.patient


# --- the labelling thread --------------------------------------------------------------------------------


@pytest.fixture
def parts(make_pipeline, subjects) -> list[tuple[object, WindowBatch]]:  # noqa: F811
    pipeline = make_pipeline()
    windows = windows_of(pipeline, subjects[:4])
    few = WindowBatch(*(getattr(windows, name)[:3] for name in WindowBatch.__slots__))
    return [(pipeline, few), (pipeline, windows)]


def test_a_few_windows_are_labelled_by_the_main_loop_itself(labelling, broker: Broker, parts):  # noqa: F811
    pipeline, few = parts[0]
    labelling.start()
    assert labelling.hand_over(due_now(pipeline, few))
    assert len(broker.accepted) == len(few)  # at once
    labelling.finish()


def test_windows_keep_their_order_while_the_thread_is_busy(labelling, broker: Broker, parts):  # noqa: F811
    (pipeline, few), (_, many) = parts
    assert len(many) > labelling_thread._FEW_WINDOWS
    begun, go_on = threading.Event(), threading.Event()
    publish, threads = labelling._publish, []

    def slow(messages, *, retain: bool) -> int:
        threads.append(threading.current_thread())
        begun.set()
        go_on.wait()
        return publish(messages, retain=retain)

    labelling._publish = slow
    labelling.start()
    labelling.hand_over(due_now(pipeline, many))
    begun.wait()
    labelling.hand_over(due_now(pipeline, few))  # would be labelled before the many
    go_on.set()
    labelling.finish()
    assert len(broker.accepted) == len(many) + len(few)
    assert set(threads) == {labelling._thread}


def test_an_error_while_the_main_loop_labels_is_one_of_the_thread(labelling, parts):  # noqa: F811
    """So that there is one way in which the daemon ends, also if it is about to stop."""
    pipeline, few = parts[0]
    failed: list[bool] = []

    def fail(messages, *, retain: bool) -> int:
        raise ZeroDivisionError

    labelling._publish, labelling._on_failure = fail, lambda: failed.append(True)
    labelling.start()
    assert labelling.hand_over(due_now(pipeline, few))
    assert isinstance(labelling.failure, ZeroDivisionError)
    assert failed == [True]
    for _ in range(5):  # nothing more is labelled, and the queue does not fill up
        assert labelling.hand_over(due_now(pipeline, few))
    labelling.finish()
    assert failed == [True]


@pytest.mark.parametrize(("wanted_since_s", "waited_s"), [(0.0, 10.0), (99.0, 1.0), (math.inf, 0.0)])
def test_the_wait_of_patient_messages_is_no_wait_for_the_main_loop(classifier, subjects, wanted_since_s, waited_s):
    """The metric shows whether the daemon keeps up."""
    daemon = Daemon(make_config(), classifier, monotonic=lambda: 100.0)
    own = message(subjects[0].samples, 0)._replace(received_s=90.0)
    daemon.sources.make_windows([own], 512, wanted_since_s)
    assert metric(exposed(daemon), "harstream_queue_wait_seconds_sum") == waited_s


def test_a_batch_is_wanted_since_its_first_message_that_is_not_patient():
    inbox = Inbox()
    inbox.put([Message("a", b"", 0.0, received_s=5.0)])
    inbox.get(10, 0)
    assert inbox.wanted_since_s == 0.0  # it came during the last batch, so all its wait counts
    inbox.get(10, 0)
    assert inbox.wanted_since_s == math.inf
    inbox.set_patient({"a": (1, 749)})
    thread, taken = waiting(inbox)
    inbox.put([numbered(6, topic="a")])
    inbox.put([numbered(7, topic="b")])
    thread.join()
    assert taken == [[6, 7]]
    assert inbox.wanted_since_s == 7.0
