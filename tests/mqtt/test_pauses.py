"""Pauses between reads: as long as some messages take to come."""

from __future__ import annotations

import pytest

from harstream.mqtt.pauses import MIN_PAUSE_S, ReadPauses, pause_s


@pytest.mark.parametrize(
    ("messages_s", "bytes_s", "seconds"),
    [
        (100, 100 * 1600, 0.0),  # hardly another message would come
        (200, 200 * 1600, 0.008),
        (1000, 1000 * 1600, 0.008),
        (2000, 2000 * 1600, 0.004),
        (4000, 4000 * 1600, 0.0064),
        (20_000, 20_000 * 1600, 0.010),
    ],
)
def test_a_pause_is_as_long_as_some_messages_take_to_come(messages_s: float, bytes_s: float, seconds: float) -> None:
    assert pause_s(messages_s, bytes_s) == pytest.approx(seconds)


def test_one_read_with_few_messages_changes_the_pause_little() -> None:
    pauses = ReadPauses()
    for k in range(1000):
        pauses.note_read(k * 0.004, 8 * 1600, 8)
    pauses.note_read(4.004, 1600, 1)
    assert MIN_PAUSE_S <= pauses.until_s - 4.004 < 0.006


def test_the_mean_is_over_time_so_messages_that_come_in_pairs_count_as_two() -> None:
    pauses = ReadPauses()
    for k in range(200):  # 20 messages a second, in pairs 20 ms apart: hardly another one would come
        pauses.note_read(100 + k // 2 * 0.1 + k % 2 * 0.02, 1600, 1)
        assert pauses.until_s <= 100 + k // 2 * 0.1 + k % 2 * 0.02


def test_a_burst_after_few_messages_shortens_the_pause_at_once() -> None:
    pauses = ReadPauses()
    for k in range(1000):
        pauses.note_read(100 + k * 0.01, 1600, 2)
    assert pauses.until_s - 109.99 == pytest.approx(0.008)
    pauses.note_read(110.0, 20 * 1600, 20)
    assert pauses.until_s - 110.0 == pytest.approx(0.004)


def test_answers_alone_make_a_pause_only_if_they_come_close_together() -> None:
    pauses = ReadPauses()
    pauses.note_read(10.0, 100, 0)
    assert pauses.until_s == 0.0
    pauses.note_read(10.001, 100, 0)
    assert pauses.until_s == pytest.approx(10.001 + MIN_PAUSE_S)


def test_there_is_no_pause_while_more_is_waiting() -> None:
    pauses = ReadPauses()
    for k in range(10):
        pauses.note_read(10 + k * 0.004, 8 * 1600, 8)
    assert pauses.until_s > 10.036
    pauses.note_read(10.040, 200_000, 120, more=True)
    assert pauses.until_s == 0.0
