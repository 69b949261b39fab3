"""WISDM's watch files: two sensors with their own clocks become one recording per activity."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest

from harstream.datasets import wisdm
from harstream.datasets.base import Segment, load
from harstream.errors import DatasetError

from ..servers import recorded
from .archives import zip_in_zip, zip_of

G = 9.80665


def lines(code: str, n: int, *, subject: int = 1601, start_ns: int = 10**15, value: float = 1.0) -> str:
    stamps = start_ns + np.arange(n) * 50_000_000
    return "".join(f"{subject},{code},{t},{value},{-2 * value},{i / 100};\n" for i, t in enumerate(stamps.tolist()))


def write(root: Path, acc: str, gyro: str, subject: int = 1601) -> Path:
    for sensor, text in (("accel", acc), ("gyro", gyro)):
        folder = root / "wisdm-dataset" / "raw" / "watch" / sensor
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"data_{subject}_{sensor}_watch.txt").write_text(text)
    return root


def test_each_activity_of_a_subject_is_a_recording_in_g_and_rad_s(tmp_path: Path) -> None:
    acc = lines("A", 200, value=G) + lines("G", 100, start_ns=10**16)
    gyro = lines("A", 200, value=0.25) + lines("G", 100, start_ns=10**16)
    walking, teeth = wisdm.load(write(tmp_path, acc, gyro))
    assert (walking.name, walking.subject, walking.rate_hz) == ("1601_WALKING", "1601", 20.0)
    assert walking.placement == "wrist"
    assert walking.segments == (Segment(0, 200, "WALKING"),)
    assert walking.samples.shape == (200, 6)
    assert walking.samples.dtype == np.float32
    np.testing.assert_allclose(walking.samples[:, :2], np.tile([1.0, -2.0], (200, 1)), rtol=1e-6)
    np.testing.assert_allclose(walking.samples[:, 3:5], np.tile([0.25, -0.5], (200, 1)), rtol=1e-6)
    np.testing.assert_allclose(walking.samples[:, 5], np.arange(200) / 100, atol=1e-6)
    assert teeth.name == "1601_BRUSHING_TEETH"


def test_only_samples_of_both_sensors_are_kept_and_too_few_are_an_error(tmp_path: Path, caplog) -> None:
    write(tmp_path, lines("A", 200) + lines("B", 100, start_ns=10**16), lines("A", 150))
    with caplog.at_level(logging.WARNING):
        (recording,) = wisdm.load(tmp_path)
    assert (recording.name, len(recording.samples)) == ("1601_WALKING", 150)
    assert "subject 1601: used 7 s of 15 s, which both sensors recorded" in caplog.text


def test_an_interrupted_activity_becomes_two_recordings(tmp_path: Path) -> None:
    text = lines("A", 100) + lines("A", 80, start_ns=10**15 + 10 * 10**9)
    first, second = wisdm.load(write(tmp_path, text, text))
    assert (first.name, len(first.samples)) == ("1601_WALKING", 100)
    assert (second.name, len(second.samples)) == ("1601_WALKING_2", 80)


def test_a_restarted_session_with_earlier_stamps_is_not_lost(tmp_path: Path) -> None:
    text = lines("A", 100) + lines("A", 80, start_ns=10**14)
    assert [len(recording.samples) for recording in wisdm.load(write(tmp_path, text, text))] == [100, 80]


def test_broken_and_blank_lines_are_skipped_and_counted(tmp_path: Path, caplog) -> None:
    broken = "1601,A,12;\n1601,N,1,1,1,1;\n1601,A,1,1,x,1;\n1602,A,1,1,1,1;\n\n   \n;\n"
    text = lines("A", 60) + broken + "1601,A,1000003050000000,1,-2,0.61;\n"
    with caplog.at_level(logging.WARNING):
        (recording,) = wisdm.load(write(tmp_path, text, lines("A", 62)))
    assert len(recording.samples) == 62  # the sample of the broken lines is interpolated
    assert "data_1601_accel_watch.txt: skipped 4 malformed lines of 65" in caplog.text


def test_a_file_without_a_valid_line_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"data_1601_gyro_watch\.txt: expected lines .* got 2 other lines"):
        wisdm.load(write(tmp_path, lines("A", 60), "nothing\nmuch\n"))


def test_a_subject_with_one_sensor_only_is_refused(tmp_path: Path) -> None:
    write(tmp_path, lines("A", 60), lines("A", 60))
    (tmp_path / "wisdm-dataset/raw/watch/gyro/data_1601_gyro_watch.txt").unlink()
    with pytest.raises(DatasetError, match=r"data_1601_gyro_watch\.txt is missing"):
        wisdm.load(tmp_path)


def test_a_subject_s_file_twice_and_none_at_all_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="expected files data_NNNN_accel_watch"):
        wisdm.load(tmp_path)
    write(tmp_path / "one", lines("A", 60), lines("A", 60))
    write(tmp_path / "two", lines("A", 60), lines("A", 60))
    with pytest.raises(DatasetError, match="remove one"):
        wisdm.load(tmp_path)


@pytest.mark.parametrize("pack", [zip_of, zip_in_zip])
def test_a_zip_and_a_zip_in_a_zip_are_read_and_the_phone_is_left_out(tmp_path: Path, pack) -> None:
    write(tmp_path / "set", lines("A", 60), lines("A", 60))
    phone = tmp_path / "set/wisdm-dataset/raw/phone/accel"
    phone.mkdir(parents=True)
    (phone / "data_1601_accel_phone.txt").write_text("not read")
    (recording,) = load(f"wisdm-watch:{pack(tmp_path / 'set', tmp_path / 'set.zip')}")
    assert recording.name == "1601_WALKING"


def test_there_are_eighteen_labels() -> None:
    assert len(wisdm.LABELS) == 18
    assert wisdm.LABELS[:7] == ("WALKING", "JOGGING", "STAIRS", "SITTING", "STANDING", "TYPING", "BRUSHING_TEETH")
    assert "CC BY 4.0" in wisdm.ABOUT


def test_real_watches_lose_nothing_but_the_seconds_of_changed_rates(tmp_path: Path) -> None:
    """Subject 1601 is uninterrupted. Subject 1642 lacks two activities, and one is partly sampled at 100 Hz."""
    with ZipFile(recorded("wisdm-watch.zip")) as archive:
        for name in archive.namelist():
            if "_1601_" in name or "_1642_" in name:
                archive.extract(name, tmp_path)
    recordings = wisdm.load(tmp_path)
    count = Counter(recording.subject for recording in recordings)
    assert count["1601"] == 18
    assert {r.segments[0].label for r in recordings if r.subject == "1601"} == set(wisdm.LABELS)
    assert len({r.segments[0].label for r in recordings if r.subject == "1642"}) == 16
    for subject, n_lines in (("1601", 64840), ("1642", 16 * 3600)):
        mine = [recording for recording in recordings if recording.subject == subject]
        assert sum(len(recording.samples) for recording in mine) == pytest.approx(n_lines, rel=0.003)
        samples = np.concatenate([recording.samples for recording in mine])
        assert np.median(np.linalg.norm(samples[:, :3], axis=1)) == pytest.approx(1.0, abs=0.03)  # gravity
        assert np.abs(samples[:, :3]).max() < 2.5
        assert np.abs(samples[:, 3:]).max() < 36
    assert len({recording.name for recording in recordings}) == len(recordings)
    still, jogging = (
        next(r.samples for r in recordings if r.name == f"1601_{label}")[:, :3].std()
        for label in ("SITTING", "JOGGING")
    )
    assert jogging > still
