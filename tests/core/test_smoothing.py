"""Smoother: labels, UNKNOWN, and enter and exit events; how windows are cut into batches changes nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harstream.core import smoothing as smoothing_module
from harstream.core.batches import Predictions, SampleBatch
from harstream.core.engine import Engine
from harstream.core.events import ENTER, EXIT, ActivityEvent
from harstream.core.labels import UNKNOWN_INDEX
from harstream.core.smoothing import Smoother
from harstream.core.smoothing_section import Smoothing
from harstream.core.spec import SignalSpec
from harstream.errors import ConfigError

from ..constants import SECOND, T0_NS

WINDOW_NS, STRIDE_NS = 2_560_000_000, 1_280_000_000
STRIDE_S = 1.28

SMOOTHINGS = [
    Smoothing(),
    Smoothing("none", 0.6),
    Smoothing("exponential", 0.5, weight=0.4),
    Smoothing("hysteresis", 0.5, margin=0.1, windows=2),
    Smoothing("hmm"),
    Smoothing("hmm", 0.6, trust=0.7),
    Smoothing("hmm", 0.6, fixed_lag_windows=1),
    Smoothing("hmm", 0.5, unknown_share=0.1, fixed_lag_windows=3),
    Smoothing("hmm", transitions=((0.9, 0.05, 0.05), (0.1, 0.8, 0.1), (0.2, 0.1, 0.7)), fixed_lag_windows=2),
]
by_name = pytest.mark.parametrize("smoothing", SMOOTHINGS, ids=lambda s: f"{s.type}-{s.fixed_lag_windows}")
#: Number of the three outputs that are states between labels: the last ones.
with_states = pytest.mark.parametrize("n_states", [0, 1])


class Windows:
    """Windows of several devices, to be fed in batches of any size."""

    def __init__(self) -> None:
        self.devices: list[str] = []
        self.probabilities: list[list[float]] = []
        self.start_ns: list[int] = []
        self.untrusted: list[bool] = []

    def add(self, device: str, start_ns: int, probabilities, untrusted: bool = False) -> None:
        self.devices.append(device)
        self.start_ns.append(start_ns)
        self.probabilities.append(list(probabilities))
        self.untrusted.append(untrusted)

    def feed(self, smoother: Smoother, begin: int = 0, end: int | None = None):
        start_ns = np.array(self.start_ns[begin:end], np.int64)
        n_labels = len(self.probabilities[0])
        probabilities = np.array(self.probabilities[begin:end], np.float32).reshape(-1, n_labels)
        untrusted = np.array(self.untrusted[begin:end], np.bool_)
        posteriors, events = smoother.feed(
            self.devices[begin:end], probabilities, start_ns, start_ns + WINDOW_NS, untrusted
        )
        return posteriors.label.tolist(), posteriors.confidence.tolist(), events


def one(labels: str, *, sure: float = 0.9, device: str = "a", t_ns: int = T0_NS) -> Windows:
    """Return windows of one device, one per letter: A, B, C, ? if all labels are equally likely, ! if untrusted."""
    windows = Windows()
    for i, letter in enumerate(labels):
        p = [1 / 3] * 3 if letter in "?!" else [sure if name == letter else (1 - sure) / 2 for name in "ABC"]
        windows.add(device, t_ns + i * STRIDE_NS, p, letter == "!")
    return windows


def crowd(n_devices: int = 8, n_windows: int = 25, seed: int = 0, untrusted: float = 0.0) -> Windows:
    """Return windows of devices that change their activity, interleaved at random, with gaps and jumps of the clock.

    ``untrusted`` is the probability that a device begins or ends to be untrusted at a window.
    """
    rng = np.random.default_rng(seed)
    clock = {f"d{i}": T0_NS + int(rng.integers(0, 100 * SECOND)) for i in range(n_devices)}
    doing = dict.fromkeys(clock, 0)
    is_untrusted = dict.fromkeys(clock, False)
    windows = Windows()
    for _ in range(n_windows * n_devices):
        device = f"d{rng.integers(n_devices)}"
        if rng.random() < 0.1:
            doing[device] = int(rng.integers(3))
        if rng.random() < 0.05:
            clock[device] += int(rng.choice([-30, 2, 7, 60])) * SECOND
        bias = np.full(3, 0.4)
        bias[doing[device]] = 2.0
        p = rng.dirichlet(bias).astype(np.float32)
        if untrusted:
            is_untrusted[device] ^= bool(rng.random() < untrusted)
        windows.add(device, clock[device], [1 / 3] * 3 if is_untrusted[device] else p, is_untrusted[device])
        clock[device] += STRIDE_NS
    return windows


def new_smoother(smoothing: Smoothing, n_states: int = 0) -> Smoother:
    return Smoother(smoothing, 3 - n_states, STRIDE_S, n_states)


class RowByRow(Smoother):
    """Smoother that counts the windows that were smoothed one by one."""

    n_taken = 0

    def _step_row(self, *args, **kwargs):
        found = super()._step_row(*args, **kwargs)
        self.n_taken += found is not None
        return found


class Arrays(Smoother):
    """Smoother that smooths no window by itself."""

    def _step_row(self, *_, **__):
        return None


# --- how windows are cut ------------------------------------------------------------------------------


@by_name
@with_states
@given(cuts=st.lists(st.integers(0, 200), max_size=12), seed=st.integers(0, 3))
@settings(max_examples=15)
def test_how_windows_are_cut_into_batches_changes_no_label_and_no_event(smoothing, n_states, cuts, seed):
    windows = crowd(seed=seed, untrusted=0.2)
    whole = windows.feed(new_smoother(smoothing, n_states))
    bounds = sorted({0, *cuts, len(windows.devices)})
    smoother = new_smoother(smoothing, n_states)
    parts = [windows.feed(smoother, begin, end) for begin, end in pairwise(bounds)]
    for i in range(3):
        assert [value for part in parts for value in part[i]] == whole[i]  # to the bit


@by_name
@with_states
def test_one_by_one_is_as_all_at_once(smoothing, n_states):
    windows = crowd(n_windows=15)
    whole = windows.feed(new_smoother(smoothing, n_states))
    smoother = new_smoother(smoothing, n_states)
    parts = [windows.feed(smoother, i, i + 1) for i in range(len(windows.devices))]
    for i in range(3):
        assert [value for part in parts for value in part[i]] == whole[i]
    assert whole[2]


@by_name
@given(sizes=st.lists(st.integers(1, 9), min_size=40, max_size=80), seed=st.integers(0, 9))
@settings(max_examples=8)
def test_windows_one_by_one_are_as_arrays_of_them_to_the_bit(smoothing, sizes, seed):
    n_outputs = 13
    if smoothing.transitions:
        smoothing = replace(smoothing, transitions=(*np.full((n_outputs, n_outputs), 1 / n_outputs).tolist(),))
    windows = crowd(n_windows=25, seed=seed, untrusted=0.2)
    wide = np.random.default_rng(seed).dirichlet(np.full(n_outputs - 3, 0.3), len(windows.devices)) / 2
    windows.probabilities = [
        [*(p / 2 for p in own), *more] for own, more in zip(windows.probabilities, wide.tolist(), strict=True)
    ]
    bounds = np.minimum(np.cumsum([0, *sizes]), len(windows.devices)).tolist()
    rows, arrays = RowByRow(smoothing, n_outputs - 2, STRIDE_S, 2), Arrays(smoothing, n_outputs - 2, STRIDE_S, 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(smoothing_module, "FEW_WINDOWS", 1000)
        by_row = [windows.feed(rows, *cut) for cut in pairwise(bounds)]
    assert by_row == [windows.feed(arrays, *cut) for cut in pairwise(bounds)]
    assert rows.n_taken > bounds[-1] / 2
    rows_state, arrays_state = rows.snapshot(), arrays.snapshot()
    assert rows_state.keys() == arrays_state.keys()
    for name, values in rows_state.items():
        assert np.array_equal(values, arrays_state[name]), name


@by_name
@with_states
def test_a_device_does_not_depend_on_the_other_devices(smoothing, n_states):
    windows = crowd(untrusted=0.2)
    label, confidence, events = windows.feed(new_smoother(smoothing, n_states))
    for device in set(windows.devices):
        mine = [i for i, name in enumerate(windows.devices) if name == device]
        alone = Windows()
        for i in mine:
            alone.add(device, windows.start_ns[i], windows.probabilities[i], windows.untrusted[i])
        got = alone.feed(new_smoother(smoothing, n_states))
        assert got[0] == [label[i] for i in mine]
        assert got[1] == [confidence[i] for i in mine]
        assert got[2] == [event for event in events if event.device == device]


@by_name
@with_states
def test_a_restored_snapshot_goes_on_to_the_bit(smoothing, n_states):
    windows = crowd(n_devices=100, n_windows=10, untrusted=0.2)
    smoother = new_smoother(smoothing, n_states)
    windows.feed(smoother, 0, 500)
    restored = new_smoother(smoothing, n_states)
    restored.restore(smoother.snapshot())
    assert windows.feed(restored, 500) == windows.feed(smoother, 500)
    with pytest.raises(ValueError, match="already has devices"):
        restored.restore(smoother.snapshot())
    with pytest.raises(ValueError, match="the snapshot is of"):
        new_smoother(Smoothing("exponential", weight=0.9)).restore(smoother.snapshot())
    with pytest.raises(ValueError, match="the snapshot is of"):
        new_smoother(smoothing, 1 - n_states).restore(smoother.snapshot())


@by_name
@with_states
def test_devices_that_move_from_one_smoother_to_another_go_on_to_the_bit(smoothing, n_states):
    windows = crowd(n_devices=100, n_windows=10, untrusted=0.2)
    straight, old, between, new = (new_smoother(smoothing, n_states) for _ in range(4))
    windows.feed(straight, 0, 500)
    windows.feed(old, 0, 500)
    other = crowd(n_devices=3, n_windows=10)
    other.devices = [f"other {device}" for device in other.devices]
    other.feed(new)
    new.evict(other.devices[:1])  # its row is free again
    devices = sorted(set(windows.devices))
    between.restore(old.snapshot([*devices[::2], "unknown"]))
    old.evict(devices[::2])
    new.adopt(between)
    want = windows.feed(straight, 500)
    moved = [device in devices[::2] for device in windows.devices[500:]]
    for smoother, here in ((new, moved), (old, [not each for each in moved])):
        mine = [i for i, is_mine in enumerate(here) if is_mine]
        part = Windows()
        for i in mine:
            k = 500 + i
            part.add(windows.devices[k], windows.start_ns[k], windows.probabilities[k], windows.untrusted[k])
        got = part.feed(smoother)
        assert got[0] == [want[0][i] for i in mine]
        assert got[1] == [want[1][i] for i in mine]
        names = {windows.devices[500 + i] for i in mine}
        assert got[2] == [event for event in want[2] if event.device in names]
    with pytest.raises(ValueError, match="the other smoother is"):
        new_smoother(smoothing, 1 - n_states).adopt(between)


# --- posteriors ------------------------------------------------------------------------------------------


def test_without_smoothing_the_label_is_the_networks():
    windows = crowd()
    label, confidence, _ = windows.feed(new_smoother(Smoothing()))
    p = np.array(windows.probabilities, np.float32)
    assert label == p.argmax(axis=1).tolist()
    assert confidence == p.max(axis=1).tolist()


@pytest.mark.parametrize(
    "smoothing", [Smoothing("exponential", weight=0.4), Smoothing("hmm", dwell_s=60.0), Smoothing("hysteresis")]
)
def test_an_odd_window_shows_in_no_label(smoothing):
    label, _, events = one("AAAABAAAACAAAA").feed(new_smoother(smoothing))
    assert set(label) == {0}
    assert [(event.kind, event.label) for event in events] == [(ENTER, 0)]


def test_a_stretch_without_a_likely_label_is_unknown_and_then_ends():
    label, _, _ = one("AAAAA????AAAA").feed(new_smoother(Smoothing("hmm", 0.7)))
    assert {*label[:5], *label[-3:]} == {0}
    assert UNKNOWN_INDEX in label[5:9]
    changes = sum(a != b for a, b in pairwise(label))
    assert changes == 2


def test_one_uncertain_window_among_certain_ones_is_not_unknown_in_an_hmm():
    windows = one("AAAAAAAAAAA")
    windows.probabilities[5] = [0.6, 0.3, 0.1]
    assert windows.feed(new_smoother(Smoothing("none", 0.7)))[0][5] == UNKNOWN_INDEX
    assert set(windows.feed(new_smoother(Smoothing("hmm", 0.7)))[0]) == {0}


def test_without_a_threshold_nothing_is_ever_unknown():
    for smoothing in SMOOTHINGS:
        if smoothing.unknown_below == 0:
            assert UNKNOWN_INDEX not in one("?????A??B??").feed(new_smoother(smoothing))[0]


@pytest.mark.parametrize("gap_s", [-100, 0.0, 0.6, 2, 1000])
def test_a_window_that_does_not_follow_restarts_the_device(gap_s):
    smoother = new_smoother(Smoothing("hmm", dwell_s=1000.0, trust=0.3))
    windows = one("AAAAAAAA")
    end_ns = windows.start_ns[-1] + WINDOW_NS
    after = one("B", sure=0.6, t_ns=end_ns + round(gap_s * SECOND))
    assert windows.feed(smoother)[0][-1] == 0
    assert after.feed(smoother)[0] == [1]


def test_jitter_between_windows_that_do_not_overlap_is_no_restart():
    smoother = Smoother(Smoothing("hmm", dwell_s=1000.0, trust=0.3), 3, WINDOW_NS / 1e9)
    start_ns = T0_NS + np.arange(9) * (WINDOW_NS + 1000)
    p = np.array([[0.9, 0.05, 0.05]] * 8 + [[0.2, 0.6, 0.2]], np.float32)
    posteriors, events = smoother.feed(["a"] * 9, p, start_ns, start_ns + WINDOW_NS)
    assert set(posteriors.label.tolist()) == {0}
    assert len(events) == 1


@pytest.mark.parametrize(("window_samples", "stride_samples", "rate_hz"), [(128, 64, 50.0), (400, 100, 20.0)])
@pytest.mark.parametrize("gap_s", [0.3, 0.55, 1.0, 2.3])
@pytest.mark.parametrize("after", [0.05, 0.5, 0.95])
def test_the_smoother_restarts_exactly_where_the_engine_does(window_samples, stride_samples, rate_hz, gap_s, after):
    spec = SignalSpec(sample_rate_hz=rate_hz, window_samples=window_samples, stride_samples=stride_samples)
    engine, smoother = Engine(spec), Smoother(Smoothing("hmm"), 3, stride_samples / rate_hz)
    before = round(window_samples + (1 + after) * stride_samples)  # the gap begins at this part of a stride
    events = []
    for first, count in ((0, before), (before, 2 * window_samples)):
        t_ns = T0_NS + round((first / rate_hz + gap_s * (first > 0)) * SECOND)
        due = engine.feed(SampleBatch.from_message("a", np.zeros((count, 6), np.float32), t_ns=t_ns, rate_hz=rate_hz))
        sure = np.tile(np.array([0.9, 0.05, 0.05], np.float32), (len(due), 1))
        events += smoother.feed(due.devices, sure, due.start_ns, due.end_ns)[1]
    assert [event.kind for event in events] == [ENTER] + [EXIT, ENTER] * engine.stats.restarts
    assert engine.stats.restarts == (gap_s > spec.max_gap_s)


def test_a_clock_that_is_followed_is_no_restart_however_short_the_stride():
    """The device announces 50 Hz and sends 48.75 Hz. Once that is measured, its windows become longer."""
    spec = SignalSpec(window_samples=128, stride_samples=4)
    engine, smoother = Engine(spec), Smoother(Smoothing(), 3, 0.08)
    events, starts = [], []
    for first in range(0, 1000, 25):
        t_ns = T0_NS + round(first / 48.75 * SECOND)
        due = engine.feed(SampleBatch.from_message("a", np.zeros((25, 6), np.float32), t_ns=t_ns, rate_hz=50.0))
        sure = np.tile(np.array([0.9, 0.05, 0.05], np.float32), (len(due), 1))
        events += smoother.feed(due.devices, sure, due.start_ns, due.end_ns)[1]
        starts += due.start_ns.tolist()
    assert (np.diff(starts) < 0).any()
    assert [event.kind for event in events] == [ENTER]


@by_name
def test_an_untrusted_window_is_unknown_and_no_evidence_for_a_label(smoothing):
    label, confidence, events = one("AAAAAA!!!!!!!!BBBBBB", sure=0.99).feed(new_smoother(smoothing))
    assert label[6:14] == [UNKNOWN_INDEX] * 8
    assert max(confidence[6:14]) == pytest.approx(1 / 3)
    assert label[:6] == [0] * 6
    assert label[-1] == 1
    assert 0 not in label[-4:]
    # The activity ends half-way between its last window and the first untrusted one, whatever the smoothing holds back.
    exits = [event for event in events if event.kind == EXIT]
    assert [event.label for event in exits][:1] == [0]
    assert exits[0].t_ns == half_way(6)
    assert not any(half_way(6) < event.t_ns < half_way(14) for event in events)


def test_probabilities_of_untrusted_windows_are_uniform_and_those_of_others_stay():
    p = np.array([[0.0, 1.0, 0.0], [0.9, 0.1, 0.0]], np.float32)
    predictions = Predictions(p, p.argmax(axis=1), p.max(axis=1), np.array([False, False]))
    assert predictions.without(np.zeros(2, np.bool_)) is predictions
    changed = predictions.without(np.array([True, False]))
    np.testing.assert_allclose(changed.probabilities, [[1 / 3] * 3, [0.9, 0.1, 0.0]])
    assert changed.confidence.tolist() == pytest.approx([1 / 3, 0.9])
    assert changed.probabilities.dtype == changed.confidence.dtype == np.float32


# --- events -------------------------------------------------------------------------------------------


def half_way(i: int) -> int:
    """Return the time half-way between the centres of windows ``i - 1`` and ``i``."""
    return T0_NS + i * STRIDE_NS - STRIDE_NS // 2 + WINDOW_NS // 2


@pytest.mark.parametrize("smoothing", [Smoothing(), Smoothing("hmm", trust=0.3, fixed_lag_windows=3)])
def test_a_change_is_an_exit_and_an_enter_half_way_between_two_windows(smoothing):
    smoother = new_smoother(smoothing)
    _, _, events = one("AAAAABBBBBBBB", sure=0.99).feed(smoother)
    events += smoother.evict(["a"])
    end_ns = T0_NS + 12 * STRIDE_NS + WINDOW_NS
    assert [(e.kind, e.label, e.t_ns, e.duration_ns) for e in events] == [
        (ENTER, 0, T0_NS, 0),
        (EXIT, 0, half_way(5), half_way(5) - T0_NS),
        (ENTER, 1, half_way(5), 0),
        (EXIT, 1, end_ns, end_ns - half_way(5)),
    ]
    assert all(0.5 < event.confidence <= 1 for event in events)


def test_an_exits_confidence_is_the_mean_of_the_activitys_windows():
    windows = one("AAAB")
    for i, sure in enumerate([0.6, 0.7, 0.8]):
        windows.probabilities[i] = [sure, 0.1, 0.9 - sure]
    _, _, events = windows.feed(new_smoother(Smoothing()))
    assert [event.confidence for event in events] == pytest.approx([0.6, 0.7, 0.9])


def test_unknown_is_neither_entered_nor_exited():
    _, _, events = one("??AAA??BB").feed(new_smoother(Smoothing("none", 0.5)))
    assert [(event.kind, event.label) for event in events] == [(ENTER, 0), (EXIT, 0), (ENTER, 1)]
    assert events[0].t_ns == half_way(2)
    assert events[1].t_ns == half_way(5)
    assert events[2].t_ns == half_way(7)


@pytest.mark.parametrize("lag", [0, 1, 4])
def test_a_gap_ends_the_activity_and_enters_it_again(lag):
    smoother = new_smoother(Smoothing("hmm", fixed_lag_windows=lag))
    before, after = one("AAAAAA"), one("AAAAAAA", t_ns=T0_NS + 60 * SECOND)
    events = before.feed(smoother)[2] + after.feed(smoother)[2]
    assert [(event.kind, event.t_ns) for event in events] == [
        (ENTER, T0_NS),
        (EXIT, T0_NS + 5 * STRIDE_NS + WINDOW_NS),
        (ENTER, T0_NS + 60 * SECOND),
    ]


def test_a_fixed_lag_delays_events_but_no_label_and_uses_later_windows():
    """The filter gives an odd window the label B; the smoother, which knows later windows, gives it A."""
    windows = one("AAAAAAAAAAAAA", sure=0.8)
    windows.probabilities[4] = [0.05, 0.9, 0.05]
    at_once, later = (
        windows.feed(new_smoother(Smoothing("hmm", dwell_s=5.0, fixed_lag_windows=lag))) for lag in (0, 4)
    )
    assert at_once[:2] == later[:2]
    assert 1 in at_once[0]
    assert [event.kind for event in at_once[2]] == [ENTER, EXIT, ENTER, EXIT, ENTER]
    assert [event.kind for event in later[2]] == [ENTER]
    smoother = new_smoother(Smoothing("hmm", fixed_lag_windows=3))
    counts = [len(one("AAAAA").feed(smoother, i, i + 1)[2]) for i in range(5)]
    assert counts == [0, 0, 0, 1, 0]


@by_name
def test_flush_returns_the_waiting_events_and_ends_nothing(smoothing):
    windows = crowd(untrusted=0.2)
    names = sorted(set(windows.devices))
    smoother, other = new_smoother(smoothing), new_smoother(smoothing)
    events = windows.feed(smoother)[2]
    flushed = smoother.flush()
    assert bool(flushed) is (smoothing.fixed_lag_windows > 0)
    assert smoother.flush() == []
    ends = smoother.evict(names)
    assert {event.kind for event in ends} == {EXIT}
    wanted = windows.feed(other)[2] + other.evict(names)
    for device in names:
        mine = [event for event in (*events, *flushed, *ends) if event.device == device]
        assert mine == [event for event in wanted if event.device == device]


def test_after_a_flush_windows_go_on_as_before():
    smoother = new_smoother(Smoothing("hmm", fixed_lag_windows=2))
    windows = one("AAAAAABBBBBB", sure=0.99)
    events = windows.feed(smoother, 0, 8)[2] + smoother.flush() + windows.feed(smoother, 8)[2] + smoother.flush()
    assert [(event.kind, event.t_ns) for event in events] == [(ENTER, T0_NS), (EXIT, half_way(6)), (ENTER, half_way(6))]


def test_no_activity_lasts_less_than_nothing_where_windows_grow():
    """The ends of the windows rise, but the windows get so much longer that their centres do not."""
    smoother = Smoother(Smoothing(), 3, 0.08)
    end_ns = T0_NS + np.arange(1, 5) * 80_000_000
    start_ns = end_ns - np.array([2.56, 2.56, 2.8, 3.1]) * SECOND
    p = np.array([[0.9, 0.1, 0], [0, 0.9, 0.1], [0.9, 0.1, 0], [0, 0.9, 0.1]], np.float32)
    _, events = smoother.feed(["a"] * 4, p, start_ns.astype(np.int64), end_ns)
    assert [event.duration_ns >= 0 for event in events if event.kind == EXIT] == [True] * 3


@by_name
@pytest.mark.parametrize("untrusted", [0.0, 0.2])
def test_enters_and_exits_of_a_device_alternate_in_order_of_time(smoothing, untrusted):
    windows = crowd(untrusted=untrusted)
    smoother = new_smoother(smoothing)
    _, _, events = windows.feed(smoother)
    events += smoother.evict(sorted(set(windows.devices)))
    assert len(smoother) == 0
    for device in set(windows.devices):
        mine = [event for event in events if event.device == device]
        inside: ActivityEvent | None = None
        for event in mine:
            if event.kind == ENTER:
                assert inside is None
                inside = event
            else:
                assert inside is not None
                assert inside.label == event.label
                assert event.duration_ns == event.t_ns - inside.t_ns > 0
                inside = None
        assert inside is None


def test_an_evicted_device_that_comes_back_is_new_and_others_are_not_touched():
    smoother = new_smoother(Smoothing("hmm", dwell_s=1000.0, trust=0.3))
    one("AAAAAA").feed(smoother)
    one("AAAAAA", device="b").feed(smoother)
    assert [(event.device, event.kind) for event in smoother.evict(["a", "nobody"])] == [("a", EXIT)]
    assert smoother.evict(["a"]) == []
    label, _, events = one("B", sure=0.6, t_ns=T0_NS + 6 * STRIDE_NS).feed(smoother)
    assert (label, events[0].t_ns) == ([1], T0_NS + 6 * STRIDE_NS)
    label, _, events = one("B", sure=0.6, device="b", t_ns=T0_NS + 6 * STRIDE_NS).feed(smoother)
    assert (label, events) == ([0], [])


# --- the definition -----------------------------------------------------------------------------------


@by_name
def test_a_definition_comes_back_from_json(smoothing):
    assert Smoothing.from_dict(json.loads(json.dumps(smoothing.to_dict()))) == smoothing


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "field 'type' is missing"),
        ({"type": ["hmm"]}, "['hmm'] is not one of none, exponential, hysteresis, hmm"),
        ({"type": "kalman"}, "'kalman' is not one of none, exponential, hysteresis, hmm"),
        ({"type": "none", "weight": 0.5}, "unknown field 'weight'"),
        ({"type": "hmm", "windows": 3}, "unknown field 'windows'"),
        ({"type": "none", "unknown_below": 1.0}, "smoothing.unknown_below: 1.0 is not between"),
        ({"type": "exponential", "weight": 0}, "smoothing.weight: 0 is not between"),
        ({"type": "hysteresis", "windows": 1.5}, "smoothing.windows: expected a whole number, got 1.5"),
        ({"type": "hmm", "unknown_share": 1.5}, "smoothing.unknown_share: 1.5 is not between 0.0 and 1.0"),
        ({"type": "hmm", "trust": float("nan")}, "smoothing.trust: expected a finite number, got nan"),
        ({"type": "hmm", "dwell_s": -1}, "smoothing.dwell_s: -1 is not between"),
        ({"type": "hmm", "fixed_lag_windows": 17}, "smoothing.fixed_lag_windows: 17 is not between"),
        ({"type": "hmm", "transitions": [[1.0, 0.0]]}, "row 0: expected 1 numbers, one per row, got 2"),
        ({"type": "hmm", "transitions": [[0.5, 0.4], [0, 1]]}, "row 0: expected numbers that sum to 1, got a sum"),
        ({"type": "hmm", "transitions": 3}, "expected a list, got 3"),
        (["hmm"], "smoothing: expected an object"),
    ],
)
def test_an_impossible_definition_is_refused_naming_field_and_value(data, message):
    with pytest.raises(ConfigError, match="smoothing") as caught:
        Smoothing.from_dict(data)
    assert message in str(caught.value)


def test_transitions_of_other_labels_are_refused():
    two = Smoothing("hmm", transitions=((0.9, 0.1), (0.1, 0.9)))
    with pytest.raises(ConfigError, match="2 rows for 3 labels"):
        new_smoother(two)


# --- states between labels ------------------------------------------------------------------------------

#: HMM of the labels A and B, and C, the state through which A becomes B and B becomes A.
BY_C = Smoothing(
    "hmm",
    0.5,
    unknown_share=0.05,
    transitions=((0.9, 0.0, 0.1), (0.0, 0.9, 0.1), (0.25, 0.25, 0.5)),
    fixed_lag_windows=2,
)


@by_name
@with_states
def test_confidence_is_a_probability_and_in_a_state_that_of_the_likeliest_label(smoothing, n_states):
    windows = crowd()
    label, confidence, _ = windows.feed(new_smoother(smoothing, n_states))
    assert max(label) < 3 - n_states
    assert 0 <= min(confidence) <= max(confidence) <= 1
    for i in np.flatnonzero(np.array(label) == UNKNOWN_INDEX):
        assert confidence[i] == max(windows.probabilities[i][: 3 - n_states])


def test_without_smoothing_a_window_in_a_state_is_unknown_and_events_tell_the_state():
    label, confidence, events = one("AACCB").feed(new_smoother(Smoothing(), 1))
    assert label == [0, 0, UNKNOWN_INDEX, UNKNOWN_INDEX, 1]
    assert confidence == pytest.approx([0.9, 0.9, 0.05, 0.05, 0.9])
    assert [(e.kind, e.label, e.t_ns) for e in events] == [
        (ENTER, 0, T0_NS),
        (EXIT, 0, half_way(2)),
        (ENTER, 2, half_way(2)),
        (EXIT, 2, half_way(4)),
        (ENTER, 1, half_way(4)),
    ]
    assert events[3].duration_ns == half_way(4) - half_way(2)


def test_in_an_hmm_a_label_follows_another_through_their_state():
    smoother = new_smoother(BY_C, 1)
    label, _, events = one("AAAAACCBBBBB", sure=0.98).feed(smoother)
    events += smoother.evict(["a"])
    assert label == [0] * 5 + [UNKNOWN_INDEX] * 2 + [1] * 5
    assert [(e.kind, e.label) for e in events] == [(kind, label) for label in (0, 2, 1) for kind in (ENTER, EXIT)]
    assert (events[2].t_ns, events[3].t_ns) == (half_way(5), half_way(7))
    # Without the state between, two windows of B are no B.
    assert set(one("AAAAABBAAAAA").feed(new_smoother(BY_C, 1))[0]) == {0}
    assert 1 in one("AAAAABBAAAAA").feed(new_smoother(Smoothing("hmm", 0.5), 1))[0]


def test_a_label_whose_transition_was_missed_comes_through_unknown_and_without_an_event_of_the_state():
    windows = one("AAAAAAAABBBBBBBB", sure=0.97)
    for probabilities in windows.probabilities:
        probabilities[:] = [max(p, 1e-6) if i < 2 else 1e-6 for i, p in enumerate(probabilities)]
    label, _, events = windows.feed(new_smoother(BY_C, 1))
    assert label[:8] == [0] * 8
    assert label[-5:] == [1] * 5
    assert {event.label for event in events} == {0, 1}


def test_a_state_that_later_windows_deny_has_no_event():
    """The forward filter goes into the state for one window; after the fixed lag it has not been there."""
    windows = one("AAAAAAAAAAA")
    windows.probabilities[5] = [0.01, 0.01, 0.98]
    later = Smoothing("hmm", transitions=((0.9, 0.0, 0.1), (0.0, 0.9, 0.1), (0.05, 0.05, 0.9)), fixed_lag_windows=3)
    label, _, events = windows.feed(new_smoother(later, 1))
    assert label[5] == UNKNOWN_INDEX
    assert [(event.kind, event.label) for event in events] == [(ENTER, 0)]
    _, _, at_once = windows.feed(new_smoother(replace(later, fixed_lag_windows=0), 1))
    assert 2 in {event.label for event in at_once}


def test_an_untrusted_window_is_in_no_state():
    _, _, events = one("AAAACC!!!!!BBBB", sure=0.99).feed(new_smoother(BY_C, 1))
    inside = [event for event in events if event.label == 2]
    assert [event.kind for event in inside] == [ENTER, EXIT]
    assert inside[1].t_ns == half_way(6)


def test_transitions_have_a_row_for_each_label_and_state():
    with pytest.raises(ConfigError, match="got 3 rows for 3 labels and 1 states, expected one per label and state"):
        Smoother(BY_C, 3, STRIDE_S, 1)
