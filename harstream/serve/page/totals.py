"""Totals of the daemon for the live page: rates, latencies, and devices by activity over time."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from harstream import __version__
from harstream.core.batches import Float64, Int64
from harstream.core.labels import UNKNOWN
from harstream.serve.status import DaemonStatus

#: Devices by activity are noted so often, and so many times.
TREND_STEP_S, TREND_POINTS = 10.0, 180
#: Span over which rates and latencies are taken.
RATE_SPAN_S, LATENCY_SPAN_S = 10.0, 60.0
_PERCENTILES = (50, 95, 99)


@dataclass(frozen=True, slots=True)
class _Sample:
    """Totals at one moment."""

    at_s: float  # monotonic
    labels: int
    samples: int
    latencies: Int64  # number of windows by bucket


class Totals:
    """Totals of the daemon during the last minutes. One thread uses it.

    Args:
        read_status: Returns a snapshot of the daemon.
        read_latencies: Returns the upper bounds of the buckets of the latency, and the number of windows in each.
        clock: Returns seconds since the epoch.
        read_input: Returns broker and topics of the samples.

    """

    def __init__(
        self,
        read_status: Callable[[], DaemonStatus],
        read_latencies: Callable[[], tuple[Float64, Int64]],
        clock: Callable[[], float],
        read_input: Callable[[], Mapping[str, Any]],
    ) -> None:
        self._read_status, self._read_latencies, self._clock = read_status, read_latencies, clock
        self._read_input = read_input
        self._samples: deque[_Sample] = deque()
        self._trend: deque[Mapping[str, int]] = deque(maxlen=TREND_POINTS)
        self.points = 0  # of the trend since the start
        self._last_point_s = 0.0  # seconds since the epoch
        self._next_point_s = -float("inf")  # monotonic
        self._bounds: Float64 = np.zeros(0)
        self.status = read_status()

    def sample(self, now_s: float) -> None:
        """Note the totals at the monotonic time ``now_s``."""
        self.status = status = self._read_status()
        self._bounds, counts = self._read_latencies()
        self._samples.append(_Sample(now_s, status.windows_classified, status.samples_received, counts))
        # The newest sample that is older than the span stays, so that the span is full.
        while len(self._samples) > 2 and self._samples[1].at_s <= now_s - LATENCY_SPAN_S:
            self._samples.popleft()
        if now_s >= self._next_point_s:
            # Without drift, and without several points at once after a pause.
            due_s = self._next_point_s if self.points else now_s
            self._next_point_s = max(due_s + TREND_STEP_S, now_s + TREND_STEP_S / 2)
            self._trend.append(_by_label(status))
            self._last_point_s = self._clock()
            self.points += 1

    def describe_daemon(self) -> dict[str, Any]:
        """Return state, model, version, and where the samples come from, as JSON."""
        status = self.status
        return {
            "version": __version__,
            "ready": status.ready,
            "state": status.state,
            "models": list(dict.fromkeys(f"{one.model} ({one.backend})" for one in status.sources)),
            **self._read_input(),
        }

    def describe(self) -> dict[str, Any]:
        """Return the totals as JSON, with the newest point of the trend."""
        status, newest = self.status, self._samples[-1]
        base = self._at_or_before(newest.at_s - RATE_SPAN_S)
        span_s = newest.at_s - base.at_s
        windows = newest.latencies - self._at_or_before(newest.at_s - LATENCY_SPAN_S).latencies
        return {
            **self.describe_daemon(),
            "time": self.time,
            "labels": _labels(status),
            "devices": status.devices,
            "devices_by_label": _by_label(status),
            "labels_per_s": round((newest.labels - base.labels) / span_s, 1) if span_s else None,
            "samples_per_s": round((newest.samples - base.samples) / span_s) if span_s else None,
            "latency_ms": {
                f"p{q}": None if (value := quantile(self._bounds, windows, q / 100)) is None else round(1e3 * value, 1)
                for q in _PERCENTILES
            },
            "messages_waiting": status.messages_waiting,
            "messages_dropped": status.messages_dropped,
            "point": {"number": self.points, "time": round(self._last_point_s), "counts": self._trend[-1]},
        }

    @property
    def time(self) -> float:
        """Time of the daemon, seconds since the epoch."""
        return round(self._clock(), 3)

    def trend(self) -> dict[str, Any]:
        """Return devices by activity over time as JSON: for each label a list of numbers, the newest last."""
        labels = {label: None for counts in self._trend for label in counts}
        return {
            "step_s": TREND_STEP_S,
            "points": TREND_POINTS,
            "number": self.points,
            "time": round(self._last_point_s),
            "counts": {label: [counts.get(label, 0) for counts in self._trend] for label in labels},
        }

    def _at_or_before(self, at_s: float) -> _Sample:
        """Return the newest sample that is at least as old as ``at_s``; the oldest if none is."""
        return next((sample for sample in reversed(self._samples) if sample.at_s <= at_s), self._samples[0])


def _labels(status: DaemonStatus) -> list[str]:
    """Return the labels that the models may publish, UNKNOWN last."""
    labels = dict.fromkeys(label for source in status.sources for label in source.labels)
    return [*(label for label in labels if label != UNKNOWN), UNKNOWN]


def _by_label(status: DaemonStatus) -> dict[str, int]:
    """Return the number of devices by their last label, of all sources."""
    counts: Counter[str] = Counter()
    for source in status.sources:
        counts.update(source.devices_by_label)
    return dict(counts)


def quantile(bounds: Float64, counts: Int64, q: float) -> float | None:
    """Return a quantile of a histogram, interpolated inside its bucket as Prometheus does; None if it is empty.

    Args:
        bounds: (n,) upper bounds of the buckets.
        counts: (n + 1,) values in each bucket, and above the last bound.
        q: From 0 to 1.

    """
    total = int(counts.sum())
    if not total:
        return None
    cumulative = np.cumsum(counts)
    bucket = int(np.searchsorted(cumulative, q * total))
    if bucket >= len(bounds):
        return float(bounds[-1])
    below = 0 if bucket == 0 else int(cumulative[bucket - 1])
    lower = 0.0 if bucket == 0 else float(bounds[bucket - 1])
    return lower + (float(bounds[bucket]) - lower) * (q * total - below) / max(int(counts[bucket]), 1)
