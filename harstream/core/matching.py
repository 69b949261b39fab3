"""Values of one sensor at the times of another one, each on a grid of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from harstream.core.batches import Bool, Float32, Float64, Int64
from harstream.core.own_times import interpolate_at
from harstream.core.sensor_runs import stretches

#: Results for a sample.
WAIT, PAIR, DROP = 0, 1, 2


def values_at(at_ns: Int64, t_ns: Int64, values: Float32, period_ns: float) -> tuple[Float64, Bool]:
    """Return the values of one sensor at the times of another one, and where they are known.

    Both are on grids of the same period. The grid of each sensor follows its own clock, so the two may be shifted by up
    to half a period. The time up to half a period before the first and after the last sample therefore belongs to it.

    Args:
        at_ns: Times of the other sensor, (n_times,).
        t_ns: Times of the samples, not decreasing, (n_samples,).
        values: The samples, (n_samples, n_signals), without interruption.
        period_ns: Period of the grid.

    Returns:
        Values (n_times, n_signals), and where they are known, (n_times,). Other values mean nothing.

    """
    return interpolate_at(at_ns, t_ns, values, reach_ns=0.5 * period_ns)


@dataclass(frozen=True, slots=True)
class Match:
    """Values of the gyroscope at the times of samples of the accelerometer, where there are any."""

    state: npt.NDArray[np.int8]  # (n,) WAIT, PAIR or DROP
    values: Float32  # (n, 3) where PAIR
    piece: Int64  # (n,) of the gyroscope, where PAIR
    message: Int64  # (n,) that brought the sample after it, where PAIR; -1: an earlier one


def match(at_ns: Int64, gyro: npt.NDArray[Any], period_ns: float, max_lead_ns: int) -> Match:
    """Look for samples of one piece of the accelerometer in the pieces of the gyroscope, in order.

    The result for a sample that need not wait does not change when the gyroscope goes on.

    Args:
        at_ns: Times of the samples, (n_samples,).
        gyro: Samples of the gyroscope of ``SAMPLE``, in order of arrival; in a piece, times do not decrease.
        period_ns: Period of the grid.
        max_lead_ns: Time by which a piece may begin after a sample. If it is later, its clock is another one.

    """
    n = len(at_ns)
    found = Match(np.zeros(n, np.int8), np.zeros((n, 3), np.float32), np.zeros(n, np.int64), np.full(n, -1))
    searching = np.ones(n, np.bool_)
    bounds = stretches(gyro["piece"])
    for k, (a, b) in enumerate(bounds):
        t_ns = gyro["t_ns"][a:b]
        values, known = values_at(at_ns, t_ns, gyro["values"][a:b], period_ns)
        is_last = k == len(bounds) - 1
        after = np.minimum(a + np.searchsorted(t_ns, at_ns), b - is_last)  # at the end: where the next one begins
        if is_last:
            known &= at_ns <= t_ns[-1]  # it may go on
        hit = searching & known
        found.state[hit], found.values[hit] = PAIR, values[hit]
        found.piece[hit], found.message[hit] = gyro["piece"][a], gyro["message"][after[hit]]
        before = searching & ~known & (at_ns < t_ns[0])
        in_gap = at_ns > gyro["t_ns"][a - 1] if k else False
        missed = before & (in_gap | (t_ns[0] - at_ns < max_lead_ns))
        found.state[missed] = DROP
        searching &= ~(hit | missed)
    return found
