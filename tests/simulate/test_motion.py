"""Simulated wearables: their samples, which do not depend on the size of reads."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from harstream.simulate.motion import SimulatedSamples, Wearable
from harstream.simulate.parameters import ACTIVITIES, GAITS, N_LEVELS, POSTURES, Float, default

from ..calls import count_calls

RATE = 50.0


def steady(read: SimulatedSamples, activity: str) -> Float:
    rows = (read.label == ACTIVITIES.index(activity)) & ~read.in_transition
    return np.asarray(read.samples[rows], np.float64)


@pytest.mark.parametrize("rate_hz", [50.0, 20.0, 31.25, 100.0])
def test_the_size_of_reads_does_not_change_a_bit_of_the_stream(rate_hz: float) -> None:
    n = 3000
    whole = Wearable(7, rate_hz, pace=10).read(n)
    rng = np.random.default_rng(0)
    other = Wearable(7, rate_hz, pace=10)
    cuts = np.unique(np.r_[0, rng.integers(0, n, 40), n])
    parts = [other.read(int(size)) for size in np.diff(cuts)]
    assert np.concatenate([p.samples for p in parts]).tobytes() == whole.samples.tobytes()
    assert np.concatenate([p.label for p in parts]).tobytes() == whole.label.tobytes()
    assert np.concatenate([p.in_transition for p in parts]).tobytes() == whole.in_transition.tobytes()


def test_the_seed_decides_everything() -> None:
    assert Wearable(3).read(500).samples.tobytes() == Wearable(3).read(500).samples.tobytes()
    assert Wearable(3).read(500).samples.tobytes() != Wearable(4).read(500).samples.tobytes()


def test_samples_have_the_documented_shape_and_labels() -> None:
    read = Wearable(1).read(130)
    assert read.samples.shape == (130, 6)
    assert read.samples.dtype == np.float32
    assert len(read.labels) == len(read.in_transition) == 130
    assert set(read.labels) <= set(ACTIVITIES)
    assert Wearable(1).read(0).samples.shape == (0, 6)


@pytest.mark.parametrize("posture", POSTURES)
def test_at_rest_acceleration_is_gravity(posture: str) -> None:
    for seed in range(8):
        read = Wearable(seed, first=posture).read(300)
        still = steady(read, posture)[:, :3]
        assert np.median(np.linalg.norm(still, axis=1)) == pytest.approx(1.02, abs=0.06)


@pytest.mark.parametrize("gait", GAITS)
def test_steps_come_at_the_subjects_pace(gait: str) -> None:
    for seed in range(6):
        wearable = Wearable(seed, first=gait)
        vertical = steady(wearable.read(1500), gait)[:, 0]
        vertical = vertical - vertical.mean()
        power = np.abs(np.fft.rfft(vertical * np.hanning(len(vertical)), 8192)) ** 2
        frequency = np.fft.rfftfreq(8192, 1 / RATE)
        band = (frequency > 0.4) & (frequency < 4.0)
        peak = frequency[band][power[band].argmax()]
        stride = wearable.person.stride_hz[gait]
        # The strongest line is a harmonic of the stride, nearly always the second, because a stride is two steps.
        assert min(abs(peak / (k * stride) - 1) for k in (1, 2, 3, 4)) < 0.15


def test_the_gyroscope_follows_gravity_when_a_posture_changes() -> None:
    fitted = default()
    quiet = {
        name: dataclasses.replace(noise, ceiling=np.full(N_LEVELS, -25.0)) for name, noise in fitted.noises.items()
    }
    checked = 0
    for seed in range(6):
        wearable = Wearable(seed, pace=20, first="SITTING", parameters=dataclasses.replace(fitted, noises=quiet))
        read = wearable.read(4000)
        true = (read.samples[:, :3] - fitted.offset) / fitted.gain
        moving = read.in_transition.astype(int)
        for start in np.flatnonzero(np.diff(moving) == 1):
            stop = start + 1 + int(np.argmin(moving[start + 1 :]))
            names = {read.labels[start], read.labels[stop]}
            if len(names) != 2 or not names <= set(POSTURES):
                continue
            turned, after = (true[i] / np.linalg.norm(true[i]) for i in (start, stop))
            begun = turned
            for rate in read.samples[start:stop, 3:] - wearable.person.gyro_offset:
                turned = turned - np.cross(rate, turned) / RATE
                turned /= np.linalg.norm(turned)
            assert np.linalg.norm(turned - after) < 0.03
            checked += bool(np.linalg.norm(begun - after) > 0.2)
    assert checked >= 10


def test_stairs_turn_on_landings() -> None:
    for gait, sign in (("WALKING_UPSTAIRS", 1), ("WALKING_DOWNSTAIRS", -1)):
        turns = [np.sum(steady(Wearable(s, first=gait).read(600), gait)[:, 3]) / RATE for s in range(10)]
        assert sign * np.median(turns) > 1.0


def test_another_rate_is_the_same_motion_without_aliases() -> None:
    base, slow, fast = (Wearable(5, rate, first="WALKING").read(int(rate * 40)).samples for rate in (50.0, 25.0, 100.0))
    for other, step in ((slow, 2.0), (fast, 0.5)):
        spectrum = [np.abs(np.fft.rfft(x[:, 0] - x[:, 0].mean())) ** 2 / len(x) ** 2 for x in (base, other)]
        line = [s[: 40 * 8].sum() for s in spectrum]  # up to 8 Hz
        assert line[1] == pytest.approx(line[0], rel=0.15), step
    # Frequencies above half of 25 Hz are filtered out, not mirrored: little power is left just below that limit.
    power = np.abs(np.fft.rfft(slow[:, 0] - slow[:, 0].mean())) ** 2
    assert power[-20:].mean() < power[200:400].mean()


@pytest.mark.parametrize("rate_hz", [0.0, -5.0, 9.9, 1001.0, float("nan")])
def test_a_rate_out_of_range_is_refused(rate_hz: float) -> None:
    with pytest.raises(ValueError, match="sample_rate_hz"):
        Wearable(1, rate_hz)


def test_a_negative_number_of_samples_is_refused() -> None:
    with pytest.raises(ValueError, match="n: expected at least 0, got -1"):
        Wearable(1).read(-1)


def test_a_sample_costs_few_calls() -> None:
    """Samples are made in blocks, in 3 us each; one core can simulate a thousand wearables with up to 20 us each."""
    wearables = [Wearable(seed) for seed in range(20)]
    for wearable in wearables:
        wearable.read(200)
    calls = sum(count_calls(wearable.read, 1280) for wearable in wearables)
    assert calls < 3 * 20 * 1280


def test_the_package_itself_imports_nothing_heavy() -> None:
    code = "import sys, harstream.simulate; print([m for m in ('numpy', 'scipy', 'matplotlib') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_wearable_needs_neither_scipy_nor_matplotlib() -> None:
    code = "import sys, harstream.simulate.motion; print([m for m in ('scipy', 'matplotlib') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
