"""Samples with a time each: another sensor's values at their times, and their cut into evenly spaced parts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from harstream.core.batches import Bool, Float32, Float64, Int64

#: Two samples further apart than this many sample periods have a gap between them, and belong to different parts: where
#: the times are even but for what is missing, and where they are not.
_MISSING_PERIODS, GAP_PERIODS = 1.5, 4.0
#: One in so many steps may be a gap where times count as even but for what is missing.
_STEPS_PER_GAP = 4
#: Where more than one in so many steps is none, times are rounded, and samples are counted.
_STEPS_PER_TIE = 4
#: Coarsest resolution that is told from the digits of times, in ns.
_MAX_TICK_NS = 10**9
#: Times that are never further than so many periods from evenly spaced ones are taken as jitter, and not interpolated.
_EVEN = 0.25


@dataclass(frozen=True, slots=True)
class EvenPart:
    """Evenly spaced samples without a gap."""

    t_ns: int  # time of the first sample
    last_ns: int  # time of the last one
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
    """Return samples by time, (n_kept,) and (n_kept, n_signals), without those that are there twice.

    Of samples that have time and values in common, one stays. All others stay, also those at one time, in their order:
    their times are rounded. So are they where more than half of the samples would go.
    """
    if (np.diff(t_ns) > 0).all():  # the usual case
        return t_ns, samples
    order = np.argsort(t_ns, kind="stable")
    t_ns, samples = t_ns[order], samples[order]
    tied = np.diff(t_ns) == 0
    twice = tied & (samples[1:] == samples[:-1]).all(axis=1)
    if (twice == tied).all() and 2 * np.count_nonzero(twice) <= len(t_ns):
        keep = np.concatenate([[True], ~twice])
        return t_ns[keep], samples[keep]
    return t_ns, samples


def spread(t_ns: Int64) -> Int64:
    """Return times that do not decrease, (n_samples,), with those that are equal spread until the next time."""
    first = np.flatnonzero(np.concatenate([[True], np.diff(t_ns) > 0]))
    counts = np.diff(np.append(first, len(t_ns)))
    if len(first) in (1, len(t_ns)):
        return t_ns
    until_next = np.diff(t_ns[first])
    usual = float(np.median(until_next))
    step = np.minimum(np.append(until_next, usual), usual) / counts
    number = np.arange(len(t_ns)) - np.repeat(first, counts)
    times: Int64 = t_ns + np.floor(number * np.repeat(step, counts)).astype(np.int64)
    return times


def even_parts(t_ns: Int64, samples: Float32) -> list[EvenPart]:
    """Cut samples at their gaps into evenly spaced parts, so that a gap is one as between two messages.

    A part keeps its samples if its times are even but for jitter. So do the parts between samples that are missing, if
    these are few. Otherwise the times are irregular: a part is interpolated linearly at even times from its first to
    its last one, so many as fit by the median interval, and only a longer gap cuts it. Two samples alone do not tell
    how far samples are apart, so each is a part.

    Where times are rounded, so that several samples have the same, a part keeps its samples too; they are counted.

    Args:
        t_ns: Times, not decreasing, (n_samples,), at least one.
        samples: (n_samples, n_signals).

    """
    if len(t_ns) == 1:
        return [_part(t_ns, samples)]
    steps = np.diff(t_ns)
    if (steps == 0).any():
        return _rounded_parts(t_ns, steps, samples)
    if len(t_ns) == 2:
        return [_part(t_ns[:1], samples[:1]), _part(t_ns[1:], samples[1:])]
    if _are_even(t_ns):  # the usual case
        return [_part(t_ns, samples)]
    period = float(np.sort(steps)[(len(steps) - 1) // 2])  # the lower median: of two steps, one may be a gap
    gaps = np.flatnonzero(steps > _MISSING_PERIODS * period)
    if len(gaps) <= max(len(steps) // _STEPS_PER_GAP, 1):
        cut = _cut(t_ns, gaps)
        if all(b - a < 3 or _are_even(t_ns[a:b]) for a, b in cut):
            return [_part(t_ns[a:b], samples[a:b]) for a, b in cut]
    is_gap = steps > GAP_PERIODS * period
    period = max(float(np.median(steps[~is_gap])), period)  # no interval in a part may hold more than a few samples
    return [_even_part(t_ns[a:b], samples[a:b], period) for a, b in _cut(t_ns, np.flatnonzero(is_gap))]


def _cut(t_ns: Int64, gaps: Int64) -> list[tuple[int, int]]:
    """Return begin and end of each part; a gap is behind the sample of each index in ``gaps``."""
    return list(pairwise([0, *(gaps + 1).tolist(), len(t_ns)]))


def _part(t_ns: Int64, samples: Float32) -> EvenPart:
    return EvenPart(int(t_ns[0]), int(t_ns[-1]), samples)


def _even_part(t_ns: Int64, samples: Float32, period: float) -> EvenPart:
    """Return samples without a gap as an even part; ``period`` is the median interval of all of them."""
    span = float(t_ns[-1] - t_ns[0])
    if len(t_ns) == 1 or (_are_even(t_ns) and span < 1.5 * period * (len(t_ns) - 1)):
        return _part(t_ns, samples)
    count = max(round(span / period), 1) + 1
    at, t = np.linspace(0.0, span, count), (t_ns - t_ns[0]).astype(np.float64)
    even = np.stack([np.interp(at, t, signal) for signal in samples.T], axis=1)
    return EvenPart(int(t_ns[0]), int(t_ns[-1]), even.astype(np.float32))


def _rounded_parts(t_ns: Int64, steps: Int64, samples: Float32) -> list[EvenPart]:
    """Return the parts of samples of which several have the same time."""
    tick = _MAX_TICK_NS
    while (t_ns % tick).any():
        tick //= 10
    changes = np.sort(steps[steps > 0])
    if len(changes) > 2:
        tick = max(tick, int(changes[(len(changes) - 1) // 2]))
    gaps = np.flatnonzero(steps > max(GAP_PERIODS * float(np.median(steps)), 2 * tick))
    if _STEPS_PER_TIE * (len(steps) - len(changes)) <= len(steps):  # only a few times are equal
        apart = spread(t_ns)
        if (np.diff(apart) > 0).all():
            return even_parts(apart, samples)
    return [_counted_part(t_ns[a:b], samples[a:b]) for a, b in _cut(t_ns, gaps)]


def _counted_part(t_ns: Int64, samples: Float32) -> EvenPart:
    """Return samples whose times are rounded down. The samples at which they change tell the time of the first one."""
    changes = np.flatnonzero(np.diff(t_ns)) + 1
    if len(changes) < 2:
        return _part(t_ns, samples)
    period = float(t_ns[changes[-1]] - t_ns[changes[0]]) / float(changes[-1] - changes[0])
    first_ns = int(t_ns[changes[0]]) - round(period * int(changes[0]))
    return EvenPart(max(first_ns, int(t_ns[0])), int(t_ns[-1]), samples)


def _are_even(t_ns: Int64) -> bool:
    """Return whether increasing times are even but for jitter."""
    period = float(t_ns[-1] - t_ns[0]) / (len(t_ns) - 1)
    off = t_ns - t_ns[0] - np.arange(len(t_ns)) * period
    return bool(np.abs(off).max() <= _EVEN * period)
