"""Fit the gait: phase, mean cycle, stride-to-stride deviation and what is left over.

A walking signal is written as ``x(t) = Re sum_k c_k(t) exp(i k phase(t)) + rest``, with ``phase``
advancing by a full turn per stride (two steps). The phase comes from the vertical channel's Hilbert
phase at the step frequency and is refined by least squares against the cycle itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.signal import butter, hilbert, sosfiltfilt, welch

from harstream.simulate.parameters import HARMONICS, Complex, Float

#: Channels are compared on these scales (g, rad/s): about the spread while walking.
CHANNEL_SCALE = np.array([0.25, 0.2, 0.2, 0.5, 0.5, 0.4])


@dataclass(frozen=True, slots=True)
class Walk:
    """One bout of gait, analysed."""

    phase: Float  # (n_samples,) rad, unwrapped, a turn per stride
    stride_hz: Float  # (n_strides,) frequency of each full stride
    cycle: Complex  # (6, HARMONICS + 1) c_k of the bout's mean cycle; k = 0 is the mean
    strides: Complex  # (n_strides, 6, HARMONICS + 1) c_k of each stride


def harmonics(phase: Float) -> Complex:
    """(n,) rad -> (n, HARMONICS + 1): exp(i k phase)."""
    return np.asarray(np.exp(1j * phase[:, None] * np.arange(HARMONICS + 1)), np.complex128)


def evaluate(coefficients: Complex, phase: Float) -> Float:
    """(6, HARMONICS + 1) and (n,) rad -> (n, 6): the cycle at these phases."""
    return np.asarray((harmonics(phase) @ coefficients.T).real, np.float64)


def _regress(samples: Float, phase: Float) -> Complex:
    """Least-squares c_k of a stretch of at least one stride: (n, 6), (n,) -> (6, HARMONICS + 1)."""
    turn = harmonics(phase)
    design = np.hstack([turn.real, -turn.imag[:, 1:]])
    # A little ridge: one stride of 50 samples barely determines 33 unknowns per channel.
    ridge = np.tile(np.linspace(0, 0.02, HARMONICS), 2)
    gram = design.T @ design + len(phase) * np.diag(np.r_[0.0, ridge])
    solved = np.linalg.solve(gram, design.T @ samples)
    imaginary = np.vstack([np.zeros((1, samples.shape[1])), solved[HARMONICS + 1 :]])
    return np.asarray((solved[: HARMONICS + 1] + 1j * imaginary).T, np.complex128)


def _first_phase(samples: Float, rate_hz: float) -> Float:
    """Half the Hilbert phase of the vertical channel about the step frequency."""
    frequencies, power = welch(samples[:, 0], rate_hz, nperseg=min(256, len(samples)), nfft=2048)
    band = (frequencies > 1.2) & (frequencies < 2.7)
    step_hz = float(frequencies[band][power[band].argmax()])
    sos = butter(2, [step_hz - 0.4, step_hz + 0.4], "bandpass", fs=rate_hz, output="sos")
    return np.asarray(np.unwrap(np.angle(hilbert(sosfiltfilt(sos, samples[:, 0])))) / 2, np.float64)


def _forward(phase: Float) -> Float:
    """The same phase, its speed kept within 0.5 to 1.6 times the median: noise may not turn it back."""
    speed = np.diff(phase)
    middle = float(np.median(speed))
    return np.asarray(phase[0] + np.r_[0.0, np.cumsum(np.clip(speed, 0.5 * middle, 1.6 * middle))], np.float64)


def _refine(samples: Float, phase: Float, rate_hz: float) -> Float:
    """Gauss-Newton step on the phase, smoothed at 0.7 Hz."""
    coefficients = _regress(samples, phase)
    slope = evaluate(coefficients * (1j * np.arange(HARMONICS + 1)), phase) / CHANNEL_SCALE
    error = (samples - evaluate(coefficients, phase)) / CHANNEL_SCALE
    sos = butter(2, 0.7, fs=rate_hz, output="sos")
    above = sosfiltfilt(sos, (slope * error).sum(1))
    below = sosfiltfilt(sos, (slope * slope).sum(1))
    return np.asarray(phase + np.clip(above / np.maximum(below, 0.2 * below.mean()), -0.3, 0.3), np.float64)


def analyse(samples: Float, rate_hz: float) -> Walk | None:
    """A bout of gait (n_samples, 6); None where it is too short."""
    if len(samples) < 4 * rate_hz:
        return None
    phase = _first_phase(samples, rate_hz)
    for _ in range(5):
        phase = _refine(samples, _forward(phase), rate_hz)
    phase = _forward(phase)
    marks = np.arange(np.ceil(phase[0] / (2 * np.pi)), np.floor(phase[-1] / (2 * np.pi)) + 1) * 2 * np.pi
    if len(marks) < 4:
        return None
    times = np.interp(marks, phase, np.arange(len(phase)) / rate_hz)
    cycle = _regress(samples, phase)
    strides = []
    rest = samples - evaluate(cycle, phase)
    for start, stop in pairwise(marks):
        inside = (phase >= start) & (phase < stop)
        strides.append(cycle + _regress(rest[inside], phase[inside]))
    return Walk(phase, 1 / np.diff(times), cycle, np.array(strides))


def rotate(coefficients: Complex, shift: float) -> Complex:
    """The same cycle with its phase counted from ``shift`` rad earlier; (..., HARMONICS + 1)."""
    return np.asarray(coefficients * np.exp(-1j * shift * np.arange(HARMONICS + 1)), np.complex128)


def align(cycle: Complex, reference: Complex) -> float:
    """The shift in rad for ``rotate`` that brings ``cycle`` closest to ``reference``."""
    weight = 1 / CHANNEL_SCALE[:, None] ** 2
    cross = (weight * cycle * reference.conj())[:, 1:].sum(0)
    shifts = np.linspace(0, 2 * np.pi, 720, endpoint=False)
    match = (cross * np.exp(-1j * shifts[:, None] * np.arange(1, HARMONICS + 1))).real.sum(1)
    return float(shifts[match.argmax()])


def align_all(cycles: list[Complex], rounds: int = 8) -> tuple[list[float], Complex]:
    """Shifts that bring all cycles together (which foot comes first is arbitrary), and their mean."""
    reference = cycles[0]
    shifts = [0.0] * len(cycles)
    for _ in range(rounds):
        shifts = [align(cycle, reference) for cycle in cycles]
        reference = np.mean([rotate(c, s) for c, s in zip(cycles, shifts, strict=True)], axis=0)
    return shifts, reference
