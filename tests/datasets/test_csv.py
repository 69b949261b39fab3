"""Own recordings in csv files: columns, units, and errors that name file and line."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from harstream.datasets import csv
from harstream.datasets import rows as csv_rows
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


@pytest.mark.parametrize("axis", ["x", "y", "z"])
def test_a_unit_of_one_axis_is_that_of_the_sensor(tmp_path: Path, axis: str) -> None:
    names = [f"{sensor}{one}" for sensor in "ag" for one in "xyz"]
    units = {f"a{axis}": "[m/s2]", f"g{axis}": " (°/s)"}
    header = ",".join(["t[s]", *(name + units.get(name, "") for name in names), "label"])
    (recording,) = csv.load(write(tmp_path, [f"{k / 20},{G},{-G},{G / 2},180,90,0,A" for k in range(40)], header))
    expected = np.tile([1, -1, 0.5, np.pi, np.pi / 2, 0], (40, 1))
    np.testing.assert_allclose(recording.samples, expected, rtol=1e-6)
    assert recording.rate_hz == 20.0
    assert recording.source is not None
    assert "accelerations in m/s2 (as stated), gyroscope in deg/s (as stated)" in recording.source.form


def test_blank_lines_a_byte_order_mark_and_windows_line_ends_do_no_harm(tmp_path: Path) -> None:
    text = "\r\n".join(["\ufeff" + csv.HEADER, *rows(50), "", "  ", ""])
    (tmp_path / "anna_walk.csv").write_bytes(text.encode())
    (recording,) = csv.load(tmp_path)
    assert recording.segments == (Segment(0, 50, "WALKING"),)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("t,ax,ay,gx,gy,gz,label", "expected a header .* but az is missing among: t, ax, ay, gx, gy, gz, label"),
        ("t,ax,ay,az,gx,label", "gy, gz are missing among"),
        ("0.00,0.1,0.2,0.9,1,2,3,WALKING", "t, ax, ay, az are missing among: 0.00, 0.1"),
        ("t,ax[m/s2],ay,az[g],label", r"the unit of ax is m/s2, that of az is g: a sensor has one unit"),
        ("t,ax,ay,az,gx,gy[dps],gz[rad/s],label", r"the unit of gy is deg/s, that of gz is rad/s"),
        ("t,ax[ft/s2],ay,az,gx,gy,gz,label", r"unit of ax: expected one of g, m/s2, mg, got 'ft/s2'"),
        ("t,ax,ay,az,gx[g],gy,gz,label", r"unit of gx: expected one of rad/s, deg/s, got 'g'"),
        ("t[min],ax,ay,az,gx,gy,gz,label", r"unit of t: expected one of s, ms, us, µs, ns, got 'min'"),
    ],
)
def test_a_bad_header_is_refused_in_line_1(tmp_path: Path, header: str, message: str) -> None:
    with pytest.raises(DatasetError, match=rf"anna_walk\.csv, line 1: .*{message}"):
        csv.load(write(tmp_path, rows(50), header))


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("0.2000,0.1,0.2,0.3,1,2,3", csv_rows.OTHER_FIELDS),
        ("0.2000,0.1,0.2,0.3,1,2,3,A,B", csv_rows.OTHER_FIELDS),
        ("0.2000,0.1,x,0.3,1,2,3,A", csv_rows.NO_NUMBER),
        ("0.2000,0.1,nan,0.3,1,2,3,A", csv_rows.NO_NUMBER),
        ("0.2000,0.1,,0.3,1,2,3,A", csv_rows.NO_NUMBER),
        ("soon,0.1,0.2,0.3,1,2,3,A", csv_rows.NO_NUMBER),
        ("0.2000,0.1,1e6,0.3,1,2,3,A", csv_rows.OUT_OF_RANGE),
        ("0.2000,0.1,0.2,0.3,1,1e30,3,A", csv_rows.OUT_OF_RANGE),
        ("0.1800,0.1,0.2,0.3,1,2,3,A", csv_rows.OUT_OF_ORDER),
        ("0.1000,0.1,0.2,0.3,1,2,3,A", csv_rows.OUT_OF_ORDER),
        ("0.2", csv_rows.OTHER_FIELDS),  # a full disk ended the line
    ],
)
@pytest.mark.parametrize("at", [10, 49])
def test_a_bad_row_is_a_counted_gap_and_nothing_else_is_lost(
    tmp_path: Path, row: str, reason: str, at: int, caplog: pytest.LogCaptureFixture
) -> None:
    lines = rows(50)
    lines[at] = row
    (recording,) = csv.load(write(tmp_path, lines))
    assert recording.left_out == {reason: 1}
    assert f"{tmp_path}: left out 1 of 50 rows, in 1 of 1 files: 1 with {reason} (first: " in caplog.text
    assert f"anna_walk.csv, line {at + 2}" in caplog.text
    kept = 49 if at == 49 else 50
    assert len(recording.samples) == kept
    np.testing.assert_allclose(recording.samples[:, 2], np.arange(kept) / 100, atol=1e-6)


def test_stamps_that_hardly_change_are_refused(tmp_path: Path) -> None:
    whole = [f"{k // 50},0,0,1,0,0,0,A" for k in range(500)]
    with pytest.raises(
        DatasetError, match="490 of 500 rows repeat the time stamp before them, or are older: write t with"
    ):
        csv.load(write(tmp_path, whole))


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
    with pytest.raises(DatasetError, match=r"own/anna_walk\.csv and .*own/more/anna_walk\.csv have one name"):
        csv.load(tmp_path / "own")


@pytest.mark.parametrize("name", ["._anna_walk.csv", ".ipynb_checkpoints/anna_walk-checkpoint.csv", ".csv"])
def test_hidden_files_of_other_programs_are_no_recordings(tmp_path: Path, name: str) -> None:
    write(tmp_path, rows(50))
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("Mac OS X")
    assert [one.name for one in csv.load(tmp_path)] == ["anna_walk"]


@pytest.mark.parametrize(("per_second", "unit"), [(1, "s"), (10**3, "ms"), (10**6, "us"), (10**9, "ns")])
@pytest.mark.parametrize("start_s", [0, 1_763_668_800])
def test_a_unit_of_time_that_is_not_stated_is_told_by_the_size_of_the_numbers(
    tmp_path: Path, per_second: int, unit: str, start_s: int
) -> None:
    """Numbers that count from another instant than 1970 are seconds."""
    stamps = [start_s * per_second + k * per_second // 50 for k in range(100)]
    texts = [f"{start_s + k / 50:.2f}" for k in range(100)] if unit == "s" else map(str, stamps)
    write(tmp_path, [f"{text},0,0,1,A" for text in texts], "t,ax,ay,az,label")
    if start_s or unit == "s":
        recording = csv.load(tmp_path)[0]
        assert (recording.rate_hz, len(recording.samples)) == (50.0, 100)
    else:
        with pytest.raises(DatasetError, match="write t in seconds, or its unit in the header"):
            csv.load(tmp_path)


def test_folders_behind_symbolic_links_are_read_once(tmp_path: Path) -> None:
    elsewhere = write(tmp_path / "disk", rows(50))
    own = tmp_path / "own"
    own.mkdir()
    (own / "link").symlink_to(elsewhere)
    (own / "second link").symlink_to(elsewhere)
    (own / "loop").symlink_to(own)
    (own / "nowhere").symlink_to(tmp_path / "missing")
    assert [one.name for one in csv.load(own)] == ["anna_walk"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252", "latin-1"])
def test_labels_keep_their_letters_in_every_usual_encoding(tmp_path: Path, encoding: str) -> None:
    text = "\n".join([csv.HEADER, *rows(50, label="größer gehen")])
    (tmp_path / "anna.csv").write_bytes(text.encode(encoding))
    assert {segment.label for segment in csv.load(tmp_path)[0].segments} == {"größer gehen"}


def test_folders_are_subjects_where_every_file_is_in_one(tmp_path: Path) -> None:
    for folder in ("anna", "ben"):
        for name in ("walk.csv", "stairs.csv"):
            write(tmp_path / folder, rows(50), name=name)
    found = [(one.name, one.subject) for one in csv.load(tmp_path)]
    assert found == [(f"{who}-{name}", who) for who in ("anna", "ben") for name in ("stairs", "walk")]


@pytest.mark.parametrize(
    ("name", "subject"),
    [
        *((name, "anna") for name in ("anna_walk_2", "anna-1", "anna - 2", "anna 1", "anna (3)", "anna")),
        *(
            ("anna-maria", "anna-maria"),
            ("anna-maria_1", "anna-maria"),
            ("anna2", "anna2"),
            ("subject-1_3", "subject-1"),
        ),
        *(("sub-01", "sub-01"), ("User 7", "User 7"), ("_1", "_1"), ("2026-11-27", "2026-11")),
    ],
)
def test_the_name_of_a_file_tells_the_subject(tmp_path: Path, name: str, subject: str) -> None:
    assert csv.load(write(tmp_path, rows(50), name=f"{name}.csv"))[0].subject == subject


def test_a_column_names_the_subject_of_a_file(tmp_path: Path) -> None:
    lines = [f"{line},eva" for line in rows(50)]
    assert csv.load(write(tmp_path, lines, csv.HEADER + ",subject"))[0].subject == "eva"


@pytest.mark.parametrize("order", ["one after another", "at the same time"])
def test_a_file_of_several_subjects_is_a_recording_of_each(tmp_path: Path, order: str) -> None:
    of_each = [[f"{line},{name}" for line in rows(50, label=name.upper())] for name in ("eva", "ida")]
    mixed = [line for pair in zip(*of_each, strict=True) for line in pair]
    lines = [*(of_each[0] + of_each[1] if order == "one after another" else mixed), "9.0,0,0,1,0,0,0,EVA,"]
    found = csv.load(write(tmp_path, lines, csv.HEADER + ",user_id", "all.csv"))
    assert [(one.name, one.subject, one.segments) for one in found] == [
        ("all-eva", "eva", (Segment(0, 50, "EVA"),)),
        ("all-ida", "ida", (Segment(0, 50, "IDA"),)),
    ]
    np.testing.assert_array_equal(found[0].samples, found[1].samples)
    assert [one.left_out for one in found] == [{csv_rows.NO_SUBJECT: 1}, {}]
    assert found[0].source is not None
    assert (found[0].source.rows, found[0].source.subject_by) == (101, "column")


@pytest.mark.parametrize(
    ("paths", "subjects", "by"),
    [
        ("anna/walk ben/walk", "anna ben", "folder"),
        ("anna/day1/walk anna/day2/walk ben/day1/walk", "anna anna ben", "folder"),
        ("all/anna/walk all/ben/walk", "anna ben", "folder"),
        ("day1/anna_1 anna_2", "anna anna", "file name"),
        ("all/anna_1 all/ben_1", "anna ben", "file name"),
        (
            "days/day1/anna_phone_1_20261127T164411Z days/day2/anna_phone-2_20261127T164411Z-2",
            "anna anna",
            "file name SUBJECT_DEVICE_TIME",
        ),
    ],
)
def test_names_of_record_then_folders_then_names_tell_the_subjects(
    tmp_path: Path, paths: str, subjects: str, by: str
) -> None:
    for path in paths.split():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        write((tmp_path / path).parent, rows(50), name=f"{path.rpartition('/')[2]}.csv")
    found = csv.load(tmp_path)
    assert sorted(one.subject for one in found) == subjects.split()
    assert {one.source.subject_by for one in found if one.source} == {by}
    assert len({one.name for one in found}) == len(found)


def test_recordings_of_record_keep_their_subjects_beside_folders_of_others(tmp_path: Path) -> None:
    for folder, name in (("own", "eva_phone1_20261127T164411Z"), ("more/anna", "walk"), ("more/ben", "walk")):
        (tmp_path / folder).mkdir(parents=True)
        write(tmp_path / folder, rows(50), name=f"{name}.csv")
    assert sorted(one.subject for one in csv.load(tmp_path)) == ["anna", "ben", "eva"]


def test_what_is_no_recording_is_skipped_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path, rows(50))
    write(tmp_path, ["anna,30"], "subject,age", "notes.csv")
    (tmp_path / "empty.csv").write_text("")
    (recording,) = csv.load(tmp_path)
    assert recording.source is not None
    assert [note.rpartition("/")[2] for note in recording.source.notes] == ["empty.csv", "notes.csv"]
    assert f"skipped, as it has no column of a sensor: {tmp_path}/notes.csv" in caplog.text
    write(tmp_path, rows(50), "Zeit,ax,ay,az,gx,gy,gz,label", "ben_1.csv")
    with pytest.raises(DatasetError, match=r"ben_1\.csv, line 1: .* but t is missing among: Zeit"):
        csv.load(tmp_path)


def test_an_empty_file_alone_is_refused(tmp_path: Path) -> None:
    (tmp_path / "anna_walk.csv").write_text("")
    with pytest.raises(DatasetError, match=r"anna_walk\.csv, line 1: .*t, ax, ay, az are missing among: nothing"):
        csv.load(tmp_path)


@pytest.mark.parametrize("n", [30, 100])
def test_a_short_file_has_the_unit_that_the_others_show(tmp_path: Path, n: int) -> None:
    def lines(count: int, unit: float) -> list[str]:
        return [f"{k / 50:.2f},{unit / 4},0,{-0.96 * unit},A" for k in range(count)]

    write(tmp_path, lines(300, 1000.0), "t,ax,ay,az,label", "anna_1.csv")
    write(tmp_path, lines(n, 1000.0), "t,ax,ay,az,label", "ben_1.csv")
    for one in csv.load(tmp_path):
        np.testing.assert_allclose(np.linalg.norm(one.samples, axis=1), 1, atol=0.02)
        assert one.source is not None
        alone = "as the other files" if one.name == "ben_1" and n < 50 else "by gravity"
        assert f"accelerations in mg ({alone})" in one.source.form
    (tmp_path / "anna_1.csv").unlink()
    write(tmp_path, lines(30, 1.0), "t,ax,ay,az,label", "ben_1.csv")
    (alone_in_folder,) = csv.load(tmp_path)
    assert alone_in_folder.source is not None
    assert "accelerations in g (assumed: gravity does not show)" in alone_in_folder.source.form


def test_rows_that_cannot_be_used_are_shown(tmp_path: Path) -> None:
    dates = [f"27.11.2026 16:58:{20 + k // 50}.{k % 50 * 20:03d},0,0,1,A" for k in range(100)]
    case = r"100 with no number .* \(line 3, t: '27\.11\.2026 16:58:20\.000': expected a number or a date of ISO 8601"
    with pytest.raises(DatasetError, match=case):
        csv.load(write(tmp_path, ["t,ax,ay,az,label", *dates], "# made by hand"))
    commas = [f"{k / 50:.2f},0,0,1,A".replace(".", ",") for k in range(100)]
    with pytest.raises(DatasetError, match=r"100 with another number .* \(line 2: 6 fields, the header has 5\)"):
        csv.load(write(tmp_path, commas, "t,ax,ay,az,label"))


def test_of_several_columns_for_the_label_the_one_called_so_counts(tmp_path: Path) -> None:
    (recording,) = csv.load(
        write(tmp_path, [f"{k / 50},0,0,1,train,A,7" for k in range(50)], "t,ax,ay,az,class,label,n")
    )
    assert recording.segments == (Segment(0, 50, "A"),)
    assert recording.source is not None
    assert recording.source.unused == ("class", "n")


SAMPLES = [(k / 50, 0.1, -0.25, 0.98) for k in range(200)]


@pytest.mark.parametrize(
    "text",
    [
        "t;ax;ay;az;label\n" + "\n".join(";".join(f"{v:.3f}" for v in s) + ";WALK" for s in SAMPLES),
        "t;ax;ay;az;label\n" + "\n".join(";".join(f"{v:.3f}" for v in s).replace(".", ",") + ";WALK" for s in SAMPLES),
        "T\tAX\tAY\tAZ\tLABEL\n" + "\n".join("\t".join(f"{v:.3f}" for v in s) + "\tWALK" for s in SAMPLES),
        '"t","ax","ay","az","label"\n' + "\n".join(",".join(f'"{v:.3f}"' for v in s) + ',"WALK"' for s in SAMPLES),
        "activity,note,acc_z,acc_y,acc_x,time\n" + "\n".join(f"WALK,a b,{z},{y},{x},{t:.3f}" for t, x, y, z in SAMPLES),
        "t[ms], ax, ay, az, label\n" + "\n".join(f"{1000 * t:.0f}, {x}, {y}, {z}, WALK" for t, x, y, z in SAMPLES),
        "timestamp_ns,accX,accY,accZ,label\n"
        + "\n".join(f"{1763668800 * 10**9 + round(t * 1e9)},{x},{y},{z},WALK" for t, x, y, z in SAMPLES),
        "Time,Accel X (m/s^2),Accel Y (m/s²),Accel Z (m/s2),Activity\n"
        + "\n".join(f"{t:.3f},{x * G},{y * G},{z * G},WALK" for t, x, y, z in SAMPLES),
        "t,ax,ay,az,label\n" + "\n".join(f"{t:.3f},{x * G},{y * G},{z * G},WALK" for t, x, y, z in SAMPLES),
        "sep=;\nt;ax;ay;az;activity_label\n" + "\n".join(f"{t:.3f};{x};{y};{z};WALK" for t, x, y, z in SAMPLES),
        "# MyApp\n# 2\nt,ax,ay,az,Activity Name\n" + "\n".join(f"{t:.3f},{x},{y},{z},WALK" for t, x, y, z in SAMPLES),
        "timestamp_ms,acc_x_mg,acc_y_mg,acc_z_mg,labels\n"
        + "\n".join(f"{1000 * t:.0f},{1000 * x},{1000 * y},{1000 * z},WALK" for t, x, y, z in SAMPLES),
        "time,ax,ay,az,label\n" + "\n".join(f"16:58:{20 + t:06.3f},{x},{y},{z},WALK" for t, x, y, z in SAMPLES),
        "t,ax,ay,az,label,\n"
        + "\n".join(f"2018-12-08T18:19:{20 + t:06.3f}Z,{x},{y},{z},WALK," for t, x, y, z in SAMPLES),
    ],
    ids=(
        *("semicolons", "decimal commas", "tabs in capitals", "quotes", "other names and order", "milliseconds"),
        *("nanoseconds of the epoch", "spaces and brackets", "m/s2 without a unit"),
        *("a line for spreadsheets", "comments", "units in names", "times of day", "dates and a last comma"),
    ),
)
@pytest.mark.parametrize("packed", [False, True])
def test_a_file_is_read_however_it_is_written(tmp_path: Path, text: str, packed: bool) -> None:
    if packed:
        (tmp_path / "anna_walk.csv.gz").write_bytes(gzip.compress(text.encode()))
    else:
        (tmp_path / "anna_walk.csv").write_text(text)
    (recording,) = csv.load(tmp_path)
    assert (recording.name, recording.rate_hz, recording.has_gyro) == ("anna_walk", 50.0, False)
    assert recording.segments == (Segment(0, 200, "WALK"),)
    assert recording.left_out == {}
    np.testing.assert_allclose(recording.samples[:, :3], [s[1:] for s in SAMPLES], atol=1e-5)


def test_stamps_in_whole_numbers_and_in_others_are_of_one_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_rows, "_BLOCK_ROWS", 7)
    stamps = [f"{10_000 + 20 * k}" + ("" if k < 20 else ".5") for k in range(50)]
    (recording,) = csv.load(write(tmp_path, [f"{t},0,0,1,A" for t in stamps], "t[ms],ax,ay,az,label"))
    assert (recording.rate_hz, len(recording.samples)) == (50.0, 50)


@pytest.mark.parametrize("word", ["", "NA", "null", "nan", "None", " - "])
def test_what_stands_for_no_label_is_none(tmp_path: Path, word: str) -> None:
    assert csv.load(write(tmp_path, rows(50, label=word)))[0].segments == ()


@pytest.mark.parametrize("rate_hz", [30, 52, 60, 64, 80, 104, 119, 128, 208, 400])
def test_stamps_rounded_to_milliseconds_show_the_true_rate(tmp_path: Path, rate_hz: int) -> None:
    for number, start in enumerate((0.11, 0.52, 0.37, 0.90)):
        t = np.round(np.arange(1001) / rate_hz + start, 3)
        write(tmp_path, [f"{one:.3f},0,0,1,0,0,0,A" for one in t], name=f"s{number}_1.csv")
    found = csv.load(tmp_path)
    assert [(one.rate_hz, len(one.samples)) for one in found] == [(rate_hz, 1001)] * 4


def test_bursts_are_no_faster_rate(tmp_path: Path) -> None:
    t = np.cumsum(np.tile([1, 1, 4], 700)) / 1000
    (recording,) = csv.load(write(tmp_path, [f"{one:.3f},0,0,1,0,0,0,A" for one in t]))
    assert recording.rate_hz == 500
    assert len(recording.samples) == pytest.approx(2100, abs=3)


@pytest.mark.parametrize("kind", ["every tenth later", "random"])
def test_uneven_intervals_do_not_cut_a_recording(tmp_path: Path, kind: str) -> None:
    random = np.random.default_rng(0).normal(20, 3, 3000)
    interval = random if kind == "random" else np.where(np.arange(3000) % 10 == 9, 30, 20)
    (recording,) = csv.load(write(tmp_path, [f"{one:.4f},0,0,1,0,0,0,A" for one in np.cumsum(interval) / 1000]))
    assert recording.rate_hz == pytest.approx(1000 / interval.mean(), rel=0.01)
    assert len(recording.samples) == pytest.approx(3000, rel=0.005)


@pytest.mark.parametrize("stamp", [1e6, 0.0])
def test_a_single_wrong_stamp_is_a_counted_gap(tmp_path: Path, stamp: float) -> None:
    t = 100 + np.arange(300) / 50
    t[200] = stamp
    (recording,) = csv.load(write(tmp_path, [f"{one:.3f},0,0,1,0,0,0,A" for one in t]))
    assert (len(recording.samples), recording.left_out) == (300, {csv_rows.OUT_OF_ORDER: 1})


def test_a_clock_that_is_set_back_begins_another_recording(tmp_path: Path) -> None:
    t = np.arange(300) / 50
    t[200:] -= 3
    found = csv.load(write(tmp_path, [f"{one:.3f},0,0,1,0,0,0,A" for one in t]))
    assert [(one.name, len(one.samples), one.left_out) for one in found] == [
        ("anna_walk", 200, {}),
        ("anna_walk_2", 100, {}),
    ]


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
        DatasetError, match=r"anna_walk\.csv: sample_rate_hz: 0\.05 is not between .*: write t in seconds, or its unit"
    ):
        csv.load(write(tmp_path, milliseconds))
