"""Recordings of one's own: a folder with one csv file per recording, as ``harstream record`` writes them.

The first line is ``t,ax,ay,az,gx,gy,gz,label``: seconds from whatever instant, g, rad/s, and what the
subject was doing, empty where that is not known. Another unit stands in brackets behind the name, as in
``ax[m/s2]`` or ``gx[deg/s]``; without a gyroscope ``gx,gy,gz`` are left out. Who wore it is the file's name
up to the first ``_``: ``anna_walk.csv`` and ``anna_2.csv`` are Anna's.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import TracebackType

import numpy as np
import numpy.typing as npt

from harstream.core.batches import Float32, Float64, Int64
from harstream.core.spec import SignalSpec
from harstream.core.timeline import DRIFT
from harstream.datasets import files, texts
from harstream.datasets.base import Recording, Segment
from harstream.datasets.stamped import Piece, Stamped, on_grid, sessions
from harstream.errors import ConfigError, DatasetError
from harstream.wire.payloads import ACC_UNITS, GYRO_UNITS

#: The first line of every file: seconds, g, rad/s; an empty label is an unknown one.
HEADER = "t,ax,ay,az,gx,gy,gz,label"

_NAMES = HEADER.split(",")
_NAMES_WITHOUT_GYRO = [name for name in _NAMES if not name.startswith("g")]
_UNITS = {"t": {"s": 1.0}, "a": ACC_UNITS, "g": GYRO_UNITS}
_COLUMN = re.compile(r"\s*(\w+)\s*(?:\[([^\]]*)\])?\s*")
#: A measured rate is taken for the roundest number of Hz within this part of it.
_ROUNDING = 0.005


@dataclass(frozen=True, slots=True)
class _File:
    """What one file says, in order of time."""

    name: str
    t_ns: Int64  # (n_samples,) from the first sample on
    samples: Float32  # (n_samples, 6) in g and rad/s, or (n_samples, 3)
    labels: npt.NDArray[np.str_]  # (n_samples,)

    @property
    def rate_hz(self) -> float:
        return 1e9 / float(np.median(np.diff(self.t_ns)))


def load(path: Path) -> list[Recording]:
    """Every csv file of a folder or zip, or the one file, sorted by name.

    The rate is measured: that of all files together where they agree within what a clock may drift. Jitter
    is put on the grid and short gaps are bridged as the Engine does it; behind a longer gap another recording
    begins, ``anna_walk_2``, or the next number that no file has. Raises DatasetError naming file and line for a bad
    header, an unknown unit, a wrong number of fields, what is no number, and time that does not rise; naming the
    file where its times are no seconds.
    """
    found: dict[str, _File] = {}
    for name, text in files.read(path, lambda last: last.lower().endswith(".csv")):
        file = _parse(text, PurePosixPath(name).stem, f"{path}/{name}" if path.name != name else str(path))
        if file.name in found:
            raise DatasetError(f"{path}: holds more than one {file.name}.csv: the names of recordings must differ")
        found[file.name] = file
    if not found:
        raise DatasetError(f"{path}: holds no csv file")
    return _recordings(list(found.values()))


def _parse(text: bytes, name: str, where: str) -> _File:
    lines = text.decode("utf-8-sig", errors="replace").splitlines()
    factors = _header(lines[0] if lines else "", f"{where}, line 1")
    numbers, rows = [], []
    for number, line in enumerate(lines[1:], 2):
        if line.strip():
            numbers.append(number)
            rows.append(line.split(","))
    n_columns = len(factors) + 1
    for number, row in zip(numbers, rows, strict=True):
        if len(row) != n_columns:
            raise DatasetError(f"{where}, line {number}: {len(row)} fields, but the header has {n_columns}")
    if len(rows) < 2:
        raise DatasetError(f"{where}: has {len(rows)} samples: from so few no rate can be told")
    values = _values([row[:-1] for row in rows], numbers, where)
    t = values[:, 0]
    for at in np.flatnonzero(np.diff(t) <= 0)[:1]:
        one, next_one = rows[at][0].strip(), rows[at + 1][0].strip()
        why = "repeats the time of" if t[at] == t[at + 1] else f"comes before {one} of"
        raise DatasetError(f"{where}, line {numbers[at + 1]}: t {next_one} {why} line {numbers[at]}: time must rise")
    try:
        SignalSpec(sample_rate_hz=1 / float(np.median(np.diff(t))))
    except ConfigError as error:
        raise DatasetError(f"{where}: {error}: is t in seconds?") from error
    labels = np.array([row[-1].strip() for row in rows], np.str_)
    samples = (values[:, 1:] * factors[1:]).astype(np.float32)
    return _File(name, np.rint((t - t[0]) * 1e9).astype(np.int64), samples, labels)


def _header(line: str, where: str) -> Float64:
    """What the numbers of each column must be multiplied by to be in s, g and rad/s."""
    columns = [_COLUMN.fullmatch(column) for column in line.split(",")]
    names = [column[1] if column else "" for column in columns]
    if names not in (_NAMES, _NAMES_WITHOUT_GYRO):
        raise DatasetError(
            f"{where}: expected the header {HEADER} (units as in ax[m/s2]; gx,gy,gz may be left out), got {line!r}"
        )
    factors = []
    for column in columns[:-1]:
        assert column
        units = _UNITS[column[1][0]]
        unit = column[2]
        if unit is not None and unit.strip() not in units:
            raise DatasetError(f"{where}: {column[1]} is in {unit!r}, which is not one of {', '.join(units)}")
        factors.append(units[unit.strip()] if unit is not None else 1.0)
    return np.array(factors)


def _values(rows: Sequence[Sequence[str]], numbers: Sequence[int], where: str) -> Float64:
    """(n_samples, n_columns), all finite."""
    values, bad = texts.numbers(rows)
    if bad is not None:
        raise DatasetError(f"{where}, line {numbers[bad]}: {','.join(rows[bad])!r} are not all finite numbers")
    return values


def _recordings(found: Sequence[_File]) -> list[Recording]:
    common = float(np.median([file.rate_hz for file in found]))
    by_rate: dict[float, list[_File]] = {}
    for file in found:
        agrees = abs(file.rate_hz / common - 1) <= DRIFT
        by_rate.setdefault(_round(common if agrees else file.rate_hz), []).append(file)
    made, taken = [], {file.name for file in found}
    for rate_hz, some in by_rate.items():
        grids = on_grid([Stamped(file.t_ns, file.samples) for file in some], rate_hz)
        for file, pieces in zip(some, grids, strict=True):
            numbered = (f"{file.name}_{number}" for number in itertools.count(2))
            names = itertools.chain([file.name], (name for name in numbered if name not in taken))
            made += [_recording(name, file, piece, rate_hz) for name, piece in zip(names, pieces, strict=False)]
    return sorted(made, key=lambda recording: recording.name)


def _round(rate_hz: float) -> float:
    """The roundest rate that a measured one may be: of 49.98 Hz, 50."""
    for step in (10.0, 5.0, 1.0, 0.5, 0.1, 0.05):
        rounded = round(round(rate_hz / step) * step, 2)
        if abs(rounded / rate_hz - 1) <= _ROUNDING:
            return rounded
    return rate_hz


def _recording(name: str, file: _File, piece: Piece, rate_hz: float) -> Recording:
    """One piece, every sample with the label of the sample in the file that is nearest in time."""
    between = (file.t_ns[1:] + file.t_ns[:-1]) / 2
    labels = file.labels[np.searchsorted(between, piece.t_ns)]
    parts = sessions(piece.t_ns, labels)
    segments = tuple(Segment(part.start, part.stop, str(labels[part.start])) for part in parts if labels[part.start])
    samples = np.zeros((len(piece), 6), np.float32)
    samples[:, : piece.samples.shape[1]] = piece.samples
    has_gyro = piece.samples.shape[1] == 6
    return Recording(name, file.name.partition("_")[0], rate_hz, samples, segments, has_gyro)


class CsvWriter:
    """A new csv file, to which samples are appended as they come.

    Numbers are written as the shortest text that reads back as the same float32. Raises DatasetError
    where the file is already there or cannot be written.
    """

    def __init__(self, path: Path, *, gyro: bool = True) -> None:
        self.path = path
        self.n_samples = 0
        self._n_signals = 6 if gyro else 3
        try:
            self._file = path.open("x", encoding="utf-8", newline="\n")
            self._file.write(",".join(_NAMES if gyro else _NAMES_WITHOUT_GYRO) + "\n")
        except OSError as error:
            raise DatasetError(f"{path}: cannot be written: {error.strerror}") from error

    def write(self, t_s: Float64, samples: Float32, label: str = "") -> None:
        """Append (n_samples, 6) in g and rad/s, or (n_samples, 3), at the times ``t_s``; the label of all of them."""
        if re.search(r"[,\r\n]", label):
            raise DatasetError(f"label {label!r} has a comma or a line break")
        times = [f"{t:.6f}" for t in np.asarray(t_s, np.float64).tolist()]
        values = np.asarray(samples, np.float32)[:, : self._n_signals].astype(np.str_).tolist()
        self._file.writelines(f"{t},{','.join(row)},{label}\n" for t, row in zip(times, values, strict=True))
        self._file.flush()  # what was recorded outlives a crash
        self.n_samples += len(times)

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> CsvWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
