"""Own recordings: a folder with one csv file per recording, as ``harstream record`` writes them.

Layout: the first line of a file is ``t,ax,ay,az,gx,gy,gz,label``, and each further line is a sample. ``gx,gy,gz`` are
left out if there is no gyroscope.

Units: ``t`` in seconds from any instant, ``ax,ay,az`` in g, ``gx,gy,gz`` in rad/s. Another unit stands in brackets
behind the name, such as ``ax[m/s2]`` or ``gx[deg/s]``.

Labels: ``label`` is the activity of the subject, or empty if it is not known.

Subjects: the name of the subject is the name of the file up to the first ``_``. ``anna_walk.csv`` and ``anna_2.csv``
are recordings of anna.
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
from harstream.core.rates import DRIFT
from harstream.core.spec import SignalSpec
from harstream.datasets import files, texts
from harstream.datasets.base import Recording
from harstream.datasets.stamped import Piece, StampedLabels, StampedSamples, resample_to_grid
from harstream.errors import ConfigError, DatasetError
from harstream.wire.samples import ACC_UNITS, GYRO_UNITS

#: First line of a file in the default units.
HEADER = "t,ax,ay,az,gx,gy,gz,label"

_NAMES = HEADER.split(",")
_NAMES_WITHOUT_GYRO = [name for name in _NAMES if not name.startswith("g")]
_UNITS = {"t": {"s": 1.0}, "a": ACC_UNITS, "g": GYRO_UNITS}
_COLUMN = re.compile(r"\s*(\w+)\s*(?:\[([^\]]*)\])?\s*")
#: Largest relative difference between a measured rate and the round number that replaces it.
_ROUNDING = 0.005


@dataclass(frozen=True, slots=True)
class _File:
    """Content of one file, in order of time."""

    name: str  # file name without extension
    t_ns: Int64  # (n_samples,) time since the first sample
    samples: Float32  # (n_samples, 6) acc in g and gyro in rad/s; (n_samples, 3) without gyroscope
    labels: npt.NDArray[np.str_]  # (n_samples,) empty if not known

    @property
    def rate_hz(self) -> float:
        """Measured sample rate."""
        return 1e9 / float(np.median(np.diff(self.t_ns)))


def load(path: Path) -> list[Recording]:
    """Return the recordings of one csv file, or of all csv files of a folder or zip, sorted by name.

    The sample rate is measured. Files whose rates differ by no more than the drift of a clock get one common rate.
    Samples are placed on a grid and short gaps are bridged as in the Engine. After a longer gap a new recording begins,
    ``anna_walk_2``, or the next number that is not the name of a file.

    Raises:
        DatasetError: There is no file, two files have one name, or a file is malformed; the message names file and
            line.

    """
    content: dict[str, _File] = {}
    for name, text in files.read_files(path, lambda last: last.lower().endswith(".csv")):
        file = _parse(text, PurePosixPath(name).stem, f"{path}/{name}" if path.name != name else str(path))
        if file.name in content:
            raise DatasetError(
                f"{path}: holds more than one {file.name}.csv: rename one, the names of recordings must differ"
            )
        content[file.name] = file
    if not content:
        raise DatasetError(f"{path}: expected csv files, found none")
    return _make_recordings(list(content.values()))


def _parse(text: bytes, name: str, where: str) -> _File:
    """Parse the content of a file; ``where`` is its path, for messages."""
    lines = text.decode("utf-8-sig", errors="replace").splitlines()
    factors = _header(lines[0] if lines else "", f"{where}, line 1")
    numbers, rows = [], []  # line numbers, which count from 1, and fields
    for number, line in enumerate(lines[1:], 2):
        if line.strip():
            numbers.append(number)
            rows.append(line.split(","))
    n_columns = len(factors) + 1
    for number, row in zip(numbers, rows, strict=True):
        if len(row) != n_columns:
            raise DatasetError(f"{where}, line {number}: expected {n_columns} fields as in the header, got {len(row)}")
    if len(rows) < 2:
        raise DatasetError(f"{where}: expected at least 2 samples to measure the rate, got {len(rows)}")
    values = _parse_values([row[:-1] for row in rows], numbers, where)
    t = values[:, 0]
    for at in np.flatnonzero(np.diff(t) <= 0)[:1]:
        one, next_one = rows[at][0].strip(), rows[at + 1][0].strip()
        raise DatasetError(
            f"{where}, line {numbers[at + 1]}: t must increase, got {next_one} after {one} in line {numbers[at]}"
        )
    try:
        SignalSpec(sample_rate_hz=1 / float(np.median(np.diff(t))))
    except ConfigError as error:
        raise DatasetError(f"{where}: {error}: t must be in seconds") from error
    labels = np.array([row[-1].strip() for row in rows], np.str_)
    samples = (values[:, 1:] * factors[1:]).astype(np.float32)
    return _File(name, np.rint((t - t[0]) * 1e9).astype(np.int64), samples, labels)


def _header(line: str, where: str) -> Float64:
    """Return the factor that converts each column but the label to s, g or rad/s, (n_columns - 1,)."""
    columns = [_COLUMN.fullmatch(column) for column in line.split(",")]
    names = [column[1] if column else "" for column in columns]
    if names not in (_NAMES, _NAMES_WITHOUT_GYRO):
        raise DatasetError(
            f"{where}: expected the header {HEADER} (other units as in ax[m/s2]; gx,gy,gz may be left out), "
            f"got {line!r}"
        )
    factors = []
    for column in columns[:-1]:
        assert column
        units = _UNITS[column[1][0]]
        unit = column[2]
        if unit is not None and unit.strip() not in units:
            raise DatasetError(f"{where}: unit of {column[1]}: expected one of {', '.join(units)}, got {unit!r}")
        factors.append(units[unit.strip()] if unit is not None else 1.0)
    return np.array(factors)


def _parse_values(rows: Sequence[Sequence[str]], numbers: Sequence[int], where: str) -> Float64:
    """Return the numbers of all rows, (n_samples, n_columns); ``numbers`` are their line numbers."""
    values, bad = texts.parse_numbers(rows)
    if bad is not None:
        raise DatasetError(f"{where}, line {numbers[bad]}: expected finite numbers, got {','.join(rows[bad])!r}")
    return values


def _make_recordings(content: Sequence[_File]) -> list[Recording]:
    """Place the samples of all files on grids, and return the recordings sorted by name."""
    common = float(np.median([file.rate_hz for file in content]))
    by_rate: dict[float, list[_File]] = {}
    for file in content:
        agrees = abs(file.rate_hz / common - 1) <= DRIFT
        by_rate.setdefault(_round_rate(common if agrees else file.rate_hz), []).append(file)
    recordings, used = [], {file.name for file in content}
    for rate_hz, group in by_rate.items():
        grids = resample_to_grid([StampedSamples(file.t_ns, file.samples) for file in group], rate_hz)
        for file, pieces in zip(group, grids, strict=True):
            numbered = (f"{file.name}_{number}" for number in itertools.count(2))
            names = itertools.chain([file.name], (name for name in numbered if name not in used))
            recordings += [
                _make_recording(name, file, piece, rate_hz) for name, piece in zip(names, pieces, strict=False)
            ]
    return sorted(recordings, key=lambda recording: recording.name)


def _round_rate(rate_hz: float) -> float:
    """Return the roundest number near a measured rate, such as 50 for 49.98; the rate itself if none is near."""
    for step in (10.0, 5.0, 1.0, 0.5, 0.1, 0.05):
        rounded = round(round(rate_hz / step) * step, 2)
        if abs(rounded / rate_hz - 1) <= _ROUNDING:
            return rounded
    return rate_hz


def _make_recording(name: str, file: _File, piece: Piece, rate_hz: float) -> Recording:
    """Return one piece as a recording."""
    samples = np.zeros((len(piece), 6), np.float32)
    samples[:, : piece.samples.shape[1]] = piece.samples
    segments = StampedLabels(file.t_ns, file.labels).segments_of(piece)
    has_gyro = piece.samples.shape[1] == 6
    return Recording(name, file.name.partition("_")[0], rate_hz, samples, segments, has_gyro)


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
