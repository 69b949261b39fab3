"""The command that goes from recordings to scores of the labels of held-out subjects."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tensorflow")

from harstream import bundle as bundles
from harstream.core.spec import SignalSpec
from harstream.datasets.base import Recording, Segment
from harstream.train.fitting.prepare import DEFAULT_SMOOTHING, smoothing_with_states
from research.smoothing import results, smoothers, streams
from research.smoothing import study as smoothing_study

from ..made_recordings import subject

TINY = ("--set", "arch=cnn", "--set", "filters=8", "--set", "dense=16", "--set", "epochs=1", "--folds", "2")


@pytest.fixture(autouse=True)
def made(monkeypatch: pytest.MonkeyPatch) -> list[Recording]:
    """Make the recordings that any --data loads: two activities, and between them one that is not trained."""
    monkeypatch.setattr("research.smoothing.study.labels_of_kind", lambda data: ("STILL", "MOVING"))
    recordings = []
    for number in range(4):
        one = subject(f"{number:02d}", number)
        first, last = one.segments
        turn = Segment(first.stop, last.start, "SETTING_OFF")
        recordings.append(
            Recording(one.name, one.subject, one.rate_hz, one.samples, (first, turn, last), has_gyro=one.has_gyro)
        )
    monkeypatch.setattr("harstream.datasets.load", lambda data: recordings)
    return recordings


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try only the first parameters of each type, and fewer splits."""
    every = smoothers.candidates
    monkeypatch.setattr(smoothers, "SPLITS", 2)
    monkeypatch.setattr(smoothers, "candidates", lambda kind: [next(every(kind))])


def study(out: Path, *more: str) -> int:
    return smoothing_study.main(["--data", "csv:somewhere/made", "--seeds", "1", "--out", str(out), *TINY, *more])


def test_the_command_writes_statistics_of_every_subject_and_does_nothing_twice(
    few: None,
    made: list[Recording],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "results" / "streaming.json"
    assert study(out) == 0
    printed = capsys.readouterr()
    assert "seed 0, fold 2 of 2" in printed.err
    assert "streaming.work" in printed.out
    content = results.read(out)
    assert content["wearers"] == ["00", "01", "02", "03"]
    assert (content["data"], content["labels"]) == ("csv:made", ["STILL", "MOVING"])
    assert "somewhere" not in out.read_text()
    assert content["command"].startswith("python -m research.smoothing.study --data csv:made --set arch=cnn")
    assert content["config"]["folds"] == 2
    (run,) = content["runs"]
    assert [row["name"] for row in run["rows"]] == [
        "none",
        "none, abstaining",
        "exponential",
        "exponential, abstaining",
        "hysteresis",
        "hysteresis, abstaining",
        "hmm",
        "hmm, abstaining",
        *results.DEFAULTS,
    ]
    n_windows = run["strangers"]["shuffled"]["windows"]
    assert {entry["windows"] for entry in run["strangers"].values()} == {n_windows}
    assert sum(entry["windows"] for entry in run["stream"]["unknown"].values()) == n_windows
    default = run["rows"][-1]["figures"]
    assert run["stream"]["published"]["accuracy"] == default["accuracy"]
    assert run["held_back"][0]["accuracy"] == default["accuracy"]
    assert content["default"] == DEFAULT_SMOOTHING.to_dict()

    def nothing(*rest: Any, **named: Any) -> Any:
        raise AssertionError("it was fitted again")

    monkeypatch.setattr(streams, "fit", nothing)
    before = out.read_bytes()
    assert study(out) == 0
    assert out.read_bytes() == before


def test_with_states_the_default_has_their_transitions(
    few: None, made: list[Recording], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("research.smoothing.study.labels_of_kind", lambda data: ("SITTING", "STANDING"))
    monkeypatch.setattr("research.smoothing.study.states_of", lambda data: ("SIT_TO_STAND",))
    names = {"STILL": "SITTING", "SETTING_OFF": "SIT_TO_STAND", "MOVING": "STANDING"}
    made[:] = [
        replace(one, segments=tuple(replace(part, label=names[part.label]) for part in one.segments)) for one in made
    ]
    out = tmp_path / "streaming.json"
    assert study(out, "--states") == 0
    content = results.read(out)
    assert content["states"] == ["SIT_TO_STAND"]
    assert "--states" in content["command"]
    assert (
        content["default"]
        == smoothing_with_states(SignalSpec(), ("SITTING", "STANDING"), ("SIT_TO_STAND",), made).to_dict()
    )
    (run,) = content["runs"]
    assert (
        sum(entry["windows"] for entry in run["stream"]["unknown"].values()) == run["strangers"]["shuffled"]["windows"]
    )
    assert "transitions of the states" in results.table(content)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--seeds", "0"), "--seeds: expected at least 1"),
        (("--set", "epoch=3"), "no setting 'epoch'"),
        (("--set", "seed=3"), "seed: not a setting"),
        (("--folds", "1"), "folds: 1 is not between 2 and 1000"),
        (("--model", "nowhere"), "nowhere"),
        (("--states",), "csv names no states"),
    ],
)
def test_a_mistake_is_one_line(
    options: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert study(tmp_path / "x.json", *options) == 2
    stderr = capsys.readouterr().err
    assert stderr.count("\n") == 1
    assert message in stderr
    assert not list(tmp_path.iterdir())


def test_a_bundles_recipe_is_its_signal_labels_and_configuration(
    made: list[Recording], own_bundle: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert study(tmp_path / "x.json", "--model", str(own_bundle)) == 2
    assert "training.config is of an incompatible version" in capsys.readouterr().err
    facts = json.loads((own_bundle / "bundle.json").read_text())
    facts["training"]["config"] = {"arch": "cnn", "arch_settings": {"filters": 4}, "epochs": 7, "seed": 5, "folds": 4}
    (own_bundle / "bundle.json").write_text(json.dumps(facts))
    spec, labels, states, config = smoothing_study.recipe(made, "csv:x", str(own_bundle), ["tilt_deg=5"], 1, None)
    shipped = bundles.load(own_bundle)
    assert (labels, states) == (shipped.labels, ())
    assert (spec.window_samples, spec.channels) == (shipped.spec.window_samples, shipped.spec.channels)
    assert spec.norm != shipped.spec.norm  # every fit measures its own
    assert (config.arch, config.arch_settings, config.epochs) == ("cnn", {"filters": 4}, 7)
    assert (config.seed, config.folds, config.tilt_deg) == (1, 4, 5)
