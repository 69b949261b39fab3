"""No subject is both trained on and scored."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tensorflow")

from harstream.core.spec import SignalSpec
from harstream.datasets import windows
from harstream.datasets.base import Recording
from harstream.errors import DatasetError
from harstream.progress import Progress
from harstream.train.fitting.fit import Fitted, fit
from harstream.train.fitting.prepare import Prepared, prepare
from harstream.train.fitting.recipe import FitConfig
from harstream.train.validation import task as tasks
from harstream.train.validation.cross_validation import cross_validate
from harstream.train.validation.task import FoldTask

from ...made_recordings import PLAIN, two_data_sets

SPEC = SignalSpec()
TINY = FitConfig("mlp", {"units": 10}, epochs=2, folds=2, learning_rate=1e-2, seed=4, **PLAIN)


def test_cross_validation_never_trains_on_the_subjects_it_scores(
    recordings: list[Recording], monkeypatch: pytest.MonkeyPatch
) -> None:
    scored = windows.cut_windows(windows.whole_streams(recordings), SPEC, ("MOVING", "STILL"))
    training = windows.cut_windows(windows.restarted_streams(recordings, SPEC, seed=0), SPEC, ("MOVING", "STILL"))
    trained_on: list[set[str]] = []

    def watched(data: windows.LabelledWindows, spec: SignalSpec, config: FitConfig, progress: Progress) -> Fitted:
        trained_on.append(set(data.subject))
        return fit(data, spec, config, progress)

    monkeypatch.setattr(tasks, "fit", watched)
    steps: list[tuple[str, int, int]] = []
    result = cross_validate(
        Prepared(SPEC, training, scored), TINY, repeats=2, int8=True, progress=lambda *step: steps.append(step)
    )
    held_out = [set(fold.held_out) for run in result.runs for fold in run.folds]
    assert len(trained_on) == len(held_out) == 4
    assert all(not learnt & held for learnt, held in zip(trained_on, held_out, strict=True))
    assert [done for _, done, _ in steps] == list(range(1, 9))
    assert {total for _, _, total in steps} == {8}

    assert [run.seed for run in result.runs] == [4, 5]
    assert result.scores.windows == 2 * len(scored)
    assert [scores.windows for scores in result.int8] == [len(scored)] * 2
    assert set(result.accuracy_by_subject()) == {"01", "02", "03", "04"}
    logits, label = (np.concatenate([getattr(run, name) for run in result.runs]) for name in ("logits", "label"))
    assert (logits.argmax(axis=1) == label).mean() == pytest.approx(result.scores.accuracy)

    data = json.loads(json.dumps(result.to_dict()))
    accuracies = [run["float32"]["accuracy"] for run in data["runs"]]
    assert data["float32"]["accuracy"]["mean"] == pytest.approx(np.mean(accuracies))
    assert data["float32"]["accuracy"]["sd"] == pytest.approx(np.std(accuracies, ddof=1))
    assert data["epochs"] == 2


def test_a_window_taken_for_a_state_is_wrong_and_comes_back_from_the_file(
    recordings: list[Recording], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored = windows.cut_windows(windows.whole_streams(recordings), SPEC, ("MOVING", "STILL"))
    training = replace(scored, states=("STILL_TO_MOVING",))

    class OfStates:
        """Network that takes every other window of MOVING for the state, and is right on all others."""

        history = ()
        model = SimpleNamespace(count_params=lambda: 1)
        spec = SPEC

        def logits_and_features(self, some: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            return self.logits(some), some[:, 0]

        def logits(self, some: np.ndarray) -> np.ndarray:
            index = [np.flatnonzero((scored.windows == window).all(axis=(1, 2)))[0] for window in some]
            label = scored.label[index]
            return np.eye(3, dtype=np.float32)[np.where((label == 0) & (np.array(index) % 2 == 0), 2, label)]

    monkeypatch.setattr(tasks, "fit", lambda *_: OfStates())
    result = cross_validate(Prepared(SPEC, training, scored), TINY, work=tmp_path)
    missed = int(((scored.label == 0) & (np.arange(len(scored)) % 2 == 0)).sum())
    assert result.scores.unknown is not None
    assert result.scores.unknown.tolist() == [missed, 0]
    assert result.scores.accuracy == pytest.approx(1 - missed / len(scored))
    assert result.to_dict()["unknown"] == [missed, 0]
    monkeypatch.setattr(tasks, "fit", lambda *_: pytest.fail("it was fitted again"))
    assert cross_validate(Prepared(SPEC, training, scored), TINY, work=tmp_path).to_dict() == result.to_dict()
    with pytest.raises(pytest.fail.Exception, match="fitted again"):  # other outputs are another fit
        cross_validate(Prepared(SPEC, scored, scored), TINY, work=tmp_path)


def test_a_stored_fold_is_fitted_again_if_the_data_it_was_trained_on_have_changed(
    recordings: list[Recording], tmp_path: Path, done: list[FoldTask]
) -> None:
    def validated(some: list[Recording], **changed: Any) -> int:
        scored = windows.cut_windows(windows.whole_streams(some), SPEC, ("MOVING", "STILL"))
        config = replace(TINY, folds=99, **changed)
        done.clear()
        cross_validate(Prepared(SPEC, scored, scored), config, work=tmp_path)
        return len(done)

    assert validated(recordings[:3]) == 3
    assert validated(recordings[:3]) == 0
    assert validated(recordings) == 4  # a fourth subject to learn from
    longer = replace(recordings[0], segments=recordings[0].segments[:1])
    assert validated([longer, *recordings[1:]]) == 4  # the same subjects with other labels
    assert validated(recordings, epochs=3) == 4
    assert validated(recordings) == 0


def test_whole_data_sets_are_held_out_and_scored_on_the_labels_they_have(
    recordings: list[Recording], done: list[FoldTask]
) -> None:
    several = two_data_sets(recordings)
    scored = windows.cut_windows(windows.whole_streams(several), SPEC, ("MOVING", "STILL"))
    result = cross_validate(Prepared(SPEC, scored, scored), TINY, repeats=2, folds="data")
    assert [(task.config.seed, task.data_set, task.held_out) for task in done] == [
        (seed, *fold) for seed in (4, 5) for fold in (("a", ("a/01", "a/02")), ("b", ("b/03", "b/04")))
    ]
    assert result.method == "2 folds by data set, 2 seeds"
    by_data = result.scores_by_data()
    assert {name: [one.windows for one in scores] for name, scores in by_data.items()} == {
        "a": [44, 44],
        "b": [22, 22],
    }
    data = json.loads(json.dumps(result.to_dict()))
    assert set(data["by_data"]["a"]["recall"]) == {"MOVING", "STILL"}
    assert set(data["by_data"]["b"]["recall"]) == {"MOVING"}  # it lacks STILL
    recall = data["by_data"]["b"]["recall"]["MOVING"]
    assert recall == data["by_data"]["b"]["macro_recall"]
    of_a, of_b = result.runs[0].folds
    assert (of_a.learnt, of_b.learnt) == ((0,), (0, 1))
    means = [data["by_data"][name]["macro_recall"]["mean"] for name in ("a", "b")]
    assert data["macro_recall_of_sets"]["mean"] == pytest.approx(np.mean(means))
    head, rows = result.data_table()
    assert head == ("", "windows", "macro recall, %", "MOVING", "STILL")
    assert [row[0] for row in rows] == ["a", "b", "mean of the data sets"]
    assert [row[4] != "-" for row in rows[:2]] == [True, False]
    assert result.unlearnt() == ["STILL is in a only: the networks that are scored on it never learnt it"]


def test_a_data_set_is_held_out_with_the_subjects_that_have_too_few_windows_to_be_scored(
    recordings: list[Recording], monkeypatch: pytest.MonkeyPatch
) -> None:
    several = two_data_sets(recordings)
    prepared = prepare(several, SPEC, ("MOVING", "STILL"))
    few = prepared.scored.select(np.flatnonzero(prepared.scored.subject != "b/04"))
    assert "b/04" in prepared.training.subject
    trained_on: list[set[str]] = []

    def watched(data: windows.LabelledWindows, spec: SignalSpec, config: FitConfig, progress: Progress) -> Fitted:
        trained_on.append(set(data.subject.tolist()))
        return fit(data, spec, config, progress)

    monkeypatch.setattr(tasks, "fit", watched)
    result = cross_validate(Prepared(SPEC, prepared.training, few), TINY, folds="data")
    assert [fold.held_out for fold in result.runs[0].folds] == [("a/01", "a/02"), ("b/03",)]
    assert trained_on == [{"b/03", "b/04"}, {"a/01", "a/02"}]


def test_a_data_set_may_be_trained_on_and_never_held_out(recordings: list[Recording], done: list[FoldTask]) -> None:
    several = two_data_sets(recordings)
    third = replace(recordings[0], name="c_1", subject="c/01", data_set="c")
    prepared = prepare([*several, third], SPEC, ("MOVING", "STILL"), train_only=["c"])
    assert set(prepared.training.data_set.tolist()) == {"a", "b", "c"}
    assert set(prepared.scored.data_set.tolist()) == {"a", "b"}
    result = cross_validate(prepared, TINY, folds="data")
    assert [task.data_set for task in done] == ["a", "b"]
    assert set(result.scores_by_data()) == {"a", "b"}
    with pytest.raises(DatasetError, match="no data set is called 'd': the data sets are a, b, c"):
        prepare([*several, third], SPEC, ("MOVING", "STILL"), train_only=["d"])


def test_a_single_data_set_has_no_figures_of_its_own(recordings: list[Recording], done: list[FoldTask]) -> None:
    scored = windows.cut_windows(windows.whole_streams(recordings), SPEC, ("MOVING", "STILL"))
    result = cross_validate(Prepared(SPEC, scored, scored), TINY)
    assert "by_data" not in result.to_dict()
    assert result.method == "2 folds by subject, 1 seeds"
    with pytest.raises(DatasetError, match="at least two data sets"):
        cross_validate(Prepared(SPEC, scored, scored), TINY, folds="data")
