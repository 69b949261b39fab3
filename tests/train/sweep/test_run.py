"""Sweeps are scored by subject, keep every finished fit, and continue after an interruption."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tensorflow")

from harstream.core.spec import SignalSpec
from harstream.datasets.base import Recording
from harstream.errors import ConfigError, DatasetError
from harstream.train.sweep import results, settings, tables
from harstream.train.sweep import run as sweep
from harstream.train.validation import pool
from harstream.train.validation.task import FoldResult, FoldTask

from ...made_recordings import two_data_sets

DATA = "csv:somewhere/sessions"
BASE = {"arch": "cnn", "filters": 4, "dense": 8, "epochs": 2, "folds": 2}


def configs(*variants: str, **base: Any) -> list[sweep.RowConfig]:
    return sweep.row_configs(settings.parse_variants([], variants), {**BASE, **base}, SignalSpec())


@pytest.fixture
def done(done: list[FoldTask], monkeypatch: pytest.MonkeyPatch) -> list[FoldTask]:
    """Measure nothing either."""
    monkeypatch.setattr(sweep, "measure_row", lambda config, n_labels: ({"bytes": 1, "windows_per_s": 2}, {}))
    return done


def test_every_row_holds_out_every_subject_once_per_seed_on_the_same_folds(
    recordings: list[Recording], tmp_path: Path, done: list[FoldTask]
) -> None:
    steps: list[tuple[str, int, int]] = []
    found = sweep.run(
        recordings,
        tmp_path,
        configs("name=plain", "window_samples=64"),
        data=DATA,
        repeats=2,
        progress=lambda *step: steps.append(step),
    )
    assert found == results.read(tmp_path / "results.json")
    assert found.data == "csv:sessions"
    folds = []
    for row in found.rows:
        assert [(fit.seed, fit.fold) for fit in row.fits] == [(0, 0), (0, 1), (1, 0), (1, 1)]
        assert set(row.scores_by_seed(found.subjects)) == {0, 1}
        assert {"seed", "epochs"} <= row.fits[0].to_dict().keys()
        assert "seed" not in row.config
        assert "normalisation" not in row.signal
        folds.append([fit.held_out for fit in row.fits])
    assert folds[0] == folds[1]
    assert found.rows[1].signal["window_samples"] == 64
    fitting = [(n, total) for step, n, total in steps if step == "fitting"]
    assert fitting[0] == (0, 16)
    assert fitting[-1] == (16, 16)


def test_what_is_done_is_not_done_again(recordings: list[Recording], tmp_path: Path, done: list[FoldTask]) -> None:
    def run(chosen: list[sweep.RowConfig], repeats: int) -> results.Results:
        done.clear()
        return sweep.run(recordings, tmp_path, chosen, data=DATA, repeats=repeats, command=f"{repeats}")

    first = run(configs("name=plain"), 1)
    assert len(done) == 2
    assert run(configs("name=plain"), 1) == first
    assert done == []
    assert len(run(configs("name=renamed"), 3).rows) == 1
    assert [task.config.seed for task in done] == [1, 1, 2, 2]
    changed = run(configs("name=renamed", epochs=3), 1)  # a changed setting is another row
    assert [(row.name, row.config["epochs"], len(row.fits)) for row in changed.rows] == [
        ("renamed", 2, 6),
        ("renamed", 3, 2),
    ]
    assert changed.commands == ["1", "3"]


def test_an_interrupted_sweep_continues_where_it_was(
    recordings: list[Recording], tmp_path: Path, done: list[FoldTask], monkeypatch: pytest.MonkeyPatch
) -> None:
    working: Callable[..., FoldResult] = vars(pool)["hold_out"]  # that of the fixture ``done``

    def interrupted(*arguments: Any) -> FoldResult:
        if len(done) == 3:
            raise KeyboardInterrupt
        return working(*arguments)

    monkeypatch.setattr(pool, "hold_out", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sweep.run(recordings, tmp_path, configs("name=a", "name=b epochs=3"), data=DATA)
    kept = results.read(tmp_path / "results.json")
    assert [len(row.fits) for row in kept.rows] == [2, 1]
    assert [row.litert for row in kept.rows] == [{}, {}]
    monkeypatch.setattr(pool, "hold_out", working)
    done.clear()
    found = sweep.run(recordings, tmp_path, configs("name=a", "name=b epochs=3"), data=DATA)
    assert len(done) == 1
    assert [len(row.fits) for row in found.rows] == [2, 2]
    assert found.rows[0].fits == kept.rows[0].fits


def test_results_of_other_recordings_are_not_added_to(
    recordings: list[Recording], tmp_path: Path, done: list[FoldTask]
) -> None:
    sweep.run(recordings, tmp_path, configs("name=plain"), data=DATA)
    with pytest.raises(DatasetError, match="holds results of csv:sessions, not of csv:others"):
        sweep.run(recordings, tmp_path, configs("name=plain"), data="csv:others")
    with pytest.raises(DatasetError, match=r"4 subjects .* the recordings have 3"):
        sweep.run(recordings[:3], tmp_path, configs("name=plain"), data=DATA)
    changed = [replace(recordings[0], segments=recordings[0].segments[:1]), *recordings[1:]]
    with pytest.raises(DatasetError, match=r"row 'plain' has 4\d windows of .*: the recordings have changed"):
        sweep.run(changed, tmp_path, configs("name=plain"), data=DATA, repeats=2)
    with sweep.lock_folder(tmp_path), pytest.raises(ConfigError, match="another process"):
        sweep.run(recordings, tmp_path, configs("name=plain"), data=DATA)
    (tmp_path / "bundle.json").touch()
    with pytest.raises(ConfigError, match="holds a bundle"):
        sweep.run(recordings, tmp_path, configs("name=plain"), data=DATA)


def test_a_row_that_makes_no_sense_is_refused_by_name_before_any_fit(
    recordings: list[Recording], tmp_path: Path, done: list[FoldTask]
) -> None:
    with pytest.raises(ConfigError, match=r"row 'odd': .*filterz"):
        configs("name=good", "name=odd filterz=3")
    with pytest.raises(ConfigError, match="row 'long': "):
        sweep.run(recordings, tmp_path, configs("name=good", "name=long kernel_size=200"), data=DATA)
    assert done == []


def test_two_rows_with_the_same_config_are_refused_by_name() -> None:
    """They would have the same key: each fit would be stored twice, and no seed would be complete."""
    with pytest.raises(ConfigError, match=r"rows 'plain' and 'filters=4' have the same config"):
        configs("name=plain", "filters=4")
    with pytest.raises(ConfigError, match=r"rows 'plain' and 'kernel' have the same"):
        configs("name=plain", "name=other epochs=3", "name=kernel kernel_size=3")


def test_a_row_is_measured_by_its_files() -> None:
    [config] = configs("name=plain")
    litert, int8 = sweep.measure_row(config, 2)
    assert litert["bytes"] > int8["bytes"] > 0
    assert litert["windows_per_s"] > 0


def test_the_file_has_one_line_for_each_fit(recordings: list[Recording], tmp_path: Path, done: list[FoldTask]) -> None:
    sweep.run(recordings, tmp_path, configs("name=plain"), data=DATA)
    text = (tmp_path / "results.json").read_text()
    units = [json.loads(line.strip().rstrip(",")) for line in text.splitlines() if '"held_out"' in line]
    assert units == [unit for row in json.loads(text)["rows"] for unit in row["units"]]
    assert len(units) == 2


def test_a_sweep_may_hold_out_whole_data_sets(
    recordings: list[Recording], tmp_path: Path, done: list[FoldTask]
) -> None:
    several = two_data_sets(recordings)
    data = ["csv:somewhere/a", "csv:somewhere/b"]
    lines: list[str] = []
    sweep.run(several, tmp_path, configs("name=plain"), data=data)
    found = sweep.run(several, tmp_path, configs("name=plain"), data=data, folds="data", repeats=2, report=lines.append)
    assert found == results.read(tmp_path / "results.json")
    assert found.data == "csv:a, csv:b"
    by_subject, by_data = found.rows  # other folds are another row
    assert by_subject.macro_recall_by_data([0, 1]) == {}
    assert [fit.data_set for fit in by_data.fits] == ["a", "b"] * 2
    assert {name: len(recalls) for name, recalls in by_data.macro_recall_by_data([0, 1]).items()} == {"a": 2, "b": 2}
    assert len(by_data.macro_recall_by_data([1])["a"]) == 1
    assert lines[0].startswith("1/4 plain: seed 0, a: accuracy ")
    text = tables.table(found)
    assert "| macro recall, % | mean | a | b |" in text
    assert "Where a data set was held out as a whole" in text
