"""Workers of a group share the partitions: each has one worker, and the others take over what a lost one served."""

from __future__ import annotations

import json
import random
from functools import partial

import pytest

from harstream import partitions
from harstream.serve.group import EXPIRE_S, GRACE_S, LEASE_S, LISTEN_S, Heartbeat, State

from .groups import TICK_S, Site

#: Time within which messages and changes of the simulation are through, seconds.
DELAYS_S = 0.5
HOMES = [[0], [1], [2], [3]] * 4  # the workers of 16 partitions


def started(**settings) -> Site:
    """Return a site whose four workers serve their own partitions."""
    site = Site(**settings)
    for number in range(4):
        site.start(number)
    site.run(LISTEN_S + 2 * DELAYS_S)
    assert site.servers() == HOMES
    site.forget()
    return site


def changes(site: Site) -> int:
    """Return the number of partitions gained and lost so far."""
    return sum(worker.workers.gained + worker.workers.lost for worker in site.workers)


# --- one worker is lost ---------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_the_others_take_over_within_five_seconds_and_give_back(seed):
    site = started(seed=seed)
    site.run(random.Random(seed).uniform(1, 3))
    site.kill(site.workers[1])
    site.run(10)
    servers = site.servers()
    assert all(len(each) == 1 for each in servers)
    assert [each for each in servers if each != [1]] == servers
    assert [servers[p] for p in range(16) if p % 4 != 1] == [HOMES[p] for p in range(16) if p % 4 != 1]
    assert max(sum(servers[p] == [n] for p in (1, 5, 9, 13)) for n in (0, 2, 3)) == 2  # spread evenly
    assert max(site.missing_s) < 5
    site.forget()
    site.start(1)
    site.run(5)
    assert site.servers() == HOMES
    assert max(site.missing_s) <= 2 * DELAYS_S
    assert max(site.doubled_s) == 0


def test_a_worker_that_leaves_hands_over_at_once():
    site = started()
    leaving = site.workers[2]
    leaving.workers.leave(1.0)
    site.run(3)  # it finishes what it has received
    assert site.servers() == HOMES
    leaving.workers.subscriptions.change(remove=leaving.workers.subscriptions.delivering)
    site.run(DELAYS_S)
    leaving.workers._beat(())
    site.kill(leaving)
    site.forget()
    site.run(2 * DELAYS_S)
    assert all(len(each) == 1 for each in site.servers())
    assert max(site.doubled_s) == 0


def test_a_worker_that_stood_still_serves_nothing_until_the_others_have_given_back():
    site = started()
    stopped = site.workers[3]
    stopped.running = False
    site.run(20)
    relieved = site.servers()
    assert all(len(each) == 1 for each in relieved)
    stopped.running = True
    site.run(LISTEN_S - DELAYS_S)  # it listens, and the others do not go before it can serve
    assert site.servers() == relieved
    site.run(5)
    assert site.servers() == HOMES
    assert max(site.doubled_s) == 0
    assert stopped.workers.lost == 4  # its state was out of date


def test_a_worker_without_its_connection_for_samples_is_relieved_and_comes_back():
    site = started()
    site.workers[0].connect_samples(False)
    site.run(10)
    assert all(len(each) == 1 and each != [0] for each in site.servers())
    site.workers[0].connect_samples(True)
    site.run(5)
    assert site.servers() == HOMES
    assert max(site.doubled_s) == 0


def test_a_worker_whose_subscriptions_the_broker_refuses_is_relieved(caplog):
    site = started()
    refused = site.workers[2]
    refused.connect(False)
    refused.refuses = {"p/"}
    refused.connect(True)
    site.run(10)
    assert all(len(each) == 1 and each != [2] for each in site.servers())
    site.forget()
    site.run(45)  # without trying again and again
    assert max(site.missing_s) == 0
    assert sum("refused the subscription to p/" in record.message for record in caplog.records) == 1
    refused.refuses = set()
    site.run(20)
    assert site.servers() == HOMES
    assert max(site.doubled_s) == 0


def test_a_worker_that_may_not_serve_a_partition_of_another_keeps_its_own():
    site = started()
    site.workers[0].refuses = {"p/1/", "p/5/", "p/9/", "p/13/"}
    site.kill(site.workers[1])
    site.run(30)
    assert site.servers()[::4] == [[0]] * 4


def test_a_broker_that_refuses_subscriptions_for_a_moment_moves_nothing():
    site = started()
    before = changes(site)
    site.workers[2].connect(False)
    site.workers[2].refuses = {"p/"}
    site.workers[2].connect(True)
    site.run(1.5)
    site.workers[2].refuses = set()
    site.run(5)
    assert site.servers() == HOMES
    assert changes(site) == before


def test_a_worker_that_never_comes_back_between_its_crashes_is_relieved():
    site = started()
    site.kill(site.workers[1])
    for _ in range(15):  # it dies before it serves
        crashing = site.start(1)
        site.run(LISTEN_S / 2)
        site.kill(crashing)
        site.run(0.5)
    assert all(len(each) == 1 for each in site.servers())


# --- nobody is lost -------------------------------------------------------------------------------------


@pytest.mark.parametrize("outage_s", [0.5, 2, 10, 120])
def test_an_outage_of_the_broker_moves_nothing(outage_s):
    site = started()
    before = changes(site)
    site.broker = False
    for worker in site.workers:
        worker.connect(False)
    site.run(outage_s)
    site.broker = True
    for number, worker in enumerate(site.workers):  # back-off, up to five seconds
        site.after(min(outage_s, number * 5 / 3), partial(worker.connect, True))
    site.run(5 + LISTEN_S + DELAYS_S)
    assert site.servers() == HOMES
    assert changes(site) == before
    site.forget()
    site.run(60)
    assert max(site.missing_s) == max(site.doubled_s) == 0


def test_a_broker_that_stands_still_moves_nothing():
    site = started()
    before = changes(site)
    site.broker = False  # the connections stay
    site.run(30)
    assert site.servers() == [[]] * 16  # nobody knows whether the others hear each other
    site.broker = True
    site.run(LISTEN_S + 2)
    assert site.servers() == HOMES
    assert changes(site) == before


@pytest.mark.parametrize("stall_s", [1, 2, 2.5])
def test_a_worker_that_stands_still_for_a_moment_stays(stall_s):
    site = started()
    before = changes(site)
    for worker in site.workers:
        worker.running = False
        site.run(stall_s)
        worker.running = True
        site.run(5)
    assert site.servers() == HOMES
    assert changes(site) == before


def test_a_machine_that_stands_still_moves_nothing():
    site = started()
    before = changes(site)
    for worker in site.workers:
        worker.running = False
    site.run(30)
    for worker in site.workers:
        worker.running = True
        site.run(TICK_S)  # one after the other
    site.run(5)
    assert site.servers() == HOMES
    assert changes(site) == before


def test_workers_that_start_one_after_the_other_take_only_their_own():
    site = Site()
    for number in range(4):
        site.start(number)
        site.run(1.5)
    site.run(2)
    assert site.servers() == HOMES
    assert changes(site) == 16


def test_those_that_are_there_serve_all_if_others_never_start():
    site = Site()
    site.start(0)
    site.start(3)
    site.run(LISTEN_S + DELAYS_S)
    assert [each for each in site.servers() if each] == [[0], [3]] * 4
    site.run(GRACE_S)
    assert all(len(each) == 1 for each in site.servers())


# --- mistakes and changes of size -----------------------------------------------------------------------


def test_two_daemons_with_one_number_do_not_serve_a_partition_twice(caplog):
    site = started()
    twin = site.start(2)
    site.run(10)
    assert site.servers() == HOMES
    assert not twin.served
    assert sum("is worker 2/4 too" in record.message for record in caplog.records) == 2
    site.kill(site.workers[2])
    site.run(5)
    assert site.servers() == HOMES
    assert twin.served == {2, 6, 10, 14}
    assert max(site.doubled_s) == 0


def test_workers_are_added_and_removed_one_after_the_other():
    site = started()
    for number in range(4, 8):
        site.start(number, 8)
        site.run(3)
    for old in site.workers[:4]:
        site.kill(old)
        site.run(1)
        site.start(old.number, 8)
        site.run(8)
    assert site.servers() == [[partition % 8] for partition in range(16)]
    assert max(site.doubled_s) == 0
    for old in site.workers[4:8]:
        site.kill(old)
        site.run(5)
    for old in site.workers[8:]:
        site.kill(old)
        site.run(1)
        site.start(old.number, 4)
        site.run(8)
    assert site.servers() == HOMES
    assert max(site.doubled_s) == 0


@pytest.mark.parametrize("seed", range(10))
def test_after_a_day_of_mishaps_each_partition_has_one_worker(seed):
    site = started(seed=seed)
    chance = random.Random(seed)
    for _ in range(30):
        living = [worker for worker in site.workers if worker.alive]
        worker = chance.choice(living)
        match chance.choice(["kill", "stand still", "disconnect", "samples", "start"]):
            case "kill" if len(living) > 1:
                site.kill(worker)
            case "stand still":
                worker.running = False
            case "disconnect":
                worker.connect(False)
            case "samples":
                worker.connect_samples(False)
            case "start" if missing := set(range(4)) - {each.number for each in living}:
                site.start(chance.choice(sorted(missing)))
        site.run(chance.uniform(0, 12))
        for each in living:
            if each.alive and chance.random() < 0.7:
                each.running = True
                if not each.connected or not each.able:
                    each.connect(True)
    for worker in site.workers:
        if worker.alive:
            worker.running = True
            worker.connect(False)
            worker.connect(True)
    site.run(GRACE_S + EXPIRE_S + 2)
    # Two workers that cannot hear each other may serve one partition, until they can.
    assert max(site.doubled_s) < 2
    living_numbers = {worker.number for worker in site.workers if worker.alive}
    assert site.servers() == [[partitions.owner(p, 4, living_numbers)] for p in range(16)]


# --- heartbeats -----------------------------------------------------------------------------------------


def test_a_worker_gives_up_its_lease_before_the_others_take_it_for_dead():
    assert LEASE_S + 2 * TICK_S < EXPIRE_S


def test_a_heartbeat_is_encoded_and_decoded():
    heartbeat = Heartbeat(3, "0a1b", 17, State.SERVING, 8, 64, frozenset({3, 11, 60}))
    assert Heartbeat.decode("3", heartbeat.encode()) == heartbeat
    assert json.loads(heartbeat.encode())["partitions"] == "3,11,60"
    empty = Heartbeat(0, "0a1b", 1, State.JOINING, 1, 1, frozenset())
    assert Heartbeat.decode("0", empty.encode()) == empty


@pytest.mark.parametrize(
    "change",
    [
        {"state": "asleep"},
        {"counter": 1e400},
        {"counter": "1"},
        {"workers": 0},
        {"workers": 2**70},
        {"partitions": "1-"},
        {"partitions": 7},
        {"partition_count": None},
    ],
)
def test_a_malformed_heartbeat_is_ignored_and_named_once(change, caplog):
    site = started()
    worker = site.workers[0].workers
    payload = json.loads(Heartbeat(1, "0a1b", 17, State.SERVING, 4, 16, frozenset({1})).encode())
    for _ in range(2):
        worker._hear("harstream/harstream/workers/1", json.dumps({**payload, **change}).encode(), False)
    for wrong in (b"", b"[]", b"\xff", b"[" * 100_000, b'{"session": "x"}'):
        worker._hear("harstream/harstream/workers/1", wrong, False)
    worker._hear(
        "harstream/harstream/workers/x", Heartbeat(1, "", 1, State.SERVING, 4, 16, frozenset()).encode(), False
    )
    assert worker._heard.empty()
    assert len([record for record in caplog.records if "not a heartbeat" in record.message]) == 2
