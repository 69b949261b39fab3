"""Experiments are counted by subject, kept fit by fit, and go on where they were interrupted."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tensorflow")

from harstream.core.spec import SignalSpec
from harstream.datasets.base import Recording
from harstream.errors import ConfigError, DatasetError
from harstream.train.fitting.prepare import prepare
from harstream.train.sweep import results, settings
from harstream.train.sweep import run as experiments
from harstream.train.validation import pool as jobs
from harstream.train.validation.task import Fold, Task, hold_out

from ...made_recordings import PLAIN

DATA = "csv:somewhere/sessions"
BASE = {"arch": "cnn", "filters": 4, "dense": 8, "epochs": 2, "folds": 2}


def ways(*variants: str, **base: Any) -> list[experiments.Way]:
    return experiments.ways_of(settings.variants_of([], variants), {**BASE, **base}, SignalSpec())


@pytest.fixture
def done(done: list[Task], monkeypatch: pytest.MonkeyPatch) -> list[Task]:
    """Nothing is measured either."""
    monkeypatch.setattr(experiments, "measure", lambda way, n_labels: ({"bytes": 1, "windows_per_s": 2}, {}))
    return done


def test_every_row_holds_out_every_subject_once_per_seed_on_the_same_folds(
    recordings: list[Recording], tmp_path: Path, done: list[Task]
) -> None:
    told: list[tuple[str, int, int]] = []
    found = experiments.run(
        recordings,
        tmp_path,
        ways("name=plain", "window_samples=64"),
        data=DATA,
        repeats=2,
        progress=lambda *step: told.append(step),
    )
    assert found == results.read(tmp_path / "results.json")
    assert found.data == "csv:sessions"
    folds = []
    for row in found.rows:
        assert [(unit.seed, unit.fold) for unit in row.units] == [(0, 0), (0, 1), (1, 0), (1, 1)]
        assert set(row.by_seed(found.subjects)) == {0, 1}
        assert {"seed", "epochs"} <= row.units[0].to_dict().keys()
        assert "seed" not in row.config
        assert "normalisation" not in row.signal
        folds.append([unit.held_out for unit in row.units])
    assert folds[0] == folds[1]
    assert found.rows[1].signal["window_samples"] == 64
    fitting = [(n, total) for step, n, total in told if step == "fitting"]
    assert fitting[0] == (0, 16)
    assert fitting[-1] == (16, 16)


def test_what_is_done_is_not_done_again(recordings: list[Recording], tmp_path: Path, done: list[Task]) -> None:
    def run(chosen: list[experiments.Way], repeats: int) -> results.Results:
        done.clear()
        return experiments.run(recordings, tmp_path, chosen, data=DATA, repeats=repeats, command=f"{repeats}")

    first = run(ways("name=plain"), 1)
    assert len(done) == 2
    assert run(ways("name=plain"), 1) == first
    assert done == []
    assert len(run(ways("name=renamed"), 3).rows) == 1
    assert [task.config.seed for task in done] == [1, 1, 2, 2]
    changed = run(ways("name=renamed", epochs=3), 1)  # a changed setting is another row
    assert [(row.name, row.config["epochs"], len(row.units)) for row in changed.rows] == [
        ("renamed", 2, 6),
        ("renamed", 3, 2),
    ]
    assert changed.commands == ["1", "3"]


def test_an_interrupted_experiment_goes_on_where_it_was(
    recordings: list[Recording], tmp_path: Path, done: list[Task], monkeypatch: pytest.MonkeyPatch
) -> None:
    working: Callable[..., Fold] = jobs.hold_out

    def interrupted(*arguments: Any) -> Fold:
        if len(done) == 3:
            raise KeyboardInterrupt
        return working(*arguments)

    monkeypatch.setattr(jobs, "hold_out", interrupted)
    with pytest.raises(KeyboardInterrupt):
        experiments.run(recordings, tmp_path, ways("name=a", "name=b epochs=3"), data=DATA)
    kept = results.read(tmp_path / "results.json")
    assert [len(row.units) for row in kept.rows] == [2, 1]
    assert [row.litert for row in kept.rows] == [{}, {}]
    monkeypatch.setattr(jobs, "hold_out", working)
    done.clear()
    found = experiments.run(recordings, tmp_path, ways("name=a", "name=b epochs=3"), data=DATA)
    assert len(done) == 1
    assert [len(row.units) for row in found.rows] == [2, 2]
    assert found.rows[0].units == kept.rows[0].units


def test_results_of_other_recordings_are_not_added_to(
    recordings: list[Recording], tmp_path: Path, done: list[Task]
) -> None:
    experiments.run(recordings, tmp_path, ways("name=plain"), data=DATA)
    with pytest.raises(DatasetError, match="is of csv:sessions, not of csv:others"):
        experiments.run(recordings, tmp_path, ways("name=plain"), data="csv:others")
    with pytest.raises(DatasetError, match=r"4 subjects .* the recordings have 3"):
        experiments.run(recordings[:3], tmp_path, ways("name=plain"), data=DATA)
    changed = [replace(recordings[0], segments=recordings[0].segments[:1]), *recordings[1:]]
    with pytest.raises(DatasetError, match=r"row 'plain' counts 4\d windows of .*: the recordings have changed"):
        experiments.run(changed, tmp_path, ways("name=plain"), data=DATA, repeats=2)
    with experiments.locked(tmp_path), pytest.raises(ConfigError, match="another process"):
        experiments.run(recordings, tmp_path, ways("name=plain"), data=DATA)
    (tmp_path / "bundle.json").touch()
    with pytest.raises(ConfigError, match="holds a bundle"):
        experiments.run(recordings, tmp_path, ways("name=plain"), data=DATA)


def test_a_row_that_makes_no_sense_is_refused_by_name_before_any_fit(
    recordings: list[Recording], tmp_path: Path, done: list[Task]
) -> None:
    with pytest.raises(ConfigError, match=r"row 'odd': .*filterz"):
        ways("name=good", "name=odd filterz=3")
    with pytest.raises(ConfigError, match="row 'long': "):
        experiments.run(recordings, tmp_path, ways("name=good", "name=long kernel_size=200"), data=DATA)
    assert done == []


def test_two_rows_that_are_one_way_of_training_are_refused_by_name() -> None:
    """Under one key in the results file each fit would be there twice, and no seed ever whole."""
    with pytest.raises(ConfigError, match=r"rows 'plain' and 'filters=4' are one way of training"):
        ways("name=plain", "filters=4")
    with pytest.raises(ConfigError, match=r"rows 'plain' and 'kernel' are one way"):
        ways("name=plain", "name=other epochs=3", "name=kernel kernel_size=3")


def test_fits_in_processes_of_their_own_come_to_what_they_do_here_and_are_refused_likewise(
    recordings: list[Recording],
) -> None:
    [way] = ways("name=plain", **PLAIN, window_samples=32, epochs=1)
    prepared = prepare(recordings, way.spec)
    both = (prepared.training, prepared.counted)
    tasks = [Task(way.spec, way.config, held_out) for held_out in (("01", "02"), ("03",), ("nobody",))]
    told: list[tuple[int, int]] = []
    found: dict[int, Fold] = {}
    with pytest.raises(DatasetError, match="nobody have no window"):
        found.update(jobs.run(tasks, lambda _: both, 2, lambda *step: told.append(step)))
    assert found
    for index, fold in found.items():
        assert (fold.held_out, fold.epochs) == (tasks[index].held_out, 1)
        assert (index, 1) in told
        here = hold_out(*both, tasks[index])
        np.testing.assert_allclose(fold.logits, here.logits, atol=1e-3)


def test_a_row_is_measured_by_its_files() -> None:
    [way] = ways("name=plain")
    litert, int8 = experiments.measure(way, 2)
    assert litert["bytes"] > int8["bytes"] > 0
    assert litert["windows_per_s"] > 0


def test_the_file_has_one_line_for_each_fit(recordings: list[Recording], tmp_path: Path, done: list[Task]) -> None:
    experiments.run(recordings, tmp_path, ways("name=plain"), data=DATA)
    text = (tmp_path / "results.json").read_text()
    units = [json.loads(line.strip().rstrip(",")) for line in text.splitlines() if '"held_out"' in line]
    assert units == [unit for row in json.loads(text)["rows"] for unit in row["units"]]
    assert len(units) == 2
