"""Tests of what a window of a device can be: unit and gravity of the accelerometer, unit of the gyroscope.

Every test looks at one window by itself and needs no state. Sums run in a fixed order, so a result does not depend on
how many windows are tested together, to the bit.

The limits come from 66,000 windows of HAPT (waist), WISDM (watch), DiFronzo (trouser pocket), UMAFall (pocket, waist,
chest, wrist, ankle), sp-sw (phones and watches) and Casale's walkers (chest pocket), each as recorded, with gravity
removed, and in other units. docs/explanation/limits.md has the shares of false alarms and of faults found.

Acceleration. The mean of |acc| is near 1 g in every activity: 0.75 to 2.5 g covers rest, sports and jumps. The median
falls to 0.25 g when somebody hops, because half of the samples are then in free fall. Each such range ends at a third
or less of the beginning of the next unit's, so g, m/s2 and mg cannot be confused. Two more limits use the length of the
mean vector, to which only gravity contributes in the long run. It is at least a fifth of the mean of |acc|, except
while a device is turned over; without gravity it is usually less. And it is at most 1.6 g: a sensor whose range is
taken for twice what it is exceeds that.

Gyroscope. A gyroscope that is right turns the direction of total acceleration as the accelerometer shows it. Both
paths on the unit sphere are compared, over means of 0.32 s so that noise and impacts count little. In good windows the
gyroscope's path is 0.03 to 4 times the accelerometer's: less where a body is shaken, more where a limb swings, since
the force of the swing hides the turn. A factor of 57.3 nearly always leads out of this range. The mean angular
velocity of the window is subtracted first, because the offset of a gyroscope without calibration says nothing of units.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from harstream.core.batches import Bool, Float32, Float64, Int64

#: Units that ``acc_unit`` tells apart. "mg" also stands for counts of 1,024 per g and for cm/s2.
ACC_UNIT_NAMES = ("g", "m/s2", "mg")
#: Factor of each unit of ACC_UNIT_NAMES that converts it to g.
ACC_UNIT_FACTORS = (1.0, 1 / 9.80665, 1 / 1000)

#: Lowest and highest mean of |acc| in g. Hopping reaches 0.78, running 2.4 at the wrist.
_MEAN_NORM_G = (0.75, 2.5)
#: Lowest length of the mean vector, as a share of the mean of |acc|. Throwing a ball reaches 0.15, all else 0.2.
_MEAN_VECTOR_SHARE = 0.2
#: Highest length of the mean vector in g. Walking with a swinging arm reaches 1.54.
_MEAN_VECTOR_G = 1.6
#: Duration in s of the means between which turns are measured; rounded to a power of 2 samples. Shorter, and noise
#: hides the gyroscope of a device at rest; longer, and the steps of a walk cancel.
_BLOCK_S = 0.32
#: Number of such means from which on a window is judged: of fewer, one in 400 deceives.
_MIN_BLOCKS = 6
#: Ratio of the gyroscope's path to the accelerometer's: lowest and highest of true gyroscopes.
_PATH_RATIO = (0.025, 4.0)
#: Speed in rad/s added to the accelerometer's path before the upper limit, for sensors so coarse that they stand still.
_STILL_RAD_S = 0.002
#: Speed of the accelerometer's path in rad/s from which on a gyroscope must turn too.
_TURNING_RAD_S = 0.2

# Edges of the mean of |acc| in the unit of the signal: every second interval between them is that of a unit.
_EDGES = np.array([edge / factor for factor in ACC_UNIT_FACTORS for edge in _MEAN_NORM_G])
_UNIT = np.array([-1, 0, -1, 1, -1, 2, -1], np.int64)
_LONGEST = np.array([0.0, *(limit for factor in ACC_UNIT_FACTORS for limit in (_MEAN_VECTOR_G / factor, 0.0))])


def acc_unit(total_acc: Float32) -> Int64:
    """Return the unit of each window (n_windows, window, 3) of total acceleration: (n_windows,) index or -1.

    The index is one of ACC_UNIT_NAMES; -1: the signal has gravity in none of these units. The noise filter should have
    run, so that single spikes are gone.
    """
    axes = np.ascontiguousarray(total_acc[:, ::2].transpose(2, 0, 1))  # half of the samples give the same answer
    sums = np.concatenate([axes, _length(axes)[None]])
    means = np.add.accumulate(sums, axis=2, dtype=np.float64)[..., -1] / axes.shape[2]
    vector, norm = _length(means[:3]), means[3]
    interval = np.searchsorted(_EDGES, norm)
    return np.where((vector >= _MEAN_VECTOR_SHARE * norm) & (vector <= _LONGEST[interval]), _UNIT[interval], -1)


def has_gravity(total_acc: Float32) -> Bool:
    """Return whether each window (n_windows, window, 3) of total acceleration in g shows gravity: (n_windows,)."""
    return np.asarray(acc_unit(total_acc) == 0, np.bool_)


def gyro_plausible(total_acc: Float32, gyro: Float32, sample_rate_hz: float) -> Bool:
    """Return whether the gyroscope of each window can be true: (n_windows,).

    The result means something only where ``total_acc`` has gravity; its unit does not matter. Windows shorter than 2 s
    or so are always plausible.

    Args:
        total_acc: (n_windows, window, 3) in any unit.
        gyro: (n_windows, window, 3) in rad/s.
        sample_rate_hz: Sample rate of the windows.

    """
    halvings = max(0, round(math.log2(_BLOCK_S * sample_rate_hz)))
    means = _block_means(total_acc, gyro, halvings)
    n_blocks = means.shape[2]
    if n_blocks < _MIN_BLOCKS:
        return np.ones(len(total_acc), np.bool_)
    direction, velocity = means[:3], means[3:]
    direction /= np.maximum(_length(direction), np.float32(1e-12))
    velocity -= np.add.accumulate(velocity, axis=2)[..., -1:] / np.float32(n_blocks)
    # Between two means the device turns at the mean of their velocities: d/dt u = -w x u.
    doubled = means[..., 1:] + means[..., :-1]
    u, w = doubled[:3], doubled[3:]
    turns = np.empty((3, 2, *u.shape[1:]), np.float32)  # axes, gyroscope and accelerometer, windows, times
    turns[0, 0] = w[1] * u[2] - w[2] * u[1]
    turns[1, 0] = w[2] * u[0] - w[0] * u[2]
    turns[2, 0] = w[0] * u[1] - w[1] * u[0]
    turns[:, 1] = direction[..., 1:] - direction[..., :-1]
    claimed, seen = np.add.accumulate(_length(turns), axis=2)[..., -1] / np.float32(n_blocks - 1)
    claimed, seen = claimed / np.float32(4.0), seen * np.float32(sample_rate_hz / 2**halvings)  # rad/s
    too_fast = claimed > np.float32(_PATH_RATIO[1]) * (seen + np.float32(_STILL_RAD_S))
    too_slow = (seen > _TURNING_RAD_S) & (claimed < np.float32(_PATH_RATIO[0]) * seen)
    return np.asarray(~(too_fast | too_slow), np.bool_)


def describe_acc(total_acc: Float32) -> str:
    """Describe the gravity of one window (window, 3) in g that shows none, or too much of it."""
    acc = total_acc.astype(np.float64)
    norm = float(np.sqrt((acc * acc).sum(axis=1)).mean())
    vector = float(np.sqrt((acc.mean(axis=0) ** 2).sum()))
    unit = int(acc_unit(total_acc[None])[0])
    mend = "send acceleration with gravity, in one of these units"
    if unit > 0:
        mend = f"it seems to be in {ACC_UNIT_NAMES[unit]}: state this unit"
    return (
        f"its mean acceleration is {norm:.3g}, and gravity in it is {vector:.3g}: expected about 1 g (9.8 m/s2, 1000 "
        f"mg) in both; {mend}"
    )


def describe_gyro(gyro: Float32) -> str:
    """Describe the angular velocity of one window (window, 3) in rad/s that contradicts the acceleration."""
    speed = float(np.sqrt((gyro.astype(np.float64) ** 2).sum(axis=1)).mean())
    if not speed:
        return (
            "its gyroscope is 0 throughout, though the device turns; send what it measures, or use a model without one"
        )
    return (
        f"its gyroscope turns at {speed:.3g} rad/s on average, but the direction of gravity does not turn with it; "
        "state its unit if that is deg/s"
    )


def _block_means(total_acc: Float32, gyro: Float32, halvings: int) -> Float32:
    """Return the means of successive blocks of 2**halvings samples: (6, n_windows, n_blocks), acc then gyro.

    Neighbours are added pair by pair, so the order of addition is fixed.
    """
    window = total_acc.shape[1] >> halvings << halvings
    means = np.empty((6, len(total_acc), window), np.float32)
    means[:3] = total_acc[:, :window].transpose(2, 0, 1)
    means[3:] = gyro[:, :window].transpose(2, 0, 1)
    for _ in range(halvings):
        means = means[..., ::2] + means[..., 1::2]
    return means * np.float32(0.5**halvings)


def _length(vectors: Float32 | Float64) -> Any:
    """Return the length (...) of vectors (3, ...)."""
    squares = vectors * vectors
    return np.sqrt(squares[0] + squares[1] + squares[2])
