"""The command that holds out whole data sets, and what it scores."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorflow")

from harstream.core.familiar import Limits
from harstream.train.validation.calibration import Calibration
from research.labs import folds, study

from ..made_recordings import subject, write_csv

TINY = ("--set", "arch=cnn", "--set", "filters=8", "--set", "dense=16", "--set", "epochs=2", "--set", "stretch=0")
FREE = ("--set", "channels=orientation_free", "--set", "noise_filter=none")


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    """Return the options for three data sets; the first has other names for its labels, the last one label only."""
    (tmp_path / "labels.json").write_text('{"STILL": ["SITTING"], "MOVING": ["WALKING"]}')
    sets = [[subject(f"{number:02d}", 2 * k + number) for number in range(2)] for k in range(3)]
    names = {"STILL": "SITTING", "MOVING": "WALKING"}
    data = [
        write_csv(tmp_path / "one", sets[0], names),
        write_csv(tmp_path / "two", sets[1]),
        write_csv(tmp_path / "three", sets[2], {"STILL": "", "MOVING": "MOVING"}),
    ]
    return [part for one in data for part in ("--data", one)] + ["--labels", str(tmp_path / "labels.json"), *TINY]


def test_each_set_is_scored_by_networks_that_never_saw_it_on_the_labels_that_it_has(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "labs.json"
    trained_on = []
    real = folds.fit  # type: ignore[attr-defined]

    def fit(data, *rest, **more):  # type: ignore[no-untyped-def]
        trained_on.append(set(np.unique(data.data_set).tolist()))
        return real(data, *rest, **more)

    monkeypatch.setattr(folds, "fit", fit)
    assert study.main([*arguments, *FREE, "--seeds", "2", "--out", str(out)]) == 0
    content = json.loads(out.read_text())
    names = {"csv:one", "csv:two", "csv:three"}
    assert [names - one for one in trained_on] == [{"csv:one"}, {"csv:three"}, {"csv:two"}] * 2
    first, second = content["runs"]
    assert [row["data_set"] for row in first] == sorted(names)
    for run in (first, second):
        by_name = {row["data_set"]: row for row in run}
        assert set(by_name["csv:one"]["single"]["recall"]) == {"STILL", "MOVING"}
        assert set(by_name["csv:three"]["single"]["recall"]) == {"MOVING"}
    assert content["seeds"] == [0, 1]
    assert str(tmp_path) not in out.read_text()
    turned = first[0]["turned"]
    assert turned["orientations"] == 25
    assert turned["highest"] - turned["lowest"] < 0.02  # the channels do not know how the device lies
    assert second[0]["turned"] is None
    values = [np.mean([row["single"]["macro_recall"] for row in run]) for run in (first, second)]
    assert content["summary"]["single"]["mean"] == pytest.approx(np.mean(values))
    assert content["summary"]["single"]["sd"] == pytest.approx(np.std(values, ddof=1))
    assert "published: " in capsys.readouterr().out
    monkeypatch.setattr(folds, "fit", lambda *_, **__: pytest.fail("it was fitted again"))
    assert study.main([*arguments, *FREE, "--seeds", "2", "--out", str(out)]) == 0
    assert json.loads(out.read_text()) == content
    for limit, share in ((np.inf, 0.0), (-1.0, 1.0)):
        fixed = Calibration(np.zeros(2, np.float32), 1.0, Limits(limit, np.inf))
        monkeypatch.setattr(study, "calibrate", lambda *_, fixed=fixed, **__: fixed)
        assert study.main([*arguments, *FREE, "--seeds", "2", "--out", str(out)]) == 0
        rows = [row for run in json.loads(out.read_text())["runs"] for row in run]
        assert {row["unfamiliar"] for row in rows} == {share}
        assert {row["published"]["macro_recall"] == 0 for row in rows} == {share == 1}


def test_turning_a_device_matters_to_a_network_that_knows_its_axes(arguments: list[str], tmp_path: Path) -> None:
    out = tmp_path / "labs.json"
    chosen = ["--set", "channels=total_acc", "--train-only", "csv:three", "--seeds", "1"]
    assert study.main([*arguments, *chosen, "--out", str(out)]) == 0
    rows = json.loads(out.read_text())["runs"][0]
    assert [row["data_set"] for row in rows] == ["csv:one", "csv:two"]
    assert max(row["turned"]["highest"] - row["turned"]["lowest"] for row in rows) > 0.02


def test_a_turned_recording_is_that_of_a_turned_device() -> None:
    one = subject("01", 1)
    turned = folds.turn(one, folds.ORIENTATIONS[5])
    np.testing.assert_allclose(
        np.linalg.norm(turned.samples[:, :3], axis=1), np.linalg.norm(one.samples[:, :3], axis=1), rtol=1e-5
    )
    assert np.abs(turned.samples - one.samples).max() > 0.5
    np.testing.assert_array_equal(folds.turn(one, folds.ORIENTATIONS[-1]).samples, -one.samples)
    assert len({matrix.round().tobytes() for matrix in folds.ORIENTATIONS}) == 25
