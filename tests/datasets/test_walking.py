"""Walkers with a phone in the chest pocket: one file for each subject, without header."""

from __future__ import annotations

import logging
import math
from pathlib import Path

import numpy as np
import pytest

from harstream.datasets import walking
from harstream.datasets.base import Segment, load, subject_names
from harstream.errors import DatasetError

from ..servers import recorded
from .archives import zip_in_zip, zip_of
from .signals import cadence_hz

G = 9.80665


def samples(n: int, start_s: float = 0.0, copied: bool = False) -> list[str]:
    times = (start_s + np.arange(n) / 32).tolist()
    return [f"{t:.6f},{-G:.5f},{y(i) if not copied else G / 2:.5f},{G / 2:.5f}" for i, t in enumerate(times)]


def y(i: int) -> float:
    """Return the acceleration along y of sample ``i`` of a walker, in m/s2."""
    return 5.0 + 4.0 * math.sin(1.3 * i)


def write(root: Path, lines: list[str], subject: int = 7) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    (root / f"{subject}.csv").write_text("\n".join(lines) + "\n")
    (root / "README").write_text("read me")
    return root


def test_a_subject_is_a_recording_in_g_at_the_chest_without_gyroscope(tmp_path: Path) -> None:
    write(tmp_path / "set", samples(200), 11)
    seven, eleven = walking.load(write(tmp_path / "set", samples(90)))
    assert (seven.name, seven.subject, seven.rate_hz, seven.placement) == ("7_WALKING", "7", 32.0, "chest")
    assert not seven.has_gyro
    assert seven.segments == (Segment(0, 90, "WALKING"),)
    np.testing.assert_allclose(seven.samples[:, 0], -1.0, rtol=1e-5)
    np.testing.assert_allclose(seven.samples[:, 1], np.array([y(i) for i in range(90)]) / G, atol=1e-5)
    assert (eleven.name, len(eleven.samples)) == ("11_WALKING", 200)


def test_a_walker_who_stops_has_no_label_meanwhile(tmp_path: Path) -> None:
    lines = samples(200)
    lines[80:200] = [line.rsplit(",", 2)[0] + ",0.1,4.9" for line in lines[80:200]]
    (recording,) = walking.load(write(tmp_path / "set", lines))
    (walk,) = recording.segments
    assert (walk.start, walk.label) == (0, "WALKING")
    assert 80 <= walk.stop < 80 + 32


def test_a_new_recording_begins_after_a_gap_and_where_time_jumps_back(tmp_path: Path) -> None:
    lines = samples(100) + samples(64, 3.1 + 8) + samples(64, 3.1 + 8) + samples(90, 3.1 + 15)
    recordings = walking.load(write(tmp_path / "set", lines))
    assert [(recording.name, len(recording.samples)) for recording in recordings] == [
        ("7_WALKING", 100),
        ("7_WALKING_2", 64),
        ("7_WALKING_3", 64),
        ("7_WALKING_4", 90),
    ]


def test_broken_lines_are_skipped_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lines = samples(100)
    lines[20], lines[40] = "0.6,1,2", "0.7,1,nan,2"
    with caplog.at_level(logging.WARNING):
        (recording,) = walking.load(write(tmp_path / "set", [*lines, "", " "]))
    assert len(recording.samples) == 100  # bridged
    assert "7.csv: skipped 2 malformed lines of 100" in caplog.text


def test_samples_whose_axes_are_copies_are_left_out_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "set", samples(90, copied=True), 19)
    lines = samples(100) + samples(64, 100 / 32, copied=True) + samples(80, 164 / 32)
    with caplog.at_level(logging.WARNING):
        first, second = walking.load(write(tmp_path / "set", lines))
    assert (first.subject, len(first.samples), len(second.samples)) == ("7", 100, 80)
    assert "19.csv: left out 90 of 90 samples, in which two axes are the same" in caplog.text
    assert "7.csv: left out 64 of 244 samples" in caplog.text


def test_axes_that_meet_for_a_moment_are_measured(tmp_path: Path) -> None:
    lines = samples(100)
    lines[30:40] = [line.rsplit(",", 2)[0] + ",3.0,3.0" for line in lines[30:40]]
    (recording,) = walking.load(write(tmp_path / "set", lines))
    np.testing.assert_allclose(recording.samples[30:40, 1:3], 3.0 / G, rtol=1e-5)


@pytest.mark.parametrize("pack", [zip_of, zip_in_zip])
def test_a_zip_and_a_zip_in_a_zip_are_read(tmp_path: Path, pack) -> None:
    folder = write(tmp_path / "set", samples(90))
    (recording,) = load(f"walking:{pack(folder, tmp_path / 'set.zip')}")
    assert recording.name == "7_WALKING"


def test_no_file_a_file_without_samples_and_a_second_one_are_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "set", ["some", "words"])
    with pytest.raises(DatasetError, match=r"7\.csv: expected lines 't,x,y,z', got 2 other lines"):
        walking.load(folder)
    (folder / "7.csv").unlink()
    with pytest.raises(DatasetError, match=r"set: expected files 1\.csv, 2\.csv and so on, found none"):
        walking.load(folder)
    write(folder / "a", samples(90))
    write(folder / "b", samples(90))
    with pytest.raises(DatasetError, match=r"expected one 7\.csv, found two, the second is b/7\.csv: remove one"):
        walking.load(folder)


def test_the_real_walkers_walk_upright(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        recordings = load(f"walking:{recorded('walking.zip')}")
    assert len(subject_names(recordings)) == 21
    assert "19" not in subject_names(recordings)
    assert caplog.text.count("two axes are the same") == 2
    assert sum(recording.duration_s for recording in recordings) / 60 == pytest.approx(78, abs=2)
    long = [recording for recording in recordings if recording.duration_s > 20]
    assert len(long) > 40
    for recording in long:
        magnitude = np.linalg.norm(recording.samples[:, :3], axis=1)
        assert magnitude.mean() == pytest.approx(1.0, abs=0.08)
    walks = [(one, part) for one in long for part in one.segments if part.stop - part.start > 10 * one.rate_hz]
    assert len(walks) > 60
    assert np.median([cadence_hz(*walk) for walk in walks]) == pytest.approx(1.8, abs=0.2)
    # Some of them stop now and then.
    labelled = sum(part.stop - part.start for one in recordings for part in one.segments) / 32 / 60
    assert labelled == pytest.approx(68, abs=2)
