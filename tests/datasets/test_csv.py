"""Own recordings in csv files: columns, units, and errors that name file and line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harstream.datasets import csv
from harstream.datasets.base import Segment, load
from harstream.errors import DatasetError
from harstream.train.fitting.prepare import prepare

from .archives import zip_of

G = 9.80665


def signal(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 6)).astype(np.float32)


def times(n: int, rate_hz: float = 50.0, start: float = 1_763_668_800.0) -> np.ndarray:
    return start + np.arange(n) / rate_hz


def rows(n: int, rate_hz: float = 50.0, label: str = "WALKING") -> list[str]:
    return [f"{t:.4f},0.1,0.2,{k / 100:.2f},1,2,3,{label}" for k, t in enumerate((np.arange(n) / rate_hz).tolist())]


def write(folder: Path, lines: list[str], header: str = csv.HEADER, name: str = "anna_walk.csv") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text("\n".join([header, *lines]) + "\n")
    return folder


def test_what_the_writer_writes_is_read_to_the_bit(tmp_path: Path) -> None:
    samples, t = signal(500), times(500)
    with csv.CsvWriter(tmp_path / "anna_walk.csv") as writer:
        for first in range(0, 300, 25):
            writer.write(t[first : first + 25], samples[first : first + 25], "WALKING")
        writer.write(t[300:350], samples[300:350])
        writer.write(t[350:], samples[350:], "SITTING")
        assert writer.n_samples == 500
    assert (tmp_path / "anna_walk.csv").read_text().splitlines()[0] == csv.HEADER
    (recording,) = load(f"csv:{tmp_path}")
    assert (recording.name, recording.subject, recording.rate_hz) == ("anna_walk", "anna", 50.0)
    assert recording.has_gyro
    assert recording.segments == (Segment(0, 300, "WALKING"), Segment(350, 500, "SITTING"))
    np.testing.assert_array_equal(recording.samples, samples)


def test_a_recording_without_gyroscope_leaves_its_columns_out(tmp_path: Path) -> None:
    samples = signal(100)
    with csv.CsvWriter(tmp_path / "ben_1.csv", gyro=False) as writer:
        writer.write(times(100), samples, "SITTING")
    (recording,) = csv.load(tmp_path)
    assert not recording.has_gyro
    np.testing.assert_array_equal(recording.samples[:, :3], samples[:, :3])
    assert not recording.samples[:, 3:].any()


def test_the_writer_overwrites_no_file_and_refuses_a_label_that_would_break_the_line(tmp_path: Path) -> None:
    with csv.CsvWriter(tmp_path / "ben_1.csv") as writer, pytest.raises(DatasetError, match="contains a comma"):
        writer.write(times(1), signal(1), "up, then down")
    with pytest.raises(DatasetError, match=r"ben_1\.csv: cannot create the file: File exists"):
        csv.CsvWriter(tmp_path / "ben_1.csv")


def test_units_in_the_header_are_converted(tmp_path: Path) -> None:
    header = "t[s],ax[m/s2],ay[m/s2],az[g],gx[deg/s],gy[rad/s],gz,label"
    (recording,) = csv.load(write(tmp_path, [f"{k / 20},{G},{-G},0.5,180,2,3,A" for k in range(40)], header))
    np.testing.assert_allclose(recording.samples, np.tile([1, -1, 0.5, np.pi, 2, 3], (40, 1)), rtol=1e-6)
    assert recording.rate_hz == 20.0


def test_blank_lines_a_byte_order_mark_and_windows_line_ends_do_no_harm(tmp_path: Path) -> None:
    text = "\r\n".join(["\ufeff" + csv.HEADER, *rows(50), "", "  ", ""])
    (tmp_path / "anna_walk.csv").write_bytes(text.encode())
    (recording,) = csv.load(tmp_path)
    assert recording.segments == (Segment(0, 50, "WALKING"),)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("time,ax,ay,az,gx,gy,gz,label", "expected the header t,ax,ay,az,gx,gy,gz,label .* got 'time,ax"),
        ("t,ax,ay,az,gx,gy,gz", "expected the header"),
        ("t,ay,ax,az,gx,gy,gz,label", "expected the header"),
        ("t,ax,ay,az,gx,label", "expected the header"),
        ("", "expected the header"),
        ("t,ax[ft/s2],ay,az,gx,gy,gz,label", r"unit of ax: expected one of g, m/s2, mg, got 'ft/s2'"),
        ("t,ax,ay,az,gx[g],gy,gz,label", r"unit of gx: expected one of rad/s, deg/s, got 'g'"),
        ("t[ms],ax,ay,az,gx,gy,gz,label", r"unit of t: expected one of s, got 'ms'"),
    ],
)
def test_a_bad_header_is_refused_in_line_1(tmp_path: Path, header: str, message: str) -> None:
    with pytest.raises(DatasetError, match=rf"anna_walk\.csv, line 1: {message}"):
        csv.load(write(tmp_path, rows(50), header))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("0.2000,0.1,0.2,0.3,1,2,3", "expected 8 fields as in the header, got 7"),
        ("0.2000,0.1,0.2,0.3,1,2,3,A,B", "expected 8 fields as in the header, got 9"),
        ("0.2000,0.1,x,0.3,1,2,3,A", "expected finite numbers, got '0.2000,0.1,x,0.3,1,2,3'"),
        ("0.2000,0.1,nan,0.3,1,2,3,A", "expected finite numbers, got "),
        ("0.2000,0.1,,0.3,1,2,3,A", "expected finite numbers, got "),
        ("0.1800,0.1,0.2,0.3,1,2,3,A", "t must increase, got 0.1800 after 0.1800 in line 11"),
        ("0.1000,0.1,0.2,0.3,1,2,3,A", "t must increase, got 0.1000 after 0.1800 in line 11"),
    ],
)
def test_a_bad_line_is_refused_by_its_number(tmp_path: Path, row: str, message: str) -> None:
    lines = rows(50)
    lines[10] = row
    with pytest.raises(DatasetError, match=rf"anna_walk\.csv, line 12: {message}"):
        csv.load(write(tmp_path, lines))


def test_lines_are_counted_with_the_blank_ones(tmp_path: Path) -> None:
    lines = rows(50)
    with pytest.raises(DatasetError, match=r"line 14: t must increase, got 0\.1800 after 0\.1800 in line 11"):
        csv.load(write(tmp_path, [*lines[:10], "", "", lines[9], *lines[10:]]))


def test_a_file_of_one_sample_and_a_folder_without_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="expected csv files, found none"):
        csv.load(tmp_path)
    with pytest.raises(DatasetError, match=r"anna_walk\.csv: expected at least 2 samples"):
        csv.load(write(tmp_path, rows(1)))


def test_jitter_is_put_on_the_grid_and_files_of_one_rate_agree_on_it(tmp_path: Path) -> None:
    for name, rate_hz, seed in (("anna_1", 49.7, 1), ("ben_1", 50.3, 2)):
        rng = np.random.default_rng(seed)
        with csv.CsvWriter(tmp_path / f"{name}.csv") as writer:
            writer.write(times(2000, rate_hz) + rng.uniform(-0.15, 0.15, 2000) / rate_hz, signal(2000, seed), "A")
    recordings = csv.load(tmp_path)
    assert [(recording.rate_hz, len(recording.samples)) for recording in recordings] == [(50.0, 2000)] * 2
    np.testing.assert_array_equal(recordings[1].samples, signal(2000, 2))


def test_a_file_of_another_rate_keeps_it(tmp_path: Path) -> None:
    write(tmp_path, rows(200, 50.0), name="anna_1.csv")
    write(tmp_path, rows(200, 104.0), name="ben_1.csv")
    write(tmp_path, rows(200, 50.0), name="cara_1.csv")
    assert [recording.rate_hz for recording in csv.load(tmp_path)] == [50.0, 104.0, 50.0]


def test_a_short_gap_is_bridged_and_a_long_one_begins_another_recording(tmp_path: Path) -> None:
    lines = rows(300)
    recordings = csv.load(write(tmp_path, [*lines[:100], *lines[105:200], *lines[260:]]))
    assert [(recording.name, recording.subject, len(recording.samples)) for recording in recordings] == [
        ("anna_walk", "anna", 200),
        ("anna_walk_2", "anna", 40),
    ]
    np.testing.assert_allclose(recordings[0].samples[:, 2], np.arange(200) / 100, atol=1e-6)
    assert recordings[1].segments == (Segment(0, 40, "WALKING"),)


def test_a_zip_is_read_and_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "own", rows(50))
    assert [recording.name for recording in csv.load(zip_of(tmp_path / "own", tmp_path / "own.zip"))] == ["anna_walk"]
    (tmp_path / "own/more").mkdir()
    write(tmp_path / "own/more", rows(50))
    with pytest.raises(DatasetError, match=r"holds more than one anna_walk\.csv"):
        csv.load(tmp_path / "own")


def test_one_subject_is_too_few_to_train_and_the_message_names_the_rule_for_subjects(tmp_path: Path) -> None:
    lines = [*rows(600), *(f"{12 + k / 50:.4f},0,0,1,0,0,0,SITTING" for k in range(600))]
    for name in ("anna_1.csv", "anna_2.csv"):
        write(tmp_path, lines, name=name)
    with pytest.raises(
        DatasetError, match=r"at least two subjects .* found 1 \(anna\): add .* of a csv file, the subject is its"
    ):
        prepare(csv.load(tmp_path))


def test_what_follows_a_gap_is_called_like_no_other_file(tmp_path: Path) -> None:
    write(tmp_path, [*rows(300)[:100], *rows(300)[200:]], name="anna.csv")
    write(tmp_path, rows(80), name="anna_2.csv")
    assert [(recording.name, len(recording.samples)) for recording in csv.load(tmp_path)] == [
        ("anna", 100),
        ("anna_2", 80),
        ("anna_3", 100),
    ]


def test_times_that_are_no_seconds_are_refused_naming_the_file(tmp_path: Path) -> None:
    milliseconds = [f"{20 * k},0,0,1,0,0,0,A" for k in range(50)]
    with pytest.raises(
        DatasetError, match=r"anna_walk\.csv: sample_rate_hz: 0\.05 is not between .*: t must be in seconds"
    ):
        csv.load(write(tmp_path, milliseconds))
