"""History of the labels and events of each device."""

from __future__ import annotations

import sys

import pytest

from harstream.core.events import ENTER, EXIT, ActivityEvent
from harstream.serve.label_history import MAX_CHANGES, MAX_EVENTS, SPAN_S, LabelHistory
from harstream.serve.last_labels import LastLabels

from ..fakes import Clock

SECOND = 10**9


@pytest.fixture
def clock() -> Clock:
    clock = Clock()
    clock.now_s = 1.7e9
    return clock


@pytest.fixture
def history(clock: Clock) -> LabelHistory:
    return LabelHistory(clock)


def changes(history: LabelHistory, device: str = "w1", span_s: float = SPAN_S) -> list[tuple[float, str]]:
    return [(round(change.t_s - 1.7e9, 1), change.label) for change in history.changes(device, span_s)]


def test_the_changes_of_the_last_labels_are_kept_with_their_time_of_arrival(history, clock):
    labels = LastLabels(["WALKING", "SITTING"], history)
    for t, label in enumerate(["SITTING", "SITTING", "WALKING", "WALKING", "SITTING"]):
        labels.update(["w1"], [label], [0.9], [(50 + 2 * t) * SECOND])
        clock.now_s += 2
    assert changes(history) == [(0.0, "SITTING"), (4.0, "WALKING"), (8.0, "SITTING")]
    assert changes(history, "another") == []


@pytest.mark.parametrize("label", ["WALKING", "SITTING"])
def test_a_pause_without_labels_is_kept_as_such(history, clock, label):
    labels = LastLabels(["WALKING", "SITTING"], history)
    labels.update(["w1"], ["WALKING"], [0.9], [50 * SECOND])
    clock.now_s += 100
    labels.update(["w1"], [label], [0.9], [150 * SECOND])
    assert changes(history) == [(0.0, "WALKING"), (0.0, ""), (100.0, label)]


def test_a_clock_that_jumps_makes_no_pause(history, clock):
    labels = LastLabels(["WALKING"], history)
    for t_s in (1_700_000_000, 5, 1_700_000_010):
        labels.update(["w1"], ["WALKING"], [0.9], [t_s * SECOND])
        clock.now_s += 2
    assert [label for _, label in changes(history)] == ["WALKING", "WALKING"]


def test_a_span_begins_with_the_label_before_it(history, clock):
    for label in ("A", "B", "C"):
        history.begin("w1", label)
        clock.now_s += 100
    assert changes(history, span_s=150.0) == [(100.0, "B"), (200.0, "C")]


def test_old_changes_are_forgotten_and_the_number_is_bounded(history, clock):
    history.begin("w1", "OLD")
    clock.now_s += 10
    history.begin("w1", "BEFORE")
    clock.now_s += SPAN_S + 1
    history.begin("w1", "NEW")
    assert [label for _, label in changes(history)] == ["BEFORE", "NEW"]
    for _ in range(3 * MAX_CHANGES):
        history.begin("w1", "A", paused_s=0.01)
    assert len(history.raw("w1")) <= 6 * (MAX_CHANGES + 1)
    assert sys.getsizeof(history.raw("w1")) < 3_000


def event(kind: str, t_s: float, duration_s: float = 0.0, device: str = "w1") -> ActivityEvent:
    return ActivityEvent(device, kind, 1, round(t_s * SECOND), 0.875, round(duration_s * SECOND))


def test_events_are_kept_with_their_event_time(history):
    history.add_events([event(ENTER, 1.7e9 - 3), event(EXIT, 1.7e9, 12.3)], ["A", "B"])
    enter, end = history.events("w1")
    assert (enter.t_s, enter.kind, enter.label, enter.duration_s) == (1.7e9 - 3, "enter", "B", 0)
    assert enter.confidence == pytest.approx(0.875)
    assert (end.kind, end.duration_s) == ("exit", 12.3)


def test_the_time_of_an_event_is_that_of_its_arrival_if_the_clock_of_the_device_is_far_off(history):
    history.add_events([event(ENTER, 5.0), event(EXIT, 3e9, 1e12)], ["A", "B"])
    assert [one.t_s for one in history.events("w1")] == [1.7e9, 1.7e9]


def test_the_number_of_events_is_bounded_and_evicted_devices_are_forgotten(history):
    history.add_events([event(ENTER, 1.7e9 + i) for i in range(3 * MAX_EVENTS)], ["A", "B"])
    assert [one.t_s for one in history.events("w1")] == [1.7e9 + i for i in range(2 * MAX_EVENTS, 3 * MAX_EVENTS)]
    labels = LastLabels(["A"], history)
    labels.update(["w1", "w2"], ["A", "A"], [1.0, 1.0], [SECOND, SECOND])
    labels.remove(["w1"])
    assert (history.raw("w1"), history.events("w1")) == (b"", [])
    assert history.raw("w2")
