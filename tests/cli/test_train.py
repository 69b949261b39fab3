"""`harstream train`: bundles, sweeps and refused options."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

pytest.importorskip("tensorflow")

from harstream.cli import main
from harstream.train.validation import pool
from harstream.train.validation.task import FoldResult, hold_out

from ..made_recordings import PLAIN, hold_out_without_fit, subject

SMALL = ["--arch", "mlp", "--epochs", "1", "--set", "units=4", "--set", "folds=2"]
SMALL += [word for name in PLAIN for word in ("--set", f"{name}=0")]


def train(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["train", *map(str, arguments)])


@pytest.fixture
def data(monkeypatch: pytest.MonkeyPatch) -> str:
    """Make every --data return synthetic recordings."""
    monkeypatch.setattr("harstream.datasets.load", lambda data: [subject(f"{n:02d}", n) for n in range(1, 5)])
    return "csv:/some/where/sessions"


def test_a_sweep_writes_results_table_and_plot_and_is_not_done_twice(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "hold_out", hold_out_without_fit)
    command = ["--data", data, "--out", tmp_path / "units", *SMALL, "--sweep", "units=2,3"]
    done = train(*command, "--seed", 7)
    assert done.exit_code == 0, done.output
    assert "4/4 units=3: seed 7, fold 2: accuracy" in done.output
    data_of = json.loads((tmp_path / "units/results.json").read_text())
    assert [row["name"] for row in data_of["rows"]] == ["units=2", "units=3"]
    assert data_of["commands"] == [
        "harstream train --data csv:sessions --out units --arch mlp --epochs 1 --seed 7 --set units=4 --set folds=2 "
        + " ".join(f"--set {name}=0" for name in PLAIN)
        + " --sweep units=2,3"
    ]
    table = (tmp_path / "units/table.md").read_text()
    assert "| units=3 | " in table
    assert (tmp_path / "units/boxplot.png").stat().st_size > 1000

    monkeypatch.setattr(pool, "hold_out", lambda *_: pytest.fail("it was done already"))
    assert train(*command, "--seed", 7, "--jobs", 3).exit_code == 0
    assert (tmp_path / "units/table.md").read_text() == table


def test_after_ctrl_c_the_same_command_continues_the_training(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["--data", data, "--out", tmp_path / "mine", *SMALL, "--json", tmp_path / "figures.json"]
    command += ["--channels", "total_acc"]
    done: list[FoldResult] = []

    def interrupted(*arguments: Any) -> Any:
        if done:
            raise KeyboardInterrupt
        done.append(hold_out(*arguments))
        return done[0]

    monkeypatch.setattr(pool, "hold_out", interrupted)
    stopped = train(*command)
    assert stopped.exit_code == 130
    assert "the same command continues it" in stopped.output
    assert not (tmp_path / "mine").exists()

    def second(*arguments: Any) -> Any:
        assert arguments[1].held_out != done[0].held_out
        return hold_out(*arguments)

    monkeypatch.setattr(pool, "hold_out", second)
    finished = train(*command, "--logs", tmp_path / "logs", "--note", "Chosen by lot.")
    assert finished.exit_code == 0, finished.output
    assert "on subjects not trained on (2 folds by subject, 1 seeds)" in finished.output
    assert not (tmp_path / "mine.work").exists()
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["runs"][0]["folds"][0]["held_out"] == list(done[0].held_out)
    assert {"history.json", "curves.png", "tensorboard"} <= {path.name for path in (tmp_path / "logs").iterdir()}
    signal = json.loads((tmp_path / "mine/bundle.json").read_text())["signal"]
    assert signal["channels"] == ["total_acc_x", "total_acc_y", "total_acc_z"]
    card = (tmp_path / "mine/README.md").read_text()
    assert "Chosen by lot." in card
    assert (
        f"calibration error of a fold, with the temperature of the other folds, is {figures['calibration_error']:.4f}"
        in card.replace("\n", " ")
    )
    assert "HAPT" not in card


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sweep", "filterz=1,2"], "row 'filterz=1': no setting 'filterz'"),
        (["--sweep", "epochs"], "--sweep: expected NAME=A,B,C, got 'epochs'"),
        (["--variant", "arch"], "--variant: expected NAME=VALUE, got 'arch'"),
        (["--sweep", "epochs=1", "--json", "x.json"], "--json: it applies to a bundle"),
        (["--channels", "total_acc,magnetometer"], "channels: 'magnetometer'"),
        (["--set", "window_samples=0"], "window_samples: 0"),
        (["--set", "seed=1"], "seed: not a setting"),
    ],
)
def test_options_without_sense_are_one_line_and_exit_2(
    data: str, tmp_path: Path, arguments: list[str], message: str
) -> None:
    result = train("--data", data, "--out", tmp_path / "out", *arguments)
    assert (result.exit_code, result.output.count("\n")) == (2, 1)
    assert message in result.output
    assert not (tmp_path / "out").exists()


def test_a_signal_ends_it_with_the_exit_code_of_the_signal(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "hold_out", lambda *_: signal.raise_signal(signal.SIGTERM))
    stopped = train("--data", data, "--out", tmp_path / "mine", *SMALL)
    assert stopped.exit_code == 128 + signal.SIGTERM
    assert "the same command continues it" in stopped.output


def test_a_place_that_cannot_be_written_is_refused_before_the_work(data: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for option, place, message in (
        ("--out", tmp_path / "file", "is not a folder"),
        ("--logs", tmp_path / "file", "is not a folder"),
        ("--json", tmp_path, "is a folder, not a file"),
        ("--out", tmp_path / "file/mine", "File exists"),
    ):
        result = train("--data", data, *SMALL, "--out", tmp_path / "mine", option, place)
        assert (result.exit_code, result.output) == (2, f"harstream: {option}: {place}: {message}\n")
    result = train("--data", data, "--out", tmp_path / "file", *SMALL, "--sweep", "units=2,3")
    assert (result.exit_code, result.output.count("\n")) == (2, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_recordings_of_different_rates_are_trained_on_at_the_rate_that_is_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixed = [subject("01", 1), subject("02", 2, rate_hz=25.0), replace(subject("03", 3), has_gyro=False)]
    monkeypatch.setattr("harstream.datasets.load", lambda data: mixed)
    seen: list[Any] = []

    def seen_and_stopped(*arguments: Any) -> None:
        seen.append(arguments[1].spec)
        raise KeyboardInterrupt

    monkeypatch.setattr(pool, "hold_out", seen_and_stopped)
    command = ["--data", "csv:x", "--out", tmp_path / "mine", *SMALL]
    assert "such as --set sample_rate_hz=25" in train(*command).output
    assert train(*command, "--set", "sample_rate_hz=25").exit_code == 130
    assert (seen[0].sample_rate_hz, seen[0].n_channels) == (25.0, 6)


def test_published_windows_cannot_be_split_by_subject(tmp_path: Path) -> None:
    (tmp_path / "windows").mkdir()
    result = train("--data", f"uci-har:{tmp_path / 'windows'}", "--out", tmp_path / "out")
    assert (result.exit_code, result.output.count("\n")) == (2, 1)
    assert "recordings are needed" in result.output


def test_a_bundle_and_a_sweep_need_folders_of_their_own(data: str, tmp_path: Path) -> None:
    (tmp_path / "results.json").touch()
    result = train("--data", data, "--out", tmp_path, *SMALL)
    assert result.exit_code == 2
    assert "holds a sweep" in result.output
    (tmp_path / "results.json").unlink()
    (tmp_path / "bundle.json").touch()
    result = train("--data", data, "--out", tmp_path, *SMALL, "--sweep", "epochs=1")
    assert result.exit_code == 2
    assert "holds a bundle" in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["bundle.json"]


def test_only_the_subjects_named_are_trained_on(data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[str] = set()

    def seen_and_stopped(prepared: Any, *_: Any) -> None:
        seen.update(prepared.training.subject.tolist())
        raise KeyboardInterrupt

    monkeypatch.setattr(pool, "hold_out", seen_and_stopped)
    train("--data", data, "--out", tmp_path / "x", *SMALL, "--sweep", "units=2", "--subjects", "01,03,04")
    assert seen == {"01", "03", "04"}
    found = json.loads((tmp_path / "x/results.json").read_text())
    assert found["wearers"] == ["01", "03", "04"]
    assert "--subjects 01,03,04" in found["commands"][0]
    assert train("--data", data, "--out", tmp_path / "y", *SMALL, "--wearers", "09").exit_code != 0
