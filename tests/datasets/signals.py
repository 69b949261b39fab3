"""Measures of recorded signals, to judge whether they are plausible."""

from __future__ import annotations

import numpy as np

from harstream.datasets.base import Recording, Segment


def cadence_hz(recording: Recording, segment: Segment) -> float:
    """Return the strongest frequency of the acceleration's magnitude between 0.7 and 3.5 Hz: the steps per second."""
    magnitude = np.linalg.norm(recording.samples[segment.start : segment.stop, :3], axis=1)
    n = 8 * len(magnitude)
    power = np.abs(np.fft.rfft((magnitude - magnitude.mean()) * np.hanning(len(magnitude)), n)) ** 2
    frequency = np.fft.rfftfreq(n, 1 / recording.rate_hz)
    inside = (frequency > 0.7) & (frequency < 3.5)
    return float(frequency[inside][power[inside].argmax()])


def rest_g(recording: Recording) -> float | None:
    """Return the median magnitude of acceleration while the device was still for a second; None if it never was."""
    magnitude = np.linalg.norm(recording.samples[:, :3], axis=1)
    second = round(recording.rate_hz)
    if len(magnitude) < second:
        return None
    windows = np.lib.stride_tricks.sliding_window_view(magnitude, second)[:: second // 2]
    still = windows.std(axis=1) < 0.02
    return float(np.median(windows[still])) if still.any() else None


def still_angle_deg(recording: Recording, one: str, other: str) -> float | None:
    """Return the angle between the mean accelerations of two labels; None if one of them is missing."""
    means = []
    for label in (one, other):
        parts = [recording.samples[part.start : part.stop, :3] for part in recording.segments if part.label == label]
        if not parts:
            return None
        mean = np.concatenate(parts).mean(axis=0)
        means.append(mean / np.linalg.norm(mean))
    return float(np.degrees(np.arccos(np.clip(means[0] @ means[1], -1, 1))))
