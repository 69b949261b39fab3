"""First half of an Engine for devices whose accelerometer and gyroscope come in messages of their own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from harstream.core.accepted import AcceptedSamples
from harstream.core.batches import Bool, Float64, Int64, SampleBatch, Sensor
from harstream.core.grid import Grid, GridSamples, Restarts
from harstream.core.health import HealthTable
from harstream.core.pairing import PairedSegment, Pairing
from harstream.core.problems import Problem
from harstream.core.rows import RowArrays
from harstream.core.sensor_runs import ACC, GYRO, SAMPLE, Run, in_order_of_arrival
from harstream.core.spec import SignalSpec
from harstream.core.timeline import Timeline, TimelineStats

_GYRO = "gyro "  # before the names of the parts of the gyroscope


class PairedGrid:
    """Two grids, each with clocks and resamplers of one sensor, and the pairing of their samples.

    It is used like a `Grid`. Each sensor has its own clock and rate, and what its grid makes does not depend on the
    other. A message with both sensors goes through both grids.
    """

    def __init__(self, spec: SignalSpec, capacity: int, health: HealthTable) -> None:
        health.gyro = HealthTable(capacity)
        self._health = health
        self._acc = Grid(spec, capacity, health)
        self._gyro = Grid(spec, capacity, health.gyro)
        self.pairing = Pairing(spec.period_ns, capacity)

    @property
    def timeline(self) -> Timeline:
        """Event time of the accelerometer, which is that of the windows."""
        return self._acc.timeline

    @property
    def stats(self) -> TimelineStats:
        """Totals of both sensors."""
        acc, gyro = self._acc.stats, self._gyro.stats
        return TimelineStats(
            acc.samples_late + gyro.samples_late,
            acc.samples_rate + gyro.samples_rate,
            acc.gaps + gyro.gaps,
            acc.restarts + gyro.restarts,
            acc.rates_measured + gyro.rates_measured,
        )

    def last_arrival_s(self, rows: Int64) -> Float64:
        """Return when the newest message of each row arrived (n_rows,)."""
        return np.asarray(np.maximum(self._acc.last_arrival_s(rows), self._gyro.last_arrival_s(rows)))

    def parts(self) -> dict[str, RowArrays]:
        """Return the objects with state by row, by their name in a snapshot."""
        assert self._health.gyro is not None
        gyro = {_GYRO + name: part for name, part in self._gyro.parts().items()}
        return {**self._acc.parts(), **gyro, _GYRO + "health": self._health.gyro, "pairing": self.pairing}

    def make_parts(self, names: Iterable[str]) -> None:
        """Make the resamplers among the names of parts."""
        names = list(names)
        self._acc.make_parts(names)
        self._gyro.make_parts(name.removeprefix(_GYRO) for name in names if name.startswith(_GYRO))

    def evict(self, rows: Int64, remaining: Int64, pending: AcceptedSamples | None) -> None:
        """Forget ``rows``, and what the resamplers keep of rows that use them no more; see `Grid.evict`."""
        assert self._health.gyro is not None
        self._acc.evict(rows, remaining, pending)
        self._gyro.evict(rows, remaining, pending)
        self._health.gyro.reset(rows)
        self.pairing.reset(rows)

    def accept(self, rows: Int64, batch: SampleBatch) -> AcceptedSamples:
        """Return the samples that are accepted of each message, those of both sensors in order of arrival."""
        sensor = batch.sensors
        acc = self._accept(self._acc, rows, batch, sensor != Sensor.GYRO)
        stated = replace(batch, acc_unit_auto=np.zeros(len(batch), np.bool_))  # the unit of a gyroscope always is
        return acc.merged_with(self._accept(self._gyro, rows, stated, sensor != Sensor.ACC))

    @staticmethod
    def _accept(grid: Grid, rows: Int64, batch: SampleBatch, has_sensor: Bool) -> AcceptedSamples:
        part = replace(batch.select(has_sensor), sensor=None)
        accepted = grid.accept(rows[has_sensor], part)
        return replace(accepted, order=np.flatnonzero(has_sensor)[accepted.order])

    def place(self, accepted: AcceptedSamples) -> Iterator[tuple[GridSamples, Restarts]]:
        """Bring accepted samples onto the grid, and yield those that have both sensors; see `Grid.place`.

        The index of the message, plus the number of messages where two devices seem to send the samples, is that of the
        message with which a sample got both sensors.
        """
        runs: dict[int, list[Run]] = {}
        for sensor, grid, columns in ((ACC, self._acc, slice(0, 3)), (GYRO, self._gyro, slice(3, 6))):
            messages, index = accepted.of_sensor(bool(sensor))
            for row, run in _runs(sensor, grid.place(messages), messages, index, columns):
                runs.setdefault(row, []).append(run)
        segments = {
            row: self.pairing.feed(row, list(in_order_of_arrival(some)), accepted.t_ns) for row, some in runs.items()
        }
        for k in range(max(map(len, segments.values()), default=0)):
            part = {row: some[k] for row, some in segments.items() if k < len(some)}
            for row, segment in part.items():
                for detail, is_another in segment.problems:
                    tell = self._health.note if is_another else self._health.begin
                    tell(row, Problem.GYROSCOPE, detail)
            filled = {row: segment for row, segment in part.items() if segment.acc}
            if filled:
                yield _join(filled, len(accepted))
        rows = np.array(list(runs), np.int64)
        if len(rows):
            self._gyro.timeline.jumps.end_recent(rows)

    def arrivals(self, accepted: AcceptedSamples) -> tuple[Float64, Bool]:
        """Return arrival time, and whether two devices send, by the index of a message that ``place`` yields."""
        overlapping = np.zeros(2 * len(accepted), np.bool_)
        overlapping[len(accepted) :] = True
        return np.tile(accepted.arrival_s, 2), overlapping


def _runs(
    sensor: int,
    placed: Iterator[tuple[GridSamples, Restarts]],
    messages: AcceptedSamples,
    index: Int64,
    columns: slice,
) -> Iterator[tuple[int, Run]]:
    """Yield the row and the samples of each row and restart; ``index`` has the messages of ``messages`` among all."""
    for grid_samples, restarting in placed:
        samples = np.zeros(len(grid_samples.t_ns), SAMPLE)
        message = grid_samples.message
        samples["t_ns"], samples["period_ns"] = grid_samples.t_ns, grid_samples.period_ns
        samples["message"], samples["values"] = index[message], grid_samples.samples[:, columns]
        samples["overlapping"] = messages.overlapping[message]
        orders, autos = index[restarting.message].tolist(), restarting.acc_unit_auto.tolist()
        restarts = dict(zip(restarting.rows.tolist(), zip(orders, autos, strict=True), strict=True))
        first, counts = grid_samples.first.tolist(), grid_samples.counts.tolist()
        for row, begin, count in zip(grid_samples.rows.tolist(), first, counts, strict=True):
            part = samples[begin : begin + count]
            order, auto = restarts.get(row, (int(part["message"][0]), False))
            yield row, Run(sensor, order, row in restarts, auto, part)
            restarts.pop(row, None)
        for row, (order, auto) in restarts.items():  # a resampler has no output at first
            yield row, Run(sensor, order, True, auto, samples[:0])


def _join(segments: dict[int, PairedSegment], n_messages: int) -> tuple[GridSamples, Restarts]:
    """Return the samples of one segment of each row, and the rows that restart."""
    parts = [np.concatenate(segment.acc) for segment in segments.values()]
    acc = np.concatenate(parts)
    gyro = np.concatenate([part for segment in segments.values() for part in segment.gyro])
    rows, ones = np.array(list(segments), np.int64), np.ones(len(segments), np.int64)
    message = acc["message"] + np.where(acc["overlapping"], n_messages, 0)
    counts = np.array([len(part) for part in parts], np.int64)
    first = np.cumsum(counts) - counts
    samples = GridSamples(
        rows,
        counts,
        np.concatenate([acc["values"], gyro], axis=1),
        np.ascontiguousarray(acc["t_ns"]),
        np.ascontiguousarray(acc["period_ns"]),
        message,
        ones,
        ones,
    )
    restarts = np.array([segment.restart for segment in segments.values()], np.bool_)
    return samples, Restarts(rows[restarts], message[first[restarts]], acc["auto"][first[restarts]])
