"""Parts of the synthesis and of its fit: charts, rotations, marginals, noise, landings, cycles."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import welch

from harstream.simulate import person
from harstream.simulate.gait import Landings
from harstream.simulate.noise import GROUP, LEVEL, NORMAL_SCORES, NoiseStream, from_scores
from harstream.simulate.parameters import (
    ACTIVITIES,
    GAITS,
    HARMONICS,
    N_LEVELS,
    QUANTILES,
    SEGMENT,
    STANCES,
    Float,
    Noise,
    default,
    dumps,
    loads,
)
from harstream.simulate.posture import angular_velocity, between, from_chart, tilt, to_chart
from research.simulator import fit_noise, fit_turns, twosample
from research.simulator.fit_gait import align, analyse, evaluate, rotate


def unit(*vector: float) -> Float:
    return np.asarray(np.array(vector) / np.linalg.norm(vector), np.float64)


def test_parameters_survive_their_file_and_stay_small() -> None:
    text = dumps(default())
    assert dumps(loads(text)) == text
    assert len(text) < 300_000
    assert set(default().noises) == set(ACTIVITIES)
    assert set(default().gaits) == set(GAITS)


def test_charts_are_inverted() -> None:
    rng = np.random.default_rng(0)
    pole = unit(0.9, -0.2, 0.1)
    chart = rng.normal(0, 0.8, (50, 2))
    there = from_chart(chart, pole)
    assert np.allclose(np.linalg.norm(there, axis=1), 1)
    assert np.allclose(to_chart(there, pole), chart)
    assert np.allclose(from_chart(np.zeros(2), pole), pole)


def test_tilt_is_the_rotation_of_the_x_axis_to_a_direction() -> None:
    for direction in (unit(1, 0, 0), unit(0.2, 0.7, 0.7), unit(-0.5, 0.5, -0.7)):
        turn = tilt(direction)
        assert np.allclose(turn @ [1, 0, 0], direction)
        assert np.allclose(turn @ turn.T, np.eye(3))
        assert np.linalg.det(turn) == pytest.approx(1)


def test_angular_velocity_turns_gravity_as_it_moves() -> None:
    start, stop = (np.tile(unit(*v), (101, 1)) for v in ((1, 0, 0), (0.2, 0.9, 0.3)))
    path = between(start, stop, np.linspace(0, 1, 101))
    now = path[0]
    for rate in angular_velocity(path):
        now = now - np.cross(rate, now) / 50
        now /= np.linalg.norm(now)
    assert np.allclose(now, path[-1], atol=0.01)


def test_marginals_are_those_of_the_quantiles_and_never_exceed_them() -> None:
    rng = np.random.default_rng(0)
    quantiles = np.sort(rng.normal(0, 3, (4, len(QUANTILES))), axis=1)
    drawn = np.array([from_scores(rng.standard_normal(4), quantiles) for _ in range(4000)])
    assert np.all(drawn >= quantiles[:, 0])
    assert np.all(drawn <= quantiles[:, -1])
    assert np.allclose(np.median(drawn, axis=0), quantiles[:, 4], atol=0.3)
    assert np.allclose(from_scores(np.full(4, NORMAL_SCORES[2]), quantiles), quantiles[:, 2])


def test_a_drawn_person_has_gravity_in_every_stance_and_its_charts_are_inverted() -> None:
    parameters = default()
    drawn = person.draw(parameters, np.random.default_rng(3))
    assert set(drawn.gravity) == set(STANCES)
    assert all(np.linalg.norm(g) == pytest.approx(1) for g in drawn.gravity.values())
    values = person.chart_values(drawn.gravity, parameters.pole_upright, parameters.pole_lying)
    again = person.stance_directions(values, parameters.pole_upright, parameters.pole_lying)
    assert all(np.allclose(again[stance], drawn.gravity[stance], atol=1e-6) for stance in STANCES)


def test_persons_spread_as_the_subjects_did() -> None:
    subjects = default().subjects
    rng = np.random.default_rng(1)
    drawn = [person.draw_values(subjects, rng) for _ in range(800)]
    for name in ("log_hz/WALKING", "chart/sit1/0", "log_acc/WALKING_DOWNSTAIRS", "level/STANDING/0"):
        kept = subjects.quantiles[subjects.names.index(name)]
        low, middle, high = np.quantile([d[name] for d in drawn], [0.16, 0.5, 0.84])
        width = kept[-1] - kept[0]
        assert low == pytest.approx(kept[2], abs=0.1 * width)
        assert middle == pytest.approx(kept[4], abs=0.1 * width)
        assert high == pytest.approx(kept[6], abs=0.1 * width)


def test_residual_noise_has_the_given_power() -> None:
    rng = np.random.default_rng(0)
    fitted = default().noises["STANDING"]
    still = np.zeros((N_LEVELS, len(QUANTILES)))
    noise = Noise(fitted.factors, fitted.moment, 0.0, 0.0, still, 0.3, np.full(N_LEVELS, 9.0))
    own = rng.normal(-6, 1, N_LEVELS)
    noise_stream = NoiseStream(noise, own, np.random.default_rng(2))
    made = np.concatenate([noise_stream.block() for _ in range(1500)])
    frequencies, power = welch(made, 50.0, nperseg=SEGMENT, axis=0)
    expected = np.exp(own)[LEVEL[1:]] * (np.abs(fitted.factors[GROUP[1:]]) ** 2).sum(2) / 25.0
    inside = slice(2, -3)
    ratio = power[1:][inside] / expected[inside]
    # The power has steps between bands, which a window of this length smooths.
    assert np.quantile(np.abs(np.log(ratio)), 0.9) < 0.7
    assert abs(np.log(ratio).mean()) < 0.1
    assert len(frequencies) == SEGMENT // 2 + 1


def test_levels_measure_white_noise() -> None:
    rng = np.random.default_rng(0)
    spectrum = fit_noise.spectra(rng.normal(0, 0.1, (20_000, 6)))
    assert np.allclose(np.exp(fit_noise.levels(spectrum)).mean(0), 0.01, rtol=0.15)


def test_landings_turn_by_their_angle() -> None:
    turns = default().turns["WALKING_UPSTAIRS"]
    landings = Landings(turns, 0.0, np.random.default_rng(0))
    yaw = np.concatenate([landings.block((np.arange(128) + 128 * k) / 50) for k in range(20)])
    n = len(fit_turns.find(yaw, 1.0))
    assert yaw.sum() / 50 / n == pytest.approx(turns.angle_rad[0], rel=0.15)
    assert fit_turns.sign_of([yaw]) == 1.0
    assert fit_turns.sign_of([np.zeros(100)]) == 0.0


def test_the_analysis_of_a_walk_finds_its_cycle() -> None:
    rng = np.random.default_rng(0)
    cycle = np.zeros((6, HARMONICS + 1), np.complex128)
    cycle[0, 2] = 0.3
    cycle[:, 1] = 0.05 * np.exp(1j * np.arange(6))
    cycle[1:, 2:6] = rng.normal(0, 0.03, (5, 4)) + 1j * rng.normal(0, 0.03, (5, 4))
    hz = 0.9 * (1 + 0.03 * np.sin(np.arange(1000) / 200))
    phase = 2 * np.pi * np.cumsum(hz) / 50
    samples = evaluate(cycle, phase) + rng.normal(0, 0.01, (1000, 6))
    walk = analyse(samples, 50.0)
    assert walk is not None
    assert np.median(walk.stride_hz) == pytest.approx(np.median(hz), rel=0.02)
    fitted = rotate(walk.cycle, align(walk.cycle, cycle))
    assert np.abs(fitted - cycle).max() < 0.03
    assert analyse(samples[:50], 50.0) is None


def test_similar_windows_are_close_and_different_ones_are_not() -> None:
    rng = np.random.default_rng(0)
    tables = [np.array([twosample.statistics(rng.normal(0, s, (128, 6))) for _ in range(60)]) for s in (1, 1, 2)]
    assert tables[0].shape == (60, twosample.N_STATISTICS)
    assert twosample.distances(tables[0], tables[1]).mean() < 0.2
    assert twosample.distances(tables[0], tables[2])[6:12].min() == 1.0  # log spread
    assert twosample.halves(tables[0], [str(i % 10) for i in range(60)]).mean() < 0.3


def test_the_cycle_of_every_gait_has_a_plausible_size() -> None:
    drawn = person.draw(default(), np.random.default_rng(5))
    for gait in GAITS:
        acc, gyro = person.power(drawn.cycle[gait])
        assert 0.1 < acc < 0.8
        assert 0.2 < gyro < 2.5
