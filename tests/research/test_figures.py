"""Tables and plots follow from the committed results alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from harstream.core.spec import SignalSpec
from harstream.datasets import windows
from harstream.datasets.base import Recording
from harstream.errors import DatasetError
from harstream.train.sweep import results, tables
from harstream.train.sweep.results import FitRecord, Results, Row
from research import channels, figures

SUBJECTS = ("01", "02", "03")


def unit(seed: int, right: int, held_out: tuple[str, ...] = SUBJECTS, fold: int = 0) -> FitRecord:
    return FitRecord(seed, fold, held_out, ((right, 100 - right), (0, 100)), 0.1, 10, 12.3)


def row(name: str, units: list[FitRecord], **config: Any) -> Row:
    return Row(
        name,
        name,
        {"arch": name},
        {"arch": name, "epochs": 10, "arch_settings": {}, **config},
        {"window_samples": 128},
        ("STILL", "MOVING"),
        1234,
        {"bytes": 5600, "windows_per_s": 70_000},
        {"reason": "an operation has no int8 form"},
        {},
        units,
    )


@pytest.fixture
def sweep() -> Results:
    cnn = row("cnn", [unit(0, 90), unit(1, 80), unit(2, 70)])
    mlp = row("mlp", [unit(0, 60, ("01", "02")), unit(0, 40, ("03",), 1), unit(1, 0, ("01",))], patience=3)
    return Results("csv:sessions", SUBJECTS, ["harstream train --sweep arch=cnn,mlp"], [cnn, mlp])


def cells(text: str, name: str) -> list[str]:
    line = next(line for line in text.splitlines() if line.startswith(f"| {name} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_row_has_mean_and_deviation_over_seeds_and_their_numbers(sweep: Results) -> None:
    text = tables.table(sweep)
    head = cells(text, "")
    cnn = dict(zip(head, cells(text, "cnn"), strict=True))
    assert cnn["accuracy, %"] == "90.00 ± 5.00"
    assert cnn["parameters"] == "1,234"
    assert (cnn["float32, kB"], cnn["float32, windows/s"], cnn["int8, kB"]) == ("6", "70,000", "-")
    assert (cnn["epochs"], cnn["seeds"], cnn["folds"], cnn["s per fit"]) == ("10", "0-2", "1", "12")
    assert "- cnn: no int8 network: an operation has no int8 form" in text
    assert "    harstream train --sweep arch=cnn,mlp" in text
    for stated in (
        "Each subject is held out once per seed",
        "nothing was chosen on the fold that is scored",
        "early stopping",
    ):
        assert stated in text


def test_a_seed_under_which_not_every_subject_was_held_out_does_not_count(sweep: Results) -> None:
    text = tables.table(sweep)
    mlp = dict(zip(cells(text, ""), cells(text, "mlp"), strict=True))
    assert (mlp["accuracy, %"], mlp["seeds"], mlp["folds"]) == ("75.00", "0", "2")
    sweep.rows[1].fits.pop(0)
    assert "| mlp |" not in tables.table(sweep)
    assert "1 more rows have no complete seed" in tables.table(sweep)
    sweep.rows[0].fits.clear()
    with pytest.raises(DatasetError, match="no row has a seed"):
        tables.table(sweep)


def test_rows_with_the_same_name_are_distinguished_by_their_differences(sweep: Results) -> None:
    sweep.rows.append(row("cnn", [unit(0, 50)], learning_rate=0.1))
    sweep.rows[0].config = {**sweep.rows[0].config, "learning_rate": 0.2}
    assert [name for name, _, _ in tables.complete(sweep)] == [
        "cnn (learning_rate=0.2)",
        "mlp",
        "cnn (learning_rate=0.1)",
    ]


def test_one_command_makes_every_table_and_plot_again(sweep: Results, tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "architectures.json").write_bytes(sweep.to_bytes())
    (tmp_path / "below/results.json").write_bytes(sweep.to_bytes())
    (tmp_path / "other.json").write_text('{"accuracy": 1}')
    assert figures.main([str(tmp_path)]) == 0
    made = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.suffix in (".md", ".png")}
    assert {str(path.relative_to(tmp_path)) for path in made} == {
        "architectures.md",
        "architectures.png",
        "below/table.md",
        "below/boxplot.png",
    }
    assert figures.main([str(tmp_path)]) == 0
    assert {path: path.read_bytes() for path in made} == made


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda row: row["config"].pop("epochs"), "row 'cnn': the config has no epochs"),
        (lambda row: row["units"][0].pop("seed"), "row 'cnn': a fit has no seed"),
        (lambda row: row["units"][1].pop("epochs"), "row 'cnn': a fit has no epochs"),
        (lambda row: row["units"][0].update(windows=7), "row 'cnn': seed 0 has 7 windows, its confusion matrix 200"),
        (lambda row: row.pop("labels"), "labels"),
    ],
)
def test_a_row_without_seeds_or_epochs_is_refused(
    sweep: Results, tmp_path: Path, spoil: Any, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data = json.loads(sweep.to_bytes())
    spoil(data["rows"][0])
    (tmp_path / "spoilt.json").write_text(json.dumps(data))
    with pytest.raises(DatasetError, match=r"spoilt\.json"):
        results.read(tmp_path / "spoilt.json")
    assert figures.main([str(tmp_path)]) == 2
    stderr = capsys.readouterr().err
    assert stderr.count("\n") == 1
    assert message in stderr
    assert not (tmp_path / "spoilt.md").exists()


def test_channels_are_counted_without_a_sample_twice_and_drawn_from_the_counts(
    recordings: list[Recording], tmp_path: Path
) -> None:
    spec = SignalSpec(channels=("total_acc_x", "gyro_x"))
    cut = windows.cut_windows(windows.whole_streams(recordings), spec, ("MOVING", "STILL"))
    counted = channels.histograms(cut, spec, "csv:sessions")
    path = tmp_path / "channels.json"
    path.write_text(channels.to_text(counted))
    assert channels.read(path) == counted
    for entry in counted["channels"].values():
        total = sum(map(sum, entry["counts"].values())) + sum(entry["beyond"].values())
        assert total == len(cut) * spec.stride_samples
        assert sum(entry["beyond"].values()) < 0.01 * total
    still, moving = (np.array(counted["channels"]["gyro_x"]["counts"][label]) for label in ("STILL", "MOVING"))
    assert still.max() > 3 * moving.max()
    assert figures.main([str(tmp_path)]) == 0
    assert (tmp_path / "channels.png").stat().st_size > 5000
