"""Signal of a device whose page is open."""

from __future__ import annotations

import numpy as np
import pytest

from harstream.core.batches import SampleBatch
from harstream.core.engine import Engine
from harstream.core.spec import SignalSpec
from harstream.serve.page.one_device import SIGNAL_S, Signal

from ..constants import SPEC, T0_NS


def batch(samples: np.ndarray, first: int, auto: bool = False) -> SampleBatch:
    t_ns = T0_NS + round(first * 2e7)
    return SampleBatch.from_message("w1", samples, t_ns=t_ns, rate_hz=50.0, acc_unit_auto=auto)


def feed(engine: Engine, samples: np.ndarray, signals: list[Signal], per_message: int = 10) -> None:
    """Feed the samples, and let the signals see the tail after each message."""
    for first in range(0, len(samples), per_message):
        engine.feed(batch(samples[first : first + per_message], first, auto=True))
        tail = engine.tail("w1")
        assert tail is not None
        for signal in signals:
            signal.add(tail)


def test_the_signal_is_that_of_the_windows_of_the_model(subjects):
    """The ring of this spec has total and body acceleration, so that both can be compared with the channels."""
    engine = Engine(SPEC)
    signal = Signal(SPEC)
    samples = subjects[0].samples[:600]
    windows = engine.feed(batch(samples, 0))
    again = Engine(SPEC)
    for first in range(0, 600, 10):
        again.feed(batch(samples[first : first + 10], first))
        tail = again.tail("w1")
        assert tail is not None
        signal.add(tail)
    assert signal.begun == 2  # at the first message, and when the first window was complete
    last = windows.windows[-1]  # channels: body acceleration, gyroscope, total acceleration
    assert SPEC.channels[0].startswith("body_acc")
    end = 600 - (128 + 64 * (len(windows) - 1))
    shown = signal.values[len(signal.values) - end - 128 : len(signal.values) - end]
    np.testing.assert_allclose(shown[:, 3:6], last[:, :3], atol=1e-4)
    np.testing.assert_allclose(shown[:, :3] + shown[:, 3:6], last[:, 6:9], atol=1e-6)
    np.testing.assert_allclose(shown[:, 6:9], last[:, 3:6], atol=1e-6)


def test_ten_seconds_are_kept(subjects):
    signal = Signal(SPEC)
    feed(Engine(SPEC), subjects[0].samples, [signal])
    assert signal.is_in_g
    assert signal.values.shape == (SIGNAL_S * 50, 9)


def test_one_who_comes_later_begins_with_the_samples_that_are_there(subjects):
    engine, early, late = Engine(SPEC), Signal(SPEC), Signal(SPEC)
    feed(engine, subjects[0].samples[:400], [early])
    tail = engine.tail("w1")
    assert tail is not None
    late.add(tail)
    assert late.begun == 1
    assert len(late.values) == SPEC.window_samples
    early_total, late_total = (signal.values[-100:, :3] + signal.values[-100:, 3:6] for signal in (early, late))
    np.testing.assert_allclose(early_total, late_total, atol=1e-6)


def test_the_unit_is_told_from_the_first_window_and_scales_the_signal(subjects):
    signal = Signal(SPEC)
    samples = subjects[0].samples[:400] * np.array([9.81] * 3 + [1] * 3, np.float32)
    engine = Engine(SPEC)
    feed(engine, samples[:100], [signal])
    assert not signal.is_in_g
    assert np.linalg.norm(signal.values[-1, :3]) == pytest.approx(9.81, rel=0.2)
    feed(engine, samples, [signal])
    assert signal.is_in_g
    assert np.linalg.norm(signal.values[-1, :3]) == pytest.approx(1, rel=0.2)


def test_a_signal_without_a_unit_goes_on_although_its_windows_begin_again(subjects):
    signal = Signal(SPEC)
    feed(Engine(SPEC), subjects[0].samples * np.float32(0.1), [signal])
    assert not signal.is_in_g
    assert len(signal.values) > 400
    assert signal.begun == 1


def test_a_restart_or_too_many_samples_between_two_looks_begin_the_signal_again(subjects):
    engine, signal = Engine(SPEC), Signal(SPEC)
    feed(engine, subjects[0].samples[:300], [signal])
    begun = signal.begun
    engine.feed(batch(subjects[0].samples[:200], 300))
    tail = engine.tail("w1")
    assert tail is not None
    signal.add(tail)
    assert (signal.begun, len(signal.values)) == (begun + 1, SPEC.window_samples)
    assert engine.tail("nobody") is None


def test_a_model_without_gyroscope_shows_none(subjects):
    spec = SignalSpec(channels=("total_acc_norm", "vertical_acc"))
    engine, signal = Engine(spec), Signal(spec)
    feed(engine, subjects[0].samples, [signal])
    tail = engine.tail("w1")
    assert tail is not None
    assert tail.gyro is None
    assert not signal.values[:, 6:].any()
    assert np.linalg.norm(signal.values[-1, :3]) == pytest.approx(1, rel=0.2)
