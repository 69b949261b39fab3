"""Own recordings: a folder with one csv file per recording, as ``harstream record`` writes them.

Layout: ``record`` writes ``t,ax,ay,az,gx,gy,gz,label`` as the first line of a file, and each further line is a sample.
``gx,gy,gz`` are left out if there is no gyroscope. Files of other programs may have other separators, a decimal comma,
other names and another order of columns, and columns besides (``columns``).

Units: ``t`` in seconds from any instant, ``gx,gy,gz`` in rad/s. Another unit stands in brackets behind the name, such
as ``t[ms]`` or ``gx[deg/s]``. Without a unit, that of ``ax,ay,az`` is told from gravity.

Labels: ``label`` is the activity of the subject, or empty if it is not known.

Subjects: the name of the subject is that of a column ``subject``; else that of the folder, if every file is in one and
they differ; else the name of the file up to the first ``_``, or up to a number. ``anna_walk.csv``, ``anna_2.csv`` and
``anna-3.csv`` are recordings of anna.
"""

from __future__ import annotations

import gzip
import itertools
import logging
import re
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from types import TracebackType

import numpy as np

from harstream.core.batches import Float32, Float64
from harstream.core.rates import DRIFT
from harstream.core.spec import SignalSpec
from harstream.datasets import files
from harstream.datasets.base import Recording
from harstream.datasets.columns import Table, read_table
from harstream.datasets.stamped import Piece, StampedLabels, StampedSamples, resample_to_grid
from harstream.errors import ConfigError, DatasetError

log = logging.getLogger("harstream.datasets")

#: First line of a file in the default units.
HEADER = "t,ax,ay,az,gx,gy,gz,label"

_NAMES = HEADER.split(",")
_NAMES_WITHOUT_GYRO = [name for name in _NAMES if not name.startswith("g")]
#: A name with the number of a recording, such as ``anna-2`` or ``anna (2)``.
_NUMBERED = re.compile(r"(.*[^\s-])(?:\s*-\s*|\s+)\(?\d+\)?")
#: What stands before the number of a subject, not of a recording.
_ANYBODY = frozenset({"subject", "sub", "s", "user", "participant", "person", "patient", "p", "id", "volunteer"})
#: Intervals of more than so many medians are gaps.
_GAP = 1.6
#: Share of samples that may be lost in short gaps. Where more seem to be, the samples come in bursts.
_MAX_LOST = 0.2
#: Largest relative difference between a measured rate and the round number that replaces it.
_ROUNDING = 0.005


@dataclass(frozen=True, slots=True)
class _File:
    """Content of one file."""

    name: str  # file name without extension
    folder: str  # in which the file is, where every file is in a folder and the folders differ; else empty
    table: Table
    rate_hz: float  # measured

    @property
    def subject(self) -> str:
        """Name of the subject: that of a column, else of the folder, else of the file up to the first separator."""
        return self.table.subject or self.folder.rpartition("/")[2] or subject_of(self.name)


def subject_of(name: str) -> str:
    """Return the subject that the name of a file tells: what stands before the first ``_``, or before a number."""
    before, underscore, _ = name.partition("_")
    numbered = None if underscore else _NUMBERED.fullmatch(name)
    return numbered[1] if numbered and numbered[1].lower() not in _ANYBODY else before or name


def load(path: Path) -> list[Recording]:
    """Return the recordings of one csv file, or of all csv files of a folder or zip, sorted by name.

    The sample rate is measured. Files whose rates differ by no more than the drift of a clock get one common rate.
    Samples are placed on a grid and short gaps are bridged as in the Engine. After a longer gap, or where the clock was
    set back, a new recording begins, ``anna_walk_2``, or the next number that is not the name of a file.

    Raises:
        DatasetError: There is no file, two files have one name, or a file is malformed; the message names file and
            line.

    """
    content: list[_File] = []
    for name, text in files.read_files(path, _is_csv):
        inner = PurePosixPath(name)
        where = f"{path}/{name}" if path.name != name else str(path)
        if inner.suffix.lower() == ".gz":
            text = _unpack(text, where)
            inner = inner.with_suffix("")
        table = read_table(text, where)
        content.append(_File(inner.stem, inner.parent.as_posix(), table, measured_rate(table, where)))
        if table.left_out:
            total = len(table.t_ns) + table.left_out.total()
            reasons = ", ".join(f"{count} with {reason}" for reason, count in table.left_out.items())
            log.warning("%s: left out %d of %d rows: %s", where, table.left_out.total(), total, reasons)
    if not content:
        raise DatasetError(f"{path}: expected csv files, found none")
    if len({file.folder for file in content}) == 1 or any(file.folder == "." for file in content):
        content = [replace(file, folder="") for file in content]  # the folders say nothing of the subjects
    for key, number in Counter((file.folder, file.name) for file in content).items():
        if number > 1:
            raise DatasetError(
                f"{path}: holds more than one {key[1]}.csv: rename one, the names of recordings must differ"
            )
    return _make_recordings(content)


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
    names = Counter(file.name for file in content)
    by_rate: dict[float, list[_File]] = {}
    for file in content:
        agrees = abs(file.rate_hz / common - 1) <= DRIFT
        by_rate.setdefault(_round_rate(common if agrees else file.rate_hz), []).append(file)
    used = set(names)
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
            first = file.name if names[file.name] == 1 else f"{file.folder}-{file.name}".replace("/", "-")
            numbered = (f"{first}_{number}" for number in itertools.count(2))
            free = itertools.chain([first], (name for name in numbered if name not in used))
            recordings += [
                _make_recording(name, file, part, piece, rate_hz, first=name == first)
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


def _make_recording(name: str, file: _File, part: slice, piece: Piece, rate_hz: float, *, first: bool) -> Recording:
    """Return one piece as a recording; the first one of a file tells what was left out of it."""
    samples = np.zeros((len(piece), 6), np.float32)
    samples[:, : piece.samples.shape[1]] = piece.samples
    table = file.table
    labels = np.array(table.labels)[table.label[part]]
    segments = StampedLabels(table.t_ns[part], labels).segments_of(piece)
    has_gyro = piece.samples.shape[1] == 6
    left_out = table.left_out if first else {}
    return Recording(re.sub("[/+#]", "-", name), file.subject, rate_hz, samples, segments, has_gyro, left_out=left_out)


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
