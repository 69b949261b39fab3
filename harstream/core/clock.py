"""Clock of each device: a Kalman filter that predicts the time of the next sample."""

from __future__ import annotations

import numpy as np

from harstream.core.batches import Bool, Float64, Int64
from harstream.core.rows import RowArrays

#: Bounds of the period, relative to the nominal one.
MAX_STRETCH = 3.0

# Standard deviations.
_RATE_UNCERTAINTY = 0.008  # of the period after a reset, relative to the period
RATE_WALK = 1e-6  # of the random walk of the period in one sample, relative to the period


class Clock(RowArrays):
    """Kalman filter by row with the number of samples as its time axis.

    It uses the two-state clock model of Galleani and Tavella 2010 ("Time and the Kalman Filter", IEEE Control Systems
    Magazine):

    - The state is the time of the next sample, ``next_ns + next_fraction``, and the rate of the clock, ``period_ns``
      (ns per sample). The integer part of the time has an array of its own, because float64 is too coarse for ns.
    - The covariance P of the errors of the two is symmetric: ``cov_offset`` (variance of the time, ns^2),
      ``cov_offset_rate`` (covariance, ns^2 per sample) and ``cov_rate`` (variance of the period, ns^2 per sample^2).
    - Over ``n`` samples, the transition is F = [[1, n], [0, 1]]. The process noise is a random walk of the rate, and
      only its term in the rate is kept: Q = [[0, 0], [0, n (RATE_WALK period)^2]]. The white frequency noise of the
      model is left out.
    - The measurement is the stamp: H = [1, 0], and its variance is the square of its jitter.
    """

    ROW_ARRAYS = (
        "nominal_ns",
        "period_ns",
        "next_ns",
        "next_fraction",
        "since_update",
        "cov_offset",
        "cov_offset_rate",
        "cov_rate",
    )

    def __init__(self, capacity: int) -> None:
        self.nominal_ns = np.zeros(capacity)  # period of the rate by which the samples are counted
        self.period_ns = np.zeros(capacity)
        self.next_ns = np.zeros(capacity, np.int64)
        self.next_fraction = np.zeros(capacity)
        self.since_update = np.zeros(capacity, np.int64)  # samples since the clock was last corrected
        self.cov_offset = np.zeros(capacity)
        self.cov_offset_rate = np.zeros(capacity)
        self.cov_rate = np.zeros(capacity)

    def set_period(self, row: int, period_ns: float) -> None:
        """Set the nominal and the present period of ``row``."""
        self.nominal_ns[row] = self.period_ns[row] = period_ns

    def ahead_ns(self, row: Int64, t: Int64) -> Float64:
        """Return by how much times ``t`` are later than predicted, in ns."""
        return (t - self.next_ns[row]) - self.next_fraction[row]

    def update(
        self,
        row: Int64,
        t: Int64,
        late: Int64,
        missing: Int64,
        count: Int64,
        reset: Bool,
        delta: Float64,
        variance: Float64,
    ) -> Int64:
        """Correct the clock of each row by the stamp of one message, and advance it past the message.

        This is one step of the Kalman filter: predict, over the samples since the last correction, and update. The
        correction is limited, so that one wrong stamp cannot shift the predicted time by more than half a period.

        Args:
            row: (n_rows,) each row once.
            t: (n_rows,) stamps.
            late: (n_rows,) leading samples that are late. A message without any other sample changes nothing.
            missing: (n_rows,) samples missing before the message.
            count: (n_rows,) samples in the message.
            reset: (n_rows,) True: the clock starts at ``t`` with the present ``period_ns``.
            delta: (n_rows,) stamp minus predicted time in ns.
            variance: (n_rows,) of the stamp, ns^2.

        Returns:
            Event time of the first sample that is not late, including the missing ones, (n_rows,).

        """
        period = self.period_ns[row]
        n = self.since_update[row] + missing
        # Predict: F P F' + Q.
        offset_var = self.cov_offset[row] + n * (2 * self.cov_offset_rate[row] + n * self.cov_rate[row])
        offset_rate_cov = self.cov_offset_rate[row] + n * self.cov_rate[row]
        rate_var = self.cov_rate[row] + n * (RATE_WALK * period) ** 2
        # Update: the gain is P H' / (H P H' + variance), then P becomes (1 - gain H) P.
        gain_offset, gain_rate = offset_var / (offset_var + variance), offset_rate_cov / (offset_var + variance)
        half = 0.5 * period
        error = clip(delta + (late - missing) * period, -half * count, half * count)
        offset = clip(gain_offset * error, -half, half)
        nominal = self.nominal_ns[row]
        new_period = clip(period + gain_rate * error, nominal / MAX_STRETCH, nominal * MAX_STRETCH)

        keep = late < count  # a message without accepted samples does not correct the clock either
        base = np.where(reset, t, self.next_ns[row])
        ahead = np.where(reset, 0.0, self.next_fraction[row] + offset)  # of the first sample, or first missing one
        new_period = np.where(reset, period, new_period)
        t_first = base + np.rint(ahead).astype(np.int64)
        ahead = ahead + missing * period + (count - late) * new_period
        whole = np.floor(ahead)
        r = row[keep]
        self.next_ns[r] = (base + whole.astype(np.int64))[keep]
        self.next_fraction[r] = (ahead - whole)[keep]
        self.period_ns[r] = new_period[keep]
        self.since_update[r] = (count - late)[keep]
        self.cov_offset[r] = np.where(reset, variance, (1 - gain_offset) * offset_var)[keep]
        self.cov_offset_rate[r] = np.where(reset, 0.0, (1 - gain_offset) * offset_rate_cov)[keep]
        rate_var = np.where(reset, (_RATE_UNCERTAINTY * period) ** 2, rate_var - gain_rate * offset_rate_cov)
        self.cov_rate[r] = rate_var[keep]
        return t_first


def clip(values: Float64, least: Float64, most: Float64) -> Float64:
    """Limit ``values`` like ``np.clip``, which is slower for few numbers, because it checks its arguments."""
    return np.minimum(np.maximum(values, least), most)
