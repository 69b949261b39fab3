"""Samples with a time each: merged with another sensor's, and cut into evenly spaced parts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harstream.core.own_times import even_parts, in_order, interpolate_at

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


def test_samples_are_sorted_by_time_and_the_first_of_two_at_one_time_stays():
    t_ns, samples = in_order(times(20, 0, 10, 0), column(3, 1, 2, 9))
    assert t_ns.tolist() == times(0, 10, 20).tolist()
    assert samples[:, 0].tolist() == [1, 2, 3]


def test_even_times_with_jitter_keep_their_samples():
    t_ns, samples = times(0, 21, 39, 60, 81), column(1, 2, 3, 4, 5)
    (part,) = even_parts(t_ns, samples)
    assert (part.t_ns, part.samples.tolist()) == (T0, samples.tolist())


def test_a_missing_sample_is_interpolated_and_a_gap_begins_another_part():
    ms = [0, 10, 20, 40, 50, 60, 200, 210, 220]
    first, second = even_parts(times(*ms), column(*ms))
    assert (first.t_ns, first.samples[:, 0].tolist()) == (T0, [0, 10, 20, 30, 40, 50, 60])
    assert (second.t_ns, second.samples[:, 0].tolist()) == (T0 + 200 * MS, [200, 210, 220])


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
