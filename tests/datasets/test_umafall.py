"""Trials with a phone and body tags in one file, and what goes wrong in them."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from harstream.datasets import umafall
from harstream.datasets.base import PLACEMENTS, Segment, load, subject_names
from harstream.errors import DatasetError

from ..servers import recorded
from .archives import zip_in_zip, zip_of
from .signals import cadence_hz, rest_g

HEADER = """\
% Universidad de Malaga - ETSI de Telecomunicacion (Spain)
% ID: {id}

% Number of Sensors: 3
% MAC Address; Sensor_ID; Position; Device Model
%02:00:00:00:00:00; 0; RIGHTPOCKET; lge-LG-H815-5.1
%02:00:00:00:00:02; 2; WAIST; SensorTag
%02:00:00:00:00:03; 3; WRIST; SensorTag

% Sensor_Type:
% Accelerometer = 0
% TimeStamp; Sample No; X-Axis; Y-Axis; Z-Axis; Sensor Type; Sensor ID;
"""
DURATION_S = 15
PHONE, WAIST, WRIST = 0, 2, 3
Y_G = 4097 / 4096


def wave(t_s: np.ndarray) -> np.ndarray:
    """Return a movement, (n_samples,), in whole multiples of the tags' resolution."""
    return quantised(0.3 + 0.5 * np.sin(2 * np.pi * 1.7 * t_s))


def quantised(acc: np.ndarray) -> np.ndarray:
    return np.rint(4096 * acc) / 4096


def rows(sensor: int, kind: int, *, burst: int = 1, start_s: float = 0.1, scale: float = 1.0) -> list[list[float]]:
    """Return the samples ``ms, number, x, y, z, type, id`` of a sensor that hands them over ``burst`` at a time.

    The acceleration is a movement in x and Y_G in y; the angular velocity rises by 0.1 deg/s a sample in x.
    """
    rate = 200 if sensor == PHONE else 20
    n = round((DURATION_S - start_s) * rate)
    t_s = start_s + np.arange(n) / rate
    handover = np.minimum((np.arange(n) // burst + 1) * burst - 1, n - 1)
    x = wave(t_s) if kind == 0 else np.arange(n) / 10
    ms = np.rint(1000 * t_s[handover])
    return np.stack(
        [
            ms,
            np.arange(n),
            scale * x,
            np.full(n, scale * Y_G),
            scale * quantised(x / 4),
            np.full(n, kind),
            np.full(n, sensor),
        ],
        1,
    ).tolist()


def line(row: list[float]) -> str:
    return ";".join([f"{row[0]:.0f}", f"{row[1]:.0f}", *map(repr, row[2:5]), f"{row[5]:.0f}", f"{row[6]:.0f}"])


def everything() -> list[list[float]]:
    magnetometer = [[*row[:2], 30.5, -12.0, 7.0, 2, WAIST] for row in rows(WAIST, 1)]
    return [*rows(PHONE, 0), *rows(WAIST, 0), *rows(WAIST, 1), *rows(WRIST, 0), *rows(WRIST, 1), *magnetometer]


def write(
    root: Path,
    samples: list[list[float]],
    trial: str = "Subject_04_ADL_Walking_1",
    date: str = "2016-06-13_12-58-50",
    more: tuple[str, ...] = (),
) -> Path:
    folder = root / "UMAFall_Dataset"
    folder.mkdir(parents=True, exist_ok=True)
    header = HEADER.format(id=trial).replace("\n", "    \n")  # the publisher's lines end in spaces
    text = header + "\n".join([*map(line, samples), *more]) + "\n"
    (folder / f"UMAFall_{trial}_{date}.csv").write_text(text)
    return root


def test_each_device_is_a_recording_with_its_place_and_unit(tmp_path: Path) -> None:
    recordings = {recording.placement: recording for recording in umafall.load(write(tmp_path / "set", everything()))}
    assert list(recordings) == ["pocket", "waist", "wrist"]
    phone, waist = recordings["pocket"], recordings["waist"]
    assert (phone.name, phone.subject) == ("04_Walking_1_pocket", "04")
    assert (phone.rate_hz, waist.rate_hz) == (200.0, 20.0)
    assert (phone.has_gyro, waist.has_gyro) == (False, True)
    np.testing.assert_allclose(phone.samples[:, 1], Y_G, rtol=1e-6)
    assert not phone.samples[:, 3:].any()
    np.testing.assert_allclose(waist.samples[:, 3], np.radians(np.arange(298) / 10), rtol=1e-5)


def test_a_label_of_gait_is_only_where_the_sensor_moves(tmp_path: Path) -> None:
    """A flight of stairs lasts 5 s of the 15: the rest of the trial is standing, and must not be learnt as stairs."""
    samples = everything()
    for row in samples:
        if row[5] == 0 and row[0] > 8000:
            row[2:5] = [0.0, Y_G + (1 / 4096) * (row[1] % 2), 0.0]
    root = write(tmp_path / "set", samples, trial="Subject_04_ADL_GoUpstairs_1")
    recordings = umafall.load(root)
    assert len(recordings) == 3
    for recording in recordings:
        (segment,) = recording.segments
        assert segment.label == "WALKING_UPSTAIRS"
        assert 1.8 < segment.start / recording.rate_hz < 2.1
        assert 7.4 < segment.stop / recording.rate_hz < 8.6
    (tmp_path / "calm").mkdir()
    calm = umafall.load(write(tmp_path / "calm" / "set", samples, trial="Subject_04_ADL_Bending_1"))
    assert all(one.segments[0].stop / one.rate_hz > 12 for one in calm)  # other activities have calm moments


def test_the_label_leaves_out_the_first_and_last_two_seconds_of_the_trial(tmp_path: Path) -> None:
    for recording in umafall.load(write(tmp_path / "set", everything())):
        (segment,) = recording.segments
        assert segment.label == "WALKING"
        assert segment.start / recording.rate_hz == pytest.approx(2 - 0.1, abs=0.06)  # the first sample is at 0.1 s
        assert segment.stop / recording.rate_hz == pytest.approx(DURATION_S - 2 - 0.1, abs=0.06)


@pytest.mark.parametrize(
    ("trial", "name", "label"),
    [
        (
            "Subject_01_ADL_Sitting_GettingUpOnAChair_2",
            "01_Sitting_GettingUpOnAChair_2_pocket",
            "SITTING_AND_GETTING_UP",
        ),
        ("Subject_01_ADL_GoUpstairs_3", "01_GoUpstairs_3_pocket", "WALKING_UPSTAIRS"),
        ("Subject_01_ADL_Aplausing_3", "01_Aplausing_3_pocket", "CLAPPING"),
        ("Subject_12_Fall_backwardFall_1", "12_backwardFall_1_pocket", "FALL_BACKWARD"),
    ],
)
def test_activities_and_falls_get_the_names_of_the_project(tmp_path: Path, trial: str, name: str, label: str) -> None:
    (recording,) = umafall.load(write(tmp_path / "set", rows(PHONE, 0), trial))
    assert (recording.name, recording.segments[0].label) == (name, label)


def test_the_true_time_of_samples_in_bursts_is_found(tmp_path: Path) -> None:
    samples = [*rows(PHONE, 0, burst=11), *rows(WAIST, 0, burst=4), *rows(WAIST, 1, burst=4)]
    for recording in umafall.load(write(tmp_path / "set", samples)):
        t_s = 0.1 + np.arange(len(recording.samples)) / recording.rate_hz
        assert t_s[-1] == pytest.approx(DURATION_S, abs=0.1)
        np.testing.assert_allclose(recording.samples[:, 0], wave(t_s), atol=0.06)


def test_a_held_value_and_missing_samples_split_the_recording(tmp_path: Path) -> None:
    held, missing = rows(WAIST, 0), rows(WRIST, 0)
    for row in held[100:160]:
        row[2:5] = held[99][2:5]
    del missing[100:160]
    samples = [*held, *rows(WAIST, 1), *missing, *rows(WRIST, 1)]
    recordings = umafall.load(write(tmp_path / "set", samples))
    assert [(recording.name, len(recording.samples)) for recording in recordings] == [
        ("04_Walking_1_waist", 100),
        ("04_Walking_1_waist_2", 138),
        ("04_Walking_1_wrist", 100),
        ("04_Walking_1_wrist_2", 138),
    ]
    assert recordings[0].segments == (Segment(38, 100, "WALKING"),)
    assert recordings[1].segments == (Segment(0, 97, "WALKING"),)


def test_a_value_that_is_held_for_a_moment_is_kept(tmp_path: Path) -> None:
    samples = rows(PHONE, 0)
    for row in samples[400:440]:
        row[2:5] = samples[399][2:5]
    (recording,) = umafall.load(write(tmp_path / "set", samples))
    assert len(recording.samples) == len(samples)


def test_what_a_tag_wrote_in_the_wrong_scale_is_corrected(tmp_path: Path) -> None:
    acc = [*rows(WAIST, 0, scale=0.25)[:120], *rows(WAIST, 0)[120:]]
    (recording,) = umafall.load(write(tmp_path / "set", [*acc, *rows(WAIST, 1)]))
    np.testing.assert_allclose(recording.samples[:, 1], Y_G, rtol=1e-6)
    np.testing.assert_allclose(recording.samples[:, 0], wave(0.1 + np.arange(298) / 20), rtol=1e-6)


def test_accelerations_of_another_resolution_are_taken_as_they_are(tmp_path: Path) -> None:
    acc = rows(WAIST, 0)
    for number, row in enumerate(acc):
        row[2] = 0.3 + number / 1000
    (recording,) = umafall.load(write(tmp_path / "set", [*acc, *rows(WAIST, 1)]))
    np.testing.assert_allclose(recording.samples[:, 1], Y_G, rtol=1e-6)


def test_samples_of_zero_are_no_measurement(tmp_path: Path) -> None:
    acc = rows(WAIST, 0)
    for row in acc[:30]:
        row[2:5] = [0.0, -0.0, 0.0]
    (recording,) = umafall.load(write(tmp_path / "set", [*acc, *rows(WAIST, 1)]))
    assert len(recording.samples) == len(acc) - 30


def test_a_sensor_that_is_announced_and_silent_is_passed_over(tmp_path: Path) -> None:
    samples = [*rows(PHONE, 0), *rows(WAIST, 0)[:5], *rows(WRIST, 0)]
    assert [recording.placement for recording in umafall.load(write(tmp_path / "set", samples))] == ["pocket"]


def test_two_files_with_one_number_are_two_trials(tmp_path: Path) -> None:
    write(tmp_path / "set", rows(PHONE, 0), date="2016-06-13_12-58-50")
    write(tmp_path / "set", rows(PHONE, 0), date="2016-06-13_12-59-50")
    names = [recording.name for recording in umafall.load(tmp_path / "set")]
    assert names == ["04_Walking_1_pocket", "04_Walking_1-2_pocket"]


def test_broken_lines_are_skipped_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        (recording,) = umafall.load(write(tmp_path / "set", rows(PHONE, 0), more=("14000;3", "1;2;x;4;5;0;0", " ;;;")))
    assert len(recording.samples) == len(rows(PHONE, 0))
    assert "58-50.csv: skipped 2 malformed lines of 2982" in caplog.text


def test_a_file_that_a_spreadsheet_rewrote_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path / "set", rows(PHONE, 0), "Subject_04_ADL_Walking_2")
    more = tuple(f"{14000 + i};{i};0.08;1.006.738.901.138.300;0.15;0;0;" for i in range(60))
    write(tmp_path / "set", rows(PHONE, 0), more=more)
    with caplog.at_level(logging.WARNING):
        (recording,) = umafall.load(tmp_path / "set")
    assert recording.name == "04_Walking_2_pocket"
    assert "Walking_1_2016-06-13_12-58-50.csv: left out, 60 of 3040 lines are malformed" in caplog.text
    (tmp_path / "set/UMAFall_Dataset/UMAFall_Subject_04_ADL_Walking_2_2016-06-13_12-58-50.csv").unlink()
    with pytest.raises(DatasetError, match=r"set: expected lines 'ms; number; x; y; z; sensor type; sensor id'"):
        umafall.load(tmp_path / "set")


def test_an_unknown_position_and_a_folder_without_trials_are_refused(tmp_path: Path) -> None:
    root = write(tmp_path / "set", rows(PHONE, 0))
    (file,) = root.rglob("*.csv")
    file.write_text(file.read_text().replace("RIGHTPOCKET", "HAT"))
    with pytest.raises(DatasetError, match=r"58-50\.csv: position 'HAT' is not known: expected RIGHTPOCKET, WAIST"):
        umafall.load(root)
    file.unlink()
    with pytest.raises(DatasetError, match=r"expected files UMAFall_Subject_NN_ADL_NAME_TRIAL_DATE\.csv, found none"):
        umafall.load(root)


@pytest.mark.parametrize("pack", [zip_of, zip_in_zip])
def test_a_zip_and_a_zip_in_a_zip_are_read(tmp_path: Path, pack) -> None:
    folder = write(tmp_path / "set", rows(PHONE, 0))
    (recording,) = load(f"umafall:{pack(folder, tmp_path / 'set.zip')}")
    assert recording.name == "04_Walking_1_pocket"


@pytest.mark.slow
def test_the_real_trials_are_plausible_on_all_parts_of_the_body() -> None:
    recordings = load(f"umafall:{recorded('umafall.zip')}")
    assert len({recording.name for recording in recordings}) == len(recordings)
    assert len(subject_names(recordings)) == 18  # a spreadsheet has damaged the files of one of the 19
    assert "13" not in subject_names(recordings)
    trials = Counter(recording.placement for recording in recordings if recording.duration_s > 10)
    assert set(trials) == set(PLACEMENTS)
    assert all(trials[placement] > 400 for placement in PLACEMENTS)
    labels = {segment.label for recording in recordings for segment in recording.segments}
    assert labels >= set(umafall.LABELS)
    for placement in PLACEMENTS:
        mine = [recording for recording in recordings if recording.placement == placement]
        rests = [rest for recording in mine if (rest := rest_g(recording)) is not None]
        assert np.median(rests) == pytest.approx(1.0, abs=0.03)
        assert min(rests) > 0.9  # no quarters
        assert max(rests) < 1.2
        for label, expected in (("WALKING", 1.7), ("JOGGING", 2.65)):
            if (placement, label) == ("ankle", "JOGGING"):
                continue  # one leg's strides dominate
            parts = [(recording, part) for recording in mine for part in recording.segments if part.label == label]
            cadences = [cadence_hz(*part) for part in parts if (part[1].stop - part[1].start) / part[0].rate_hz > 8]
            assert np.median(cadences) == pytest.approx(expected, abs=0.15)
