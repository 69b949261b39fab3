"""Butterworth low-pass: the same sections, state and output as SciPy's, without the import of its package."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from scipy.signal import butter, sosfilt, sosfilt_zi

from harstream.core import butterworth

ORDERS = pytest.mark.parametrize("order", range(1, 9))
CUTOFFS = pytest.mark.parametrize(("cutoff_hz", "rate_hz"), [(0.3, 50.0), (0.05, 200.0), (0.3, 20.0), (3.0, 50.0)])


@ORDERS
@CUTOFFS
def test_the_sections_are_those_of_scipy(order: int, cutoff_hz: float, rate_hz: float) -> None:
    wanted = butter(order, cutoff_hz, output="sos", fs=rate_hz)
    got = butterworth.design(order, cutoff_hz, rate_hz)
    assert got.shape == wanted.shape
    np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=0)


@pytest.mark.parametrize("cutoff_hz", [9.0, 12.5, 24.0])
@ORDERS
def test_high_cutoffs_have_the_response_of_scipys_filter(order: int, cutoff_hz: float) -> None:
    """SciPy may put the sections in another order where poles are negative."""
    impulse = np.zeros((1, 60, 1))
    impulse[0, 0] = 1.0
    sections = butterworth.design(order, cutoff_hz, 50.0)
    got, _ = butterworth.recurse(sections, impulse, np.zeros((1, len(sections), 2, 1)))
    wanted = sosfilt(butter(order, cutoff_hz, output="sos", fs=50.0), impulse[0, :, 0])
    np.testing.assert_allclose(got[0, :, 0], wanted, atol=1e-12)


@ORDERS
@CUTOFFS
def test_the_steady_state_is_that_of_scipy(order: int, cutoff_hz: float, rate_hz: float) -> None:
    sections = butter(order, cutoff_hz, output="sos", fs=rate_hz)
    np.testing.assert_allclose(butterworth.steady(sections), sosfilt_zi(sections), rtol=1e-6, atol=1e-12)


def test_signals_are_filtered_to_the_bit_as_scipy_does_it_in_one_piece_or_several() -> None:
    rng = np.random.default_rng(0)
    sections = butterworth.design(3, 0.3, 50.0)
    signals, states = rng.normal(size=(4, 70, 3)), rng.normal(size=(4, 2, 2, 3))
    given = signals.copy(), states.copy()
    wanted, after = sosfilt(sections, signals, axis=1, zi=states.transpose(1, 0, 2, 3))
    got, got_after = butterworth.recurse(sections, signals, states)
    np.testing.assert_array_equal(got, wanted)
    np.testing.assert_array_equal(got_after, after.transpose(1, 0, 2, 3))
    np.testing.assert_array_equal(signals, given[0])
    np.testing.assert_array_equal(states, given[1])
    first, between = butterworth.recurse(sections, signals[:, :1], states)
    second, end = butterworth.recurse(sections, signals[:, 1:], between)
    np.testing.assert_array_equal(np.concatenate([first, second], axis=1), wanted)
    np.testing.assert_array_equal(end, got_after)


def test_the_daemon_does_not_import_scipys_signals_which_a_training_still_can() -> None:
    code = "import sys, harstream.serve.app; print('scipy.signal' in sys.modules); import scipy.signal as s; s.sosfilt"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_scipy_that_keeps_its_routine_elsewhere_serves_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(butterworth, "EXTENSION_SUFFIXES", [".elsewhere"])
    sections, zeros = butterworth.design(2, 0.3, 50.0), np.zeros((1, 1, 2))
    signal, same = np.ones((1, 9)), np.ones((1, 9))
    butterworth._load_sosfilt()(sections, signal, zeros.copy())
    butterworth._sosfilt(sections, same, zeros.copy())
    np.testing.assert_array_equal(signal, same)
