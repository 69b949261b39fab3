"""Resampling: no aliases, no images, the right amplitude at the right time."""

import numpy as np
import pytest

from harstream.core import resampling
from harstream.core.engine import Engine
from harstream.core.resampling import accepts, ratio_of, simplest_ratio
from harstream.core.spec import NoiseFilter, SignalSpec

from ..constants import T0_NS
from .streams import cut, feed

# One long series per window, processed by nothing but the resampler.
SPEC = SignalSpec(
    window_samples=500, stride_samples=500, channels=("total_acc_x",), noise_filter=NoiseFilter("none"), max_gap_s=0.5
)
RATES = [20.0, 25.0, 31.25, 40.0, 64.0, 100.0, 104.0, 200.0]


def resampled(rate_hz, signal, seconds=25.0):
    """Return the series on the grid, and the event time of each sample, in seconds since the start of the stream."""
    t = np.arange(int(seconds * rate_hz)) / rate_hz
    samples = np.zeros((len(t), 6), np.float32)
    samples[:, 0] = signal(t)
    windows = feed(Engine(SPEC), cut(samples, max(13, int(rate_hz / 4)), rate_hz=rate_hz, announced=rate_hz))
    assert len(windows) == 2
    times = [(start - T0_NS) / 1e9 + np.arange(500) / 50.0 for start in windows.start_ns]
    return windows.windows[:, :, 0].reshape(-1).astype(np.float64), np.concatenate(times)


def tone(frequency_hz):
    return lambda t: np.sin(2 * np.pi * frequency_hz * t + 0.3)


def db(series):
    return 20 * np.log10(np.sqrt(2 * np.mean(series**2)) + 1e-12)  # a sine of amplitude 1 is 0 dB


@pytest.mark.parametrize("rate_hz", [64.0, 100.0, 104.0, 200.0])
@pytest.mark.parametrize("above", [0.2, 1.0, 3.0, 6.5])
def test_a_tone_above_the_new_nyquist_frequency_is_at_least_40_db_down(rate_hz, above):
    series, _ = resampled(rate_hz, tone(25.0 + above))
    assert db(series) < -40


@pytest.mark.parametrize("rate_hz", RATES)
@pytest.mark.parametrize("part", [0.05, 0.3, 0.5, 0.69])
def test_a_tone_in_the_passband_comes_through_in_amplitude_and_time(rate_hz, part):
    signal = tone(part * min(rate_hz, 50.0) / 2)
    series, t = resampled(rate_hz, signal)
    # Against the analog signal at the windows' own event times: a wrong delay would show as a phase.
    np.testing.assert_allclose(series, signal(t), atol=0.01)


@pytest.mark.parametrize(
    ("rate_hz", "frequency_hz"), [(20.0, 3.0), (20.0, 6.5), (20.0, 9.0), (31.25, 12.0), (25.0, 8.0)]
)
def test_images_of_a_slower_device_are_at_least_40_db_down(rate_hz, frequency_hz):
    series, t = resampled(rate_hz, tone(frequency_hz))
    image = 2 * np.pi * (rate_hz - frequency_hz) * t
    basis = np.stack([np.sin(image), np.cos(image)], axis=1)
    amplitude = np.hypot(*np.linalg.lstsq(basis, series, rcond=None)[0])
    assert 20 * np.log10(amplitude) < -40


@pytest.mark.parametrize("rate_hz", [*RATES, 6.25, 1600.0, 47.0, 52.3])
def test_a_constant_stays_constant(rate_hz):
    series, _ = resampled(rate_hz, lambda t: np.full(len(t), 0.987))
    np.testing.assert_allclose(series, 0.987, rtol=3e-7)


@pytest.mark.parametrize("rate_hz", RATES)
def test_windows_follow_each_other_on_the_grid(rate_hz):
    _, t = resampled(rate_hz, tone(1.0))
    np.testing.assert_allclose(np.diff(t), 0.02, atol=1e-6)


@pytest.mark.parametrize("rate_hz", RATES)
def test_the_first_output_waits_for_the_kernel_and_no_longer(rate_hz):
    # inputs   0 1 2 ... half-1 ...        the kernel of the first output begins at the first input
    # outputs            0 ...
    _, t = resampled(rate_hz, tone(1.0))
    nyquist_hz = min(rate_hz, 50.0) / 2
    half_s = (60 - 7.95) / (2.285 * 2 * np.pi * 0.3 * nyquist_hz) / 2
    assert t[0] == pytest.approx(half_s, abs=1.5 / rate_hz)


def test_the_usual_rates_have_exact_ratios():
    # 50 Hz grid: 20 -> 5/2, 25 -> 2, 31.25 -> 8/5, 100 -> 1/2, 104 -> 25/52, 200 -> 1/4
    for rate_hz in (20, 25, 31.25, 40, 52, 64, 100, 104, 128, 200, 400):
        assert float(ratio_of(rate_hz, 50.0)) == 50.0 / rate_hz


@pytest.mark.parametrize("rate_hz", [6.25, 7, 11, 19, 26, 49, 51, 99, 101, 119, 999, 1600])
def test_any_rate_has_a_ratio_within_one_percent(rate_hz):
    assert float(ratio_of(rate_hz, 50.0)) * rate_hz == pytest.approx(50.0, rel=0.0085)


@pytest.mark.parametrize(("measured_hz", "meant_hz"), [(20.3, 20), (24.8, 25), (99.2, 100), (31.0, 31.25), (40.3, 40)])
def test_a_measured_rate_becomes_the_simplest_ratio_nearby(measured_hz, meant_hz):
    assert 50.0 / simplest_ratio(measured_hz, 50.0, 0.02) == meant_hz


@pytest.mark.parametrize("rate_hz", [0.0, 5e-324, 1e-300, 6.2, 1601.0, 1e300, float("inf"), float("nan"), -50.0])
def test_rates_outside_an_eighth_to_32_times_the_grid_are_not_accepted(rate_hz):
    assert not accepts(rate_hz, 50.0)
    assert accepts(6.25, 50.0)
    assert accepts(1600.0, 50.0)


def test_unused_resamplers_make_room_for_new_rates(monkeypatch):
    monkeypatch.setattr(resampling, "MAX_RATIOS", 2)
    engine = Engine(SPEC)

    def device(name, rate_hz):
        samples = np.ones((int(12 * rate_hz), 6), np.float32)
        return cut(samples, 50, device=name, rate_hz=rate_hz, announced=rate_hz)

    assert len(feed(engine, device("a", 100.0))) == 1
    assert len(feed(engine, device("b", 25.0))) == 1
    assert (
        len(feed(engine, device("c", 200.0))) == 0
    )  # there is no room for a third rate: its samples are counted, and nothing is raised
    assert engine.stats.samples_rate == 2400
    assert engine.evict(1e18) == ["a", "b", "c"]
    late = feed(engine, device("c", 200.0))
    assert len(late) == 1
    assert engine.stats.samples_rate == 2400
    # A constant stays constant, so nothing of the time without a resampler is left.
    np.testing.assert_allclose(late.windows[0, :, SPEC.channels.index("total_acc_x")], 1.0, atol=1e-6)


def test_a_device_without_a_resampler_starts_once_there_is_room_for_one(monkeypatch):
    monkeypatch.setattr(resampling, "MAX_RATIOS", 1)
    engine = Engine(SPEC)
    earlier = T0_NS - 100 * 10**9
    feed(engine, cut(np.ones((400, 6), np.float32), 50, device="a", t_ns=earlier, rate_hz=25.0, announced=25.0))
    messages = cut(np.ones((2400, 6), np.float32), 50, device="b", rate_hz=100.0, announced=100.0)
    assert len(feed(engine, messages[:4])) == 0
    assert engine.evict(T0_NS / 1e9) == ["a"]
    late = feed(engine, messages[4:])
    assert len(late) > 0
    np.testing.assert_allclose(late.windows[:, :, SPEC.channels.index("total_acc_x")], 1.0, atol=1e-6)
