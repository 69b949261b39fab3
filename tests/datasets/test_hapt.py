"""HAPT as its publisher ships it, and malformed copies."""

from __future__ import annotations

import logging
import zipfile
from pathlib import Path

import numpy as np
import pytest

from harstream.datasets import base, hapt
from harstream.datasets.base import Segment
from harstream.errors import DatasetError

from ..servers import recorded

ACTIVITIES = "1 WALKING           \n4 SITTING           \n7 STAND_TO_SIT      \n"


def triples(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 3))


def text(values: np.ndarray) -> str:
    return "".join(" ".join(repr(float(value)) for value in row) + "\n" for row in values)


def write(root: Path, folder: str = "RawData", labels: str = "3 7 1 1 40\n3 7 4 61 100\n", n: int = 100) -> Path:
    raw = root / folder
    raw.mkdir(parents=True, exist_ok=True)
    (raw / "acc_exp03_user07.txt").write_text(text(triples(n, 1)))
    (raw / "gyro_exp03_user07.txt").write_text(text(triples(n, 2)))
    (raw / "labels.txt").write_text(labels)
    (raw.parent / "activity_labels.txt").write_text(ACTIVITIES)
    return root


def zip_of(folder: Path, target: Path, prefix: str = "") -> Path:
    with zipfile.ZipFile(target, "w") as archive:
        for file in folder.rglob("*.txt"):
            archive.write(file, prefix + file.relative_to(folder).as_posix())
    return target


def test_a_session_becomes_a_recording(tmp_path: Path) -> None:
    (recording,) = hapt.load(write(tmp_path))
    assert (recording.name, recording.subject, recording.rate_hz) == ("exp03_user07", "07", 50.0)
    assert recording.placement == "waist"
    assert recording.samples.dtype == np.float32
    np.testing.assert_array_equal(recording.samples[:, :3], triples(100, 1).astype(np.float32))
    np.testing.assert_array_equal(recording.samples[:, 3:], triples(100, 2).astype(np.float32))


def test_labels_and_states_are_the_activities_of_the_recordings() -> None:
    recordings = hapt.load(recorded("hapt.zip"))
    names = {segment.label for recording in recordings for segment in recording.segments}
    assert names == {*hapt.LABELS, *hapt.STATES}


def test_label_rows_count_from_one_and_include_their_last_sample(tmp_path: Path) -> None:
    (recording,) = hapt.load(write(tmp_path))
    assert recording.segments == (Segment(0, 40, "WALKING"), Segment(60, 100, "SITTING"))


def test_segments_come_in_order_of_time(tmp_path: Path) -> None:
    (recording,) = hapt.load(write(tmp_path, labels="3 7 4 61 100\n3 7 1 1 40\n"))
    assert [segment.start for segment in recording.segments] == [0, 60]


def test_samples_claimed_by_two_rows_have_no_label(tmp_path: Path) -> None:
    (recording,) = hapt.load(write(tmp_path, labels="3 7 1 1 50\n3 7 4 41 100\n"))
    assert recording.segments == (Segment(0, 40, "WALKING"), Segment(50, 100, "SITTING"))


def test_a_row_that_ends_beyond_its_session_is_left_out_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        (recording,) = hapt.load(write(tmp_path, labels="3 7 1 1 40\n3 7 4 50 101\n"))
    assert recording.segments == (Segment(0, 40, "WALKING"),)
    assert "left out line 2 of labels.txt, SITTING from sample 50 to 101: the session has 100 samples" in caplog.text


def test_rows_about_sessions_that_are_not_there_are_passed_over(tmp_path: Path) -> None:
    (recording,) = hapt.load(write(tmp_path, labels="3 7 1 1 40\n4 8 1 1 99999\n"))
    assert recording.segments == (Segment(0, 40, "WALKING"),)


@pytest.mark.parametrize("folder", ["RawData", "Raw-Data", "HAPT Data Set/RawData", "a/b/Raw-Data"])
def test_the_raw_data_may_lie_at_any_depth_of_a_folder_or_a_zip(tmp_path: Path, folder: str) -> None:
    root = write(tmp_path / "data", folder)
    archive = zip_of(root, tmp_path / "hapt.zip")
    for path in (root, archive, root / folder):
        (recording,) = hapt.load(path)
        assert recording.name == "exp03_user07"
        assert len(recording.segments) == 2


def test_a_zip_in_the_zip_is_opened(tmp_path: Path) -> None:
    inner = zip_of(write(tmp_path / "data"), tmp_path / "HAPT Data Set.zip", "HAPT Data Set/")
    with zipfile.ZipFile(tmp_path / "outer.zip", "w") as archive:
        archive.write(inner, inner.name)
        archive.writestr("__MACOSX/RawData/acc_exp01_user01.txt", "not a sample")
    assert [recording.name for recording in hapt.load(tmp_path / "outer.zip")] == ["exp03_user07"]


@pytest.mark.parametrize("line", ["0.1 0.2\n", "0.1 0.2 0.3 0.4\n", "\n"])
def test_a_wrong_column_count_names_file_and_line(tmp_path: Path, line: str) -> None:
    write(tmp_path)
    file = tmp_path / "RawData/acc_exp03_user07.txt"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join([*lines[:4], line, *lines[4:]]))
    with pytest.raises(DatasetError, match=r"acc_exp03_user07\.txt, line 5"):
        hapt.load(tmp_path)


@pytest.mark.parametrize("word", ["x", "1.2.3", "nan", "inf", "0,5"])
def test_what_is_no_number_names_file_and_line(tmp_path: Path, word: str) -> None:
    write(tmp_path)
    file = tmp_path / "RawData/gyro_exp03_user07.txt"
    lines = file.read_text().splitlines(keepends=True)
    lines[6] = f"0.1 {word} 0.3\n"
    file.write_text("".join(lines))
    with pytest.raises(DatasetError, match=r"gyro_exp03_user07\.txt, line 7"):
        hapt.load(tmp_path)


def test_sensors_of_different_length_are_refused_with_both_lengths(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "RawData/gyro_exp03_user07.txt").write_text(text(triples(99, 2)))
    with pytest.raises(
        DatasetError, match=r"gyro_exp03_user07\.txt: expected 100 samples as in acc_exp03_user07\.txt, got 99"
    ):
        hapt.load(tmp_path)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("3 7 1 0 40", "line 2: expected .* got 0 40"),
        ("3 7 1 40 39", "line 2: expected .* got 40 39"),
        ("3 7 9 50 60", "line 2: activity 9"),
        ("3 7 1 50", "line 2: expected five whole numbers"),
        ("3 7 1 50 60.5", "line 2: expected five whole numbers"),
    ],
)
def test_a_bad_label_row_names_file_and_line(tmp_path: Path, row: str, message: str) -> None:
    write(tmp_path, labels=f"3 7 1 1 40\n{row}\n")
    with pytest.raises(DatasetError, match=rf"labels\.txt, {message}"):
        hapt.load(tmp_path)


@pytest.mark.parametrize("missing", ["gyro_exp03_user07.txt", "labels.txt", "../activity_labels.txt"])
def test_a_missing_file_is_named(tmp_path: Path, missing: str) -> None:
    write(tmp_path)
    (tmp_path / "RawData" / missing).unlink()
    with pytest.raises(DatasetError, match=Path(missing).name):
        hapt.load(tmp_path)


def test_a_path_without_sessions_or_no_zip_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"expected files acc_expNN_userMM\.txt, found none"):
        hapt.load(tmp_path)
    (tmp_path / "broken.zip").write_bytes(b"PK\x03\x04 and then nothing")
    with pytest.raises(DatasetError, match=r"broken\.zip: expected a readable folder, zip or tar"):
        hapt.load(tmp_path / "broken.zip")


def test_the_real_recordings_load_from_the_zip() -> None:
    recordings = base.load(f"hapt:{recorded('hapt.zip')}")
    assert len(recordings) == 2 * len(base.subject_names(recordings))
    assert {segment.label for recording in recordings for segment in recording.segments} >= set(hapt.LABELS)
    for recording in recordings:
        assert recording.samples[0].any()
        # Gravity dominates: in g, the median magnitude of a subject's day is 1.
        assert abs(np.median(np.linalg.norm(recording.samples[:, :3], axis=1)) - 1.0) < 0.1
        assert all(a.stop <= b.start for a, b in zip(recording.segments, recording.segments[1:], strict=False))
        assert recording.segments[-1].stop <= len(recording.samples)
