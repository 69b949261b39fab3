"""DiFronzo's recordings: the layout of HAPT in m/s2, with samples that are no measurement and a wrong label row."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from harstream.datasets import difronzo
from harstream.datasets.base import Segment, load, subject_names

from ..servers import recorded
from .archives import zip_in_zip, zip_of
from .signals import cadence_hz, rest_g, still_angle_deg

G = 9.80665
#: Seconds of each label in the real sessions.
SECONDS = {"WALKING": 860, "WALKING_UPSTAIRS": 790, "WALKING_DOWNSTAIRS": 840, "SITTING": 830, "STANDING": 880}
LABELS = "3 7 5 21 140\n3 7 4 161 300\n"


def write(root: Path, acc: np.ndarray, labels: str = LABELS) -> Path:
    raw = root / "raw data"
    raw.mkdir(parents=True, exist_ok=True)
    np.savetxt(raw / "acc_exp03_user07.txt", acc, "%.6f")
    np.savetxt(raw / "gyro_exp03_user07.txt", acc / 100, "%.6f")
    (raw / "labels.txt").write_text(labels)
    return root


def measured(n: int = 300) -> np.ndarray:
    """Return accelerations of a device upside down, in m/s2, (n_samples, 3)."""
    return G * np.stack([np.arange(n) / 1000, np.full(n, -1.0), np.zeros(n)], axis=1)


def test_a_session_comes_in_g_from_the_pocket_with_hapt_s_numbers(tmp_path: Path) -> None:
    (recording,) = difronzo.load(write(tmp_path, measured()))
    assert (recording.name, recording.subject, recording.rate_hz) == ("exp03_user07", "07", 50.0)
    assert recording.placement == "pocket"
    np.testing.assert_allclose(recording.samples[:, 0], np.arange(300) / 1000, atol=1e-6)
    np.testing.assert_allclose(recording.samples[:, 1], -1.0, atol=1e-6)
    np.testing.assert_allclose(recording.samples[:, 4], -G / 100, atol=1e-6)
    assert recording.segments == (Segment(20, 140, "STANDING"), Segment(160, 300, "SITTING"))


def test_samples_of_zero_at_the_start_are_cut_off(tmp_path: Path) -> None:
    acc = measured()
    acc[:30] = 0
    (recording,) = difronzo.load(write(tmp_path, acc))
    assert len(recording.samples) == 270
    assert recording.samples[0, 1] == pytest.approx(-1.0)
    assert recording.segments == (Segment(0, 110, "STANDING"), Segment(130, 270, "SITTING"))


def test_samples_of_zero_and_held_values_have_no_label(tmp_path: Path) -> None:
    acc = measured()
    acc[200] = 0
    acc[50:100] = acc[50]  # for a second
    acc[240:260] = acc[240]  # for less than half a second, which is bridged
    (recording,) = difronzo.load(write(tmp_path, acc))
    assert len(recording.samples) == 300
    assert recording.segments == (
        Segment(20, 51, "STANDING"),
        Segment(100, 140, "STANDING"),
        Segment(160, 200, "SITTING"),
        Segment(201, 300, "SITTING"),
    )


def test_a_session_of_zeros_only_has_no_samples(tmp_path: Path) -> None:
    (recording,) = difronzo.load(write(tmp_path, np.zeros((300, 3))))
    assert (len(recording.samples), recording.segments) == (0, ())


def test_a_label_that_ends_beyond_its_file_is_left_out_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        (recording,) = difronzo.load(write(tmp_path, measured(), "3 7 5 21 140\n3 7 4 161 3000\n"))
    assert recording.segments == (Segment(20, 140, "STANDING"),)
    assert (
        "acc_exp03_user07.txt: left out line 2 of labels.txt, SITTING from sample 161 to 3000: "
        "the session has 300 samples" in caplog.text
    )


def test_names_in_activity_labels_are_not_needed_and_not_read(tmp_path: Path) -> None:
    root = write(tmp_path, measured())
    (root / "activity_labels.txt").write_text("1 RUNNING\n")
    (recording,) = difronzo.load(root)
    assert recording.segments[0].label == "STANDING"


def test_a_segment_of_gait_has_its_label_only_where_the_subject_moves(tmp_path: Path) -> None:
    acc = measured()
    acc[100:, 1] += 3 * np.sin(np.arange(200))
    labels = "3 7 2 21 140\n3 7 4 161 300\n"
    (recording,) = difronzo.load(write(tmp_path, acc, labels))
    climbing, sitting = recording.segments
    assert (climbing.label, climbing.stop) == ("WALKING_UPSTAIRS", 140)
    assert 70 < climbing.start < 100  # half a second around a moving sample moves
    assert sitting == Segment(160, 300, "SITTING")


@pytest.mark.parametrize("pack", [zip_of, zip_in_zip])
def test_a_zip_and_a_zip_in_a_zip_are_read(tmp_path: Path, pack) -> None:
    (recording,) = load(f"difronzo:{pack(write(tmp_path / 'set', measured()), tmp_path / 'set.zip')}")
    assert recording.name == "exp03_user07"


def test_the_real_sessions_are_plausible(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        recordings = load(f"difronzo:{recorded('difronzo.zip')}")
    assert (len(recordings), len(subject_names(recordings))) == (12, 8)
    assert caplog.text.count("left out line 24 of labels.txt, SITTING from sample 13265 to 159396") == 1
    count = Counter(segment.label for recording in recordings for segment in recording.segments)
    assert (count["SITTING"], count["STANDING"]) == (15, 16)
    seconds = dict.fromkeys(SECONDS, 0.0)
    for recording in recordings:
        for segment in recording.segments:
            seconds[segment.label] += (segment.stop - segment.start) / 50
    assert {label: round(value, -1) for label, value in seconds.items()} == SECONDS
    cadences: dict[str, list[float]] = {}
    for recording in recordings:
        assert recording.samples[0, :3].any()
        assert rest_g(recording) == pytest.approx(1.0, abs=0.02)
        angle = still_angle_deg(recording, "SITTING", "STANDING")
        assert angle is None or 60 < angle < 110
        for segment in recording.segments:
            acc = recording.samples[segment.start : segment.stop, :3]
            if segment.label == "STANDING":
                assert acc[:, 1].mean() == pytest.approx(-1.0, abs=0.03)  # upside down
            if segment.label.startswith("WALKING"):
                if segment.stop - segment.start > 200:
                    cadences.setdefault(segment.label, []).append(cadence_hz(recording, segment))
            else:
                assert acc.std() < 0.6
    for values in cadences.values():
        assert 1.6 < np.median(values) < 2.2
    # The impact of each step is hardest downstairs.
    jolts = {
        label: np.median(
            [
                np.linalg.norm(recording.samples[part.start : part.stop, :3], axis=1).max()
                for recording in recordings
                for part in recording.segments
                if part.label == label
            ]
        )
        for label in count
    }
    assert jolts["WALKING_DOWNSTAIRS"] > jolts["WALKING"] > jolts["STANDING"]
