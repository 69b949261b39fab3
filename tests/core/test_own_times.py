"""Samples with a time each: merged with another sensor's, and cut into evenly spaced parts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harstream.core.own_times import even_parts, in_order, interpolate_at, spread

MS = 1_000_000
T0 = 1_763_668_800_000_000_000


def times(*ms: float) -> np.ndarray:
    return T0 + np.array([round(one * MS) for one in ms], np.int64)


def column(*values: float) -> np.ndarray:
    return np.array(values, np.float32)[:, None]


def test_values_between_two_samples_are_interpolated_and_the_ends_held_for_the_reach():
    at = times(-11, -10, 0, 5, 10, 15, 20, 30, 30.5)
    values, known = interpolate_at(at, times(0, 10, 20), column(1, 2, 4), reach_ns=10 * MS)
    assert known.tolist() == [False, True, True, True, True, True, True, True, False]
    assert values[known, 0].tolist() == [1, 1, 1.5, 2, 3, 4, 4]


def test_nothing_is_known_in_a_gap_but_near_its_ends():
    at = times(0, 4, 6, 50, 95, 97, 100)
    values, known = interpolate_at(at, times(0, 100), column(1, 2), reach_ns=5 * MS, max_gap_ns=60 * MS)
    assert known.tolist() == [True, True, False, False, True, True, True]
    assert values[known, 0].tolist() == [1, 1, 2, 2, 2]
    _, known = interpolate_at(at, times(0, 100), column(1, 2), reach_ns=5 * MS, max_gap_ns=100 * MS)
    assert known.all()


@pytest.mark.parametrize(("at", "of"), [((), (0, 10)), ((0, 10), ()), ((500,), (0, 10))])
def test_without_common_time_nothing_is_known(at, of):
    values, known = interpolate_at(times(*at), times(*of), column(*[1] * len(of)), reach_ns=MS)
    assert values.shape == (len(at), 1)
    assert not known.any()


@given(st.lists(st.integers(1, 500), min_size=1, max_size=30), st.integers(0, 2**30))
def test_a_linear_signal_is_interpolated_to_the_nanosecond(steps_ms, shift):
    t_ns = T0 + np.cumsum(steps_ms) * MS
    at_ns = np.sort(np.random.default_rng(shift).integers(t_ns[0], t_ns[-1] + 1, 20))
    signal = np.array((t_ns - t_ns[0]) / 2**20, np.float64)[:, None]
    values, known = interpolate_at(at_ns, t_ns, signal, reach_ns=0)  # type: ignore[arg-type]
    assert known.all()
    np.testing.assert_allclose(values[:, 0], (at_ns - t_ns[0]) / 2**20, atol=1e-6)


def test_samples_are_sorted_by_time_and_those_that_are_there_twice_stay_once():
    t_ns, samples = in_order(times(20, 0, 10, 0), column(3, 1, 2, 1))
    assert t_ns.tolist() == times(0, 10, 20).tolist()
    assert samples[:, 0].tolist() == [1, 2, 3]


@pytest.mark.parametrize("values", [(3, 1, 2, 9), (3, 1, 1, 9)])
def test_other_samples_at_one_time_all_stay_in_their_order(values):
    t_ns, samples = in_order(times(20, 0, 10, 0), column(*values))
    assert t_ns.tolist() == times(0, 0, 10, 20).tolist()
    assert samples[:, 0].tolist() == [1, 9, values[2], 3]


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_equal_samples_of_a_device_at_rest_stay_where_times_are_rounded_to_seconds(value):
    t_ns, samples = times(*[0] * 10, *[1000] * 15), np.full((25, 1), value, np.float32)
    assert len(in_order(t_ns, samples)[1]) == 25


def test_equal_times_are_spread_until_the_next_and_not_over_a_gap():
    assert spread(times(0, 0, 10, 20, 20)).tolist() == times(0, 5, 10, 20, 25).tolist()
    assert spread(times(0, 10, 10, 500, 510)).tolist() == times(0, 10, 15, 500, 510).tolist()
    assert spread(times(0, 0)).tolist() == times(0, 0).tolist()


@given(st.lists(st.integers(0, 8), min_size=1, max_size=40), st.sampled_from([1, 7, 1000]))
def test_spread_times_keep_their_order_and_the_distinct_ones(steps, unit):
    t_ns = times(*(np.cumsum(steps) * unit))
    wide = spread(t_ns)
    first = np.concatenate([[True], np.diff(t_ns) > 0])
    assert (wide[first] == t_ns[first]).all()
    if first.sum() > 1:
        assert (np.diff(wide) > 0).all()
    assert (wide >= t_ns).all()


def test_even_times_with_jitter_keep_their_samples():
    t_ns, samples = times(0, 21, 39, 60, 81), column(1, 2, 3, 4, 5)
    (part,) = even_parts(t_ns, samples)
    assert (part.t_ns, part.samples.tolist()) == (T0, samples.tolist())


@pytest.mark.parametrize(
    ("ms", "parts"),
    [
        ([0, 10, 20, 40, 50, 60, 200, 210, 220], [[0, 10, 20], [40, 50, 60], [200, 210, 220]]),
        ([0, 10, 20, 40, 50, 60, 71], [[0, 10, 20], [40, 50, 60, 71]]),
        ([0, 20, 60], [[0, 20], [60]]),
        ([0, 5000, 5020], [[0], [5000, 5020]]),
        ([0, 5000], [[0], [5000]]),  # 0.2 Hz, or a gap: the core knows
        ([0, 20], [[0], [20]]),
        ([7], [[7]]),
    ],
)
def test_samples_that_are_missing_begin_another_part_so_that_the_core_sees_the_gap(ms, parts):
    made = even_parts(times(*ms), column(*ms))
    assert [part.samples[:, 0].tolist() for part in made] == parts
    assert [part.t_ns for part in made] == [times(part[0])[0] for part in parts]
    assert [part.last_ns for part in made] == [times(part[-1])[0] for part in parts]


def test_irregular_times_are_interpolated_within_a_part():
    ms = [0, 8, 22, 30, 44, 57, 200, 211, 222, 233, 240]
    first, second = even_parts(times(*ms), column(*ms))
    np.testing.assert_allclose(first.samples[:, 0], np.linspace(0, 57, len(first.samples)), atol=1e-3)
    np.testing.assert_allclose(second.samples[:, 0], np.linspace(200, 240, len(second.samples)), atol=1e-3)


@pytest.mark.parametrize("tick_ms", [1000, 100, 40])
@pytest.mark.parametrize("begin", [0, 3, 17])
def test_times_that_are_rounded_down_keep_every_sample_and_show_where_the_first_one_is(tick_ms, begin):
    true_ms = 20 * (begin + np.arange(120))
    (part,) = even_parts(times(*(true_ms // tick_ms * tick_ms)), column(*true_ms))
    assert part.samples[:, 0].tolist() == true_ms.tolist()
    assert abs(part.t_ns - times(true_ms[0])[0]) <= 20 * MS


@pytest.mark.parametrize("n", [1, 2, 25])
def test_samples_within_one_second_of_whole_ones_are_counted(n):
    """And those around the change of it, whatever the other half of their seconds holds."""
    for t_ns in (times(*[0] * n), times(*[0] * n, *[1000] * (n + 1))):
        (part,) = even_parts(t_ns, column(*range(len(t_ns))))
        assert (part.t_ns, part.samples[:, 0].tolist()) == (T0, list(range(len(t_ns))))


def test_a_gap_between_rounded_times_begins_another_part():
    first, second = even_parts(times(*[0] * 25, *[5000] * 25), column(*range(50)))
    assert (first.t_ns, len(first.samples), second.t_ns, len(second.samples)) == (T0, 25, T0 + 5000 * MS, 25)


def test_a_few_equal_times_among_even_ones_are_spread():
    ms = [0, 10, 20, 20, 30, 40, 50, 60, 110, 120]
    first, second = even_parts(times(*ms), column(*range(10)))
    assert first.samples[[0, -1], 0].tolist() == [0, 7]
    assert (second.t_ns, second.samples[:, 0].tolist()) == (times(110)[0], [8, 9])


@given(st.lists(st.sampled_from([1, 8, 10, 11, 13, 20, 39, 100, 10_000]), min_size=1, max_size=60))
def test_parts_hold_the_signal_at_even_times_within_the_stamps_and_are_bounded(steps_ms):
    t_ns = T0 + np.cumsum(steps_ms) * MS
    signal = (t_ns - T0) / MS
    parts = even_parts(t_ns, signal.astype(np.float32)[:, None])
    assert sum(len(part.samples) for part in parts) <= 4 * len(t_ns)
    assert len({part.t_ns for part in parts}) == len(parts)
    assert {part.t_ns for part in parts} <= set(t_ns.tolist())
    ends = [*[part.t_ns for part in parts[1:]], t_ns[-1] + 1]
    for part, end in zip(parts, ends, strict=True):
        last = t_ns[t_ns < end][-1]
        assert part.samples[0, 0] == pytest.approx((part.t_ns - T0) / MS, rel=1e-6)
        assert part.samples[-1, 0] == pytest.approx((last - T0) / MS, rel=1e-6)
        assert (np.diff(part.samples[:, 0]) > 0).all()


@given(st.lists(st.sampled_from([0, 1, 2, 1000, 10**7, 2 * 10**7, 10**9, 10**12]), min_size=1, max_size=60))
def test_no_times_make_many_samples_of_few(steps_ns):
    t_ns = T0 + np.cumsum(steps_ns)
    parts = even_parts(t_ns, np.zeros((len(t_ns), 1), np.float32))
    assert sum(len(part.samples) for part in parts) <= 5 * len(t_ns)
    assert all(t_ns[0] <= part.t_ns <= part.last_ns <= t_ns[-1] + 10**12 for part in parts)
