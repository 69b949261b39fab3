"""Samples with time stamps are placed on a grid as the Engine would do it, without loss."""

from __future__ import annotations

import numpy as np
import pytest

from harstream.core.spec import SignalSpec
from harstream.datasets import stamped as stamped_module
from harstream.datasets.base import Segment
from harstream.datasets.stamped import (
    Piece,
    StampedLabels,
    StampedSamples,
    even_stamps,
    held,
    lasting,
    make_recordings,
    merge_sources,
    resample_to_grid,
    split_sessions,
)

RATE_HZ = 20.0
PERIOD_NS = 50_000_000


def wave(t_ns: np.ndarray, n_signals: int = 3) -> np.ndarray:
    """Return signals that change slowly, so that linear interpolation is nearly exact."""
    phase = 2 * np.pi * 0.5 * t_ns[:, None] / 1e9 + np.arange(n_signals)
    return np.sin(phase).astype(np.float32)


def source(t_ns: np.ndarray) -> StampedSamples:
    t_ns = np.asarray(t_ns, np.int64)
    return StampedSamples(t_ns, wave(t_ns))


def regular(n: int, period_ns: float = PERIOD_NS, start_ns: int = 10**15) -> np.ndarray:
    return start_ns + np.rint(np.arange(n) * period_ns).astype(np.int64)


def one(pieces: list[list[Piece]]) -> Piece:
    ((piece,),) = pieces
    return piece


def test_regular_samples_pass_as_they_are() -> None:
    stamped = source(regular(400))
    piece = one(resample_to_grid([stamped], RATE_HZ))
    np.testing.assert_array_equal(piece.t_ns, stamped.t_ns)
    np.testing.assert_array_equal(piece.samples, stamped.samples)


def test_a_drifting_clock_and_jitter_lose_no_sample_and_stay_near_their_stamps() -> None:
    t_ns = regular(3600, 1.003 * PERIOD_NS)
    jitter = np.random.default_rng(1).uniform(-0.2, 0.2, len(t_ns)) * PERIOD_NS
    stamped = StampedSamples(t_ns + np.rint(jitter).astype(np.int64), wave(t_ns))
    piece = one(resample_to_grid([stamped], RATE_HZ))
    np.testing.assert_array_equal(piece.samples, stamped.samples)
    assert np.abs(piece.t_ns - t_ns).max() < 0.5 * PERIOD_NS


@pytest.mark.parametrize("drift", [0.995, 1.0, 1.003, 1.005])
@pytest.mark.parametrize("seed", range(4))
def test_even_samples_pass_the_grid_as_they_are(drift: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    jitter = np.rint(rng.uniform(-0.11, 0.11, 2000) * PERIOD_NS).astype(np.int64)
    stamped = StampedSamples(regular(2000, drift * PERIOD_NS) + jitter, rng.normal(size=(2000, 6)).astype(np.float32))
    spec = SignalSpec(sample_rate_hz=RATE_HZ)
    short = stamped_module._even(stamped, spec.period_ns)
    assert short is not None
    fed = one(stamped_module._feed([stamped], spec))
    np.testing.assert_array_equal(short.samples, fed.samples)
    assert np.abs(short.t_ns - fed.t_ns).max() < 0.5 * PERIOD_NS  # the clock of the grid has to settle


def test_a_short_gap_is_bridged_and_a_long_one_splits() -> None:
    t_ns = np.delete(regular(400), np.r_[100:105, 200:220])
    first, second = resample_to_grid([source(t_ns)], RATE_HZ)[0]
    assert (len(first), len(second)) == (200, 180)
    np.testing.assert_allclose(first.samples, wave(regular(200)), atol=0.15)
    assert second.t_ns[0] == regular(400)[220]


def test_repeated_and_late_samples_are_dropped() -> None:
    t_ns = regular(200)
    order = np.r_[0:50, 49, 48, 50:200]
    piece = one(resample_to_grid([source(t_ns[order])], RATE_HZ))
    np.testing.assert_array_equal(piece.samples, wave(t_ns))


def test_another_rate_is_found_and_resampled() -> None:
    t_ns = regular(3000, PERIOD_NS / 5)
    pieces = resample_to_grid([source(t_ns)], RATE_HZ)[0]
    piece = max(pieces, key=len)
    assert len(piece) > 0.9 * 3000 / 5
    np.testing.assert_allclose(np.diff(piece.t_ns), PERIOD_NS, atol=2)
    np.testing.assert_allclose(piece.samples, wave(piece.t_ns), atol=0.01)


def test_a_sensor_that_changes_its_rate_for_a_while_loses_little() -> None:
    slow, fast = regular(400), regular(1000, PERIOD_NS / 5, int(regular(401)[-1]))
    after = regular(400, start_ns=int(fast[-1]) + PERIOD_NS)
    pieces = resample_to_grid([source(np.concatenate([slow, fast, after]))], RATE_HZ)[0]
    assert sum(map(len, pieces)) > 1000 - 3 * RATE_HZ
    # Where samples of the slow rate still count as missing ones of the fast, they are joined by straight lines.
    for piece in pieces:
        np.testing.assert_allclose(piece.samples, wave(piece.t_ns), atol=0.2)


def test_sources_do_not_touch_each_other() -> None:
    several = [source(regular(300)), source(regular(150, 1.001 * PERIOD_NS)), source(np.delete(regular(90), [3, 4]))]
    for together, alone in zip(resample_to_grid(several, RATE_HZ), several, strict=True):
        np.testing.assert_array_equal(one([together]).samples, one(resample_to_grid([alone], RATE_HZ)).samples)


def test_no_source_makes_no_piece() -> None:
    assert resample_to_grid([], RATE_HZ) == []


def piece_of(t_ns: np.ndarray) -> Piece:
    return Piece(t_ns, wave(t_ns))


def test_two_sensors_are_merged_where_both_exist() -> None:
    t_ns = regular(200)
    (both,) = merge_sources([piece_of(t_ns[:150])], [piece_of(t_ns[40:])], RATE_HZ)
    np.testing.assert_array_equal(both.t_ns, t_ns[40:150])
    np.testing.assert_array_equal(both.samples, np.tile(wave(t_ns[40:150]), 2))


@pytest.mark.parametrize("offset_ns", [-20_000_000, 7_000_000, 24_000_000])
def test_the_other_sensor_s_time_is_kept_though_its_clock_is_off_the_grid(offset_ns: int) -> None:
    t_ns = regular(200)
    (both,) = merge_sources([piece_of(t_ns)], [piece_of(t_ns + offset_ns)], RATE_HZ)
    assert len(both) == 200
    np.testing.assert_allclose(both.samples[5:-5, 3:], wave(t_ns)[5:-5], atol=0.01)


def test_an_interruption_of_either_sensor_interrupts_both() -> None:
    t_ns = regular(300)
    acc = [piece_of(t_ns[:100]), piece_of(t_ns[120:])]
    gyro = [piece_of(t_ns[:200]), piece_of(t_ns[230:])]
    lengths = [len(both) for both in merge_sources(acc, gyro, RATE_HZ)]
    assert lengths == [100, 80, 70]


def test_sensors_that_never_ran_together_give_nothing() -> None:
    assert merge_sources([piece_of(regular(100))], [piece_of(regular(100, start_ns=0))], RATE_HZ) == []


def test_a_session_ends_where_a_label_changes_or_time_jumps_back_but_not_with_a_late_sample() -> None:
    t_ns = np.array([0, 50, 100, 80, 150, 200, 0, 50], np.int64) * 1_000_000
    t_ns[6:] -= 10**9
    label = np.array(["A", "A", "A", "A", "A", "B", "B", "B"])
    assert split_sessions(t_ns, label) == [slice(0, 5), slice(5, 6), slice(6, 8)]


def handed_over(t_ns: np.ndarray, burst: int) -> np.ndarray:
    """Return the stamps of samples that are handed over ``burst`` at a time: each has that of the last one."""
    last = np.minimum((np.arange(len(t_ns)) // burst + 1) * burst - 1, len(t_ns) - 1)
    return t_ns[last]


@pytest.mark.parametrize("burst", [1, 4, 9])
def test_stamps_of_bursts_become_even(burst: int) -> None:
    t_ns = regular(200)
    np.testing.assert_allclose(even_stamps(handed_over(t_ns, burst), RATE_HZ), t_ns, atol=1)


def test_lost_samples_remain_a_gap_between_even_stamps() -> None:
    t_ns = np.delete(regular(300), np.r_[100:130])
    np.testing.assert_allclose(even_stamps(handed_over(t_ns, 5), RATE_HZ), t_ns, atol=1)


@pytest.mark.parametrize("factor", [0.9, 0.99, 1.02])
def test_stamps_of_a_clock_that_is_off_are_even_to_the_end(factor: float) -> None:
    t_ns = regular(400, factor * PERIOD_NS)
    np.testing.assert_allclose(even_stamps(handed_over(t_ns, 4), RATE_HZ), t_ns, atol=0.1 * PERIOD_NS)


@pytest.mark.parametrize("n", [0, 1, 5])
def test_few_stamps_stay_as_they_are(n: int) -> None:
    np.testing.assert_array_equal(even_stamps(regular(n), RATE_HZ), regular(n))


def test_values_are_held_if_they_repeat_for_longer_than_the_engine_bridges() -> None:
    samples = wave(regular(100))
    samples[10:20] = samples[9]  # for 0.5 s
    samples[40:52] = samples[39]  # for 0.6 s
    samples[90:] = samples[89]  # for 0.45 s, until the end
    (where,) = np.nonzero(held(samples, np.arange(100) / RATE_HZ))
    np.testing.assert_array_equal(where, np.arange(40, 52))
    assert held(samples[:0], np.zeros(0)).shape == (0,)


def test_a_lasting_state_at_the_end_counts_until_the_last_sample() -> None:
    mask = np.arange(60) >= 40
    np.testing.assert_array_equal(lasting(mask, np.arange(60) / RATE_HZ), mask)
    assert not lasting(mask, np.arange(60) / (10 * RATE_HZ)).any()


def test_each_sample_of_a_piece_gets_the_label_nearest_in_time() -> None:
    t_ns = regular(60)
    labels = StampedLabels(t_ns, np.repeat(["SITTING", "", "WALKING"], 20))
    piece = piece_of(t_ns[5:55] + 20_000_000)
    (recording,) = make_recordings("a_1", "a", RATE_HZ, labels, [piece], has_gyro=False, placement="chest")
    assert recording.segments == (Segment(0, 15, "SITTING"), Segment(35, 50, "WALKING"))
    assert (recording.placement, recording.has_gyro) == ("chest", False)
