"""Table of the live page: filters, order, rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest

from harstream.core.health import DeviceHealth
from harstream.core.problems import Problem
from harstream.serve.api import QueryError
from harstream.serve.devices import Snapshot
from harstream.serve.label_history import LabelHistory
from harstream.serve.last_labels import LastLabels
from harstream.serve.page.table import Query, Table
from harstream.serve.rejections import Rejected

SECOND = 10**9
NOW_S = 1_000.0


def snapshot(devices: Sequence[str], source: str = "source1", history: LabelHistory | None = None) -> Snapshot:
    """Return devices of which the first has no label and the second the problem gravity."""
    n = len(devices)
    problems = np.zeros(n, np.int64)
    problems[1:2] = int(Problem.GRAVITY | Problem.CLOCK)
    zeros, numbers = np.zeros(n, np.int64), np.arange(n, dtype=np.float64)
    health = DeviceHealth(devices, NOW_S - numbers, 50.0 + numbers, zeros, zeros, zeros, ["g"] * n, problems)
    labels = LastLabels(["WALKING", "SITTING", "UNKNOWN"], history)
    for number, device in enumerate(devices[1:], start=1):
        begin = (100 - 10 * number) * SECOND
        name = "UNKNOWN" if number == 1 else ("WALKING", "SITTING")[number % 2]
        for t_ns in (begin, 100 * SECOND):
            labels.update([device], [name], [number / 10], [t_ns])
    return Snapshot(source, "m@1", 0.0, health, {}, {}, {}, labels)


def table(*snapshots: Snapshot, before: Table | None = None) -> Table:
    return Table([(one, None) for one in snapshots], NOW_S, before)


def chosen(shown: Table, **query: str) -> list[str]:
    return [shown.key(position)[1] for position in shown.select(Query.parse(query)).tolist()]


DEVICES = ["d", "b", "e", "a", "C"]


@pytest.mark.parametrize(
    ("query", "devices"),
    [
        ({}, ["C", "a", "b", "d", "e"]),
        ({"descending": "1"}, ["e", "d", "b", "a", "C"]),
        ({"search": "c"}, ["C"]),
        ({"search": "nothing"}, []),
        ({"activity": "WALKING"}, ["C", "e"]),
        ({"activity": "none"}, ["d"]),
        ({"activity": "UNKNOWN"}, ["b"]),
        ({"problem": "gravity"}, ["b"]),
        ({"problem": "clock"}, ["b"]),
        ({"problem": "any"}, ["b"]),
        ({"problem": "none"}, ["C", "a", "d", "e"]),
        ({"problem": "rate"}, []),
        ({"sort": "problem"}, ["b", "C", "a", "d", "e"]),
        ({"sort": "activity"}, ["a", "b", "C", "e", "d"]),
        ({"sort": "confidence"}, ["b", "e", "a", "C", "d"]),
        ({"sort": "since"}, ["C", "a", "e", "b", "d"]),
        ({"sort": "rate", "descending": "1"}, ["C", "a", "e", "b", "d"]),
        ({"sort": "last_seen"}, ["C", "a", "e", "b", "d"]),
        ({"activity": "WALKING", "problem": "none", "search": "e"}, ["e"]),
        ({"source": "other"}, []),
    ],
)
def test_devices_are_filtered_and_sorted(query, devices):
    shown = table(snapshot(DEVICES))
    assert chosen(shown, **query) == devices


def test_sources_are_one_table():
    shown = table(snapshot(["b", "c"], "phones"), snapshot(["a", "b"], "watches"))
    assert [shown.key(p) for p in shown.select(Query()).tolist()] == [
        ("watches", "a"),
        ("phones", "b"),
        ("watches", "b"),
        ("phones", "c"),
    ]
    assert chosen(shown, source="watches") == ["a", "b"]
    assert [shown.describe(p)["source"] for p in shown.select(Query.parse({"sort": "source"})).tolist()] == [
        "phones",
        "phones",
        "watches",
        "watches",
    ]
    assert (shown.problem_counts["gravity"], shown.problem_counts["any"], shown.problem_counts["rate"]) == (2, 2, 0)
    assert shown.without_label == 2


def test_a_row_has_the_fields_of_the_api_and_the_strip():
    history = LabelHistory(lambda: NOW_S)
    shown = Table([(snapshot(["x", "y"], history=history), history)], NOW_S)
    row = shown.describe(1)
    assert {name: row[name] for name in ("device", "label", "confidence", "duration_s", "problem", "rate_hz")} == {
        "device": "y",
        "label": "UNKNOWN",
        "confidence": 0.1,
        "duration_s": 10.0,
        "problem": "gravity",
        "rate_hz": 51.0,
    }
    assert row["strip"] == [(NOW_S, "UNKNOWN")]
    assert (shown.describe(0)["label"], shown.describe(0)["duration_s"], shown.describe(0)["strip"]) == (None, None, [])


def test_devices_of_which_only_rejected_messages_are_known_are_in_the_table():
    rejected = {"z": (Rejected("gyroscope", 1, 1.0, 2.0, "no gyroscope", 3.0),)}
    shown = table(dataclasses.replace(snapshot(["a"]), rejected=rejected))
    assert chosen(shown) == ["a", "z"]
    assert chosen(shown, problem="gyroscope") == ["z"]
    assert chosen(shown, sort="rate") == ["z", "a"]
    row = shown.describe(1)
    assert (row["last_seen"], row["rate_hz"], row["label"], row["problem"]) == (2.0, None, None, "gyroscope")


def test_no_devices_at_all():
    for shown in (table(snapshot([])), table()):
        for sort in Table.SORTS:
            assert chosen(shown, sort=sort, search="x") == []
        assert shown.problem_counts["any"] == 0


def test_the_work_on_names_is_done_again_only_if_they_change():
    first = table(snapshot(DEVICES))
    assert chosen(first) == ["C", "a", "b", "d", "e"]
    second = table(snapshot(DEVICES), before=first)
    assert second.names is first.names
    assert table(snapshot([*DEVICES, "f"]), before=second).names is not first.names


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ({"sort": "colour"}, "sort is 'colour', expected one of device, source, activity"),
        ({"descending": "yes"}, "descending is 'yes', expected 0 or 1"),
        ({"problem": "x"}, "problem is 'x', expected one of gravity"),
        ({"limit": "201"}, "limit is '201', expected a whole number from 1 to 200"),
        ({"offset": "-1"}, "offset is '-1'"),
    ],
)
def test_a_wrong_parameter_is_named(query, error):
    with pytest.raises(QueryError, match=error):
        Query.parse(query)
