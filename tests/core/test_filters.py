"""The noise filter and the gravity split, row by row."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import butter, sosfilt, sosfilt_zi

from harstream.core.filters import GravitySplit, MedianFilter
from harstream.core.spec import GravityFilter, NoiseFilter

from .oracle import causal_median


def noise(n, signals=3, seed=0):
    return np.random.default_rng(seed).normal(size=(n, signals)).astype(np.float32)


def ragged(feed, rows, streams, cuts):
    """Feed stream ``i`` to row ``rows[i]`` in as many pieces as ``cuts[i]`` tells; the outputs, joined by row."""
    done, out, call = [0] * len(rows), [[] for _ in rows], 0
    while any(done[i] < len(streams[i]) for i in range(len(rows))):
        take = [min(cuts[i][call % len(cuts[i])], len(streams[i]) - done[i]) for i in range(len(rows))]
        some = [i for i in range(len(rows)) if take[i]]
        pieces = [streams[i][done[i] : done[i] + take[i]] for i in some]
        restart = np.array([done[i] == 0 for i in some])
        result = feed(
            np.array([rows[i] for i in some]), np.array([take[i] for i in some]), restart, np.concatenate(pieces)
        )
        for i, part in zip(some, np.split(result, np.cumsum([take[i] for i in some])[:-1]), strict=True):
            out[i].append(part)
            done[i] += take[i]
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
    still = np.broadcast_to(np.float32([0.6, -0.64, 0.48]), (2, 500, 3))
    assert np.abs(split.seed(np.array([0, 1]), still)).max() < 1e-6


def test_the_mean_that_seeds_gravity_does_not_depend_on_the_company():
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
