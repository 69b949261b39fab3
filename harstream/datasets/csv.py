"""Own recordings: a folder with one csv file per recording, as ``harstream record`` writes them.

Layout: ``record`` writes ``t,ax,ay,az,gx,gy,gz,label`` as the first line of a file, and each further line is a sample.
``gx,gy,gz`` are left out if there is no gyroscope. Files of other programs may have other separators, a decimal comma,
other names and another order of columns, and columns besides (``columns``, ``rows``).

Units: ``t`` in seconds from any instant, ``gx,gy,gz`` in rad/s. Another unit stands in brackets behind the name of one
axis, such as ``t[ms]`` or ``gx[deg/s]``. Without a unit, that of ``ax,ay,az`` is told from gravity, by the file itself,
or, if it is short, by the other files.

Labels: ``label`` is the activity of the subject, or empty if it is not known.

Subjects: a column ``subject`` tells them, and may name several in one file; else names and folders do (``subjects``).
"""

from __future__ import annotations

import gzip
import itertools
import logging
import re
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import TracebackType

import numpy as np

from harstream.core.batches import Float32, Float64
from harstream.core.rates import DRIFT
from harstream.core.spec import SignalSpec
from harstream.datasets import files
from harstream.datasets.base import Recording, Source
from harstream.datasets.columns import ForeignFileError
from harstream.datasets.rows import Rows, Table, read_rows
from harstream.datasets.stamped import Piece, StampedLabels, StampedSamples, resample_to_grid
from harstream.datasets.subjects import BY_COLUMN, BY_FOLDER, subjects_of
from harstream.errors import ConfigError, DatasetError

log = logging.getLogger("harstream.datasets")

#: First line of a file in the default units.
HEADER = "t,ax,ay,az,gx,gy,gz,label"

_NAMES = HEADER.split(",")
_NAMES_WITHOUT_GYRO = [name for name in _NAMES if not name.startswith("g")]
#: Intervals of more than so many medians are gaps.
_GAP = 1.6
#: Share of samples that may be lost in short gaps. Where more seem to be, the samples come in bursts.
_MAX_LOST = 0.2
#: Largest relative difference between a measured rate and the round number that replaces it.
_ROUNDING = 0.005


@dataclass(frozen=True, slots=True)
class _File:
    """Samples of one subject in a file."""

    name: str  # of its recordings
    subject: str
    table: Table
    rate_hz: float  # measured
    source: Source | None  # None: told by another subject of the file


def load(path: Path) -> list[Recording]:
    """Return the recordings of one csv file, or of all csv files of a folder or zip, sorted by name.

    The sample rate is measured. Files whose rates differ by no more than the drift of a clock get one common rate.
    Samples are placed on a grid and short gaps are bridged as in the Engine. After a longer gap, or where the clock was
    set back, a new recording begins, ``anna_walk_2``, or the next number that is not the name of a file. A file without
    any column of a sensor is skipped with a warning, if there are others.

    Raises:
        DatasetError: There is no file, two files have one name, or a file is malformed; the message names file and
            line.

    """
    found: list[tuple[PurePosixPath, Rows]] = []
    foreign: list[ForeignFileError] = []
    for name, text in files.read_files(path, _is_csv):
        inner = PurePosixPath(name)
        where = f"{path}/{name}" if path.name != name else str(path)
        if inner.suffix.lower() == ".gz":
            text = _unpack(text, where)
            inner = inner.with_suffix("")
        try:
            found.append((inner.with_suffix(""), read_rows(text, where)))
        except ForeignFileError as error:
            foreign.append(error)
    if not found:
        raise foreign[0] if foreign else DatasetError(f"{path}: expected csv files, found none")
    notes = tuple(f"skipped, as it has no column of a sensor: {str(error).partition(', line')[0]}" for error in foreign)
    for note in notes:
        log.warning("%s", note)
    content = _files(found, notes)
    _warn_of_rows_left_out(path, [rows for _, rows in found])
    return _make_recordings(content)


def _files(found: Sequence[tuple[PurePosixPath, Rows]], notes: Sequence[str]) -> list[_File]:
    """Return the samples of each file and subject, with the unit that the file, or else most files, show."""
    shown = [rows.acc_unit for _, rows in found]
    votes = Counter(
        unit for unit, (_, rows) in zip(shown, found, strict=True) if unit and "a" not in rows.columns.units
    )
    common = votes.most_common(1)[0][0] if votes else None
    subjects = subjects_of([path for path, _ in found])
    stems = Counter(path.name for path, _ in found)
    where: dict[str, str] = {}  # file by name of its recordings
    content: list[_File] = []
    for (inner, rows), unit, (told, by) in zip(found, shown, subjects, strict=True):
        stem = "-".join(inner.parts) if by == BY_FOLDER and stems[inner.name] > 1 else inner.name
        if where.setdefault(stem, rows.where) != rows.where:
            raise DatasetError(
                f"{where[stem]} and {rows.where} have one name: rename one, the names of recordings must differ"
            )
        tables = rows.tables(unit or common)
        column = any(table.subject for table in tables)
        source: Source | None = Source(
            rows.where,
            rows.n,
            dict(rows.left_out.counts),
            _form(rows, unit, common),
            rows.columns.unused,
            BY_COLUMN if column else by,
            "label" in rows.columns.index,
            () if content else tuple(notes),
        )
        for table in tables:
            name = stem if len(tables) == 1 else f"{stem}-{table.subject}"
            content.append(_File(name, table.subject or told, table, measured_rate(table, rows.where), source))
            source = None
    return content


def _form(rows: Rows, unit: str | None, common: str | None) -> str:
    """Return separator and units of a file in words."""
    units = rows.columns.units
    parts = [rows.columns.separator_name, *["decimal comma"] * rows.decimal_comma]
    parts.append(f"t in {rows.time_unit}" if rows.time_unit else "t as date or time of day")
    if "a" in units:
        how = "as stated"
    elif unit is not None:
        how = "by gravity"
    else:
        how = "as the other files" if common else "assumed: gravity does not show"
    parts.append(f"accelerations in {unit or common or 'g'} ({how})")
    if "gx" in rows.columns.index:
        parts.append(f"gyroscope in {units['g']} (as stated)" if "g" in units else "gyroscope in rad/s (assumed)")
    return ", ".join(parts)


def _warn_of_rows_left_out(path: Path, content: Sequence[Rows]) -> None:
    """Log in one line how many rows were left out of all files, and the first of each reason."""
    partly = [rows for rows in content if rows.left_out.counts]
    if partly:
        counts: Counter[str] = Counter()
        first: dict[str, str] = {}
        for rows in partly:
            counts.update(rows.left_out.counts)
            for reason, case in rows.left_out.first.items():
                first.setdefault(reason, f"{rows.where}, {case}")
        reasons = ", ".join(f"{count:,} with {reason} (first: {first[reason]})" for reason, count in counts.items())
        log.warning(
            "%s: left out %s of %s rows, in %d of %d files: %s",
            path,
            f"{counts.total():,}",
            f"{sum(rows.n for rows in content):,}",
            len(partly),
            len(content),
            reasons,
        )


def measured_rate(table: Table, where: str) -> float:
    """Return the sample rate of a table in Hz: samples by the time of the stretches without a gap.

    Stamps may be rounded, and intervals uneven, so one interval says little. An interval beyond _GAP times the median
    is a gap, unless so many samples would be lost that they rather come in bursts.

    Raises:
        DatasetError: No rate of a device results.

    """
    max_gap_ns = SignalSpec().max_gap_s * 1e9
    intervals = np.concatenate([np.diff(table.t_ns[part]) for part in table.sessions])
    intervals = intervals[intervals <= max(max_gap_ns, float(np.median(intervals)))]
    even = intervals[intervals <= _GAP * np.median(intervals)]
    period_ns = float(even.mean())
    lost = np.rint(intervals[intervals > _GAP * np.median(intervals)] / period_ns - 1).sum()
    if lost > _MAX_LOST * len(intervals):
        period_ns = float(intervals.mean())
    try:
        SignalSpec(sample_rate_hz=1e9 / period_ns)
    except ConfigError as error:
        raise DatasetError(f"{where}: {error}: write t in seconds, or its unit in the header, as in t[ms]") from error
    return 1e9 / period_ns


def _is_csv(name: str) -> bool:
    return name.lower().endswith((".csv", ".csv.gz")) and not name.startswith(".")


def _unpack(text: bytes, where: str) -> bytes:
    try:
        return gzip.decompress(text)
    except (OSError, EOFError, zlib.error) as error:
        raise DatasetError(f"{where}: expected a gzip file: {error}: make it again") from error


def _make_recordings(content: Sequence[_File]) -> list[Recording]:
    """Place the samples of all files on grids, and return the recordings sorted by name."""
    common = float(np.median([file.rate_hz for file in content]))
    by_rate: dict[float, list[_File]] = {}
    for file in content:
        agrees = abs(file.rate_hz / common - 1) <= DRIFT
        by_rate.setdefault(_round_rate(common if agrees else file.rate_hz), []).append(file)
    used = {file.name for file in content}
    recordings = []
    for rate_hz, group in by_rate.items():
        sources = [(file, part) for file in group for part in file.table.sessions]
        grids = resample_to_grid(
            [StampedSamples(file.table.t_ns[part], file.table.samples[part]) for file, part in sources], rate_hz
        )
        pieces_of: dict[int, list[tuple[slice, Piece]]] = {}
        for (file, part), pieces in zip(sources, grids, strict=True):
            pieces_of.setdefault(id(file), []).extend((part, piece) for piece in pieces)
        for file in group:
            first = file.name
            numbered = (f"{first}_{number}" for number in itertools.count(2))
            free = itertools.chain([first], (name for name in numbered if name not in used))
            recordings += [
                _make_recording(name, file, part, piece, rate_hz, file.source if name == first else None)
                for name, (part, piece) in zip(free, pieces_of[id(file)], strict=False)
            ]
    return sorted(recordings, key=lambda recording: recording.name)


def _round_rate(rate_hz: float) -> float:
    """Return the roundest number near a measured rate, such as 50 for 49.98; the rate itself if none is near."""
    for step in (10.0, 5.0, 1.0, 0.5, 0.1, 0.05):
        rounded = round(round(rate_hz / step) * step, 2)
        if abs(rounded / rate_hz - 1) <= _ROUNDING:
            return rounded
    return rate_hz


def _make_recording(
    name: str, file: _File, part: slice, piece: Piece, rate_hz: float, source: Source | None
) -> Recording:
    """Return one piece as a recording; the first one of a file tells of the file."""
    samples = np.zeros((len(piece), 6), np.float32)
    samples[:, : piece.samples.shape[1]] = piece.samples
    table = file.table
    labels = np.array(table.labels)[table.label[part]]
    segments = StampedLabels(table.t_ns[part], labels).segments_of(piece)
    has_gyro = piece.samples.shape[1] == 6
    return Recording(re.sub("[/+#]", "-", name), file.subject, rate_hz, samples, segments, has_gyro, source=source)


class CsvWriter:
    """Writer of a new csv file, to which samples are appended as they come.

    A number is written as the shortest text that is read back as the same float32.

    Raises:
        DatasetError: The file exists already or cannot be written.

    """

    def __init__(self, path: Path, *, gyro: bool = True) -> None:
        self.path = path
        self.n_samples = 0
        self._n_signals = 6 if gyro else 3
        try:
            self._file = path.open("x", encoding="utf-8", newline="\n")
            self._file.write(",".join(_NAMES if gyro else _NAMES_WITHOUT_GYRO) + "\n")
        except OSError as error:
            raise DatasetError(f"{path}: cannot create the file: {error.strerror}") from error

    def write(self, t_s: Float64, samples: Float32, label: str = "") -> None:
        """Append samples to the file.

        Args:
            t_s: Time of each sample in seconds, (n_samples,).
            samples: Acc in g and gyro in rad/s, (n_samples, 6); (n_samples, 3) without gyroscope.
            label: Label of all these samples.

        Raises:
            DatasetError: The label contains a comma or a line break.

        """
        if re.search(r"[,\r\n]", label):
            raise DatasetError(f"label {label!r} contains a comma or a line break: remove it")
        times = [f"{t:.6f}" for t in np.asarray(t_s, np.float64).tolist()]
        values = np.asarray(samples, np.float32)[:, : self._n_signals].astype(np.str_).tolist()
        self._file.writelines(f"{t},{','.join(row)},{label}\n" for t, row in zip(times, values, strict=True))
        self._file.flush()  # a crash loses no sample that was written
        self.n_samples += len(times)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> CsvWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
