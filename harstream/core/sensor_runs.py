"""Samples of one sensor of a device, on their way to those of the other sensor, in order of arrival."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from harstream.core.batches import Int64

ACC, GYRO = 0, 1
#: Sample of one sensor on its way to the other's.
SAMPLE = np.dtype(
    [
        ("t_ns", np.int64),  # event time
        ("progress_ns", np.int64),  # signal of the sensor up to the sample, since the row began
        ("piece", np.int64),  # number of restarts of the sensor, which begin its pieces
        ("message", np.int64),  # index into the messages that are now paired; -1: of an earlier one
        ("period_ns", np.float64),
        ("values", np.float32, (3,)),
        ("auto", np.bool_),  # unit of the accelerometer is not known
        ("overlapping", np.bool_),
    ]
)


@dataclass(frozen=True, slots=True)
class Run:
    """Samples of one sensor of one row that came before the next ones of the other sensor, and without a restart."""

    sensor: int  # ACC or GYRO
    order: int  # index of the first message
    restart: bool  # whether they do not continue the earlier ones
    auto: bool  # unit of the accelerometer is not known
    samples: npt.NDArray[Any]  # (n_samples,) of SAMPLE, without progress and piece

    @property
    def last_message(self) -> int:
        """Index of the last message."""
        return int(self.samples["message"][-1]) if len(self.samples) else self.order


def stretches(values: Int64) -> list[tuple[int, int]]:
    """Return begin and end of each stretch of equal values."""
    if not len(values):
        return []
    cuts = [0, *(np.flatnonzero(values[1:] != values[:-1]) + 1).tolist(), len(values)]
    return list(pairwise(cuts))


def in_order_of_arrival(runs: Sequence[Run]) -> Iterator[Run]:
    """Yield the runs of both sensors of a row, cut where a message of the other sensor came in between.

    Args:
        runs: Runs of the accelerometer in order, and of the gyroscope in order, not cut.

    """
    orders = [_orders(runs, sensor) for sensor in (ACC, GYRO)]
    parts: list[Run] = []
    for run in runs:
        # Of one message, the accelerometer comes first.
        message = run.samples["message"] + run.sensor
        since = np.searchsorted(orders[1 - run.sensor], message)
        if not len(since) or since[0] == since[-1]:  # the usual case
            parts.append(run)
            continue
        for k, (a, b) in enumerate(stretches(since)):
            samples = run.samples[a:b]
            order = run.order if not k else int(samples["message"][0])
            parts.append(Run(run.sensor, order, run.restart and not k, run.auto, samples))
    yield from sorted(parts, key=lambda run: (run.order, run.sensor))


def _orders(runs: Sequence[Run], sensor: int) -> Int64:
    """Return the messages of one sensor, sorted."""
    orders = [np.append(run.samples["message"], run.order) for run in runs if run.sensor == sensor]
    return np.sort(np.concatenate(orders)) if orders else np.zeros(0, np.int64)
