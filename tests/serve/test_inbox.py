"""The queue from the network thread: bounded, with turns for each topic, and a full one drops the oldest messages."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Any

from harstream.serve.inbox import HIGH_WATER, MAX_GATHERED, MAX_PATIENT, MAX_PATIENT_TOPICS, Inbox
from harstream.wire.decoder import Message

from ..servers import DEADLINE_S, wait_until


def message(number: int, size: int = 749, topic: str = "t") -> Message:
    """Return a message that takes 1,000 bytes by default. It arrives at the time ``number``."""
    return Message(topic, bytes(size), float(number), received_s=float(number))


def numbers(messages: list[Message]) -> list[float]:
    return [message.arrival_s for message in messages]


def test_messages_leave_in_the_order_they_came():
    inbox = Inbox()
    for number in range(5):
        inbox.put([message(number)])
    assert len(inbox) == 5
    assert numbers(inbox.get(2, 0)) == [0, 1]
    assert numbers(inbox.get(10, 0)) == [2, 3, 4]
    assert inbox.get(10, 0) == []
    assert inbox.dropped == 0


def test_a_batch_is_bounded_in_bytes_and_has_at_least_one_message():
    inbox = Inbox()
    for number in range(4):
        inbox.put([message(number, size=10_000)])
    assert numbers(inbox.get(100, 0, max_bytes=15_000)) == [0, 1]
    assert numbers(inbox.get(100, 0, max_bytes=1)) == [2]
    assert numbers(inbox.get(100, 0)) == [3]


def test_a_full_inbox_drops_the_oldest_messages_and_counts_them():
    inbox = Inbox(max_bytes=10_500)
    for number in range(25):
        inbox.put([message(number)])
        assert inbox.n_bytes <= 10_500
    left = numbers(inbox.get(100, 0))
    assert len(left) >= 9
    assert left == list(range(25 - len(left), 25))
    assert inbox.dropped == 25 - len(left)
    for number in range(10):
        inbox.put([message(number)])
    assert inbox.dropped == 25 - len(left)  # messages that left make room


def test_a_full_inbox_drops_messages_of_the_topics_that_have_the_most():
    inbox = Inbox(max_bytes=100_000)
    for number in range(10):
        inbox.put([message(number, topic="a"), message(number, topic="b")])
    for number in range(1000):
        inbox.put([message(number, 20_000, "evil")])
        assert inbox.n_bytes <= 100_000
    left = inbox.get(1000, 0)
    for topic in "ab":
        assert numbers([one for one in left if one.topic == topic]) == list(range(10))
    evil = numbers([one for one in left if one.topic == "evil"])
    assert len(evil) >= 3
    assert evil == list(range(1000 - len(evil), 1000))
    assert inbox.dropped == 1000 - len(evil)
    assert len(inbox) == inbox.n_bytes == 0


def test_of_topics_with_one_message_each_a_full_inbox_drops_the_oldest():
    inbox = Inbox(max_bytes=100_000)
    for number in range(250):
        inbox.put([message(number, topic=f"t{number:03}", size=746)])
    assert inbox.n_bytes <= 100_000
    left = numbers(inbox.get(1000, 0))
    assert len(left) > 90
    assert left == list(range(250 - len(left), 250))
    assert inbox.dropped == 250 - len(left)


def test_the_newest_message_stays_however_large_it_is():
    inbox = Inbox(max_bytes=10_000)
    inbox.put([message(0), message(1, 20_000, "large")])
    assert numbers(inbox.get(10, 0)) == [1]


# --- turns --------------------------------------------------------------------------------------------------


def test_a_topic_with_many_messages_does_not_hold_up_the_others():
    inbox = Inbox()
    inbox.put([message(number, topic="evil") for number in range(1000)])
    inbox.put([message(number, topic=topic) for number in range(3) for topic in "abc"])
    first = inbox.get(100, 0)
    assert len(first) == 100
    assert {topic: [one.arrival_s for one in first if one.topic == topic] for topic in "abc"} == {
        topic: [0, 1, 2] for topic in "abc"
    }
    rest = inbox.get(10_000, 0)
    assert numbers([one for one in first + rest if one.topic == "evil"]) == list(range(1000))


def test_topics_with_long_messages_have_turns_of_equal_bytes():
    inbox = Inbox()
    long = [message(number, 256 * 1024, f"evil{k}") for number in range(3) for k in range(20)]
    inbox.put(long)
    short = [message(number, topic=topic) for number in range(10) for topic in "abcdefgh"]
    inbox.put(short)
    first = inbox.get(2048, 0, 2 * 2**20)
    taken = [one for one in first if len(one.payload) < 1000]
    assert sorted(taken, key=lambda one: one.topic) == sorted(short, key=lambda one: one.topic)
    assert 7 <= sum(len(one.payload) > 1000 for one in first) <= 8
    others: list[Message] = []
    while batch := inbox.get(2048, 0, 2 * 2**20):
        assert 0 < len(batch) <= 8
        others += batch
    taken = [one for one in first if len(one.payload) > 1000] + others
    # Each topic has had its second turn before any has its third.
    assert [one.arrival_s for one in taken] == [0.0] * 20 + [1.0] * 20 + [2.0] * 20


def test_topics_that_wait_keep_their_messages_in_order():
    inbox = Inbox()
    inbox.put([message(number, topic=topic) for number in range(4) for topic in "ab"])
    assert [one.topic for one in inbox.get(100, 0, waits=lambda one: one.topic == "a")] == ["b"] * 4
    assert inbox.get(100, 0, waits=lambda one: one.topic == "a") == []
    inbox.put([message(4, topic="a"), message(4, topic="b")])
    assert len(inbox) == 6
    assert numbers(inbox.get(100, 0, waits=lambda one: one.topic == "b")) == [0, 1, 2, 3, 4]
    assert [(one.topic, one.arrival_s) for one in inbox.get(100, 0)] == [("b", 4.0)]
    assert len(inbox) == inbox.n_bytes == 0


# --- waiting ------------------------------------------------------------------------------------------------


def test_the_objects_that_hold_small_messages_count_too():
    inbox = Inbox(max_bytes=10_000)
    for number in range(10_000):
        inbox.put([message(number, size=0)])
    assert len(inbox) < 100
    assert inbox.dropped == 10_000 - len(inbox)


def test_an_inbox_is_below_its_high_water_mark_until_nearly_full():
    inbox = Inbox(max_bytes=10_500)
    while inbox.below_high_water:
        inbox.put([message(0)])
    assert len(inbox) == -(-HIGH_WATER * 10_500 // 1000)
    inbox.get(1, 0)
    assert inbox.below_high_water


def test_get_waits_for_a_message():
    inbox, received = Inbox(), list[Message]()
    thread = threading.Thread(target=lambda: received.extend(inbox.get(10, DEADLINE_S)))
    thread.start()
    inbox.put([message(7)])
    thread.join(DEADLINE_S)
    assert numbers(received) == [7]


def test_get_returns_when_woken():
    inbox = Inbox()
    thread = threading.Thread(target=inbox.get, args=(10, 10 * DEADLINE_S))
    thread.start()

    def woken() -> bool:
        inbox.wake()
        return not thread.is_alive()

    wait_until(woken)


def test_nothing_is_lost_or_doubled_between_threads():
    inbox = Inbox()

    def put_all() -> None:
        for number in range(20_000):
            inbox.put([message(number, 0)])

    thread = threading.Thread(target=put_all)
    thread.start()
    received: list[float] = []
    while len(received) < 20_000:
        received += numbers(inbox.get(64, DEADLINE_S))
    thread.join()
    assert received == list(range(20_000))


def test_in_durable_mode_only_new_messages_at_qos_0_are_dropped():
    inbox = Inbox(max_bytes=1_000, holds_qos_1=True)
    acknowledged_later = [Message("a", bytes(400), float(n), delivery=n) for n in range(1, 6)]
    for message in acknowledged_later:
        inbox.put([message])
    inbox.put([Message("a", b"", 6.0), Message("a", b"", 7.0, delivery=7)])
    assert inbox.dropped == 1
    assert not inbox.below_high_water
    assert [message.delivery for message in inbox.get(100, 0)] == [1, 2, 3, 4, 5, 7]


def test_in_durable_mode_a_full_inbox_refuses_new_messages_after_a_part_is_taken():
    inbox = Inbox(max_bytes=10_000, holds_qos_1=True)
    inbox.put([message(number)._replace(delivery=number + 1) for number in range(200)])
    assert len(inbox.get(20, 0)) == 20
    inbox.put([message(300)])
    assert inbox.dropped == 1
    assert len(inbox.get(200, 0)) == 180


def waiting(inbox: Inbox) -> tuple[threading.Thread, list[list[float]]]:
    """Return a thread that waits for messages, and the numbers of those that it gets."""
    taken: list[list[float]] = []
    thread = threading.Thread(target=lambda: taken.append(numbers(inbox.get(100, DEADLINE_S))))
    thread.start()
    changed: Any = inbox._changed
    wait_until(lambda: changed._waiters, "the thread to wait")  # what came before would not wait for others
    return thread, taken


def test_patient_messages_wait_for_one_that_is_not():
    inbox = Inbox()
    inbox.set_patient({"a": (2, 749), "b": (1, 749)})
    thread, taken = waiting(inbox)
    inbox.put([message(0, topic="a")])
    inbox.put([message(1, topic="b"), message(2, topic="a")])
    assert not inbox.patient
    assert not taken
    inbox.put([message(3, topic="c")])
    thread.join()
    assert taken == [[0, 1, 2, 3]]


def test_more_messages_of_a_topic_than_are_patient_wake_the_main_loop():
    """A board that sends every sample by itself completes a window with the last of many messages."""
    inbox = Inbox()
    inbox.set_patient({"a": (20, 749)})
    thread, taken = waiting(inbox)
    for number in range(21):
        assert not taken
        inbox.put([message(number, topic="a")])
    thread.join()
    assert taken == [list(range(21))]


def test_patient_messages_are_taken_when_the_time_is_up_or_there_are_many():
    inbox = Inbox()
    inbox.set_patient({"a": (1000, 749)})
    inbox.put([message(0, topic="a")])
    assert numbers(inbox.get(100, 0)) == [0]
    assert inbox.get(100, 0) == []
    thread, taken = waiting(inbox)
    for number in range(MAX_PATIENT):
        inbox.put([message(number, topic="a")])
    thread.join()
    assert taken == [list(range(MAX_PATIENT))]


def test_messages_that_came_during_the_last_batch_do_not_wait():
    inbox = Inbox()
    inbox.set_patient({"a": (5, 749)})
    inbox.put([message(0, topic="a")])
    assert numbers(inbox.get(100, DEADLINE_S)) == [0]


def test_a_message_longer_than_those_before_is_not_patient():
    inbox = Inbox()
    inbox.set_patient({"a": (5, 749)})
    thread, taken = waiting(inbox)
    inbox.put([message(0, topic="a"), message(1, topic="a", size=750)])
    thread.join()
    assert taken == [[0, 1]]


def test_no_message_is_patient_any_more_once_all_are_forgotten():
    inbox = Inbox()
    inbox.set_patient({"a": (5, 749)})
    inbox.forget_patient()
    thread, taken = waiting(inbox)
    inbox.put([message(0, topic="a")])
    thread.join()
    assert taken == [[0]]


def test_messages_wait_for_one_another_until_there_are_enough():
    inbox = Inbox(gather_s=DEADLINE_S)
    now_s = time.monotonic()
    inbox.set_patient({"a": (3, 749)})
    thread, taken = waiting(inbox)
    for number in range(MAX_GATHERED - 1):
        inbox.put([message(number, topic="b")._replace(received_s=now_s)])
    inbox.put([message(20 + number, topic="a")._replace(received_s=now_s) for number in range(3)])  # patient ones
    assert not taken
    inbox.put([message(30, topic="b")._replace(received_s=now_s + 2)])
    thread.join()
    assert taken == [[*range(MAX_GATHERED - 1), 20, 21, 22, 30]]
    assert inbox.wanted_since_s == now_s + 2


def note_waits(monkeypatch, inbox: Inbox, *steps: Callable[[], None]) -> list[float]:
    """Let each wait of ``get`` do the next step in place of waiting. Return the list that gets their timeouts."""
    timeouts, following = list[float](), iter(steps)

    def wait(timeout_s: float) -> None:
        timeouts.append(timeout_s)
        next(following)()

    monkeypatch.setattr(inbox._changed, "wait", wait)
    return timeouts


def nothing() -> None:
    """Let the time of a wait pass."""


def test_messages_wait_no_longer_than_the_time_in_which_they_gather(monkeypatch):
    inbox, late_s = Inbox(gather_s=10.0), time.monotonic() + DEADLINE_S  # so that the wait is not over before it begins
    timeouts = note_waits(monkeypatch, inbox, lambda: inbox.put([message(1)._replace(received_s=late_s)]), nothing)
    assert numbers(inbox.get(100, 10 * DEADLINE_S)) == [1]
    assert timeouts[0] == 10 * DEADLINE_S
    assert 10.0 < timeouts[1] <= DEADLINE_S + 10.0
    assert inbox.wanted_since_s == late_s + 10.0


def test_messages_that_came_during_the_last_batch_wait_for_no_others():
    inbox = Inbox(gather_s=DEADLINE_S)
    now_s = time.monotonic()
    inbox.put([message(number)._replace(received_s=now_s) for number in range(3)])
    assert numbers(inbox.get(2, DEADLINE_S)) == [0, 1]
    assert numbers(inbox.get(2, DEADLINE_S)) == [2]
    assert inbox.wanted_since_s == 0.0


def test_the_wait_for_others_ends_by_wake(monkeypatch):
    inbox, now_s = Inbox(gather_s=10 * DEADLINE_S), time.monotonic()
    arriving = message(1)._replace(received_s=now_s)
    timeouts = note_waits(monkeypatch, inbox, lambda: inbox.put([arriving]), inbox.wake)
    assert numbers(inbox.get(100, 20 * DEADLINE_S)) == [1]
    assert len(timeouts) == 2
    assert inbox.wanted_since_s == math.inf


def test_the_wait_for_others_ends_with_the_timeout(monkeypatch):
    inbox, now_s = Inbox(gather_s=10 * DEADLINE_S), time.monotonic()
    arriving = message(1)._replace(received_s=now_s)
    timeouts = note_waits(monkeypatch, inbox, lambda: inbox.put([arriving]), nothing)
    assert numbers(inbox.get(100, DEADLINE_S)) == [1]
    assert timeouts[1] <= timeouts[0] == DEADLINE_S


def test_the_topics_that_are_remembered_as_patient_are_bounded():
    inbox = Inbox()
    for number in range(3 * MAX_PATIENT_TOPICS):
        inbox.set_patient({f"t{number}": (1, 749)})
    assert len(inbox.patient) <= MAX_PATIENT_TOPICS + 1


def test_wake_ends_the_wait_also_if_it_came_before():
    inbox = Inbox()
    inbox.wake()
    assert inbox.get(10, DEADLINE_S) == []
