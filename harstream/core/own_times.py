"""Samples with a time each: another sensor's values at their times, and their cut into evenly spaced parts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from harstream.core.batches import Bool, Float32, Float64, Int64

#: Two samples further apart than this many sample periods have a gap between them, and belong to different parts.
GAP_PERIODS = 4.0
#: Times that are never further than so many periods from evenly spaced ones are taken as jitter, and not interpolated.
_EVEN = 0.25


@dataclass(frozen=True, slots=True)
class EvenPart:
    """Evenly spaced samples without a gap."""

    t_ns: int  # time of the first sample
    samples: Float32  # (n_samples, n_signals)


def interpolate_at(
    at_ns: Int64, t_ns: Int64, values: Float32, *, reach_ns: float, max_gap_ns: float = math.inf
) -> tuple[Float64, Bool]:
    """Return the values of one sensor at the times of another one, and where they are known.

    Between two samples the values are interpolated linearly, which keeps their time exact and changes nothing where
    the times coincide. Before the first and after the last sample the nearest one is held, for ``reach_ns``. The same
    holds on both sides of a gap of more than ``max_gap_ns``, in which nothing is known.

    Args:
        at_ns: Times of the other sensor, (n_times,).
        t_ns: Times of the samples, not decreasing, (n_samples,).
        values: The samples, (n_samples, n_signals).
        reach_ns: Longest time for which a sample is held.
        max_gap_ns: Longest time between two samples to interpolate over.

    Returns:
        Values (n_times, n_signals), and where they are known, (n_times,). Other values mean nothing.

    """
    if not len(at_ns) or not len(t_ns):
        return np.zeros((len(at_ns), values.shape[1])), np.zeros(len(at_ns), np.bool_)
    at, t = at_ns - at_ns[0], t_ns - at_ns[0]
    known: Bool = (at >= t[0] - reach_ns) & (at <= t[-1] + reach_ns)
    if not known.any():
        return np.zeros((len(at), values.shape[1])), known
    result = np.stack([np.interp(at, t, signal) for signal in values.T], axis=1)
    if max_gap_ns < math.inf and len(t) > 1 and (np.diff(t) > max_gap_ns).any():
        after = np.clip(np.searchsorted(t, at), 1, len(t) - 1)
        to_before, to_after = at - t[after - 1], t[after] - at
        in_gap = (t[after] - t[after - 1] > max_gap_ns) & (to_before > 0) & (to_after > 0)
        nearest = np.where(to_before <= to_after, after - 1, after)
        result[in_gap] = values[nearest[in_gap]]
        known &= ~in_gap | (np.minimum(to_before, to_after) <= reach_ns)
    return result, known


def in_order(t_ns: Int64, samples: Float32) -> tuple[Int64, Float32]:
    """Return samples by increasing time, (n_times,) and (n_times, n_signals). Of those at one time the first stays."""
    steps = np.diff(t_ns)
    if (steps > 0).all():
        return t_ns, samples
    times, first = np.unique(t_ns, return_index=True)
    return times, samples[first]


def even_parts(t_ns: Int64, samples: Float32) -> list[EvenPart]:
    """Cut samples at their gaps into evenly spaced parts.

    A part keeps its samples if its times are even but for jitter. Otherwise they are interpolated linearly at even
    times from its first to its last one: so many as fit by the median interval.

    Args:
        t_ns: Increasing times, (n_samples,), at least one.
        samples: (n_samples, n_signals).

    """
    if len(t_ns) == 1:
        return [EvenPart(int(t_ns[0]), samples)]
    steps = np.diff(t_ns)
    if _are_even(t_ns):  # the usual case
        return [EvenPart(int(t_ns[0]), samples)]
    period = float(np.median(steps))
    bounds = [0, *(np.flatnonzero(steps > GAP_PERIODS * period) + 1).tolist(), len(t_ns)]
    return [_even_part(t_ns[a:b], samples[a:b], period) for a, b in pairwise(bounds)]


def _even_part(t_ns: Int64, samples: Float32, period: float) -> EvenPart:
    """Return samples without a gap as an even part; ``period`` is the median interval of all of them."""
    span = float(t_ns[-1] - t_ns[0])
    if len(t_ns) == 1 or (_are_even(t_ns) and span < 1.5 * period * (len(t_ns) - 1)):
        return EvenPart(int(t_ns[0]), samples)
    count = max(round(span / period), 1) + 1
    at, t = np.linspace(0.0, span, count), (t_ns - t_ns[0]).astype(np.float64)
    even = np.stack([np.interp(at, t, signal) for signal in samples.T], axis=1)
    return EvenPart(int(t_ns[0]), even.astype(np.float32))


def _are_even(t_ns: Int64) -> bool:
    """Return whether increasing times are even but for jitter."""
    period = float(t_ns[-1] - t_ns[0]) / (len(t_ns) - 1)
    off = t_ns - t_ns[0] - np.arange(len(t_ns)) * period
    return bool(np.abs(off).max() <= _EVEN * period)
