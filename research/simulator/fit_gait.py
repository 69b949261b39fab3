"""Analysis of a bout of gait: phase, mean cycle, and the cycle of each stride.

The signal is modelled as ``x(t) = Re sum_k c_k(t) exp(i k phase(t)) + residual``, where ``phase`` advances by a full
turn per stride (two steps). The first estimate of the phase is the Hilbert phase of the vertical channel at the step
frequency; it is refined by least squares against the cycle itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.signal import butter, hilbert, sosfiltfilt, welch

from harstream.simulate.parameters import HARMONICS, Complex, Float

#: Scale of each channel in comparisons, in g and rad/s: about its standard deviation while walking.
CHANNEL_SCALE = np.array([0.25, 0.2, 0.2, 0.5, 0.5, 0.4])


@dataclass(frozen=True, slots=True)
class Walk:
    """Result of the analysis of one bout of gait."""

    phase: Float  # (n_samples,) rad, unwrapped; 2 pi per stride
    stride_hz: Float  # (n_strides,) frequency of each full stride
    cycle: Complex  # (6, HARMONICS + 1) coefficients c_k of the mean cycle; k = 0 is the mean value
    strides: Complex  # (n_strides, 6, HARMONICS + 1) coefficients of each stride


def harmonics(phase: Float) -> Complex:
    """Return exp(i k phase), (n, HARMONICS + 1), for the phases (n,)."""
    return np.asarray(np.exp(1j * phase[:, None] * np.arange(HARMONICS + 1)), np.complex128)


def evaluate(coefficients: Complex, phase: Float) -> Float:
    """Return the values (n, 6) of a cycle (6, HARMONICS + 1) at the phases (n,)."""
    return np.asarray((harmonics(phase) @ coefficients.T).real, np.float64)


def _regress(samples: Float, phase: Float) -> Complex:
    """Return the least-squares coefficients (6, HARMONICS + 1) of samples (n, 6) that span at least one stride."""
    turn = harmonics(phase)
    design = np.hstack([turn.real, -turn.imag[:, 1:]])
    # The small ridge is needed: one stride of 50 samples hardly determines 33 unknowns per channel.
    ridge = np.tile(np.linspace(0, 0.02, HARMONICS), 2)
    gram = design.T @ design + len(phase) * np.diag(np.r_[0.0, ridge])
    solved = np.linalg.solve(gram, design.T @ samples)
    imaginary = np.vstack([np.zeros((1, samples.shape[1])), solved[HARMONICS + 1 :]])
    return np.asarray((solved[: HARMONICS + 1] + 1j * imaginary).T, np.complex128)


def _first_phase(samples: Float, rate_hz: float) -> Float:
    """Return half the Hilbert phase of the vertical channel, band-passed about the step frequency."""
    frequencies, power = welch(samples[:, 0], rate_hz, nperseg=min(256, len(samples)), nfft=2048)
    band = (frequencies > 1.2) & (frequencies < 2.7)
    step_hz = float(frequencies[band][power[band].argmax()])
    sos = butter(2, [step_hz - 0.4, step_hz + 0.4], "bandpass", fs=rate_hz, output="sos")
    return np.asarray(np.unwrap(np.angle(hilbert(sosfiltfilt(sos, samples[:, 0])))) / 2, np.float64)


def _forward(phase: Float) -> Float:
    """Return the phase with its speed bounded to 0.5 to 1.6 times the median, so that noise cannot reverse it."""
    speed = np.diff(phase)
    middle = float(np.median(speed))
    return np.asarray(phase[0] + np.r_[0.0, np.cumsum(np.clip(speed, 0.5 * middle, 1.6 * middle))], np.float64)


def _refine(samples: Float, phase: Float, rate_hz: float) -> Float:
    """Return the phase after one Gauss-Newton step, smoothed at 0.7 Hz."""
    coefficients = _regress(samples, phase)
    slope = evaluate(coefficients * (1j * np.arange(HARMONICS + 1)), phase) / CHANNEL_SCALE
    error = (samples - evaluate(coefficients, phase)) / CHANNEL_SCALE
    sos = butter(2, 0.7, fs=rate_hz, output="sos")
    above = sosfiltfilt(sos, (slope * error).sum(1))
    below = sosfiltfilt(sos, (slope * slope).sum(1))
    return np.asarray(phase + np.clip(above / np.maximum(below, 0.2 * below.mean()), -0.3, 0.3), np.float64)


def analyse(samples: Float, rate_hz: float) -> Walk | None:
    """Analyse a bout of gait (n_samples, 6); return None if it has less than 4 s or three whole strides."""
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
    residual = samples - evaluate(cycle, phase)
    for start, stop in pairwise(marks):
        inside = (phase >= start) & (phase < stop)
        strides.append(cycle + _regress(residual[inside], phase[inside]))
    return Walk(phase, 1 / np.diff(times), cycle, np.array(strides))


def rotate(coefficients: Complex, shift: float) -> Complex:
    """Return the cycle (..., HARMONICS + 1) with its phase counted from ``shift`` rad earlier."""
    return np.asarray(coefficients * np.exp(-1j * shift * np.arange(HARMONICS + 1)), np.complex128)


def align(cycle: Complex, reference: Complex) -> float:
    """Return the shift, in rad, with which ``rotate`` brings ``cycle`` closest to ``reference``."""
    weight = 1 / CHANNEL_SCALE[:, None] ** 2
    cross = (weight * cycle * reference.conj())[:, 1:].sum(0)
    shifts = np.linspace(0, 2 * np.pi, 720, endpoint=False)
    match = (cross * np.exp(-1j * shifts[:, None] * np.arange(1, HARMONICS + 1))).real.sum(1)
    return float(shifts[match.argmax()])


def align_all(cycles: list[Complex], rounds: int = 8) -> tuple[list[float], Complex]:
    """Return the shifts that align all cycles with their common mean, and that mean.

    The phase of each cycle is arbitrary at first, as the analysis does not know which foot is in front.
    """
    reference = cycles[0]
    shifts = [0.0] * len(cycles)
    for _ in range(rounds):
        shifts = [align(cycle, reference) for cycle in cycles]
        reference = np.mean([rotate(c, s) for c, s in zip(cycles, shifts, strict=True)], axis=0)
    return shifts, reference
