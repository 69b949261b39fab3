"""`harstream evaluate` on synthetic recordings and windows."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from harstream.cli import main
from harstream.datasets.base import PrecutWindows, Recording, Segment
from harstream.datasets.csv import CsvWriter

PUBLIC = {"windows", "accuracy", "macro_f1", "labels", "confusion"}


@pytest.fixture
def recordings(monkeypatch):
    """Recordings that every --data returns."""
    recordings = []
    for number in range(2):
        rng = np.random.default_rng(number)
        samples = rng.normal(scale=0.3, size=(1500, 6)).astype(np.float32)
        samples[:, 0] += 1
        segments = (Segment(0, 700, "SITTING"), Segment(700, 800, "SIT_TO_STAND"), Segment(800, 1500, "STANDING"))
        recordings.append(Recording(f"rec-{number}", f"subject-{number}", 50.0, samples, segments))
    monkeypatch.setattr("harstream.datasets.load", lambda data: recordings)
    return recordings


@pytest.fixture
def windows(monkeypatch):
    rng = np.random.default_rng(3)
    windows = PrecutWindows(
        rng.normal(size=(20, 128, 9)).astype(np.float32), np.arange(20) % 2, ("WALKING", "LAYING"), None
    )
    monkeypatch.setattr("harstream.datasets.load_windows", lambda data: windows)
    return windows


def evaluate(random_bundle, *arguments: str):
    return CliRunner().invoke(main, ["evaluate", "--model", str(random_bundle), *arguments])


@pytest.mark.parametrize("stream", [[], ["--stream"]])
def test_the_figures_are_printed_and_written(random_bundle, recordings, tmp_path, stream):
    out, page = tmp_path / "figures.json", tmp_path / "page"
    result = evaluate(random_bundle, "--data", "hapt:x", "--json", str(out), "--report", str(page), *stream)
    assert result.exit_code == 0, result.output
    figures = json.loads(out.read_text())
    assert set(figures) >= PUBLIC
    assert len(figures["confusion"]) == len(figures["labels"])
    counted = np.sum(figures["confusion"]) + sum(figures.get("unknown", []))
    assert figures["windows"] == counted > 30
    assert figures["accuracy"] == pytest.approx(np.trace(figures["confusion"]) / figures["windows"])
    assert set(figures["by_wearer"]) == {"subject-0", "subject-1"}
    assert 0 <= figures["calibration_error"] <= 1
    assert ("stream" in figures) == bool(stream)
    assert f"accuracy {figures['accuracy']:.4f}" in result.output
    assert ("whole sessions" in result.output) == bool(stream)
    assert (page / "report.html").read_text().startswith("<!doctype html>")
    assert str(page / "report.html") in result.output


def test_streamed_and_single_windows_are_the_same_windows(random_bundle, recordings, tmp_path):
    counts = []
    for stream in ([], ["--stream"]):
        evaluate(random_bundle, "--data", "hapt:x", "--json", str(tmp_path / "json"), *stream)
        counts.append(json.loads((tmp_path / "json").read_text()))
    assert counts[0]["windows"] == counts[1]["windows"]
    assert counts[1]["stream"]["single_windows"]["accuracy"] == pytest.approx(counts[0]["accuracy"])


def test_a_note_states_that_only_the_network_is_applied_to_published_windows(random_bundle, windows, tmp_path):
    out = tmp_path / "figures.json"
    result = evaluate(random_bundle, "--data", "uci-har:x", "--json", str(out), "--report", str(tmp_path))
    assert result.exit_code == 0, result.output
    assert "only the network was applied" in result.output
    assert any("only the network" in note for note in json.loads(out.read_text())["notes"])
    assert "only the network was applied" in (tmp_path / "report.html").read_text()
    assert json.loads(out.read_text())["windows"] == 20


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "uci-har:x", "--stream"], "--stream: it needs whole sessions"),
        (["--data", "hapt:x", "--data", "uci-har:x", "--stream"], "--stream: it needs whole sessions, but uci-har:x"),
        (["--data", "uci-har:x", "--placement", "waist"], "--placement: it needs recordings"),
        (["--data", "hapt:x", "--placement", "waist"], "no recording has the placement 'waist': no data with a place"),
        (
            ["--data", "hapt:x", "--placement", "wrist"],
            "no recording has the placement 'wrist': the placements are wai",
        ),
        (["--data", "hapt:x", "--labels", "labels"], "--labels: it needs --stream"),
    ],
)
def test_what_does_not_go_together_is_exit_2_in_one_line(random_bundle, recordings, windows, arguments, message):
    result = evaluate(random_bundle, *arguments)
    assert (result.exit_code, result.output.count("\n")) == (2, 1)
    assert message in result.output


def test_every_published_label_can_be_written_out(random_bundle, recordings, tmp_path):
    path = tmp_path / "labels"
    result = evaluate(random_bundle, "--data", "hapt:x", "--stream", "--labels", str(path))
    assert result.exit_code == 0, result.output
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert {line["device"] for line in lines} == {"rec-0", "rec-1"}
    assert {"t", "label", "confidence", "probabilities", "window", "model"} <= set(lines[0])


def test_a_place_that_cannot_be_written_is_refused_before_the_work_and_a_missing_folder_made(
    random_bundle, recordings, tmp_path
):
    (tmp_path / "file").touch()
    for option, place, message in (
        ("--json", tmp_path, "is a folder, not a file"),
        ("--json", tmp_path / "file/figures.json", "File exists"),
        ("--report", tmp_path / "file", "is not a folder"),
    ):
        result = evaluate(random_bundle, "--data", "hapt:x", option, str(place))
        assert (result.exit_code, result.output) == (2, f"harstream: {option}: {place}: {message}\n")
    result = evaluate(random_bundle, "--data", "hapt:x", "--json", str(tmp_path / "new/figures.json"))
    assert result.exit_code == 0, result.output
    assert (tmp_path / "new/figures.json").exists()


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        (["--subjects", "subject-1"], {}),
        (["--wearers", "subject-1"], {}),
        ([], {"HARSTREAM_EVALUATE_SUBJECTS": "subject-1"}),
        ([], {"HARSTREAM_EVALUATE_WEARERS": "subject-1"}),
    ],
)
def test_subjects_may_be_chosen_under_the_old_name_too(random_bundle, recordings, tmp_path, arguments, environment):
    path = tmp_path / "figures.json"
    command = ["evaluate", "--model", str(random_bundle), "--data", "hapt:x", "--json", str(path), *arguments]
    result = CliRunner().invoke(main, command, env=environment)
    assert result.exit_code == 0, result.output
    assert set(json.loads(path.read_text())["by_wearer"]) == {"subject-1"}


@pytest.fixture
def folders(tmp_path):
    """Return a folder of two data sets; one lacks a gyroscope in part, and the other has an activity of its own."""
    files = (("a/anna_1", "Sitting", True), ("a/ben_1", "SITTING", False), ("b/anna_1", "DANCING", True))
    for name, activity, gyro in files:
        path = tmp_path / f"{name}.csv"
        path.parent.mkdir(exist_ok=True)
        with CsvWriter(path, gyro=gyro) as writer:
            rng = np.random.default_rng(len(name))
            samples = rng.normal(scale=0.1, size=(600, 6)).astype(np.float32)
            writer.write(np.arange(300) / 50, samples[:300], activity)
            writer.write(np.arange(300, 600) / 50, samples[300:], "standing")
    return tmp_path


@pytest.mark.parametrize("stream", [[], ["--stream"]])
def test_figures_of_several_data_sets_say_which_they_are_of(random_bundle, folders, stream):
    out, labels = folders / "figures.json", folders / "labels"
    arguments = [f"--data=csv:{folders}/a", f"--data=csv:{folders}/b", "--json", str(out), "--report", str(folders)]
    arguments += [*stream, "--labels", str(labels)] if stream else []
    result = evaluate(random_bundle, *arguments)
    assert result.exit_code == 0, result.output
    figures = json.loads(out.read_text())
    assert list(figures["by_data"]) == ["csv:a", "csv:b"]
    assert figures["by_data"]["csv:a"]["windows"] + figures["by_data"]["csv:b"]["windows"] == figures["windows"] > 6
    assert list(figures["by_wearer"]) == ["csv:a/anna", "csv:b/anna"]
    assert f"on csv:{folders}/a: 1 recordings of 1 subjects" in result.output
    assert "2 data sets together" in result.output
    assert result.output.count("no label covers DANCING (6 s)") == 1
    assert result.output.count("1 recordings of 1 subjects were made without the gyroscope") == 1
    assert "mean of the data sets" in result.output
    page = (folders / "report.html").read_text()
    assert "<h1>random@0.0.1 on csv:a, csv:b</h1>" in page
    if stream:
        devices = {json.loads(line)["device"] for line in labels.read_text().splitlines()}
        assert devices == {"csv:a.anna_1", "csv:b.anna_1"}


def test_subjects_and_data_sets_that_were_not_chosen_are_named_in_notes(random_bundle, folders):
    out = folders / "figures.json"
    arguments = [f"--data=csv:{folders}/a", f"--data=csv:{folders}/b", "--json", str(out)]
    result = evaluate(random_bundle, *arguments, "--subjects", "csv:a/anna")
    assert result.exit_code == 0, result.output
    for name in ("csv:b: ", ""):
        assert result.output.count(f"note: {name}1 recordings of 1 subjects who were not chosen: left out\n") == 1
    assert len([note for note in json.loads(out.read_text())["notes"] if "not chosen" in note]) == 2


def test_data_sets_may_be_given_by_a_variable_one_a_line(random_bundle, folders):
    command = ["evaluate", "--model", str(random_bundle)]
    data = f"csv:{folders}/a\ncsv:{folders}/b"
    result = CliRunner().invoke(main, command, env={"HARSTREAM_EVALUATE_DATA": data})
    assert "2 data sets together" in result.output, result.output


def test_the_same_data_set_twice_is_refused(random_bundle, folders):
    result = evaluate(random_bundle, "--data", f"csv:{folders}/a", "--data", f"csv:{folders}/a")
    assert (result.exit_code, result.output) == (
        2,
        "harstream: csv:a is given more than once: give each data set once, under names that differ\n",
    )


def test_recordings_and_windows_are_scored_together(random_bundle, recordings, windows, tmp_path):
    out = tmp_path / "figures.json"
    result = evaluate(random_bundle, "--data", "hapt:x", "--data", "uci-har:x", "--json", str(out))
    assert result.exit_code == 0, result.output
    assert json.loads(out.read_text())["by_data"]["uci-har"]["windows"] == 20


def test_labels_without_windows_have_no_figures(random_bundle, recordings):
    result = evaluate(random_bundle, "--data", "hapt:x")
    assert result.exit_code == 0, result.output
    assert re.search(r"macro recall \d\.\d{4} \(2 labels with windows\), calibration", result.output)
    assert re.search(r"macro-F1 \d\.\d{4} \(\d labels with windows or predictions\), ", result.output)
    assert re.search(r"^WALKING +- +- ", result.output, re.MULTILINE)
    assert re.search(r"^SITTING +\d\.\d{4} +\d\.\d{4} ", result.output, re.MULTILINE)


def test_doubts_about_the_recordings_are_printed_and_those_about_training_are_not(random_bundle, recordings):
    recordings[:] = [
        replace(one, samples=one.samples * np.array([9.8, 9.8, 9.8, 1, 1, 1], np.float32)) for one in recordings[:1]
    ]
    recordings[0].samples[:200] = (9.8, 0, 0, 0, 0, 0)
    result = evaluate(random_bundle, "--data", "hapt:x")
    assert "doubt: hapt: |acc| at rest is 9.80 g" in result.output
    assert "one subject only" not in result.output


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("Cycling", "", "JUMP"), r"knows \(.*SITTING.*\); found: Cycling 28 s, JUMP 28 s: name the labels alike"),
        (
            ("", "", ""),
            "the recordings have no labels: expected a column label, activity or class",
        ),
    ],
)
def test_what_there_is_in_place_of_known_labels_is_named(random_bundle, recordings, names, message):
    recordings[:] = [
        replace(
            one,
            segments=tuple(replace(part, label=name) for part, name in zip(one.segments, names, strict=True) if name),
        )
        for one in recordings
    ]
    result = evaluate(random_bundle, "--data", "hapt:x")
    assert result.exit_code == 2
    assert re.search(message, result.output.splitlines()[-1])
