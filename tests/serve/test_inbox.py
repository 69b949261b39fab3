"""The queue from the network thread: bounded, the oldest go first, nobody waits in vain."""

from __future__ import annotations

import threading

from harstream.serve.inbox import HIGH_WATER, Inbox
from harstream.wire.samples import Message

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
    assert numbers(inbox.take(2, 0)) == [0, 1]
    assert numbers(inbox.take(10, 0)) == [2, 3, 4]
    assert inbox.take(10, 0) == []
    assert inbox.dropped == 0


def test_a_take_is_bounded_in_bytes_and_takes_at_least_one():
    inbox = Inbox()
    for number in range(4):
        inbox.put([message(number, size=10_000)])
    assert numbers(inbox.take(100, 0, most_bytes=15_000)) == [0, 1]
    assert numbers(inbox.take(100, 0, most_bytes=1)) == [2]
    assert numbers(inbox.take(100, 0)) == [3]


def test_full_it_drops_the_oldest_and_counts_them():
    inbox = Inbox(max_bytes=10_500)
    for number in range(25):
        inbox.put([message(number)])
    assert inbox.dropped == 15
    assert numbers(inbox.take(100, 0)) == list(range(15, 25))
    for number in range(10):
        inbox.put([message(number)])
    assert inbox.dropped == 15  # what was taken makes room


def test_many_small_messages_count_with_what_holds_them():
    inbox = Inbox(max_bytes=10_000)
    for number in range(100_000):
        inbox.put([message(number, size=0)])
    assert len(inbox) < 100
    assert inbox.dropped == 100_000 - len(inbox)


def test_it_is_below_its_high_water_mark_until_nearly_full():
    inbox = Inbox(max_bytes=10_500)
    while inbox.below_high_water:
        inbox.put([message(0)])
    assert len(inbox) == -(-HIGH_WATER * 10_500 // 1001)
    inbox.take(1, 0)
    assert inbox.below_high_water


def test_take_waits_for_a_message():
    inbox, taken = Inbox(), []
    thread = threading.Thread(target=lambda: taken.extend(inbox.take(10, DEADLINE_S)))
    thread.start()
    inbox.put([message(7)])
    thread.join(DEADLINE_S)
    assert numbers(taken) == [7]


def test_take_returns_when_woken():
    inbox = Inbox()
    thread = threading.Thread(target=inbox.take, args=(10, 10 * DEADLINE_S))
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
    taken: list[float] = []
    while len(taken) < 20_000:
        taken += numbers(inbox.take(64, 1))
    thread.join()
    assert taken == list(range(20_000))
