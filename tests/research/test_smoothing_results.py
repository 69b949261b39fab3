"""Results of a smoothing study, from the file to the table and the model card."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("tensorflow")

from harstream import bundle as bundles
from harstream.core.smoothing_section import Smoothing
from harstream.errors import ConfigError, DatasetError
from harstream.train import card
from harstream.train.fitting.prepare import DEFAULT_SMOOTHING
from research import figures
from research.smoothing import card as study_card
from research.smoothing import results, smoothers
from research.smoothing import study as smoothing_study
from research.smoothing.streams import StudyRun

from .test_smoothers import LABELS, SPEC, restless


@pytest.fixture(scope="module")
def study() -> dict[str, Any]:
    """Return the results of two seeds, as read from a file."""
    with pytest.MonkeyPatch.context() as patch:
        every = smoothers.candidates
        patch.setattr(smoothers, "SPLITS", 2)
        patch.setattr(smoothers, "candidates", lambda kind: [next(every(kind))])
        runs = [
            smoothing_study.study(StudyRun(seed, (0.6, 0.7), tuple(restless(3 + seed)[seed:])), LABELS, SPEC)
            for seed in (0, 1)
        ]
    whole = {
        "format": results.FORMAT,
        "data": "csv:made",
        "command": "python -m research.smoothing.study --data csv:made",
        "wearers": ["0", "1", "2"],
        "labels": list(LABELS),
        "config": {"unfamiliar_share": 0.0},
        "splits": 2,
        "default": DEFAULT_SMOOTHING.to_dict(),
        "runs": runs,
    }
    read: dict[str, Any] = json.loads(json.dumps(whole))
    return read


def cells(text: str, name: str, table: int = 0) -> dict[str, str]:
    """Return the cells of one row by the titles of their columns."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    heads = [i for i, line in enumerate(lines) if line.startswith("|  |")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[heads[table] :]]
    return dict(zip(rows[0], next(row for row in rows if row[0] == name), strict=True))


def test_the_table_is_made_again_from_the_file_alone(study: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "streaming.json"
    path.write_text(json.dumps(study))
    assert figures.regenerate(tmp_path) == [tmp_path / "streaming.md"]
    text = path.with_suffix(".md").read_text()
    assert text == results.table(study)
    accuracies = [100 * run["rows"][0]["figures"]["accuracy"] for run in study["runs"]]
    assert cells(text, "none")["accuracy, %"].startswith(f"{sum(accuracies) / 2:.2f} ± ")
    assert cells(text, "default")["UNKNOWN, other activities, %"] != "0.0 ± 0.0"
    assert cells(text, "default, never UNKNOWN")["UNKNOWN, other activities, %"] == "0.0 ± 0.0"
    assert cells(text, "hmm", 1)["true"] == "15.0 ± 0.0"
    assert cells(text, "4", 2)["delay, s"] > cells(text, "0", 2)["delay, s"]
    assert set(cells(text, "shuffled", 3)) == {"", "UNKNOWN, %"}
    assert "- hmm: dwell_s 2.5, trust 0.35 (8)" in text
    assert "2 folds by subject" in text


def test_one_seed_has_no_deviation(study: dict[str, Any]) -> None:
    text = results.table({**study, "runs": study["runs"][:1]})
    assert text.count("±") == 1  # of the sentence that explains it


def test_events_that_are_fragmented_and_merged_count_as_both(study: dict[str, Any]) -> None:
    section = json.loads(json.dumps(study["runs"][0]["stream"]))
    before: dict[str, Any] = results.figures(section)
    section["published"]["events"]["all"]["fragmented_and_merged"] += 2
    after: dict[str, Any] = results.figures(section)
    changed = {name: after[name] - before[name] for name in after if after[name] != before[name]}
    assert changed == {"events_fragmented": 2, "events_merged": 2}


def test_accuracy_of_what_is_labelled_leaves_unknown_out(study: dict[str, Any]) -> None:
    figures_: dict[str, Any] = results.figures(study["runs"][0]["stream"])
    assert figures_["accuracy_of_labelled"] == pytest.approx(figures_["accuracy"] / (1 - figures_["unknown_inside"]))


def test_a_mean_is_number_by_number_and_leaves_nulls_out() -> None:
    study = results.mean(
        [{"a": 1, "b": {"c": None}, "d": None, "e": "x"}, {"a": 2, "b": {"c": 3.0}, "d": None, "e": "x"}]
    )
    assert study == {"a": 1.5, "b": {"c": 3.0}, "d": None, "e": "x"}
    assert isinstance(results.mean([{"n": 42}, {"n": 42}])["n"], int)


def test_a_model_card_has_the_scores_of_published_labels_of_held_out_subjects(study: dict[str, Any]) -> None:
    section = results.card_scores(study, DEFAULT_SMOOTHING)
    text = card.as_published(DEFAULT_SMOOTHING, section)
    accuracy = sum(run["stream"]["published"]["accuracy"] for run in study["runs"]) / 2
    assert f"| published | {100 * accuracy:.2f} % |" in text
    assert "each through networks trained on other subjects (2 folds, mean of 2 seeds)" in text
    share = sum(run["strangers"]["shuffled"]["share"] for run in study["runs"]) / 2
    assert f"| unfamiliar: the same recordings, shuffled | {100 * share:.0f} % |" in text


def test_unfamiliar_signals_that_are_trained_on_are_marked(study: dict[str, Any]) -> None:
    taught = {**study, "config": {"unfamiliar_share": 0.1}}
    assert set(results.card_scores(taught, DEFAULT_SMOOTHING)["strangers"]) == {"shuffled (trained on)"}
    assert "| shuffled (trained on) |" in results.table(taught)
    assert "trained on)" not in results.table(study)


def test_the_command_prints_the_section_of_a_bundle_with_the_smoothing_of_the_study(
    study: dict[str, Any], random_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "streaming.json"
    path.write_text(json.dumps(study))
    assert study_card.main([str(path), "--model", str(random_bundle)]) == 2
    assert "the bundle has" in capsys.readouterr().err
    path.write_text(json.dumps({**study, "default": bundles.load(random_bundle).smoothing.to_dict()}))
    assert study_card.main([str(path), "--model", str(random_bundle)]) == 0
    assert capsys.readouterr().out.startswith("## As published\n")


def test_the_card_of_a_shipped_bundle_has_the_section_that_the_command_prints(
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = Path(__file__).parents[2]
    waist = root / "models/waist"
    assert study_card.main([str(root / "docs/results/streaming.json"), "--model", str(waist)]) == 0
    assert capsys.readouterr().out.strip() in (waist / "README.md").read_text(encoding="utf-8")


def test_figures_of_another_smoothing_are_not_put_on_a_card(study: dict[str, Any]) -> None:
    for other in (Smoothing(), replace(DEFAULT_SMOOTHING, unknown_below=0.7)):
        with pytest.raises(ConfigError, match="the bundle has"):
            results.card_scores(study, other)


def test_a_file_of_another_kind_is_refused(study: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    for spoilt in ({**study, "format": "harstream streaming 0"}, {**study, "runs": []}):
        path.write_text(json.dumps(spoilt))
        with pytest.raises(DatasetError, match=r"x\.json: expected"):
            results.read(path)
