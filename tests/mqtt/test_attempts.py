"""Pauses between attempts: none after a connection that lasted, then longer ones, by the reason of the ends."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

import pytest

from harstream.mqtt import failures
from harstream.mqtt.failures import Attempts, RareLine

from ..fakes import Clock, replace_monotonic


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    replace_monotonic(monkeypatch, failures, clock)
    return clock


def longest(jitter: Callable[[], float] = lambda: 0.0) -> Attempts:
    """Return attempts whose pauses are the longest ones possible."""
    return Attempts(jitter)


def last(attempts: Attempts, clock: Clock, seconds: float, **end) -> float:
    """Let a connection begin after the pause and last for some seconds; return the pause after it."""
    clock.now_s += attempts.pause_s
    attempts.begin()
    clock.now_s += seconds
    attempts.end(**end)
    return attempts.pause_s


def test_the_first_attempt_after_a_connection_that_lasted_is_made_at_once_and_pauses_grow_to_five_seconds(clock):
    attempts = longest()
    assert last(attempts, clock, 60) == 0
    pauses = []
    for _ in range(6):
        attempts.fail()
        pauses.append(attempts.pause_s)
    assert pauses == [0.5, 1, 2, 4, 5, 5]
    assert last(attempts, clock, 60) == 0


def test_jitter_takes_off_up_to_a_half():
    pauses = []
    for share in (0.0, 0.5, 1.0):
        attempts = Attempts(itertools.repeat(share).__next__)
        for _ in range(10):
            attempts.fail()
        pauses.append(attempts.pause_s)
    assert pauses == [5, 3.75, 2.5]
    rng = random.Random(1)
    two = [Attempts(rng.random) for _ in range(2)]
    for attempts in two:
        attempts.fail()
    assert two[0].pause_s != two[1].pause_s


def test_a_network_that_cuts_every_few_seconds_is_answered_within_seconds(clock):
    rng = random.Random(1)
    attempts = longest()
    assert [last(attempts, clock, 3.1) for _ in range(20)] == [0] * 20
    assert max(last(attempts, clock, rng.uniform(0, 10)) for _ in range(200)) <= 4
    assert max(last(attempts, clock, rng.uniform(0, 10), closed=True) for _ in range(failures.MAX_CLOSES - 1)) <= 4
    assert [last(attempts, clock, 41, closed=True) for _ in range(100)] == [0] * 100


def test_connections_that_end_at_once_without_a_sign_of_intent_are_slowed_down_to_five_seconds(clock):
    attempts = longest()
    assert [last(attempts, clock, 0.1) for _ in range(6)] == [0.5, 1, 2, 4, 5, 5]
    assert last(attempts, clock, 3.1) == 0


def test_a_broker_that_closes_each_connection_behind_a_message_is_asked_every_half_minute(clock):
    attempts = longest()
    pauses = [last(attempts, clock, 0.1, kind="labels", topic="labels/1") for _ in range(8)]
    assert pauses == [0.5, 1, 2, 4, 8, 16, 30, 30]


@pytest.mark.parametrize("lasted_s", [0.1, 10])
def test_a_broker_that_closes_one_connection_after_another_is_asked_every_half_minute(clock, lasted_s):
    attempts = longest()
    pauses = [last(attempts, clock, lasted_s, closed=True) for _ in range(30)]
    assert max(pauses[:10]) <= 5
    assert pauses[-1] >= 16
    clock.now_s += failures.CLOSES_WITHIN_S
    assert last(attempts, clock, 30, closed=True) == 0


def test_a_broker_that_refuses_is_asked_every_half_minute(clock):
    attempts = longest()
    last(attempts, clock, 60)
    for _ in range(10):
        attempts.end(refused=True)  # without a `begin`: the broker has not accepted the connection
    assert attempts.pause_s == 30


def test_a_broker_that_was_away_in_between_has_not_closed_the_connection_on_purpose(clock):
    attempts = longest()
    for _ in range(2 * failures.MAX_CLOSES):
        attempts.fail()
        last(attempts, clock, 10, closed=True)
    assert attempts.pause_s == 0


def test_a_session_that_is_taken_over_again_and_again_is_claimed_back_ever_later(clock):
    attempts = longest()
    assert [last(attempts, clock, 60, taken_over=True) for _ in range(1)] == [5]
    pauses = []
    for _ in range(9):  # the other client does as we do: our connection lasts as long as its pause, which is like ours
        pauses.append(last(attempts, clock, attempts.pause_s, taken_over=True))
    assert pauses == [10, 20, 40, 80, 160, 300, 300, 300, 300]
    assert last(attempts, clock, 3600) == 0


def test_two_clients_over_mqtt_3_1_1_that_end_each_others_connections_come_to_rest(clock):
    """Each connects after its pause, whereby the broker closes the connection of the other one."""
    rng = random.Random(1)
    clients = [Attempts(rng.random) for _ in range(2)]
    due_s = [clock.now_s, clock.now_s + 1.0]
    starts_s = []
    connected: int | None = None
    for _ in range(200):
        number = due_s.index(min(due_s))
        clock.now_s = due_s[number]
        starts_s.append(clock.now_s)
        clients[number].begin()
        if connected is not None:
            clients[connected].end(closed=True)
            due_s[connected] = clock.now_s + clients[connected].pause_s
        connected, due_s[number] = number, float("inf")
    assert starts_s[-1] - starts_s[-101] > 100 * 5
    assert all(client.suspicious for client in clients)


def test_a_lasting_failure_is_said_when_it_changes_and_once_a_minute(clock):
    line = RareLine()
    said = []
    for second in range(130):
        clock.now_s = 1000.0 + second
        if line.due("refused" if second < 5 else "unreachable"):
            said.append(second)
    assert said == [0, 5, 65, 125]
