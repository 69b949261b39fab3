"""Fit of the quarter turns on the landings of a staircase: bumps of the angular velocity about gravity."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import least_squares
from scipy.signal import butter, find_peaks, sosfiltfilt

from harstream.simulate.parameters import BASE_RATE_HZ, Float, Turns

#: A turn is a bump of at least HEIGHT_RAD_S in the angular velocity below BELOW_HZ.
HEIGHT_RAD_S, BELOW_HZ = 0.5, 0.6


def bumps(parameters: Float, time_s: Float) -> Float:
    """Return the sum (m,), in rad/s, of n Gaussian bumps at the times ``time_s`` (m,).

    ``parameters`` (n, 3) are the centre in s, the angle in rad and the log of the width in s of each bump.
    """
    centre, angle, width = parameters[:, 0, None], parameters[:, 1, None], np.exp(parameters[:, 2, None])
    shape = np.exp(-0.5 * ((time_s - centre) / width) ** 2) / (width * np.sqrt(2 * np.pi))
    return np.asarray((angle * shape).sum(0), np.float64)


def find(yaw: Float, sign: float) -> Float:
    """Return the ``bumps`` parameters (n_turns, 3) of the turns in one direction.

    ``yaw`` (n_samples,) is the angular velocity about gravity, in rad/s; ``sign`` is the direction, 1.0 or -1.0.
    """
    slow = sosfiltfilt(butter(2, BELOW_HZ, fs=BASE_RATE_HZ, output="sos"), yaw)
    peaks, _ = find_peaks(sign * slow, height=HEIGHT_RAD_S, distance=round(1.5 * BASE_RATE_HZ))
    if not len(peaks):
        return np.zeros((0, 3))
    time = np.arange(len(yaw)) / BASE_RATE_HZ
    start = np.array([[time[p], slow[p] * 0.55 * np.sqrt(2 * np.pi), np.log(0.55)] for p in peaks])
    lower, upper = start - np.array([1.0, 1.5, 0.9]), start + np.array([1.0, 1.5, 0.6])
    fitted = least_squares(
        lambda p: bumps(p.reshape(-1, 3), time) - slow, start.ravel(), bounds=(lower.ravel(), upper.ravel())
    )
    return np.asarray(fitted.x.reshape(-1, 3), np.float64)


def sign_of(yaws: Sequence[Float]) -> float:
    """Return the direction in which a set of bouts turns on the whole, 1.0 or -1.0, or 0.0 if it goes straight."""
    total = float(np.median([yaw.sum() / BASE_RATE_HZ for yaw in yaws]))
    return 0.0 if abs(total) < 1.0 else float(np.sign(total))


def fit(turns: Sequence[Float], trim_s: float) -> Turns:
    """Return the distribution of the ``turns`` (n_turns, 3) of bouts whose first ``trim_s`` seconds were cut off."""
    inner = [f for f in turns if len(f)]
    every = np.concatenate(inner)
    first = np.log(np.maximum([f[0, 0] + trim_s for f in inner], 1.0))
    gap = np.log(np.concatenate([np.diff(f[:, 0]) for f in inner]))
    return Turns(
        angle_rad=np.array([np.median(every[:, 1]), _half_width(every[:, 1])]),
        width_s=np.array([np.exp(np.median(every[:, 2])), _half_width(every[:, 2])]),
        first_s=np.array([np.exp(np.median(first)), _half_width(first)]),
        gap_s=np.array([np.exp(np.median(gap)), _half_width(gap)]),
    )


def _half_width(values: Float) -> float:
    low, high = np.quantile(values, [0.16, 0.84])
    return float(high - low) / 2
