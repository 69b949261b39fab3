"""The queue from the network thread: bounded, and a full one drops the oldest messages."""

from __future__ import annotations

import threading

from harstream.serve.inbox import HIGH_WATER, Inbox
from harstream.wire.decoder import Message

from ..servers import DEADLINE_S, wait_until


def message(number: int, size: int = 750) -> Message:
    return Message("t", bytes(size), float(number))


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
    assert inbox.dropped == 15
    assert numbers(inbox.get(100, 0)) == list(range(15, 25))
    for number in range(10):
        inbox.put([message(number)])
    assert inbox.dropped == 15  # messages that left make room


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
    assert len(inbox) == -(-HIGH_WATER * 10_500 // 1001)
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
