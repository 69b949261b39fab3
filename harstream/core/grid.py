"""The front half of the Engine: messages in, stretches of samples at the spec's rate out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from fractions import Fraction

import numpy as np

from harstream.core import resampling
from harstream.core.batches import Float32, Float64, Int64, SampleBatch
from harstream.core.resampling import Resampler
from harstream.core.rows import RowArrays
from harstream.core.spec import SignalSpec
from harstream.core.timeline import Accepted, Timeline

_UNCHANGED = Fraction(1)


@dataclass(frozen=True, slots=True)
class Stretch:
    """Consecutive samples of different rows, one row's after another's."""

    rows: Int64  # (n_rows,) each once
    counts: Int64  # (n_rows,)
    samples: Float32  # (n_samples, 6)
    t_ns: Int64  # (n_samples,) event time
    period_ns: Float64  # (n_samples,) to the next one
    message: Int64  # (n_samples,) the message that brought it
    up: Int64  # (n_rows,) grid samples per sample: up / down
    down: Int64  # (n_rows,)

    @property
    def first(self) -> Int64:
        return np.cumsum(self.counts) - self.counts


class Grid:
    """Every row's clock and resamplers: what Engine feeds its filters with, and loaders put recordings in order by."""

    def __init__(self, spec: SignalSpec, capacity: int) -> None:
        self.timeline = Timeline(spec, capacity)
        self.resamplers: dict[Fraction, Resampler] = {}
        self.samples_ratios = 0  # of a rate for which there was no room among MAX_RATIOS

    def parts(self) -> dict[str, RowArrays]:
        """Everything with state by row, by its name in a snapshot."""
        resamplers = {f"resampler {ratio.numerator}/{ratio.denominator}": r for ratio, r in self.resamplers.items()}
        return {"timeline": self.timeline, **resamplers}

    def forget(self, rows: Int64, left: Sequence[int]) -> None:
        """Forget ``rows``, and the resamplers that none of the rows ``left`` needs."""
        self.timeline.forget(rows)
        used = self.timeline.ratios(left)
        self.resamplers = {ratio: resampler for ratio, resampler in self.resamplers.items() if ratio in used}

    def feed(self, rows: Int64, batch: SampleBatch) -> tuple[Accepted, Iterator[tuple[Stretch, Int64]]]:
        """What is taken of each message, and its samples on the grid; ``rows`` gives each message its row.

        The samples come as stretches without a restart inside, each with the rows that it restarts; they
        must be taken before the next call.
        """
        accepted = self.timeline.feed(rows, batch)
        stretches = self._stretches(accepted, batch.samples)
        return accepted, ((self._resample(stretch, restart), restart) for stretch, restart in stretches)

    def _stretches(self, accepted: Accepted, samples: Float32) -> list[tuple[Stretch, Int64]]:
        """The accepted samples as stretches without a restart inside, and the rows that each one restarts.

        A row's second stretch comes after everybody's first. Nearly always there is only one.
        """
        if not len(accepted.row):
            return []
        order = np.argsort(accepted.row, kind="stable")
        row = accepted.row[order]
        new_row = np.concatenate([[True], row[1:] != row[:-1]])
        # How many restarts a row saw before: 0 for what continues, or opens with its first message.
        seen = np.cumsum(accepted.restart[order] & ~new_row)
        seen -= np.maximum.accumulate(np.where(new_row, seen, 0))
        return [self._stretch(accepted, order[seen == k], samples) for k in range(int(seen.max()) + 1)]

    def _stretch(self, accepted: Accepted, index: Int64, samples: Float32) -> tuple[Stretch, Int64]:
        """Join the messages at ``index`` (sorted by row), interpolating what is missing between them."""
        row, count, missing = accepted.row[index], accepted.count[index], accepted.missing[index]
        total = count + missing
        within = np.arange(total.sum()) - np.repeat(np.cumsum(total) - total, total)
        source = np.repeat(accepted.first[index] - missing, total) + within
        if not missing.any():
            joined = samples[source]
        else:
            bridged = within < np.repeat(missing, total)
            joined = samples[np.where(bridged, 0, source)]
            after = samples[np.repeat(accepted.first[index], total)[bridged]].astype(np.float64)
            before = np.repeat(accepted.bridge_from[index], total, axis=0)[bridged].astype(np.float64)
            part = (within[bridged] + 1) / np.repeat(missing + 1, total)[bridged]
            joined[bridged] = before + (after - before) * part[:, None]
        period = np.repeat(accepted.period_ns[index], total)
        step = np.rint(within * period).astype(np.int64)
        start = np.flatnonzero(np.concatenate([[True], row[1:] != row[:-1]]))
        rows = row[start]
        return Stretch(
            rows,
            np.add.reduceat(total, start),
            joined,
            np.repeat(accepted.t_ns[index], total) + step,
            period,
            np.repeat(accepted.message[index], total),
            accepted.up[index][start],
            accepted.down[index][start],
        ), rows[accepted.restart[index][start]]

    def _resample(self, stretch: Stretch, restart: Int64) -> Stretch:
        """The same stretch on the grid; rows already on it pass untouched."""
        up, down = stretch.up, stretch.down
        if (up == down).all():
            return stretch
        restarted = np.isin(stretch.rows, restart)
        parts = []
        for numerator, denominator in sorted(set(zip(up.tolist(), down.tolist(), strict=True))):
            group = np.flatnonzero((up == numerator) & (down == denominator))
            part = _select(stretch, group)
            ratio = Fraction(numerator, denominator)
            if ratio != _UNCHANGED:
                resampler = self.resampler(ratio)
                if resampler is None:
                    self.samples_ratios += len(part.samples)
                    continue
                resampler.restart(part.rows[restarted[group]])
                n_out, samples, newest, before = resampler.feed(part.rows, part.counts, part.samples)
                period = part.period_ns[newest]
                some = n_out > 0
                part = Stretch(
                    part.rows[some],
                    n_out[some],
                    samples,
                    part.t_ns[newest] - np.rint(before * period).astype(np.int64),
                    period * (denominator / numerator),
                    part.message[newest],
                    part.up[some],
                    part.down[some],
                )
            parts.append(part)
        return _join(parts) if parts else _select(stretch, np.zeros(0, np.int64))

    def resampler(self, ratio: Fraction) -> Resampler | None:
        """The resampler of a ratio, made when first asked for; None beyond MAX_RATIOS of them."""
        if ratio not in self.resamplers and len(self.resamplers) < resampling.MAX_RATIOS:
            self.resamplers[ratio] = Resampler(ratio, 6, self.timeline.capacity)
        return self.resamplers.get(ratio)


def _select(stretch: Stretch, group: Int64) -> Stretch:
    """The rows at ``group`` of a stretch, with their samples."""
    counts = stretch.counts[group]
    at = np.repeat(stretch.first[group] - (np.cumsum(counts) - counts), counts) + np.arange(counts.sum())
    return Stretch(
        stretch.rows[group],
        counts,
        stretch.samples[at],
        stretch.t_ns[at],
        stretch.period_ns[at],
        stretch.message[at],
        stretch.up[group],
        stretch.down[group],
    )


def _join(parts: list[Stretch]) -> Stretch:
    """Stretches of different rows as one."""
    return Stretch(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Stretch)))
