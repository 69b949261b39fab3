"""Noise filter and gravity split."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import butter, sosfilt, sosfilt_zi
from scipy.spatial.transform import Rotation

from harstream.core.filters import ComplementarySplit, GravitySplit, MedianFilter, gravity_split
from harstream.core.spec import GravityFilter, NoiseFilter

from .oracle import aided_body_of, causal_median


def noise(n, signals=3, seed=0):
    return np.random.default_rng(seed).normal(size=(n, signals)).astype(np.float32)


def ragged(feed, rows, streams, cuts):
    """Feed stream ``i`` to row ``rows[i]`` in pieces of sizes ``cuts[i]``; return the joined outputs of each row."""
    out: list[list[np.ndarray]] = [[] for _ in rows]
    done, call = [0] * len(rows), 0
    while any(done[i] < len(streams[i]) for i in range(len(rows))):
        sizes = [min(cuts[i][call % len(cuts[i])], len(streams[i]) - done[i]) for i in range(len(rows))]
        sending = [i for i in range(len(rows)) if sizes[i]]
        pieces = [streams[i][done[i] : done[i] + sizes[i]] for i in sending]
        restart = np.array([done[i] == 0 for i in sending])
        result = feed(
            np.array([rows[i] for i in sending]), np.array([sizes[i] for i in sending]), restart, np.concatenate(pieces)
        )
        for i, part in zip(sending, np.split(result, np.cumsum([sizes[i] for i in sending])[:-1]), strict=True):
            out[i].append(part)
            done[i] += sizes[i]
        call += 1
    return [np.concatenate(parts) for parts in out]


cuts = st.lists(st.lists(st.integers(1, 17), min_size=1, max_size=5), min_size=3, max_size=3)


@pytest.mark.parametrize("size", [3, 5, 7])
@given(cuts=cuts)
@settings(max_examples=20, deadline=None)
def test_the_median_is_that_of_the_last_samples_however_the_rows_are_cut(size, cuts):
    streams = [noise(n, seed=n) for n in (1, 37, 60)]
    median = MedianFilter(NoiseFilter("median", size), 3, 8)
    for stream, got in zip(streams, ragged(median.feed, [5, 0, 7], streams, cuts), strict=True):
        want = np.stack([causal_median(signal, size) for signal in stream.T.astype(np.float64)], axis=1)
        np.testing.assert_array_equal(got, want.astype(np.float32))


def test_a_single_spike_does_not_pass_the_median():
    spiked = np.ones((20, 3), np.float32)
    spiked[7] = 1000
    got = MedianFilter(NoiseFilter("median", 3), 3, 1).feed(np.array([0]), np.array([20]), np.array([True]), spiked)
    assert (got == 1).all()


def test_without_a_noise_filter_samples_pass_untouched():
    samples = noise(20)
    got = MedianFilter(NoiseFilter("none"), 3, 1).feed(np.array([0]), np.array([20]), np.array([True]), samples)
    np.testing.assert_array_equal(got, samples)


@pytest.mark.parametrize(("order", "cutoff_hz"), [(1, 0.3), (3, 0.3), (4, 1.0)])
@given(cuts=cuts)
@settings(max_examples=20, deadline=None)
def test_body_acceleration_is_what_scipys_low_pass_leaves_however_the_rows_are_cut(order, cutoff_hz, cuts):
    split = GravitySplit(GravityFilter("butterworth", order, cutoff_hz), 50.0, 8)
    rows, streams = np.array([5, 0, 7]), [noise(n, seed=n) for n in (1, 37, 90)]
    firsts = np.stack([noise(16, seed=n) + n for n in (1, 2, 3)])
    seeded = split.seed(rows, firsts)
    got = ragged(lambda rows, counts, _, samples: split.feed(rows, counts, samples), rows.tolist(), streams, cuts)
    sos = butter(order, cutoff_hz, fs=50.0, output="sos")
    for i in range(3):
        whole = np.concatenate([firsts[i], streams[i]]).astype(np.float64)
        steady = sosfilt_zi(sos)[:, :, None] * firsts[i].astype(np.float64).mean(axis=0)
        gravity, _ = sosfilt(sos, whole, axis=0, zi=steady)
        np.testing.assert_allclose(np.concatenate([seeded[i], got[i]]), whole - gravity, atol=1e-6)


def test_a_constant_is_all_gravity_from_the_first_sample_on():
    split = GravitySplit(GravityFilter(), 50.0, 2)
    still = np.broadcast_to(np.array([0.6, -0.64, 0.48], np.float32), (2, 500, 3))
    assert np.abs(split.seed(np.array([0, 1]), still)).max() < 1e-6


def test_the_mean_that_seeds_gravity_does_not_depend_on_the_other_rows():
    firsts = np.stack([noise(128, seed=n) for n in range(9)])
    together = GravitySplit(GravityFilter(), 50.0, 9)
    alone = GravitySplit(GravityFilter(), 50.0, 9)
    body = together.seed(np.arange(9), firsts)
    for row in range(9):
        np.testing.assert_array_equal(alone.seed(np.array([row]), firsts[row : row + 1])[0], body[row])
    np.testing.assert_array_equal(alone.state, together.state)


def test_growing_keeps_the_state_of_the_rows_there_are():
    grown, fixed = (GravitySplit(GravityFilter(), 50.0, n) for n in (2, 200))
    for split in (grown, fixed):
        split.seed(np.array([1]), noise(16)[None])
    grown.grow(200)
    one = np.array([1])
    np.testing.assert_array_equal(
        grown.feed(one, np.array([30]), noise(30)), fixed.feed(one, np.array([30]), noise(30))
    )


# --- aided by the gyroscope ----------------------------------------------------------------------

AIDED = GravityFilter("complementary")


def swinging(swing_hz, seconds=40, rate_hz=50.0, offset_dps=1.0, seed=0):
    """Simulate a phone in the trouser pocket of a person who walks: samples (n, 6) and gravity (n, 3), in its frame.

    The thigh swings by 30 degrees about the hip, which is 0.4 m above the phone, and rotates by 8 degrees. At every
    step the hip goes up and down and the heel strikes. The gyroscope has an offset.
    """
    fine = 20
    dt = 1 / (rate_hz * fine)
    t = np.arange(int(seconds * rate_hz) * fine) * dt
    phase = 2 * np.pi * swing_hz * t + 0.8 * np.sin(2 * np.pi * 0.07 * t + seed)
    pitch = np.radians(5 + 30 * np.sin(phase) + 8 * np.sin(2 * phase + 1))
    frame = Rotation.from_euler("YZ", np.stack([pitch, np.radians(8) * np.sin(phase + 0.7)], axis=1))
    step = np.maximum(0, np.cos(2 * phase) - 0.9) / 0.1
    hip = np.stack([0.15 * np.sin(2 * phase + 1.5), 0.1 * np.sin(phase + 2), 0.25 * np.sin(2 * phase) + 0.6 * step], 1)
    hip -= hip.mean(axis=0)
    place = frame.apply([0, 0, -0.4])  # of the phone below the hip, in metres
    world = hip + np.gradient(np.gradient(place, dt, axis=0), dt, axis=0) / 9.81 + [0, 0, 1]
    gravity = frame.inv().apply([0, 0, 1])
    rng = np.random.default_rng(seed)
    offset = rng.normal(size=3)
    offset *= np.radians(offset_dps) / np.linalg.norm(offset)
    turned = (frame[:-1].inv() * frame[1:]).as_rotvec() / dt + offset
    gyro = np.concatenate([turned[:1], (turned[1:] + turned[:-1]) / 2, turned[-1:]])
    samples = np.concatenate([frame.inv().apply(world), gyro], axis=1)[::fine]
    return (samples + rng.normal(0, 0.005, samples.shape)).astype(np.float32), gravity[::fine]


def split_all(gravity_filter, samples, window=128, rate_hz=50.0):
    """Return the body acceleration (n, 3) of one device from its start."""
    split, row = gravity_split(gravity_filter, rate_hz, 1), np.array([0])
    rest = samples[window:]
    return np.concatenate([split.seed(row, samples[None, :window])[0], split.feed(row, np.array([len(rest)]), rest)])


def degrees_between(a, b):
    cosine = (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    return np.degrees(np.arccos(np.clip(cosine, -1, 1)))


@pytest.mark.parametrize(("order", "cutoff_hz", "rate_hz"), [(1, 0.1, 50.0), (3, 0.3, 50.0), (2, 0.5, 20.0)])
@given(cuts=cuts)
@settings(max_examples=15, deadline=None)
def test_aided_body_acceleration_is_the_oracles_however_the_rows_are_cut(order, cutoff_hz, rate_hz, cuts):
    split = gravity_split(GravityFilter("complementary", order, cutoff_hz), rate_hz, 8)
    rows, streams = np.array([5, 0, 7]), [3 * noise(n, 6, seed=n) for n in (1, 37, 90)]
    firsts = np.stack([noise(16, 6, seed=n) + n for n in (1, 2, 3)])
    seeded = split.seed(rows, firsts)
    got = ragged(lambda rows, counts, _, samples: split.feed(rows, counts, samples), rows.tolist(), streams, cuts)
    for i in range(3):
        whole = np.concatenate([firsts[i], streams[i]]).astype(np.float64)
        want = aided_body_of(whole[:, :3], whole[:, 3:], 16, rate_hz, order, cutoff_hz)
        np.testing.assert_allclose(np.concatenate([seeded[i], got[i]]), want, atol=2e-5)


@given(cuts=st.lists(st.lists(st.integers(1, 17), min_size=1, max_size=5), min_size=9, max_size=9))
@settings(max_examples=15, deadline=None)
def test_aided_bits_depend_neither_on_the_cut_nor_on_the_other_rows(cuts):
    streams = [2 * noise(50 + 3 * n, 6, seed=n) for n in range(9)]
    firsts = np.stack([noise(40, 6, seed=n) for n in range(9)])
    together, alone = gravity_split(AIDED, 50.0, 9), gravity_split(AIDED, 50.0, 9)
    body = together.seed(np.arange(9), firsts)
    got = ragged(lambda rows, counts, _, samples: together.feed(rows, counts, samples), list(range(9)), streams, cuts)
    for row in range(9):
        one = np.array([row])
        np.testing.assert_array_equal(alone.seed(one, firsts[row : row + 1])[0], body[row])
        np.testing.assert_array_equal(alone.feed(one, np.array([len(streams[row])]), streams[row]), got[row])
    for name in ComplementarySplit.ROW_ARRAYS:
        np.testing.assert_array_equal(getattr(alone, name), getattr(together, name))


def test_while_nothing_turns_the_aided_split_is_the_plain_one_to_the_bit():
    samples = noise(400, 6)
    samples[:, 3:] = 0
    np.testing.assert_array_equal(split_all(AIDED, samples), split_all(GravityFilter(), samples))


@pytest.mark.parametrize("axis", [(1, 0, 0), (0, 1, 0), (0.6, 0, 0.8), (-0.48, 0.6, 0.64)])
@pytest.mark.parametrize("turns_per_s", [0.25, 1.0, 4.0])
def test_a_device_turned_on_the_spot_has_no_body_acceleration(axis, turns_per_s):
    t = np.arange(1000) / 50
    velocity = 2 * np.pi * turns_per_s * np.array(axis)
    acc = Rotation.from_rotvec(velocity * t[:, None]).inv().apply([0.36, 0.48, 0.8])
    samples = np.concatenate([acc, np.tile(velocity, (1000, 1))], axis=1).astype(np.float32)
    assert np.abs(split_all(AIDED, samples)).max() < 1e-4
    assert np.abs(split_all(GravityFilter(), samples)).max() > 0.3


@pytest.mark.parametrize("swing_hz", [0.5, 0.8, 1.0, 1.5])
def test_gravity_under_a_swinging_thigh_is_found_within_three_degrees(swing_hz):
    samples, gravity = swinging(swing_hz)
    plain, aided = (
        np.median(degrees_between(samples[:, :3] - split_all(gravity_filter, samples), gravity))
        for gravity_filter in (GravityFilter(), AIDED)
    )
    assert plain > 15
    assert aided < 3


def test_a_gyroscopes_offset_leaves_gravity_behind_by_the_delay_of_the_low_pass():
    still = np.tile(np.array([0, 0, 1, np.radians(5), 0, 0], np.float32), (2000, 1))
    off = degrees_between(still[:, :3] - split_all(AIDED, still), still[:, :3].astype(np.float64))
    delay_s = 2 / (2 * np.pi * 0.3)  # of a third-order Butterworth, at rest
    assert off[1000:].max() == pytest.approx(5 * delay_s, rel=0.02)


def test_turning_for_long_and_beyond_all_measure_leaves_the_attitude_a_rotation():
    split, row = ComplementarySplit(AIDED, 50.0, 1), np.array([0])
    samples = 10 * noise(20_000, 6)
    samples[500:510, 3:] = 3e38
    split.seed(row, samples[None, :128])
    body = split.feed(row, np.array([len(samples) - 128]), samples[128:])
    assert np.isfinite(body).all()
    assert abs(np.linalg.norm(split.attitude[0]) - 1) < 1e-11
