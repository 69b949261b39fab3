"""The page about studies of labs never seen, from their files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("tensorflow")

from harstream.errors import DatasetError
from research import figures
from research.labs import results


def row(data_set: str, single: float, published: float, turned: dict[str, Any] | None = None) -> dict[str, Any]:
    scores = {
        kind: {"windows": 1200, "macro_recall": value, "recall": {"WALKING": value + 0.1, "RUNNING": value - 0.1}}
        for kind, value in (("single", single), ("without_bias", single - 0.2), ("published", published))
    }
    return {"data_set": data_set, "unfamiliar": 0.01, "turned": turned, "parameters": 9, **scores}


def study(*runs: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "format": results.FORMAT,
        "command": "python -m research.labs.study --seeds 2",
        "labels": ["WALKING", "STILL", "RUNNING"],
        "seeds": list(range(len(runs))),
        "runs": list(runs),
    }


def test_a_page_has_a_row_for_each_study_and_a_column_for_each_set(tmp_path: Path) -> None:
    turned = {"orientations": 25, "lowest": 0.78125, "highest": 0.7875}
    whole = study([row("a", 0.8, 0.7, turned), row("b", 0.5, 0.4)], [row("a", 0.9, 0.7), row("b", 0.6, 0.4)])
    (tmp_path / "first.json").write_text(json.dumps(whole))
    (tmp_path / "second.json").write_text(json.dumps(study([row("b", 0.25, 0.35)])))
    (page,) = figures.regenerate(tmp_path)
    assert page == tmp_path / "labs.md"
    lines = page.read_text().splitlines()
    assert [line for line in lines if line.startswith("| study | a")] == ["| study | a | b | mean | seeds |"] * 3
    single, published, without = (line for line in lines if line.startswith("| first | ") and "±" in line)
    assert single == "| first | 85.0 ± 7.1 | 55.0 ± 7.1 | 70.0 ± 7.1 | 0, 1 |"
    assert published == "| first | 70.0 ± 0.0 | 40.0 ± 0.0 | 55.0 ± 0.0 | 0, 1 |"
    assert without == "| first | 65.0 ± 7.1 | 35.0 ± 7.1 | 50.0 ± 7.1 | 0, 1 |"
    assert "| second |  | 25.0 | 25.0 | 0 |" in lines
    assert "| a | 1,200 | 95.0 / 80.0 |  | 75.0 / 60.0 |" in lines
    assert "| first | a | 78.12 | 78.75 |" in lines
    assert "    python -m research.labs.study --seeds 2" in lines


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "labs.json"
    path.write_text(json.dumps({**study(), "format": "another"}))
    with pytest.raises(DatasetError, match="expected format 'harstream labs 1', got 'another'"):
        results.read(path)
    path.write_text(json.dumps(study()))
    with pytest.raises(DatasetError, match="at least one seed"):
        results.read(path)
