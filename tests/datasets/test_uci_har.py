"""The published windows of UCI HAR: read unchanged, and refused as recordings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harstream.core.spec import DEFAULT_CHANNELS
from harstream.datasets import base, uci_har
from harstream.errors import DatasetError

from ..servers import recorded
from .archives import zip_in_zip, zip_of

FILES = [f"{signal}_{axis}" for signal in ("body_acc", "body_gyro", "total_acc") for axis in "xyz"]


def random_windows(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 128, 9)).round(4)


def write(root: Path, part: str = "train", n: int = 4, subjects: bool = True, seed: int = 0) -> Path:
    folder = root / "UCI HAR Dataset" / part
    (folder / "Inertial Signals").mkdir(parents=True)
    for channel, name in enumerate(FILES):
        lines = (" ".join(f"{value: .7e}" for value in window) for window in random_windows(n, seed)[:, :, channel])
        (folder / "Inertial Signals" / f"{name}_{part}.txt").write_text("\n".join(lines) + "\n")
    (folder / f"y_{part}.txt").write_text("".join(f"{1 + k % 2 * 3}\n" for k in range(n)))
    if subjects:
        (folder / f"subject_{part}.txt").write_text("7\n" * n)
    (folder.parent / "activity_labels.txt").write_text("1 WALKING\n4 SITTING\n")
    return root


def signals(root: Path, name: str) -> Path:
    return root / "UCI HAR Dataset/train/Inertial Signals" / f"{name}_train.txt"


def test_windows_come_in_the_order_of_the_default_channels(tmp_path: Path) -> None:
    found = base.load_windows(f"uci-har:{write(tmp_path)}")
    np.testing.assert_allclose(found.windows, random_windows(4, 0), rtol=1e-6)
    assert found.windows.dtype == np.float32
    assert DEFAULT_CHANNELS[0] == "body_acc_x"
    assert DEFAULT_CHANNELS[3] == "gyro_x"
    assert DEFAULT_CHANNELS[8] == "total_acc_z"
    assert found.labels == ("WALKING", "SITTING")
    assert found.label.tolist() == [0, 1, 0, 1]
    assert found.subject is not None
    assert found.subject.tolist() == ["07"] * 4
    assert found.rate_hz == 50.0


def test_training_and_test_windows_follow_each_other(tmp_path: Path) -> None:
    write(tmp_path, "test", n=3, seed=1)
    found = uci_har.load_windows(write(tmp_path, "train", n=2))
    np.testing.assert_allclose(found.windows, np.concatenate([random_windows(2, 0), random_windows(3, 1)]), rtol=1e-6)


def test_subjects_are_given_only_where_all_are_known(tmp_path: Path) -> None:
    write(tmp_path, "test", subjects=False)
    assert uci_har.load_windows(write(tmp_path)).subject is None


@pytest.mark.parametrize("pack", [zip_of, zip_in_zip])
def test_a_zip_and_a_zip_in_a_zip_are_read(tmp_path: Path, pack) -> None:
    assert len(uci_har.load_windows(pack(write(tmp_path / "set"), tmp_path / "set.zip")).windows) == 4


def test_they_are_no_recordings(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="but recordings are needed"):
        base.load(f"uci-har:{write(tmp_path)}")


def test_recordings_are_no_published_windows(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="holds recordings, but windows are needed"):
        base.load_windows(f"hapt:{tmp_path}")


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"expected y_train\.txt or y_test\.txt, found neither"):
        uci_har.load_windows(tmp_path)
    signals(write(tmp_path), "body_gyro_y").unlink()
    with pytest.raises(DatasetError, match=r"body_gyro_y_train\.txt is missing"):
        uci_har.load_windows(tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("train/y_train.txt", "1\n4\n5\n1\n", r"y_train\.txt, line 3: activity 5 has no name in activity_labels\.txt"),
        ("train/y_train.txt", "1\n4\none\n1\n", r"y_train\.txt, line 3: expected a whole number, got 'one'"),
        ("train/y_train.txt", "1\n4\n1\n", r"body_acc_x_train\.txt: expected 3 windows, one per activity, got 4"),
        ("train/subject_train.txt", "1\n", r"subject_train\.txt: expected 4 lines, one per window, got 1"),
        ("activity_labels.txt", "1 WALKING\n4\n", r"activity_labels\.txt, line 2: expected a number and a name"),
        ("train/Inertial Signals/total_acc_y_train.txt", "1 2\n", r"y_train\.txt, line 1: expected 128 numbers, got 2"),
        (
            "train/Inertial Signals/total_acc_y_train.txt",
            ("1 " * 128 + "\n") * 3 + "nan " * 128,
            "line 4: expected 128 finite numbers",
        ),
        (
            "train/Inertial Signals/total_acc_y_train.txt",
            ("x " * 128 + "\n") * 4,
            "line 1: expected 128 finite numbers",
        ),
    ],
)
def test_what_is_malformed_is_refused_by_file_and_line(tmp_path: Path, name: str, text: str, message: str) -> None:
    (write(tmp_path) / "UCI HAR Dataset" / name).write_text(text)
    with pytest.raises(DatasetError, match=message):
        uci_har.load_windows(tmp_path)


def test_the_real_windows_are_total_minus_gravity_and_without_subjects() -> None:
    found = base.load_windows(f"uci-har:{recorded('uci-har-subset.zip')}")
    assert found.windows.shape == (2400, 128, 9)
    assert found.subject is None
    assert found.labels == ("WALKING", "WALKING_UPSTAIRS", "WALKING_DOWNSTAIRS", "SITTING", "STANDING", "LAYING")
    assert np.bincount(found.label).tolist() == [400, 350, 322, 420, 449, 459]
    total, body = found.windows[:, :, 6:], found.windows[:, :, :3]
    assert np.median(np.linalg.norm((total - body).mean(axis=1), axis=1)) == pytest.approx(1.0, abs=0.03)
    standing = found.label == found.labels.index("STANDING")
    assert np.median(total[standing, :, 0]) == pytest.approx(1.0, abs=0.03)  # the x axis is up at the waist
    assert np.median(np.abs(total[found.label == found.labels.index("LAYING"), :, 0])) < 0.5
