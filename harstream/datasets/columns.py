"""Samples in a text file with a column for each value: csv, whoever wrote it.

What differs between programs is found out: separator, decimal comma, quotes, order and names of the columns, units and
form of the times. A row that cannot be used is a gap: it is left out and counted under a reason.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice, pairwise

import numpy as np
import numpy.typing as npt

from harstream import interruption
from harstream.core.batches import Bool, Float32, Float64, Int64
from harstream.core.plausibility import ACC_UNIT_NAMES, acc_unit
from harstream.errors import DatasetError
from harstream.wire.samples import ACC_UNITS, GYRO_UNITS, MAX_MAGNITUDE, UNIT_ALIASES

#: Signals in the order of a recording's samples.
ACC, GYRO = ("ax", "ay", "az"), ("gx", "gy", "gz")
#: Reasons why a row is left out.
OTHER_FIELDS = "another number of fields than the header"
NO_NUMBER = "no number where one belongs"
OUT_OF_RANGE = "a value out of range"
OUT_OF_ORDER = "a time stamp out of order"
#: Time since which a stamp that is older than the one before it begins another session: the clock was set.
SESSION_S = 0.5

#: Rows that are parsed at once. The number limits the memory in use.
_BLOCK_ROWS = 65_536
#: Larger values are limited to this one, which float32 can hold; they are out of range in any unit.
_CLIP = 1e12
#: Samples of a stretch that shows the unit of accelerations.
_UNIT_SAMPLES = 128
_SEPARATORS = ",;\t|"
_TIME_UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_UNITS = {"t": _TIME_UNITS, "a": ACC_UNITS, "g": GYRO_UNITS}
#: Name of a column, with its unit in brackets.
_COLUMN = re.compile(r"\s*([^\[\](){}]*?)\s*(?:[\[({]\s*([^\[\](){}]*?)\s*[\])}])?\s*")
_SENSORS = {
    **dict.fromkeys(("a", "acc", "accel", "accelerometer", "acceleration"), "a"),
    **dict.fromkeys(("g", "gyr", "gyro", "gyroscope"), "g"),
}
_TIMES = ("t", "time", "timestamp", "ts", "datetime")
_LABELS = ("label", "activity", "class")
_SUBJECTS = ("subject", "user", "participant")
#: What stands for no label.
_NO_LABEL = frozenset({"", "na", "n/a", "nan", "null", "none", "-", "?"})


@dataclass(frozen=True, slots=True)
class Table:
    """The samples of one file, in the order of their rows."""

    t_ns: Int64  # (n_samples,) time since the first sample
    samples: Float32  # (n_samples, 6) acc in g and gyro in rad/s; (n_samples, 3) without gyroscope
    label: npt.NDArray[np.int32]  # (n_samples,) index into ``labels``
    labels: tuple[str, ...]  # the first is empty: not known
    sessions: tuple[slice, ...]  # of samples between two settings of the clock; time increases within each
    left_out: Counter[str]  # number of rows by reason
    acc_unit: str | None  # unit in the file, stated or shown by gravity; None: neither, and g is assumed
    subject: str | None  # from a column; None: there is no such column


@dataclass(frozen=True, slots=True)
class _Columns:
    """Places of the known values in a row."""

    separator: str
    names: tuple[str, ...]  # of all columns, in order
    index: dict[str, int]  # of each known column
    units: dict[str, str | None]  # of each known column with a unit; None: not stated

    @property
    def signals(self) -> tuple[str, ...]:
        """The columns of the samples, in order."""
        return (*ACC, *GYRO) if GYRO[0] in self.index else ACC

    def of(self, name: str, rows: Sequence[Sequence[str]]) -> list[str]:
        """Return the fields of a known column."""
        index = self.index[name]
        return [row[index] for row in rows]

    def factor(self, name: str) -> float:
        """Return what converts a column to s, g or rad/s."""
        unit = self.units.get(name)
        return 1.0 if unit is None else _UNITS[name[0]][unit]


def read_table(text: bytes, where: str) -> Table:
    """Read the content of a file.

    Args:
        text: Its content, in UTF-8, or UTF-16 with a byte order mark.
        where: Its path, for messages.

    Raises:
        DatasetError: There is no header, a column is missing, a unit is unknown, or no two rows can be used; the
            message names the line.

    """
    encoding = "utf-16" if text[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    lines = io.TextIOWrapper(io.BytesIO(text), encoding, errors="replace", newline="")
    columns = _header(lines.readline(), f"{where}, line 1")
    left_out: Counter[str] = Counter()
    rows = _rows(csv.reader(lines, delimiter=columns.separator), where)
    times, labels = _Times(columns.units["t"]), _Labels()
    subjects: set[str] = set()
    parts = [(np.zeros(0), np.zeros((0, len(columns.signals)), np.float32), np.zeros(0, np.int32))]
    for block in _blocks(rows, len(columns.names), left_out):
        interruption.check()
        t_s = times.parse(columns.of("t", block))
        values = [_numbers(columns.of(name, block)) * columns.factor(name) for name in columns.signals]
        samples = np.stack(values, axis=1)
        known = np.isfinite(samples).all(axis=1) & np.isfinite(t_s)
        left_out[NO_NUMBER] += int((~known).sum())
        label = np.zeros(len(block), np.int32)
        if "label" in columns.index:
            label[:] = [labels[word] for word in columns.of("label", block)]
        if "subject" in columns.index:
            subjects.update(map(str.strip, columns.of("subject", block)))
        parts.append((t_s[known], samples[known].clip(-_CLIP, _CLIP).astype(np.float32), label[known]))
    t_s = np.concatenate([part[0] for part in parts])
    acc_gyro = np.concatenate([part[1] for part in parts])
    number = np.concatenate([part[2] for part in parts])
    unit = next((columns.units[name] for name in ACC if columns.units[name] is not None), None)
    if unit is None and (unit := _acc_unit(acc_gyro)) is not None:
        acc_gyro[:, :3] *= np.float32(ACC_UNITS[unit])
    usable = (np.abs(acc_gyro) <= MAX_MAGNITUDE).all(axis=1)
    left_out[OUT_OF_RANGE] += int((~usable).sum())
    t_s, acc_gyro, number = t_s[usable], acc_gyro[usable], number[usable]
    kept, sessions = _sessions(t_s)
    left_out[OUT_OF_ORDER] += int((~kept).sum())
    t_s, acc_gyro, number = t_s[kept], acc_gyro[kept], number[kept]
    left_out = +left_out  # without reasons that did not occur
    if len(t_s) < 2:
        raise DatasetError(
            f"{where}: expected at least 2 samples to measure the rate, got {_count(len(t_s), left_out)}"
        )
    if left_out[OUT_OF_ORDER] > len(t_s):
        n_old = left_out[OUT_OF_ORDER]
        raise DatasetError(
            f"{where}: {n_old} of {n_old + len(t_s)} rows repeat the time stamp before them, or are older: write t "
            "with at least three decimals of a second"
        )
    if len(subjects - {""}) > 1:
        raise DatasetError(
            f"{where}: it holds {len(subjects)} subjects ({', '.join(sorted(subjects)[:5])}): make a file for each"
        )
    return Table(
        np.rint((t_s - t_s[0]) * 1e9).astype(np.int64),
        acc_gyro,
        number,
        tuple(labels.names),
        sessions,
        left_out,
        unit,
        next(iter(subjects - {""}), None),
    )


class _Labels(dict[str, int]):
    """Number of the label that a field holds: its index in ``names``, of which the first is no label."""

    def __init__(self) -> None:
        super().__init__()
        self.names = [""]

    def __missing__(self, word: str) -> int:
        name = _name(word)
        if name not in self.names:
            self.names.append(name)
        self[word] = number = self.names.index(name)
        return number


def _acc_unit(samples: Float32) -> str | None:
    """Return the unit of accelerations that most stretches of them show by gravity, None if none shows any."""
    n = len(samples) // _UNIT_SAMPLES
    found = acc_unit(samples[: n * _UNIT_SAMPLES, :3].reshape(n, _UNIT_SAMPLES, 3)) if n else np.zeros(0, np.int64)
    votes = np.bincount(found[found >= 0], minlength=len(ACC_UNIT_NAMES))
    return ACC_UNIT_NAMES[int(votes.argmax())] if votes.any() else None


def _header(line: str, where: str) -> _Columns:
    """Return what the first line says. The separator is the one by which most columns are known."""
    found = [_columns(line, separator) for separator in _SEPARATORS]
    best = max(found, key=lambda columns: len(columns.index))
    missing = [name for name in ("t", *ACC) if name not in best.index]
    if GYRO[0] in best.index or GYRO[1] in best.index or GYRO[2] in best.index:
        missing += [name for name in GYRO if name not in best.index]
    if missing:
        names = ", ".join(name for name in best.names if name) or "nothing"
        raise DatasetError(
            f"{where}: expected a header with the columns t, ax, ay, az, and gx, gy, gz if there is a gyroscope, but "
            f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing among: {names[:200]}"
        )
    for name, unit in best.units.items():
        known = _UNITS[name[0]]
        if unit is not None and unit not in known:
            raise DatasetError(f"{where}: unit of {name}: expected one of {', '.join(known)}, got {unit!r}")
    return best


def _columns(line: str, separator: str) -> _Columns:
    fields = next(csv.reader([line], delimiter=separator), [])
    index: dict[str, int] = {}
    units: dict[str, str | None] = {}
    for number, field in enumerate(fields):
        match = _COLUMN.fullmatch(field)
        name, unit = _known(match[1], match[2]) if match else (None, None)
        if name is not None and name not in index:
            index[name] = number
            if name not in ("label", "subject"):
                units[name] = None if unit is None else _spelt_as_ours(unit)
    return _Columns(separator, tuple(field.strip() for field in fields), index, units)


def _spelt_as_ours(unit: str) -> str:
    """Return a unit in the spelling of ours, if it has a usual one: m/s^2 is m/s2, as in a message."""
    plain = unit.lower().replace(" ", "")
    return UNIT_ALIASES.get(plain, plain)


def _known(name: str, unit: str | None) -> tuple[str | None, str | None]:
    """Return our name of a column, None if it is not known, and its unit, None if it is not stated."""
    plain = name.strip().lower()
    if plain in _LABELS:
        return "label", None
    if plain in _SUBJECTS:
        return "subject", None
    words = [word for word in re.split(r"[\s_.\-:]+", plain) if word]
    if len(words) > 1 and words[-1] in _TIME_UNITS and words[0] in _TIMES:
        words, unit = words[:-1], words[-1]
    joined = "".join(words)
    if joined in _TIMES:
        return "t", unit
    for sensor, axis in ((joined[:-1], joined[-1:]), (joined[1:], joined[:1])):
        if sensor in _SENSORS and axis in ("x", "y", "z"):
            return _SENSORS[sensor] + axis, unit
    return None, None


def _rows(reader: Iterable[list[str]], where: str) -> Iterator[list[str]]:
    iterator = iter(reader)
    while True:
        try:
            row = next(iterator)
        except StopIteration:
            return
        except csv.Error as error:
            raise DatasetError(f"{where}: not a text file with columns: {error}") from error
        if row and any(field.strip() for field in row):
            yield row


def _blocks(rows: Iterator[list[str]], n_columns: int, left_out: Counter[str]) -> Iterator[list[list[str]]]:
    """Yield rows with as many fields as the header, many at a time. Empty fields at the end of a row do not count."""
    while block := list(islice(rows, _BLOCK_ROWS)):
        whole = [row for row in block if len(row) == n_columns or (len(row) > n_columns and not any(row[n_columns:]))]
        left_out[OTHER_FIELDS] += len(block) - len(whole)
        if whole:
            yield whole


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
    """The form of the time stamps, which the first row decides: numbers in a unit, or dates of ISO 8601."""

    _first = 0  # first of whole numbers

    def __init__(self, unit: str | None) -> None:
        self._factor = _TIME_UNITS[unit or "s"]
        self._iso: bool | None = None
        self._origin: float | None = None

    def parse(self, words: Sequence[str]) -> Float64:
        """Return seconds since the first stamp, NaN for a word that is no time stamp."""
        if self._iso is None:
            first = next((word for word in words if word.strip()), "")
            self._iso = math.isnan(_number(first)) and not math.isnan(_seconds(first))
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
    """Return a date of ISO 8601 as seconds of the epoch, NaN if it is none. Without a zone it is in UTC."""
    try:
        moment = datetime.fromisoformat(word.strip())
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


def _name(word: str) -> str:
    """Return the label in a field, empty if it stands for none."""
    plain = " ".join(word.split())
    return "" if plain.lower() in _NO_LABEL else plain


def _count(kept: int, left_out: Counter[str]) -> str:
    reasons = ", ".join(f"{count} with {reason}" for reason, count in left_out.items())
    return f"{kept}" + (f"; left out: {reasons}" if reasons else "")
