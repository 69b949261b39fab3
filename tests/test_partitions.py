"""Lists of partitions, and the share of each worker."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harstream import partitions
from harstream.config import RunConfig
from harstream.errors import ConfigError

TOPIC = "p/{partition}/wearables/{device}/imu"


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("0-7,12", (0, 1, 2, 3, 4, 5, 6, 7, 12)), ("5", (5,)), ("3,1,2-3", (1, 2, 3))],
)
def test_a_list_of_numbers_and_ranges(text, numbers):
    assert partitions.parse(text) == numbers


@pytest.mark.parametrize("text", ["", "a", "7-3", "1,,2", "-1", "1-", "65536", "1;2"])
def test_any_other_text_is_an_error(text):
    with pytest.raises(ConfigError, match="partitions"):
        partitions.parse(text)


@pytest.mark.parametrize("workers", [1, 3, 8, 64])
def test_every_partition_is_served_by_exactly_one_worker(workers):
    shares = [partitions.homes(number, workers, 64) for number in range(workers)]
    assert sorted(number for share in shares for number in share) == list(range(64))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_the_state_folder_of_workers_is_shared_and_no_durable_mode():
    config = RunConfig(topic=TOPIC, broker="host", worker="0/2", partition_count=4, state_dir=Path("state"), qos=0)
    assert config.durable_dir is None
    assert config.shared_dir == Path("state/workers-harstream")
    settings = config.read_broker_settings()
    assert settings is not None
    assert settings.client_id is None
    alone = RunConfig(topic=TOPIC, broker="host", partitions="0,2", state_dir=Path("state"))
    assert (alone.durable_dir, alone.shared_dir) == (Path("state"), None)


@given(st.integers(1, 12), st.sets(st.integers(0, 11)), st.integers(0, 11))
def test_a_lost_worker_moves_only_its_own_partitions_and_evenly(workers, alive, lost):
    alive = {number for number in alive if number < workers} - {lost}
    before = [partitions.owner(p, workers, alive | {lost}) for p in range(200)]
    after = [partitions.owner(p, workers, alive) for p in range(200)]
    assert all(old in (lost, new) for old, new in zip(before, after, strict=True))
    assert set(after) <= (alive or {None})
    if len(alive) == workers - 1 > 0 and lost < workers:
        moved = [new for old, new in zip(before, after, strict=True) if old == lost]
        numbers = [moved.count(number) for number in alive]
        assert max(numbers) - min(numbers) <= 1


def test_every_partition_is_at_home_while_all_are_there():
    for workers in (1, 2, 7):
        owners = [partitions.owner(p, workers, range(workers)) for p in range(64)]
        assert owners == [p % workers for p in range(64)]


def test_a_list_as_text_is_read_again():
    assert partitions.to_text({12, 3, 4}) == "3,4,12"
    assert partitions.parse(partitions.to_text(range(5))) == tuple(range(5))
    assert partitions.to_text([]) == ""


def test_a_pod_of_a_statefulset_knows_its_number():
    assert partitions.parse_worker("auto/8", 64, "harstream-3") == partitions.parse_worker("3/8", 64, "") == (3, 8)


@pytest.mark.parametrize(
    ("worker", "count", "host"),
    [("8/8", 64, ""), ("0/8", 7, ""), ("3", 64, ""), ("-1/8", 64, ""), ("auto/8", 64, "laptop"), ("auto/3", 64, "h-3")],
)
def test_a_worker_out_of_range_is_an_error(worker, count, host):
    with pytest.raises(ConfigError, match="worker"):
        partitions.parse_worker(worker, count, host)


def test_settings_that_contradict_each_other_are_an_error(monkeypatch):
    monkeypatch.setattr("socket.gethostname", lambda: "harstream-2")
    assert RunConfig().served_partitions == ()
    assert RunConfig(topic=TOPIC, partitions="1,3").served_partitions == (1, 3)
    assert RunConfig(topic=TOPIC, worker="auto/32", partition_count=64).served_partitions == (2, 34)
    for wrong in (
        {"partitions": "1", "worker": "0/2"},
        {"partitions": "1", "partition_count": 4},
        {"worker": "0/2"},
        {"partition_count": 4},
    ):
        with pytest.raises(ConfigError):
            RunConfig(topic=TOPIC, **wrong)
    for name in ("", "a/b", "a+"):
        with pytest.raises(ConfigError, match="worker-group"):
            RunConfig(topic=TOPIC, worker="0/2", partition_count=4, worker_group=name)
    with pytest.raises(ConfigError, match="topic of the workers 'harstream/7/workers/0'; choose another"):
        RunConfig(topic="harstream/{partition}/workers/{device}", worker="0/2", partition_count=4, worker_group="7")
    with pytest.raises(ConfigError, match="no level"):
        RunConfig(partitions="1")
