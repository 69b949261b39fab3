"""DeviceTable: assigns rows, grows, and reuses the rows of evicted devices."""

import numpy as np

from harstream.core.devices import DeviceTable


def rows(table, *devices, at=0.0):
    return table.find_or_add(devices, np.full(len(devices), at)).tolist()


def test_a_device_keeps_its_row():
    table = DeviceTable(4, 10)
    assert rows(table, "a", "b", "a", "c") == [0, 1, 0, 2]
    assert rows(table, "c", "b") == [2, 1]
    assert len(table) == 3
    assert [table.device(row) for row in range(3)] == ["a", "b", "c"]


def test_a_full_table_turns_newcomers_away_and_keeps_those_it_has():
    table = DeviceTable(4, 2)
    assert rows(table, "a", "b", "c", "a", "c") == [0, 1, -1, 0, -1]
    assert len(table) == 2


def test_it_grows_past_its_capacity_without_forgetting():
    table = DeviceTable(2, 100)
    rows(table, "a", "b", at=7.0)
    assert rows(table, *"cdefg", at=9.0) == [2, 3, 4, 5, 6]
    assert table.capacity >= 7
    assert table.last_accepted_s[:7].tolist() == [7.0, 7.0, 9.0, 9.0, 9.0, 9.0, 9.0]


def test_only_devices_idle_before_the_limit_are_evicted_and_their_rows_reused():
    table = DeviceTable(4, 3)
    rows(table, "a", at=10.0)
    rows(table, "b", at=20.0)
    rows(table, "c", at=30.0)
    evicted, freed = table.evict(20.0)
    assert (evicted, freed.tolist()) == (["a"], [0])
    assert rows(table, "d", "e", at=40.0) == [0, -1]
    assert table.device(0) == "d"
    evicted, freed = table.evict(100.0)
    assert sorted(evicted) == ["b", "c", "d"]
    assert len(table) == 0
    assert sorted(rows(table, "x", "y", "z")) == [0, 1, 2]  # no row is lost, none used twice


def test_an_empty_table_evicts_nothing():
    assert DeviceTable(4, 3).evict(1e18)[0] == []
