"""Samples in a text file with a column for each value: csv, whoever wrote it.

What differs between programs is found out: separator, decimal comma, quotes, order and names of the columns, units and
form of the times. A row that cannot be used is a gap: it is left out and counted under a reason.
"""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time
from itertools import islice, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from harstream import interruption
from harstream.core.batches import Bool, Float32, Float64, Int64
from harstream.core.plausibility import ACC_UNIT_NAMES, acc_unit
from harstream.datasets.columns import Columns, read_header
from harstream.errors import DatasetError
from harstream.wire.samples import ACC_UNITS, MAX_MAGNITUDE
from harstream.wire.times import guess_unit

#: Reasons why a row is left out.
OTHER_FIELDS = "another number of fields than the header"
NO_NUMBER = "no number where one belongs"
OUT_OF_RANGE = "a value out of range"
OUT_OF_ORDER = "a time stamp out of order"
NO_SUBJECT = "no subject where other rows have one"
#: Time since which a stamp that is older than the one before it begins another session: the clock was set.
SESSION_S = 0.5
#: What stands for no label, in small letters.
NO_LABEL = frozenset({"", "na", "n/a", "nan", "null", "none", "-", "?"})

#: Rows that are parsed at once. The number limits the memory in use.
_BLOCK_ROWS = 65_536
#: Larger values are limited to this one, which float32 can hold; they are out of range in any unit.
_CLIP = 1e12
#: Samples of a stretch that shows the unit of accelerations: as many, or at least as many as the second number.
_UNIT_SAMPLES, _MIN_UNIT_SAMPLES = 128, 50

_Index = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Table:
    """The samples of one subject in a file, in the order of their rows."""

    t_ns: Int64  # (n_samples,) time since the first sample
    samples: Float32  # (n_samples, 6) acc in g and gyro in rad/s; (n_samples, 3) without gyroscope
    label: _Index  # (n_samples,) index into ``labels``
    labels: tuple[str, ...]  # the first is empty: not known
    sessions: tuple[slice, ...]  # of samples between two settings of the clock; time increases within each
    subject: str | None  # from a column; None: there is no such column, or it is empty


@dataclass(slots=True)
class LeftOut:
    """Rows that are left out: their number, and the first one, by reason."""

    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)

    def add(self, reason: str, count: int, case: str) -> None:
        """Count rows; ``case`` describes the first of them."""
        if count:
            self.counts[reason] += count
            self.first.setdefault(reason, case)

    def __str__(self) -> str:
        return ", ".join(f"{count:,} with {reason} ({self.first[reason]})" for reason, count in self.counts.items())


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of one file. Unless the header states their unit, accelerations are as in the file."""

    where: str  # path of the file
    columns: Columns
    n: int  # rows of the file, without empty ones and header
    t_s: Float64  # (n_rows,)
    samples: Float32  # (n_rows, 3 or 6)
    label: _Index  # (n_rows,) index into ``labels``
    labels: tuple[str, ...]  # the first is empty: not known
    subject: _Index  # (n_rows,) index into ``subjects``
    subjects: tuple[str, ...]  # the first is empty: not known
    line: _Index  # (n_rows,) number of the line in the file
    left_out: LeftOut
    decimal_comma: bool
    time_unit: str  # of the time stamps; empty: they are dates or times of day

    @property
    def acc_unit(self) -> str | None:
        """Unit of the accelerations that most stretches show by gravity, or that is stated; None: neither."""
        if "a" in self.columns.units:
            return self.columns.units["a"]
        length = min(_UNIT_SAMPLES, len(self.samples))
        if length < _MIN_UNIT_SAMPLES:
            return None
        n = len(self.samples) // length
        found = acc_unit(self.samples[: n * length, :3].reshape(n, length, 3))
        votes = np.bincount(found[found >= 0], minlength=len(ACC_UNIT_NAMES))
        return ACC_UNIT_NAMES[int(votes.argmax())] if votes.any() else None

    def tables(self, unit: str | None) -> list[Table]:
        """Return the samples of each subject. What cannot be used is added to ``left_out``.

        Args:
            unit: Of the accelerations, if the header states none; None: g.

        Raises:
            DatasetError: No two rows can be used, or most stamps are the same.

        """
        samples = self.samples
        if "a" not in self.columns.units and unit is not None:
            samples = samples.copy()
            samples[:, :3] *= np.float32(ACC_UNITS[unit])
        small = np.abs(samples) <= MAX_MAGNITUDE
        usable = small.all(axis=1)
        self._leave_out(OUT_OF_RANGE, ~usable, lambda row: self._field(row, self.columns.signals[_first(~small[row])]))
        n_subjects = len(self.subjects)
        if n_subjects > 2:
            nobody = usable & (self.subject == 0)
            self._leave_out(NO_SUBJECT, nobody, lambda _: "subject")
            usable &= self.subject > 0
        tables = []
        for number in range(1, n_subjects) if n_subjects > 2 else [None]:
            rows = np.flatnonzero(usable if number is None else usable & (self.subject == number))
            kept, sessions = _sessions(self.t_s[rows])
            old = np.zeros(len(self.t_s), np.bool_)
            old[rows[~kept]] = True
            self._leave_out(OUT_OF_ORDER, old, lambda _: "t")
            rows, n_rows = rows[kept], len(rows)
            if n_rows - len(rows) > len(rows):
                raise DatasetError(
                    f"{self.where}: {n_rows - len(rows)} of {n_rows} rows repeat the time stamp before them, or are "
                    "older: write t with at least three decimals of a second"
                )
            if len(rows) >= 2:
                t_s, name = self.t_s[rows], self.subjects[-1 if number is None else number]
                t_ns = np.rint((t_s - t_s[0]) * 1e9).astype(np.int64)
                tables.append(Table(t_ns, samples[rows], self.label[rows], self.labels, sessions, name or None))
        if not tables:
            reasons = f"; left out: {self.left_out}" if self.left_out.counts else ""
            n_left = self.n - self.left_out.counts.total()
            raise DatasetError(f"{self.where}: expected at least 2 samples to measure the rate, got {n_left}{reasons}")
        return tables

    def _leave_out(self, reason: str, which: Any, describe: Any) -> None:
        """Count rows (n_rows,) as left out; ``describe`` tells of the first one, by its index, what is wrong."""
        if which.any():
            row = _first(which)
            self.left_out.add(reason, int(which.sum()), f"line {self.line[row]}, {describe(row)}")

    def _field(self, row: int, name: str) -> str:
        return f"{name}: {self.samples[row, self.columns.signals.index(name)]:g}"


def _encoding(text: bytes) -> str:
    """Return the encoding of a file. Spreadsheets in western Europe write Windows-1252, which includes Latin-1."""
    if text[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16"
    try:
        text.isascii() or text.decode()
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8-sig"


def read_rows(text: bytes, where: str) -> Rows:
    """Read the content of a file.

    Args:
        text: Its content, in UTF-8, in UTF-16 with a byte order mark, or else in Windows-1252.
        where: Its path, for messages.

    Raises:
        ForeignFileError: It is no file of samples.
        DatasetError: A column is missing, or a unit is unknown; the message names the line.

    """
    lines = io.TextIOWrapper(io.BytesIO(text), _encoding(text), errors="replace", newline="")
    columns, header_line = read_header(lines, where)
    left_out = LeftOut()
    times, labels, subjects = _Times(columns.units.get("t")), _Names(NO_LABEL), _Names(frozenset())
    blocks = _Blocks(lines, columns, header_line, where, left_out)
    numbers = ("t", *columns.signals)
    parts = [(np.zeros(0), np.zeros((0, len(columns.signals)), np.float32), *[np.zeros(0, np.int32)] * 3)]
    comma = False
    for block, line in blocks:
        interruption.check()
        comma = comma or any("," in block[0][columns.index[name]] for name in columns.signals)
        t_s = times.parse(columns.of("t", block))
        values = [_numbers(columns.of(name, block)) * columns.factor(name) for name in columns.signals]
        samples = np.stack(values, axis=1)
        finite = np.hstack([np.isfinite(t_s)[:, None], np.isfinite(samples)])
        known = finite.all(axis=1)
        if not known.all():
            row = _first(~known)
            name = numbers[_first(~finite[row])]
            expected = ": expected a number or a date of ISO 8601" if name == "t" else ""
            case = f"line {line[row]}, {name}: {block[row][columns.index[name]]!r}{expected}"
            left_out.add(NO_NUMBER, int((~known).sum()), case)
        index = [np.zeros(len(block), np.int32) for _ in range(2)]
        for number, (name, names) in enumerate((("label", labels), ("subject", subjects))):
            if name in columns.index:
                index[number][:] = [names[word] for word in columns.of(name, block)]
        clipped = samples[known].clip(-_CLIP, _CLIP).astype(np.float32)
        parts.append((t_s[known], clipped, index[0][known], index[1][known], line[known]))
    columns_of_parts: list[Any] = [np.concatenate(column) for column in zip(*parts, strict=True)]
    t_s, acc_gyro, label, subject, line = columns_of_parts
    return Rows(
        where,
        columns,
        blocks.n,
        t_s,
        acc_gyro,
        label,
        tuple(labels.names),
        subject,
        tuple(subjects.names),
        line,
        left_out,
        comma,
        times.unit or "",
    )


def _first(which: Any) -> int:
    return int(np.argmax(which))


class _Names(dict[str, int]):
    """Number of the name that a field holds: its index in ``names``, of which the first is no name."""

    def __init__(self, none: frozenset[str]) -> None:
        super().__init__()
        self.names = [""]
        self._none = none

    def __missing__(self, word: str) -> int:
        name = " ".join(word.split())
        if name.lower() in self._none:
            name = ""
        if name not in self.names:
            self.names.append(name)
        self[word] = number = self.names.index(name)
        return number


class _Blocks:
    """Rows with as many fields as the header, and their line numbers, many at a time.

    Empty fields at the end of a row do not count.
    """

    def __init__(
        self, lines: io.TextIOWrapper, columns: Columns, header_line: int, where: str, left_out: LeftOut
    ) -> None:
        self.n = 0  # rows so far that are not empty
        self._reader = csv.reader(lines, delimiter=columns.separator)
        self._n_columns, self._header_line = len(columns.names), header_line
        self._where, self._left_out = where, left_out

    def __iter__(self) -> Iterator[tuple[list[list[str]], _Index]]:
        rows, n = self._rows(), self._n_columns
        while block := list(islice(rows, _BLOCK_ROWS)):
            self.n += len(block)
            whole = [one for one in block if len(one[0]) == n or (len(one[0]) > n and not any(one[0][n:]))]
            if len(whole) < len(block):
                row, line = next(one for one in block if len(one[0]) != n)
                case = f"line {line}: {len(row)} fields, the header has {n}"
                self._left_out.add(OTHER_FIELDS, len(block) - len(whole), case)
            if whole:
                yield [row for row, _ in whole], np.array([line for _, line in whole], np.int32)

    def _rows(self) -> Iterator[tuple[list[str], int]]:
        reader, header_line = self._reader, self._header_line
        try:
            for row in reader:
                if row and any(map(str.strip, row)):
                    yield row, reader.line_num + header_line
        except csv.Error as error:
            raise DatasetError(f"{self._where}: not a text file with columns: {error}") from error


def _numbers(words: Sequence[str]) -> Float64:
    """Return the words as numbers, NaN for those that are none. A comma may stand for the decimal point."""
    try:
        return np.fromiter(map(float, words), np.float64, len(words))
    except ValueError:
        return np.array([_number(word) for word in words])


def _number(word: str) -> float:
    try:
        return float(word.replace(",", "."))
    except ValueError:
        return math.nan


class _Times:
    """The form of the time stamps, which the first row decides: numbers in a unit, or dates of ISO 8601.

    A unit that is not stated is told by the magnitude of the first number, as in a message: a small one is in seconds.
    """

    _first = 0  # first of whole numbers
    _factor = 1.0

    def __init__(self, unit: str | None) -> None:
        self.unit = unit
        self._iso: bool | None = None
        self._origin: float | None = None

    def parse(self, words: Sequence[str]) -> Float64:
        """Return seconds since the first stamp, NaN for a word that is no time stamp."""
        if self._iso is None:
            first = next((word for word in words if word.strip()), "")
            number = _number(first)
            self._iso = math.isnan(number) and not math.isnan(_seconds(first))
            if self._iso:
                self.unit = None
            else:
                self.unit = self.unit or guess_unit(0.0 if math.isnan(number) else number)
                self._factor = Columns(",", (), {}, {"t": self.unit}).factor("t")
        if self._iso:
            values = np.array([_seconds(word) for word in words])
            factor = 1.0
        else:
            values, factor = self._counts(words), self._factor
        known = values[np.isfinite(values)]
        if self._origin is None and len(known):
            self._origin = float(known[0])
        return (values - (self._origin or 0.0)) * factor

    def _counts(self, words: Sequence[str]) -> Float64:
        """Return numbers. Whole numbers, such as nanoseconds of an epoch, keep all their digits."""
        try:
            whole = np.fromiter(map(int, words), np.int64, len(words))
        except (ValueError, OverflowError):
            return _numbers(words) - self._first
        if self._origin is None:
            self._origin = 0.0
            self._first = int(whole[0])
        return (whole - self._first).astype(np.float64)


def _seconds(word: str) -> float:
    """Return a date of ISO 8601 as seconds of the epoch, or a time of day as seconds of the day; NaN if it is neither.

    Without a zone it is in UTC.
    """
    text = word.strip()
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        try:
            moment = datetime.combine(datetime(1970, 1, 1), time.fromisoformat(text))
        except ValueError:
            return math.nan
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _sessions(t_s: Float64) -> tuple[Bool, tuple[slice, ...]]:
    """Return which samples have a time stamp in order, and the sessions of those.

    Where time jumps back and stays there, the clock was set, and a session begins. Of a single stamp that is wrong, the
    neighbours agree with each other.
    """
    # A single stamp far ahead of both neighbours, then one far behind both.
    apart = np.diff(t_s) > SESSION_S
    ahead = np.flatnonzero(apart[:-1] & (np.diff(t_s)[1:] < -SESSION_S) & (t_s[2:] > t_s[:-2])) + 1
    kept = np.ones(len(t_s), np.bool_)
    kept[ahead] = False
    where = np.flatnonzero(kept)
    part = t_s[where]
    back = np.flatnonzero(np.diff(part) < -SESSION_S) + 1
    after = np.minimum(back + 1, len(part) - 1)
    lasting = part[after] <= part[back - 1]  # at the end of a file nothing shows that the clock was set
    lasting &= after > back
    starts = [0, *back[lasting].tolist(), len(part)]
    sessions, first = [], 0
    for start, stop in pairwise(starts):
        before = np.maximum.accumulate(np.append(-np.inf, part[start:stop]))[:-1]
        newer = part[start:stop] > before
        kept[where[start:stop][~newer]] = False
        sessions.append(slice(first, first + int(newer.sum())))
        first += int(newer.sum())
    return kept, tuple(sessions)
