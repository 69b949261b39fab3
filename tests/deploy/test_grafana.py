"""Dashboards by Grafana's own description of their format, as its package for Python holds it."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import DEPLOY

dashboard = pytest.importorskip("grafana_foundation_sdk.models.dashboard")
encoder = pytest.importorskip("grafana_foundation_sdk.cog.encoder")
plugins = pytest.importorskip("grafana_foundation_sdk.cog.plugins")

DASHBOARDS = sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))


def lost(before: Any, after: Any, path: str = "") -> Iterator[str]:
    """Yield the fields that Grafana's types do not know, or hold another value of, after they have read and written."""
    if isinstance(before, dict) and isinstance(after, dict):
        for name in before:
            if name in after:
                yield from lost(before[name], after[name], f"{path}.{name}")
            else:
                yield f"{path}.{name}"
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for number, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from lost(one, other, f"{path}[{number}]")
    elif before != after:
        yield path


def through_grafana(content: dict[str, Any]) -> Any:
    """Return a dashboard as Grafana's types read and write it."""
    plugins.register_default_plugins()
    return json.loads(json.dumps(dashboard.Dashboard.from_json(content), cls=encoder.JSONEncoder))


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_grafana_knows_every_field_of_the_dashboards(path: Path):
    content = json.loads(path.read_text())
    assert list(lost(content, through_grafana(content))) == []


@pytest.mark.parametrize("where", ["dashboard", "panel", "defaults", "options", "target"])
def test_a_misspelt_field_is_found(where: str):
    content = json.loads(DASHBOARDS[0].read_text())
    panel = next(one for one in content["panels"] if one["type"] == "timeseries")
    places = {
        "dashboard": content,
        "panel": panel,
        "defaults": panel["fieldConfig"]["defaults"],
        "options": panel["options"],
        "target": panel["targets"][0],
    }
    places[where]["misspelt"] = 1
    found = list(lost(content, through_grafana(copy.deepcopy(content))))
    assert len(found) == 1
    assert found[0].endswith(".misspelt")
