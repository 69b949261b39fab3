"""The description of recordings before anything is trained on them."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from harstream.cli import main
from harstream.datasets import csv, rows
from harstream.datasets.base import Recording, Segment, Source
from harstream.datasets.description import Inspection
from harstream.datasets.inspection import inspect

from ..made_recordings import subject, write_csv


def found(*recordings: Recording) -> Inspection:
    return inspect("csv:own", recordings)


def good() -> list[Recording]:
    return [subject(name, number) for number, name in enumerate(("anna", "ben", "cara", "dan"))]


def doubts(*recordings: Recording) -> list[str]:
    """Return the doubts about recordings that there are not about good ones."""
    return [text for text in found(*recordings).warnings if text not in found(*good()).warnings]


def test_good_recordings_are_described_without_a_doubt() -> None:
    result = found(*good())
    assert result.warnings == ()
    assert (result.recordings, result.samples, result.rate_hz, result.gyroscope) == (4, 4 * 35 * 50, (50.0,), 4)
    assert result.at_rest_g == pytest.approx(1, abs=0.1)
    assert result.subjects["ben"] == {"recordings": ["ben_1"], "seconds": 35.0, "labels": ["MOVING", "STILL"]}
    assert result.labels == {
        "MOVING": {"seconds": 64.0, "longest_s": 16.0, "subjects": 4},
        "STILL": {"seconds": 64.0, "longest_s": 16.0, "subjects": 4},
    }


def relabelled(one: Recording, names: dict[str, str]) -> Recording:
    return replace(one, segments=tuple(replace(s, label=names.get(s.label, s.label)) for s in one.segments))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda r: [replace(one, samples=one.samples * np.float32(9.81)) for one in r],
            "the accelerations may be in m/s2",
        ),
        (lambda r: [replace(r[0], rate_hz=25.0), *r[1:]], r"the rates differ \(25, 50 Hz\)"),
        (lambda r: [replace(r[0], has_gyro=False), *r[1:]], "1 of 4 recordings have no gyroscope"),
        (
            lambda r: [replace(r[0], subject="moving"), *r[1:]],
            "subjects are named like activities: moving like MOVING;",
        ),
        (lambda r: [replace(one, subject="anna") for one in r], "there is one subject only"),
        (lambda r: [relabelled(one, {"STILL": "UNKNOWN"}) for one in r], "UNKNOWN cannot be learnt"),
        (lambda r: [replace(r[0], subject="Ben"), *r[1:]], "subjects Ben and ben differ by case only"),
        (
            lambda r: [replace(one, subject=f"ann{'ab'[n % 2]}-{n}") for n, one in enumerate(r)],
            "subjects begin with one word: anna-0, anna-2; annb-1, annb-3: if those of a word are one person",
        ),
        (
            lambda r: [replace(one, samples=one.samples * np.array([1, 1, 1, 57.3, 57.3, 57.3], "f")) for one in r],
            r"the gyroscope of [34] of 4 recordings does not turn as gravity does \(anna_1, .*: if it is in deg/s",
        ),
        (lambda r: [replace(one, rate_hz=1.0) for one in r], "the rate is 1 Hz, .* if t counts rows"),
        (lambda r: [replace(one, segments=()) for one in r], "no sample has a label"),
        (lambda r: [relabelled(r[0], {"STILL": "LYING"}), *r[1:]], "only one subject has LYING"),
        (
            lambda r: [replace(one, segments=(*one.segments, Segment(1640, 1700, "JUMP"))) for one in r],
            r"no segment of JUMP is as long as a window \(1.2 s of 2.56 s\)",
        ),
        (
            lambda r: [replace(r[0], source=Source("a.csv", 7000, {rows.NO_NUMBER: 200})), *r[1:]],
            "200 of 7,000 rows were left out \\(no number where one belongs\\)",
        ),
    ],
    ids=[
        "unit",
        "rate",
        "gyroscope",
        "activity as subject",
        "one subject",
        "unknown",
        "case",
        "first word",
        "deg/s",
        "t counts rows",
        "no label",
        "label of one",
        "short",
        "rows",
    ],
)
def test_what_is_probably_not_meant_is_a_doubt(change, message: str) -> None:  # type: ignore[no-untyped-def]
    (doubt,) = [
        text for text in doubts(*change(good())) if "one subject has" not in text or "one subject has" in message
    ]
    assert re.search(message, doubt)


def test_the_command_prints_tables_and_writes_json(tmp_path: Path) -> None:
    data = write_csv(tmp_path / "own", [subject("anna", 0), subject("ben", 1)])
    (tmp_path / "own/anna_1.csv").open("a").write("nonsense\n")
    done = CliRunner().invoke(main, ["data", "inspect", data, "--json", str(tmp_path / "found.json")])
    assert done.exit_code == 0, done.output
    assert "rows left out     1 with another number of fields than the header" in done.output
    assert "recordings        2 from 2 files\n" in done.output
    assert (
        "read as           comma, t in s, accelerations in g (by gravity), gyroscope in rad/s (assumed)" in done.output
    )
    assert "subjects          by file name\n" in done.output
    assert "rows              3,501\n" in done.output
    assert "subject  recordings  seconds  names" in done.output
    content = json.loads((tmp_path / "found.json").read_text())
    assert content["left_out"] == {rows.OTHER_FIELDS: 1}
    assert set(content) >= {
        "recordings",
        "samples",
        "left_out",
        "rate_hz",
        "gyroscope",
        "subjects",
        "labels",
        "warnings",
    }
    assert done.output.count("doubt: ") == len(content["warnings"])


def test_names_that_differ_in_spelling_are_one_label_with_a_note() -> None:
    one, *others = good()
    halves = [replace(part, label=name) for part in one.segments for name in (part.label, part.label.title())]
    halves[0], halves[1] = replace(halves[0], stop=700), replace(halves[1], start=700)
    halves[2], halves[3] = replace(halves[2], stop=1000), replace(halves[3], start=1000)
    result = found(replace(one, segments=tuple(halves)), *others)
    assert result.labels == found(*good()).labels
    assert result.notes == ("MOVING: also spelled Moving", "STILL: also spelled Still")
    assert result.warnings == ()
    assert "note: MOVING: also spelled Moving\nnote: STILL" in result.to_text()


def from_files(folder: Path, paths: dict[str, str], header: str = csv.HEADER) -> Inspection:
    """Return what is understood of files, by path, with the label of each."""
    for path, label in paths.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        lines = [f"{k / 50},{0.25 + 0.01 * (k % 7)},0,-0.96,0,0,0,{label}" for k in range(200)]
        (folder / path).write_text("\n".join([header, *lines]))
    return inspect(f"csv:{folder}", csv.load(folder))


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (
            {f"{name} {act}.csv": act for name in ("anna", "ben") for act in ("walk", "sit")},
            "4 of 4 files are subjects of their own, each with one label",
        ),
        (
            {f"{act}_{name}.csv": act.upper() for name in ("anna", "ben") for act in ("walking", "sit")},
            "subjects are named like activities: sit, walking like SIT, WALKING",
        ),
        (
            {f"walk{n}.csv": "WALKING" for n in range(3)},
            "subjects are named like activities: walk0, walk1, walk2 like WALKING",
        ),
        (
            {f"day{n}/{name}_1.csv": "RUN" for n in range(2) for name in ("anna", "ben")},
            r"files that begin with anna, ben are in several \(day0, day1\): if anna is a subject",
        ),
        ({"anna1.csv": "A", "anna2.csv": "B"}, "subjects begin with one word: anna1, anna2: if those"),
    ],
    ids=["a file each", "activity first", "activity with a number", "folders of days", "numbers"],
)
def test_names_that_may_hide_one_person_are_a_doubt(tmp_path: Path, paths: dict[str, str], message: str) -> None:
    assert any(re.search(message, text) for text in from_files(tmp_path, paths).warnings)


@pytest.mark.parametrize(
    "paths",
    [
        [f"{name}/{act}.csv" for name in ("anna", "ben") for act in ("walk", "sit")],
        [f"{name}/rec_{n}.csv" for name in ("anna", "ben") for n in range(2)],
        [f"subject{n}_{act}.csv" for n in range(4) for act in ("walk", "sit")],
        [f"{name}_phone_2026112{n}T164411Z.csv" for name in ("anna", "ben") for n in range(2)],
    ],
)
def test_usual_names_are_no_doubt(tmp_path: Path, paths: list[str]) -> None:
    result = from_files(tmp_path, {path: ("WALK", "SIT")[n % 2] for n, path in enumerate(paths)})
    assert result.warnings == ()


def test_columns_without_use_and_a_missing_label_are_named(tmp_path: Path) -> None:
    result = from_files(tmp_path, {"anna_1.csv": "7", "ben_1.csv": "7"}, csv.HEADER.replace("label", "mag_x"))
    assert result.columns_not_used == ("mag_x",)
    assert "columns not used  mag_x\n" in result.to_text()
    (doubt,) = result.warnings
    assert doubt.startswith("no file has labels (")
    assert doubt.endswith("ben_1.csv): expected a column label, activity or class")
