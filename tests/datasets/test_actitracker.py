"""The file of Actitracker with its irregular lines."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from harstream.core.spec import SignalSpec
from harstream.datasets import actitracker, windows
from harstream.datasets.base import Segment, load
from harstream.errors import DatasetError

from .archives import tar_of, zip_of

G = 9.80665


def samples(user: int, activity: str, n: int, start_ns: int = 49_105_962_326_000) -> list[str]:
    stamps = (start_ns + np.arange(n) * 50_000_000).tolist()
    return [f"{user},{activity},{t},{-G:.5f},{i / 10:.1f},{G / 2:.5f};" for i, t in enumerate(stamps)]


def write(folder: Path, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "WISDM_ar_v1.1_raw.txt").write_text(text)
    (folder / "readme.txt").write_text("read me")
    return folder


def test_each_activity_of_a_user_is_a_recording_in_g_without_gyroscope(tmp_path: Path) -> None:
    text = "\n".join(samples(33, "Jogging", 120) + samples(33, "Upstairs", 60) + samples(7, "Walking", 80))
    walking, jogging, stairs = actitracker.load(write(tmp_path / "set", text))
    assert (jogging.name, jogging.subject, jogging.rate_hz) == ("33_JOGGING", "33", 20.0)
    assert jogging.placement == "pocket"
    assert jogging.segments == (Segment(0, 120, "JOGGING"),)
    assert not jogging.has_gyro
    np.testing.assert_allclose(jogging.samples[:, 0], -1.0, rtol=1e-5)
    np.testing.assert_allclose(jogging.samples[:, 1], np.arange(120) / 10 / G, rtol=1e-5)
    assert not jogging.samples[:, 3:].any()
    assert (walking.name, stairs.name) == ("7_WALKING", "33_WALKING_UPSTAIRS")
    assert {jogging.segments[0].label, stairs.segments[0].label} < set(actitracker.LABELS)


def test_several_samples_on_a_line_are_all_read(tmp_path: Path) -> None:
    lines = samples(33, "Jogging", 60)
    text = "\n".join([*lines[:10], "".join(lines[10:13]), lines[13].removesuffix(";") + ",;", *lines[14:]])
    (recording,) = actitracker.load(write(tmp_path / "set", text))
    np.testing.assert_allclose(recording.samples[:, 1], np.arange(60) / 10 / G, rtol=1e-5)


def test_broken_samples_and_those_without_time_are_skipped_and_counted(tmp_path: Path, caplog) -> None:
    lines = samples(33, "Jogging", 60)
    lines[20] = "33,Jogging,49106962326000,0.5,,;"
    lines[40] = "33,Jogging,0,0,0,0;"
    lines[50] = "33,Dancing,49108462326000,1,1,1;"
    with caplog.at_level(logging.WARNING):
        (recording,) = actitracker.load(write(tmp_path / "set", "\n".join([*lines, "", ";", "  "])))
    np.testing.assert_allclose(recording.samples[:, 1], np.arange(60) / 10 / G, atol=1e-4)  # bridged
    assert "WISDM_ar_v1.1_raw.txt: skipped 3 of 60 samples" in caplog.text


def test_pauses_and_new_beginnings_make_another_recording(tmp_path: Path) -> None:
    text = "\n".join(
        [
            *samples(33, "Jogging", 60),
            *samples(33, "Jogging", 50, 50_105_962_326_000),
            *samples(33, "Walking", 30, 60_105_962_326_000),
            *samples(33, "Jogging", 40, 1_000_000_000),
        ]
    )
    recordings = actitracker.load(write(tmp_path / "set", text))
    assert [(recording.name, len(recording.samples)) for recording in recordings] == [
        ("33_JOGGING", 60),
        ("33_JOGGING_2", 50),
        ("33_JOGGING_3", 40),
        ("33_WALKING", 30),
    ]


@pytest.mark.parametrize("packed", ["folder", "file", "zip", "tar"])
def test_it_is_read_however_it_is_packed(tmp_path: Path, packed: str) -> None:
    folder = write(tmp_path / "WISDM_ar_v1.1", "\n".join(samples(33, "Jogging", 60)))
    path = {
        "folder": lambda: folder,
        "file": lambda: folder / "WISDM_ar_v1.1_raw.txt",
        "zip": lambda: zip_of(folder, tmp_path / "set.zip"),
        "tar": lambda: tar_of(folder, tmp_path / "WISDM_ar_latest.tar.gz"),
    }[packed]()
    assert [recording.name for recording in load(f"actitracker:{path}")] == ["33_JOGGING"]


def test_a_file_without_samples_and_no_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        DatasetError, match=r"WISDM_ar_v1\.1_raw\.txt: expected samples 'user,activity,time in ns,x,y,z;', got 2 texts"
    ):
        actitracker.load(write(tmp_path / "set", "some\nwords\n"))
    (tmp_path / "set" / "WISDM_ar_v1.1_raw.txt").unlink()
    with pytest.raises(DatasetError, match=r"expected one file WISDM_ar_v1\.1_raw\.txt"):
        actitracker.load(tmp_path / "set")


def test_channels_that_need_a_gyroscope_are_refused_by_name(tmp_path: Path) -> None:
    text = "\n".join(samples(33, "Jogging", 300))
    streams = windows.whole_streams(actitracker.load(write(tmp_path / "set", text)))
    with pytest.raises(
        DatasetError, match=r"33_JOGGING: recorded without a gyroscope, but the channels gyro_x, gyro_y"
    ):
        windows.cut_windows(streams, SignalSpec(sample_rate_hz=20.0), ["JOGGING"])
    without = SignalSpec(sample_rate_hz=20.0, channels=("total_acc_x", "body_acc_x"))
    assert len(windows.cut_windows(streams, without, ["JOGGING"])) == 3
