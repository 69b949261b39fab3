"""UMAFall: everyday activities and falls with a phone and four body tags (University of Malaga, Casilari et al. 2017).

Layout: one file for each trial, ``UMAFall_Subject_NN_ADL_NAME_TRIAL_DATE.csv`` or
``UMAFall_Subject_NN_Fall_NAME_TRIAL_DATE.csv``. Its header consists of lines that begin with ``%`` and names the
position of each sensor, as in ``%C4:BE:84:71:A5:02; 2; WAIST; SensorTag``. Each further line is a sample of one sensor,
``ms; number; x; y; z; sensor type; sensor id`` with type 0 accelerometer, 1 gyroscope, 2 magnetometer (not used).

Units: g, deg/s and ms in the files; g and rad/s in the recordings. The phone has an accelerometer at 200 Hz only, the
tags have both at 20 Hz. Stamps are of the arrival, which comes in bursts. Where a tag drops out, samples are missing or
the last value is repeated. One of the two phones cuts each axis at 2 g, the other at 4 g, and their scale is off by up
to 5 %. Some tags begin with accelerations of a quarter of the true size, see ``_correct_scale``.

Labels: the activity in the file name. A trial lasts 15 s and includes getting ready, so that the label leaves out its
first and last two seconds. Most stairs are climbed in 5 s, and the subject stands for the rest of the trial: the labels
of gait are only where the sensor moves, see ``gait``.

Licence: see ABOUT.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from harstream.core.batches import Bool, Float64
from harstream.datasets import files
from harstream.datasets.base import PLACEMENTS, Recording
from harstream.datasets.gait import leave_out_still
from harstream.datasets.stamped import (
    Piece,
    StampedLabels,
    StampedSamples,
    even_stamps,
    held,
    make_recordings,
    merge_sources,
    resample_to_grid,
)
from harstream.datasets.texts import NUMBER
from harstream.errors import DatasetError
from harstream.wire.samples import GYRO_UNITS

log = logging.getLogger("harstream.datasets")

PHONE_RATE_HZ, TAG_RATE_HZ = 200.0, 20.0

_ACTIVITIES = {
    "ADL_Walking": "WALKING",
    "ADL_Jogging": "JOGGING",
    "ADL_GoUpstairs": "WALKING_UPSTAIRS",
    "ADL_GoDownstairs": "WALKING_DOWNSTAIRS",
    "ADL_Aplausing": "CLAPPING",
    "ADL_Hopping": "HOPPING",
    "ADL_Bending": "BENDING",
    "ADL_HandsUp": "HANDS_UP",
    "ADL_MakingACall": "MAKING_A_CALL",
    "ADL_OpeningDoor": "OPENING_DOOR",
    "ADL_Sitting_GettingUpOnAChair": "SITTING_AND_GETTING_UP",
    "ADL_LyingDown_OnABed": "LYING_DOWN",
    "Fall_backwardFall": "FALL_BACKWARD",
    "Fall_forwardFall": "FALL_FORWARD",
    "Fall_lateralFall": "FALL_LATERAL",
}
#: Labels that ``train`` uses by default. The others are single movements or falls, shorter than their segments.
LABELS = ("WALKING", "WALKING_UPSTAIRS", "WALKING_DOWNSTAIRS", "JOGGING", "HOPPING", "CLAPPING")

#: Description, source and licence for the model card.
ABOUT = """\
UMAFall, trials of 15 s of everyday activities and falls by 19 subjects. Used are the accelerometer of a phone at
200 Hz, without gyroscope, and accelerometer and gyroscope of body tags at 20 Hz.

Placement: a phone in the right trouser pocket; tags (TI SensorTag) at waist, chest, wrist and ankle.

Source: University of Malaga; Eduardo Casilari, Jose A. Santoyo-Ramón, Jose M. Cano-García: UMAFall: A Multisensor
Dataset for the Research on Automatic Fall Detection, Procedia Computer Science 110, 32-39, 2017.

Licence: free to download from the university, which asks for the paper above to be cited."""

#: Labels of movements that go on for the whole of their segment.
_GYRO = 1  # sensor type; 0 is the accelerometer
#: Resolution of the tags' accelerometers, and value where some of them cut the axes, which is no multiple of it.
_TAG_COUNTS_PER_G, _TAG_CUT_G = 4096, 1.9999
#: Seconds at either end of a trial without label.
_EDGE_S = 2.0
#: A file with a greater share of malformed lines is not used: a spreadsheet has rewritten its numbers
#: (1.0067389 as 1.006.738.900), and those that still look valid are the small ones.
_MAX_MALFORMED = 0.01

_FILE = re.compile(rf"UMAFall_Subject_(\d+)_({'|'.join(_ACTIVITIES)})_(\d+)_.*\.csv")
_POSITION = re.compile(rb"^%\s*[^;]*;\s*(\d+)\s*;\s*([A-Z]+)\s*;", re.MULTILINE)
_LINE = re.compile(rb"^\d{1,9};\d{1,9};%s;%s;%s;[012];\d{1,2}(?=[ \t\r;]*$)" % (NUMBER, NUMBER, NUMBER), re.MULTILINE)
_TEXT = re.compile(rb"^[ \t;]*[^%\s;].*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class _Sensor:
    """Samples of one device in one trial."""

    name: str  # of the trial and the placement
    subject: str
    placement: str
    labels: StampedLabels
    acc: StampedSamples  # in g
    gyro: StampedSamples | None  # in rad/s; None: the phone, which has none

    @property
    def rate_hz(self) -> float:
        """Nominal sample rate."""
        return PHONE_RATE_HZ if self.gyro is None else TAG_RATE_HZ


def load(path: Path) -> list[Recording]:
    """Return every trial as each sensor recorded it: the phone in g at 200 Hz, the tags in g and rad/s at 20 Hz.

    A recording is named by subject, activity, trial and placement, such as ``01_Walking_1_pocket``. After a gap, or
    values that were held, longer than the Engine bridges, the rest is another recording, ``01_Walking_1_pocket_2``.
    Where two files have the same number of the trial, the second is trial ``1-2``. Malformed lines are skipped and
    their number is logged. Files that a spreadsheet has damaged are left out with a warning.

    Raises:
        DatasetError: There is no file, or none with a valid line.

    """
    sensors: list[_Sensor] = []
    trials: Counter[tuple[str, ...]] = Counter()
    for name, text in files.read_files(path, lambda last: _FILE.fullmatch(last) is not None):
        match = _FILE.fullmatch(PurePosixPath(name).name)
        assert match
        trials[match.groups()] += 1
        number = trials[match.groups()]
        trial = match[3] if number == 1 else f"{match[3]}-{number}"
        sensors += _parse_trial(text, match, trial, f"{path}/{name}" if path.name != name else str(path))
    if not trials:
        raise DatasetError(f"{path}: expected files UMAFall_Subject_NN_ADL_NAME_TRIAL_DATE.csv, found none")
    if not sensors:
        raise DatasetError(f"{path}: expected lines 'ms; number; x; y; z; sensor type; sensor id' in its files")
    return [leave_out_still(recording) for recording in _make_recordings(sensors)]


def _parse_trial(text: bytes, match: re.Match[str], trial: str, where: str) -> list[_Sensor]:
    """Return the sensors of one trial; ``where`` is its path."""
    rows = _LINE.findall(text)
    lines = len(_TEXT.findall(text))
    malformed = lines - len(rows)
    if malformed > _MAX_MALFORMED * lines or not rows:
        log.warning("%s: left out, %d of %d lines are malformed", where, malformed, lines)
        return []
    if malformed:
        log.warning("%s: skipped %d malformed lines of %d", where, malformed, lines)
    values = np.fromstring(b";".join(rows), sep=";").reshape(-1, 7)  # columns as in the file
    subject, activity = match[1], match[2]
    end_ms = values[:, 0].max()
    sensors = []
    for number, position in _POSITION.findall(text):
        place = "pocket" if position == b"RIGHTPOCKET" else position.decode().lower()
        if place not in PLACEMENTS:
            raise DatasetError(
                f"{where}: position {position.decode()!r} is not known: "
                "expected RIGHTPOCKET, WAIST, CHEST, WRIST or ANKLE"
            )
        rate_hz = PHONE_RATE_HZ if place == "pocket" else TAG_RATE_HZ
        acc, gyro = (_select(values, int(number), sensor_type, rate_hz) for sensor_type in (0, _GYRO))
        if len(acc.t_ns) < rate_hz:
            continue  # the position is in the header, but the sensor sent nothing, or too little for its clock
        inside = (acc.t_ns >= _EDGE_S * 1e9) & (acc.t_ns < end_ms * 1e6 - _EDGE_S * 1e9)
        labels = StampedLabels(acc.t_ns, np.where(inside, _ACTIVITIES[activity], ""))
        name = f"{subject}_{activity.partition('_')[2]}_{trial}_{place}"
        sensors.append(_Sensor(name, subject, place, labels, acc, None if place == "pocket" else gyro))
    return sensors


def _select(values: Float64, number: int, sensor_type: int, rate_hz: float) -> StampedSamples:
    """Return the samples of one sensor in g or rad/s with even stamps, without those that are no measurement."""
    rows = values[(values[:, 6] == number) & (values[:, 5] == sensor_type)]
    t_ns, samples = even_stamps((rows[:, 0] * 1e6).astype(np.int64), rate_hz), rows[:, 2:5]
    measured = ~held(samples, t_ns / 1e9)
    if sensor_type == _GYRO:
        samples = samples * GYRO_UNITS["deg/s"]
    else:
        measured &= samples.any(axis=1)  # gravity is never zero
        if rate_hz == TAG_RATE_HZ and len(samples):
            samples = _correct_scale(samples)
    return StampedSamples(t_ns[measured], samples[measured].astype(np.float32))


def _correct_scale(acc: Float64) -> Float64:
    """Return the accelerations of a tag in g, (n_samples, 3), with the right scale throughout.

    A tag measures with a range of 8 g, so that its values are multiples of 1/4096 g. In some trials, the first seconds
    or all of it were written as if the range was 2 g: as multiples of 1/16384 g, a quarter of the true size. By chance
    one in 64 of these samples looks like one of the right scale, so the nine samples around each decide.
    """
    coarse, fine = (_are_whole(acc * count) for count in (_TAG_COUNTS_PER_G, 4 * _TAG_COUNTS_PER_G))
    small = fine & ~coarse & (np.abs(acc) < _TAG_CUT_G).all(axis=1)
    votes = np.convolve(np.where(small, 1, -1), np.ones(9))[4:-4]
    return np.where((votes > 0)[:, np.newaxis], 4 * acc, acc)


def _are_whole(counts: Float64) -> Bool:
    """Return which samples consist of whole numbers, (n_samples,)."""
    return np.asarray((np.abs(counts - np.rint(counts)) < 0.01).all(axis=1))


def _make_recordings(sensors: list[_Sensor]) -> list[Recording]:
    """Place all samples on grids, and merge the two sensors of each tag."""
    phones = [sensor for sensor in sensors if sensor.gyro is None]
    tags = [sensor for sensor in sensors if sensor.gyro is not None]
    pieces: list[tuple[_Sensor, list[Piece]]] = []
    pieces += zip(phones, resample_to_grid([phone.acc for phone in phones], PHONE_RATE_HZ), strict=True)
    sources = [source for tag in tags for source in (tag.acc, tag.gyro) if source is not None]
    grids = resample_to_grid(sources, TAG_RATE_HZ)
    for tag, acc, gyro in zip(tags, grids[::2], grids[1::2], strict=True):
        pieces.append((tag, merge_sources(acc, gyro, TAG_RATE_HZ)))
    recordings: list[Recording] = []
    for sensor, found in pieces:
        recordings += make_recordings(
            sensor.name,
            sensor.subject,
            sensor.rate_hz,
            sensor.labels,
            found,
            has_gyro=sensor.gyro is not None,
            placement=sensor.placement,
        )
    return recordings
