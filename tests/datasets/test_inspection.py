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
from harstream.datasets import columns
from harstream.datasets.base import Recording, Segment
from harstream.datasets.inspection import Inspection, inspect

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
    assert result.subjects["ben"] == {"recordings": ["ben_1"], "seconds": 35.0}
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
        (lambda r: [replace(r[0], subject="moving"), *r[1:]], "subject moving has the name of the label MOVING"),
        (lambda r: [replace(one, subject="anna") for one in r], "there is one subject only"),
        (lambda r: [relabelled(r[0], {"STILL": "Still "}), *r[1:]], "STILL and Still  count as one label"),
        (lambda r: [relabelled(r[0], {"STILL": "LYING"}), *r[1:]], "only one subject has LYING"),
        (
            lambda r: [replace(one, segments=(*one.segments, Segment(1640, 1700, "JUMP"))) for one in r],
            r"no segment of JUMP is as long as a window \(1.2 s of 2.56 s\)",
        ),
        (
            lambda r: [replace(r[0], left_out={columns.NO_NUMBER: 200}), *r[1:]],
            "200 of 7,200 rows were left out \\(no number where one belongs\\)",
        ),
    ],
    ids=[
        "unit",
        "rate",
        "gyroscope",
        "activity as subject",
        "one subject",
        "spelling",
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
    assert "rows left out  1 with another number of fields than the header" in done.output
    assert "subject  recordings  seconds  names" in done.output
    content = json.loads((tmp_path / "found.json").read_text())
    assert content["left_out"] == {columns.OTHER_FIELDS: 1}
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
