"""Pairing of the two sensors of a device that come in messages of their own: samples that have both, by event time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from harstream.core.batches import Float32, Int64
from harstream.core.matching import DROP, PAIR, WAIT, Match, match
from harstream.core.rows import RowArrays
from harstream.core.sensor_runs import ACC, GYRO, SAMPLE, Run, stretches

#: Signal after which a sample no longer waits for the other sensor: from it to the first sample of a later message of
#: its own sensor.
WAIT_NS = 10_000_000_000
#: The same, from it to the newest sample, which limits what waits of long messages.
LONGEST_WAIT_NS = 120_000_000_000
#: Signal of one sensor without any message of the other, after which that is missing.
MISSING_NS = 30_000_000_000
#: Signal for which the gyroscope is kept longer than it waits, since its samples before and after are needed.
_MARGIN_NS = 1_000_000_000
#: Grid periods by which the time of a sample may be before that of an earlier one, where its clock was corrected.
_STEP_BACK = 8

_NONE = np.zeros(0, SAMPLE)


@dataclass(slots=True)
class PairedSegment:
    """Samples of one row with both sensors, without interruption."""

    restart: bool = False  # they do not continue the earlier ones
    acc: list[npt.NDArray[Any]] = field(default_factory=list)  # of SAMPLE; ``message`` is the one that completed it
    gyro: list[Float32] = field(default_factory=list)  # (n_samples, 3) of each part
    # Problems found before them: text for people, and whether it is another one than last.
    problems: list[tuple[str, bool]] = field(default_factory=list)


@dataclass(slots=True)
class PairingStats:
    """Totals over all devices, in samples of the grid."""

    no_gyroscope: int = 0  # of the accelerometer: dropped, because the gyroscope has none at their time, or not in time
    late_gyroscope: int = 0  # of the gyroscope: came too late
    no_accelerometer: int = 0  # of the gyroscope: dropped, because no accelerometer came in time
    late_accelerometer: int = 0  # of the accelerometer: dropped, because they came too late


class Pairing(RowArrays):
    """Samples of both sensors of each row that wait for the other sensor.

    A sample of the accelerometer is paired as soon as the gyroscope has reached its time. It is dropped as soon as the
    gyroscope has gone on without having been there: in a gap, or before it began. Otherwise it waits. The waiting ends
    when its own sensor has sent WAIT_NS more. So which samples are paired depends on event time only, and not on the
    order of arrival, as long as that differs from the order of event time by no more than WAIT_NS.

    The age of what waits is counted in the *signal* of its own sensor: time without pauses and jumps of the clock. A
    clock that jumps thus makes nothing late. While the accelerometer's clock has been set back and the gyroscope's has
    not, or the other way round, samples wait if the two clocks are further apart than WAIT_NS.
    """

    ROW_ARRAYS = (
        "piece",
        "progress_ns",
        "front_ns",
        "last_ns",
        "other_ns",
        "began",
        "repeats",
        "set_backs",
        "auto",
        "told",
        "paired",
        "decided_ns",
        "given_up_ns",
        "forgotten_ns",
    )

    def __init__(self, period_ns: float, capacity: int) -> None:
        self.period_ns = period_ns
        self.stats = PairingStats()
        # By row and sensor.
        self.piece = np.zeros((capacity, 2), np.int64)  # number of restarts
        self.progress_ns = np.zeros((capacity, 2), np.int64)  # signal so far
        self.front_ns = np.zeros((capacity, 2), np.int64)  # signal so far at the first sample of the newest message
        self.last_ns = np.zeros((capacity, 2), np.int64)  # latest time in the present piece
        self.other_ns = np.zeros((capacity, 2), np.int64)  # signal so far when the other sensor was there last
        self.began = np.zeros((capacity, 2), np.bool_)  # whether the present piece has a sample
        self.repeats = np.zeros((capacity, 2), np.bool_)  # whether it has not gone beyond the one before yet
        self.set_backs = np.zeros((capacity, 2), np.int64)  # pieces that began WAIT_NS before the end of the one before
        # By row.
        self.auto = np.zeros(capacity, np.bool_)  # whether the unit of the accelerometer is not known
        self.told = np.zeros(
            capacity, np.int8
        )  # kind of the problem that was noted last, _LATE_GYRO and so on; 0: none
        self.paired = np.zeros(
            (capacity, 2), np.int64
        )  # pieces of the last sample, if the next may continue it, else 0
        self.decided_ns = np.zeros(capacity, np.int64)  # time of the last sample that was paired or dropped
        self.given_up_ns = np.zeros(capacity, np.int64)  # time of the last sample that has waited too long
        self.forgotten_ns = np.zeros(capacity, np.int64)  # time of the last one of the gyroscope that was forgotten
        self._waiting: tuple[dict[int, npt.NDArray[Any]], ...] = ({}, {})  # by sensor and row: samples in order

    def n_waiting(self, row: int) -> tuple[int, int]:
        """Return the number of samples of accelerometer and gyroscope that are kept of a row."""
        return len(self._waiting[ACC].get(row, _NONE)), len(self._waiting[GYRO].get(row, _NONE))

    # --- steps --------------------------------------------------------------------------------

    def feed(self, row: int, runs: Sequence[Run], begin_ns: Int64) -> list[PairedSegment]:
        """Take samples of a row in order of arrival, and return those that have both sensors.

        Args:
            row: The row.
            runs: Its samples.
            begin_ns: Time of the first sample of each message to which the runs refer, (n_messages,).

        """
        for waiting in self._waiting:
            if row in waiting:
                waiting[row]["message"] = -1
        out = [PairedSegment()]
        for run in runs:
            late = self._add(row, run, begin_ns)
            if run.sensor == GYRO:
                self._note_late_gyro(row, late, out)
            self._settle(row, run, out)
            if run.sensor == GYRO:
                self._forget_gyro(row)
            self._note_missing(row, run.sensor, out)
        return out

    def _add(self, row: int, run: Run, begin_ns: Int64) -> npt.NDArray[Any]:
        """Put samples behind those that wait, and return them.

        A restart by which times are said again, by less than WAIT_NS, brings nothing new of them. What a sensor has
        told of a time therefore stands, and the samples up to there are dropped.
        """
        at = row, run.sensor
        samples = run.samples
        if run.restart:
            self.piece[at] += 1
            self.began[at] = False
            if run.sensor == ACC:
                self.auto[row] = run.auto
        if not len(samples):
            return samples
        t_ns = samples["t_ns"]
        if not self.began[at]:
            self.began[at] = True
            back_ns = self.last_ns[at] - t_ns[0] if self.piece[at] > 1 else 0
            self.repeats[at] = 0 <= back_ns < WAIT_NS and self.piece[at] > 1
            if not self.repeats[at]:
                self.last_ns[at] = t_ns[0]
            if back_ns >= WAIT_NS:
                self.set_backs[at] += 1
                self.given_up_ns[row] = self.decided_ns[row] = 0
                if run.sensor == GYRO:
                    self.forgotten_ns[row] = 0
        latest = np.maximum(np.maximum.accumulate(t_ns), self.last_ns[at])
        if self.repeats[at]:
            new = latest > self.last_ns[at]
            self._count_late(run.sensor, int(np.count_nonzero(~new)))
            if not new.any():
                return _NONE
            samples, latest = samples[new], latest[new]
            self.repeats[at] = False
        progress = self.progress_ns[at] + (latest - self.last_ns[at])
        front = progress + (begin_ns[samples["message"]] - latest)
        if run.sensor == GYRO:
            samples["t_ns"] = latest
        samples["progress_ns"], samples["piece"] = progress, self.piece[at]
        samples["auto"] = self.auto[row]
        self.progress_ns[at], self.last_ns[at] = progress[-1], latest[-1]
        self.front_ns[at] = max(int(self.front_ns[at]), int(front.max()))
        self.other_ns[row, 1 - run.sensor] = self.progress_ns[row, 1 - run.sensor]
        waiting = self._waiting[run.sensor]
        waiting[row] = np.concatenate([waiting[row], samples]) if row in waiting else samples
        return samples

    def _count_late(self, sensor: int, n: int) -> None:
        if sensor == ACC:
            self.stats.late_accelerometer += n
        else:
            self.stats.late_gyroscope += n

    def _settle(self, row: int, run: Run, out: list[PairedSegment]) -> None:
        """Pair and drop what need not wait any longer."""
        while (queue := self._waiting[ACC].get(row)) is not None:
            piece = queue["piece"]
            head = queue[: int(np.searchsorted(piece, piece[0], side="right"))]
            gyro = self._waiting[GYRO].get(row, _NONE)
            if self._only_waits(row, queue, gyro):  # the usual case while the gyroscope's next message is on its way
                return
            found = match(head["t_ns"], gyro, self.period_ns, WAIT_NS)
            waits = np.flatnonzero(found.state == WAIT)
            decided = int(waits[0]) if len(waits) else len(head)
            if not decided:
                decided = self._end_waiting(row, queue, len(head), gyro, found, run)
                if not decided:
                    return
            self._take(row, head[:decided], found, run, out)
            self._drop_first(ACC, row, decided)
            self._consume(row, found, decided, int(head["t_ns"][decided - 1]))

    def _waited_ns(self, row: int) -> int:
        """Return the signal of the accelerometer up to which samples have waited long enough."""
        return max(int(self.front_ns[row, ACC]) - WAIT_NS, int(self.progress_ns[row, ACC]) - LONGEST_WAIT_NS)

    def _only_waits(self, row: int, queue: npt.NDArray[Any], gyro: npt.NDArray[Any]) -> bool:
        """Return whether all samples wait, as far as that is told at once."""
        oldest, last = queue[0], queue[-1]
        if oldest["piece"] != last["piece"] or oldest["progress_ns"] < self._waited_ns(row):
            return False
        if not len(gyro):
            return True
        return bool(gyro["piece"][0] == gyro["piece"][-1] and oldest["t_ns"] > gyro["t_ns"][-1])

    def _end_waiting(
        self, row: int, queue: npt.NDArray[Any], n_head: int, gyro: npt.NDArray[Any], found: Match, run: Run
    ) -> int:
        """Decide what has waited too long at the head of the queue, and return how many samples are decided."""
        head = queue[:n_head]
        end_ns = gyro["t_ns"][-1] if len(gyro) else None
        over = (head["progress_ns"] < self._waited_ns(row)) & (found.state == WAIT)
        was_set_back = n_head < len(queue) and queue["t_ns"][n_head] < head["t_ns"][-1]
        if was_set_back and end_ns is not None and self.set_backs[row, GYRO] >= self.set_backs[row, ACC]:
            # Both clocks have been set back since, so nothing more will come of that time.
            over |= (found.state == WAIT) & (head["t_ns"] > end_ns)
        n = n_head if over.all() else int(np.argmin(over))
        if not n:
            return 0
        found.state[:n] = DROP
        if end_ns is not None:  # as at every end, the last sample holds for half a period
            held = np.flatnonzero((head["t_ns"][:n] > end_ns) & (head["t_ns"][:n] <= end_ns + 0.5 * self.period_ns))
            found.state[held], found.values[held] = PAIR, gyro["values"][-1]
            found.piece[held] = gyro["piece"][-1]
            found.message[held] = run.last_message
        if (found.state[:n] == DROP).any():
            self.given_up_ns[row] = head["t_ns"][:n][found.state[:n] == DROP][-1]
        return n

    def _take(self, row: int, samples: npt.NDArray[Any], found: Match, run: Run, out: list[PairedSegment]) -> None:
        """Add paired samples to the segments, and count dropped ones."""
        state = found.state[: len(samples)]
        last = run.last_message
        # Parts with one outcome: dropped, or paired with one piece.
        outcome = np.where(state == PAIR, found.piece[: len(samples)], 0)
        for a, b in stretches(outcome):
            part = samples[a:b]
            if not outcome[a]:
                late = int(np.count_nonzero(part["t_ns"] <= self.forgotten_ns[row])) if self.forgotten_ns[row] else 0
                self.stats.late_accelerometer += late
                self.stats.no_gyroscope += b - a - late
                self.paired[row] = 0
                if late:
                    behind_s = (self.last_ns[row, GYRO] - part["t_ns"][-1]) / 1e9
                    self._note(row, out, _LATE_ACC, _LATE.format("accelerometer", behind_s, "gyroscope", WAIT_NS / 1e9))
                continue
            pieces = int(part["piece"][0]), int(outcome[a])
            if pieces != tuple(self.paired[row].tolist()):
                self.paired[row] = pieces
                out.append(PairedSegment(restart=True))
            message = np.maximum(part["message"], found.message[a:b])
            # Both samples may be of earlier calls, where only this run told that nothing comes between them.
            part["message"] = np.where(message < 0, last, message)
            out[-1].acc.append(part)
            out[-1].gyro.append(found.values[a:b])

    def _consume(self, row: int, found: Match, decided: int, until_ns: int) -> None:
        """Forget the gyroscope before the last decided sample of the accelerometer."""
        self.decided_ns[row] = until_ns
        paired = np.flatnonzero(found.state[:decided] == PAIR)
        if not len(paired):
            return
        gyro, piece = self._waiting[GYRO][row], found.piece[paired[-1]]
        begin = int(np.searchsorted(gyro["piece"], piece))
        end = int(np.searchsorted(gyro["piece"], piece, side="right"))
        before_ns = until_ns - _STEP_BACK * self.period_ns
        used = int(np.searchsorted(gyro["t_ns"][begin:end], before_ns, "right")) - 1
        self._drop_first(GYRO, row, begin + max(used, 0))

    def _forget_gyro(self, row: int) -> None:
        """Forget what is kept too long of the gyroscope."""
        gyro = self._waiting[GYRO].get(row)
        if gyro is None:
            return
        front_ns = max(self.front_ns[row, GYRO] - WAIT_NS, self.progress_ns[row, GYRO] - LONGEST_WAIT_NS)
        n = int(np.searchsorted(gyro["progress_ns"], front_ns - _MARGIN_NS))
        if n:
            self.stats.no_accelerometer += int(np.count_nonzero(gyro["t_ns"][:n] > self.decided_ns[row]))
            self.forgotten_ns[row] = gyro["t_ns"][n - 1]
            self._drop_first(GYRO, row, n)

    def _drop_first(self, sensor: int, row: int, n: int) -> None:
        waiting = self._waiting[sensor]
        if n == len(waiting[row]):
            del waiting[row]
        elif n:
            waiting[row] = waiting[row][n:].copy()  # the rest only, not what it was part of

    # --- problems -----------------------------------------------------------------------------

    def _note_late_gyro(self, row: int, samples: npt.NDArray[Any], out: list[PairedSegment]) -> None:
        """Count samples of the gyroscope for which the accelerometer has waited in vain."""
        late = int(np.count_nonzero(samples["t_ns"] <= self.given_up_ns[row]))
        if late and self.given_up_ns[row]:
            self.stats.late_gyroscope += late
            behind_s = (self.last_ns[row, ACC] - samples["t_ns"][-1]) / 1e9
            self._note(row, out, _LATE_GYRO, _LATE.format("gyroscope", behind_s, "accelerometer", WAIT_NS / 1e9))

    def _note_missing(self, row: int, sensor: int, out: list[PairedSegment]) -> None:
        """Note that no message of the other sensor came for long."""
        since_ns = self.progress_ns[row, sensor] - self.other_ns[row, sensor]
        if since_ns > MISSING_NS:
            here, other = ("accelerometer", "gyroscope") if sensor == ACC else ("gyroscope", "accelerometer")
            kind = _NO_GYRO if sensor == ACC else _NO_ACC
            self._note(row, out, kind, _MISSING.format(other, since_ns / 1e9, here))

    def _note(self, row: int, out: list[PairedSegment], kind: int, detail: str) -> None:
        """Note a problem before the next samples."""
        if out[-1].acc:
            out.append(PairedSegment())
        out[-1].problems.append((detail, self.told[row] != kind))
        self.told[row] = kind

    # --- state --------------------------------------------------------------------------------

    def reset(self, rows: Int64) -> None:
        """Forget the devices of ``rows``."""
        super().reset(rows)
        for waiting in self._waiting:
            for row in rows.tolist() if waiting else ():
                waiting.pop(row, None)

    def keep(self, rows: Int64, capacity: int) -> None:
        """Make the state of ``rows`` that of the first rows, forget all others, and have room for ``capacity`` rows."""
        super().keep(rows, capacity)
        new_rows = {row: new_row for new_row, row in enumerate(rows.tolist())}
        kept = (
            {new_rows[row]: samples for row, samples in waiting.items() if row in new_rows} for waiting in self._waiting
        )
        self._waiting = tuple(kept)

    def snapshot(self, rows: Int64) -> dict[str, npt.NDArray[Any]]:
        """Return a copy of the state of ``rows``, by the names in ROW_ARRAYS, and of the samples that wait."""
        state = super().snapshot(rows)
        for sensor, waiting in zip(("acc", "gyro"), self._waiting, strict=True):
            samples = [waiting.get(row, _NONE) for row in rows.tolist()]
            state[f"{sensor}_counts"] = np.array([len(some) for some in samples], np.int64)
            joined = np.concatenate([_NONE, *samples])
            for name in SAMPLE.names or ():
                if name != "message":  # it means nothing later
                    state[f"{sensor}_{name}"] = np.ascontiguousarray(joined[name])
        return state

    def restore(self, rows: Int64, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Write the first entries of the state that ``snapshot`` returned into ``rows``.

        Raises:
            ValueError: An array of ``state`` has another type or shape than it must have.

        """
        super().restore(rows, state)
        for sensor, waiting in zip(("acc", "gyro"), self._waiting, strict=True):
            counts = state[f"{sensor}_counts"]
            samples = np.zeros(int(counts.sum()), SAMPLE)
            samples["message"] = -1
            for name in SAMPLE.names or ():
                if name == "message":
                    continue
                given = state[f"{sensor}_{name}"]
                if given.shape != samples[name].shape or given.dtype != samples[name].dtype:
                    raise ValueError(
                        f"{sensor}_{name}: got {given.dtype} {given.shape}, expected {samples[name].dtype} "
                        f"{samples[name].shape}"
                    )
                samples[name] = given
            ends = np.cumsum(counts)
            for row, begin, end in zip(rows.tolist(), (ends - counts).tolist(), ends.tolist(), strict=False):
                if end > begin:
                    waiting[row] = samples[begin:end].copy()


#: Kinds of problems.
_LATE_GYRO, _LATE_ACC, _NO_GYRO, _NO_ACC = 1, 2, 3, 4
_LATE = (
    "its {} comes late: {:.1f} s after its {}, by their times, and at most {:g} s are waited for; send both sensors as "
    "often, with times of the same clock"
)
_MISSING = (
    "its {} is missing: nothing of it came that can be used, in {:.0f} s of its {}; without both there are no labels: "
    "send both, or use a model that needs no gyroscope"
)
