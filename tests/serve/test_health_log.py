"""Log of devices with problems: a line for each device, problem and hour, but never a flood."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Sequence

import pytest

from harstream.core.problems import Incident, Problem
from harstream.logs import JsonFormatter
from harstream.serve.health_log import GUIDE, MAX_NAMED, FullTableLog, HealthLog

from ..test_documents import ROOT


class Fleet:
    """Devices with the problem gravity, reviewed every ten seconds."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self.log, self.now_s, self._caplog = HealthLog(), 1000.0, caplog

    def pass_time(self, seconds: float, devices: Sequence[str]) -> list[str]:
        """Return the lines of a time in which ``devices`` have the problem."""
        self._caplog.clear()
        for _ in range(int(seconds // 10)):
            self.now_s += 10
            self.log.review({Problem.GRAVITY: devices}, lambda device, problem: "found 9.8", self.now_s)
        return self._caplog.messages


@pytest.fixture
def fleet(caplog) -> Fleet:
    return Fleet(caplog)


def incidents(*devices: str, problem: Problem = Problem.GRAVITY) -> list[Incident]:
    return [Incident(device, problem, "median |acc| is 4.2") for device in devices]


def test_a_line_names_device_problem_detail_and_where_to_read_more(caplog):
    HealthLog().report(incidents("w1"), 0.0)
    assert caplog.messages == [
        "device 'w1' has the problem gravity: median |acc| is 4.2 (see docs/how-to/troubleshoot.md#gravity)"
    ]
    assert {record.levelname for record in caplog.records} == {"WARNING"}


def test_every_problem_has_a_section_in_the_guide():
    text = (ROOT / GUIDE).read_text()
    for problem in Problem:
        assert f"\n### {problem.public_name}\n" in text


def test_a_device_is_named_once_for_each_problem_and_hour(fleet, caplog):
    fleet.log.report(incidents("w1", "w1"), fleet.now_s)
    fleet.log.report(incidents("w1", problem=Problem.CLOCK), fleet.now_s)
    assert [line.partition(":")[0] for line in caplog.messages] == [
        "device 'w1' has the problem gravity",
        "device 'w1' has the problem clock",
    ]
    fleet.log.report(incidents("w1"), fleet.now_s + 10)
    assert fleet.pass_time(3590, ["w1"]) == []
    assert len(fleet.pass_time(20, ["w1"])) == 1  # it still has the problem
    assert fleet.pass_time(7200, []) == []


def test_a_thousand_devices_make_some_lines_and_a_summary(fleet, caplog):
    names = [f"w{i}" for i in range(1000)]
    fleet.log.report(incidents(*names), fleet.now_s)
    assert len(caplog.messages) == MAX_NAMED
    lines = fleet.pass_time(60, names)
    assert lines == [
        "990 more devices have the problem gravity, not named here: see /api/devices?problem=gravity and "
        "docs/how-to/troubleshoot.md#gravity"
    ]
    day = [fleet.pass_time(3600, names) for _ in range(24)]
    assert max(map(len, day)) <= 6 * (MAX_NAMED + 1)
    assert len(fleet.log._named_s) <= 6 * MAX_NAMED
    assert not any("more devices" in line for line in fleet.pass_time(3600, names[:5]))


def test_a_device_that_found_no_room_is_named_later(fleet):
    names = [f"w{i}" for i in range(MAX_NAMED + 2)]
    first = fleet.pass_time(10, names)
    assert len(first) == MAX_NAMED
    later = [line for line in fleet.pass_time(1200, names) if line.startswith("device ")]
    assert [line.split("'")[1] for line in later] == names[MAX_NAMED:]


def test_problems_that_come_and_go_make_no_flood_either(fleet):
    names = [f"w{i}" for i in range(1000)]
    lines = [line for _ in range(60) for line in (*fleet.pass_time(30, names), *fleet.pass_time(30, []))]
    assert len(lines) <= 6 * (MAX_NAMED + 1)


def test_a_name_cannot_disturb_a_terminal_and_json_has_it_as_a_field(caplog):
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("harstream")
    logger.addHandler(handler)
    try:
        HealthLog().report(incidents("a\u202e\u0085b€", "😀\U000e0041"), 0.0)
    finally:
        logger.removeHandler(handler)
    assert caplog.messages[0].startswith(r"device 'a\u202e\x85b€' has")
    assert all(message.isprintable() for message in caplog.messages)
    lines = stream.getvalue().splitlines()
    assert all(line.isprintable() for line in lines)
    assert [json.loads(line)["device"] for line in lines] == ["a\u202e\u0085b€", "😀\U000e0041"]
    assert json.loads(lines[0])["problem"] == "gravity"


def test_a_full_table_is_one_line_an_hour_while_devices_are_turned_away(caplog):
    log = FullTableLog()
    for k in range(100):
        log.report(0, 1000, "", 10.0 * k)
    assert caplog.messages == []
    for k in range(100):
        log.report(25 * (k + 1), 1000, f"d{k}\u202e", 1000.0 + 10 * k)
    assert caplog.messages == [
        "the device table is full: 1000 devices have state, as many as max-devices allows, and samples of further "
        r"devices such as 'd0\u202e' are dropped (25 so far); raise --max-devices, or let the broker's access rules "
        "allow each wearable only its own name"
    ]
    log.report(2500, 1000, "d99", 9000.0)  # nothing new was dropped
    assert len(caplog.messages) == 1
    log.report(2501, 1000, "later", 9010.0)
    assert "'later' are dropped (2501 so far)" in caplog.messages[1]
