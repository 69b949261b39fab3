"""Phones and watches whose samples come in bursts, with a label for each sample."""

from __future__ import annotations

import logging
from collections import Counter
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest

from harstream.datasets import sp_sw
from harstream.datasets.base import load, subject_names
from harstream.errors import DatasetError

from ..servers import recorded
from .archives import zip_in_zip, zip_of
from .signals import rest_g, still_angle_deg

G = 9.80665
HEADER = "x_acc,y_acc,z_acc,x_gyro,y_gyro,z_gyro,timestamp,label"
SEQUENCE = [("SEATED", 104), ("STANDING_UP", 130), ("WALKING", 312), ("TURNING", 156), ("SITTING_DOWN", 130)]


def wave(t_s: np.ndarray) -> np.ndarray:
    return np.sin(2 * np.pi * 1.8 * t_s)


def file(burst: int = 1, rate_hz: float = 104.0) -> list[str]:
    """Return the lines of a file whose samples are handed over ``burst`` at a time, with stamps in ms."""
    labels = [label for label, count in SEQUENCE for _ in range(count)]
    t_s = np.arange(len(labels)) / rate_hz
    handover = np.minimum((np.arange(len(labels)) // burst + 1) * burst - 1, len(labels) - 1)
    stamps = 1_657_533_977_813 + np.rint(1000 * t_s[handover]).astype(np.int64)
    acc = (wave(t_s) * G).tolist()
    return [HEADER] + [
        f"{a},{-G},0.5,0.25,-0.5,{a / 100},{t},{label}"
        for a, t, label in zip(acc, stamps.tolist(), labels, strict=True)
    ]


def write(root: Path, execution: str = "s01_02", orientation: str = "back_inv", **devices: list[str]) -> Path:
    folder = root / "DATA" / execution[:3]
    folder.mkdir(parents=True, exist_ok=True)
    for device, lines in (devices or {"sp": file()}).items():
        (folder / f"{execution}_{device}.csv").write_text("\n".join(lines) + "\n")
    info = root / "DATA" / "executions_info.csv"
    before = info.read_text() if info.exists() else "execution_id,orientation,first_turn,second_turn\n"
    info.write_text(f"{before}{execution},{orientation},l,r\n")
    (root / "DATA" / "subjects_info.csv").write_text("subject_id,age\ns01,30\n")
    return root


def test_each_device_is_a_recording_with_orientation_placement_and_labels(tmp_path: Path) -> None:
    phone, watch = sp_sw.load(write(tmp_path / "set", sp=file(), sw=file()))
    assert (phone.name, phone.subject, phone.rate_hz) == ("s01_02_sp_back_inv", "s01", 104.0)
    assert (watch.name, watch.subject) == ("s01_02_sw", "s01")
    assert (phone.placement, watch.placement) == ("pocket", "wrist")
    assert phone.has_gyro
    assert [segment.label for segment in phone.segments] == [
        "SITTING",
        "SIT_TO_STAND",
        "WALKING",
        "TURNING",
        "STAND_TO_SIT",
    ]
    assert {segment.label for segment in phone.segments} == set(sp_sw.LABELS)
    for segment, (_, count) in zip(phone.segments, SEQUENCE, strict=True):
        assert segment.stop - segment.start == pytest.approx(count, abs=1)
    np.testing.assert_allclose(phone.samples[:, 1], -1.0, rtol=1e-5)
    np.testing.assert_allclose(phone.samples[:, 3:5], np.tile([0.25, -0.5], (len(phone.samples), 1)), rtol=1e-5)


@pytest.mark.parametrize("burst", [1, 6])
def test_the_true_time_of_samples_in_bursts_is_found(tmp_path: Path, burst: int) -> None:
    (recording,) = sp_sw.load(write(tmp_path / "set", sp=file(burst)))
    assert len(recording.samples) == pytest.approx(sum(count for _, count in SEQUENCE), abs=2)
    np.testing.assert_allclose(recording.samples[:, 0], wave(np.arange(len(recording.samples)) / 104), atol=0.01)


def test_a_clock_that_is_slower_keeps_all_samples(tmp_path: Path) -> None:
    (recording,) = sp_sw.load(write(tmp_path / "set", sw=file(3, rate_hz=102.5)))
    assert len(recording.samples) == pytest.approx(sum(count for _, count in SEQUENCE), abs=3)


def test_broken_lines_are_skipped_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lines = file()
    lines[50], lines[90] = "1,2,3", lines[90].replace("SEATED", "DANCING")
    with caplog.at_level(logging.WARNING):
        (recording,) = sp_sw.load(write(tmp_path / "set", sp=lines))
    assert "s01_02_sp.csv: skipped 2 malformed lines of 832" in caplog.text
    assert len(recording.samples) == pytest.approx(832, abs=2)  # bridged


@pytest.mark.parametrize("pack", [zip_of, zip_in_zip])
def test_a_zip_and_a_zip_in_a_zip_are_read(tmp_path: Path, pack) -> None:
    (recording,) = load(f"sp-sw:{pack(write(tmp_path / 'set'), tmp_path / 'set.zip')}")
    assert recording.name == "s01_02_sp_back_inv"


def test_what_is_missing_or_double_is_named(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    with pytest.raises(DatasetError, match=r"expected files sNN_MM_sp\.csv and sNN_MM_sw\.csv, found none"):
        sp_sw.load(tmp_path / "set")
    root = write(tmp_path / "set")
    info = root / "DATA" / "executions_info.csv"
    info.write_text("execution_id,orientation\ns02_01,front\n")
    with pytest.raises(DatasetError, match=r"executions_info\.csv has no line for s01_02"):
        sp_sw.load(root)
    info.write_text("execution,how\ns01_02,front\n")
    with pytest.raises(DatasetError, match=r"executions_info\.csv: expected the columns execution_id and orientation"):
        sp_sw.load(root)
    info.unlink()
    with pytest.raises(DatasetError, match=r"set: executions_info\.csv is missing"):
        sp_sw.load(root)
    write(root / "copy")
    with pytest.raises(DatasetError, match=r"expected one s01_02_sp\.csv, found two, .*: remove one"):
        sp_sw.load(root)


def test_a_file_without_samples_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"s01_02_sp\.csv: expected lines 'x_acc,.*', got 1 other lines"):
        sp_sw.load(write(tmp_path / "set", sp=[HEADER, "a,b,c"]))


def test_the_real_subjects_rise_walk_and_sit_down() -> None:
    recordings = load(f"sp-sw:{recorded('sp-sw.zip')}")
    assert len(subject_names(recordings)) == 23
    assert Counter(recording.placement for recording in recordings) == {"pocket": 223, "wrist": 223}
    phones = [recording for recording in recordings if recording.placement == "pocket"]
    assert Counter(recording.name.split("_sp_")[1] for recording in phones) == {
        "back_inv": 103,
        "back": 57,
        "front": 54,
        "front_inv": 9,
    }
    for recording in recordings:
        labels = [label for label, _ in groupby(segment.label for segment in recording.segments)]
        assert labels[-1] in ("SITTING", "STAND_TO_SIT")
        assert labels.count("SIT_TO_STAND") == labels.count("STAND_TO_SIT") == 1
        assert labels.count("TURNING") == 2
    rests = [rest for recording in recordings if (rest := rest_g(recording)) is not None]
    assert np.median(rests) == pytest.approx(1.0, abs=0.02)
    # A phone in the pocket turns with the thigh; y is down while walking if it is upside down.
    angles = [angle for phone in phones if (angle := still_angle_deg(phone, "SITTING", "WALKING")) is not None]
    assert np.median(angles) > 45
    for phone in phones:
        walking = [phone.samples[part.start : part.stop, 1] for part in phone.segments if part.label == "WALKING"]
        assert (np.concatenate(walking).mean() < 0) == phone.name.endswith("_inv")
