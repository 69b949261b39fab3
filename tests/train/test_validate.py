"""No wearer is both learnt from and counted."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("tensorflow")

from harstream.core.spec import SignalSpec
from harstream.datasets.base import Recording
from harstream.errors import DatasetError
from harstream.train import holdout, validate, windows
from harstream.train.fit import FitConfig, Fitted, Progress, fit

SPEC = SignalSpec()
TINY = FitConfig(epochs=2, folds=2, learning_rate=1e-2, arch_settings={"widths": (8, 8), "kernels": (5, 3)}, seed=4)


@pytest.mark.parametrize("n_folds", [2, 3, 5, 99])
def test_every_wearer_is_held_out_exactly_once(n_folds: int) -> None:
    wearers = [f"{number:02d}" for number in range(7)]
    folds = validate.folds_of(wearers * 3, n_folds, seed=1)
    assert len(folds) == min(n_folds, 7)
    assert sorted(wearer for fold in folds for wearer in fold) == wearers
    assert folds == validate.folds_of(wearers, n_folds, seed=1)
    assert folds != validate.folds_of(wearers, n_folds, seed=2)


def test_one_wearer_cannot_be_held_out() -> None:
    with pytest.raises(DatasetError, match="at least two wearers with known labels, found 1"):
        validate.folds_of(["01", "01"], 5, seed=0)


def test_cross_validation_never_trains_on_who_it_counts(
    recordings: list[Recording], monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = windows.cut(windows.whole(recordings), SPEC, ("MOVING", "STILL"))
    training = windows.cut(windows.restarted(recordings, SPEC, seed=0), SPEC, ("MOVING", "STILL"))
    trained_on: list[set[str]] = []

    def watched(data: windows.LabelledWindows, spec: SignalSpec, config: FitConfig, progress: Progress) -> Fitted:
        trained_on.append(set(data.subject))
        return fit(data, spec, config, progress)

    monkeypatch.setattr(holdout, "fit", watched)
    told: list[tuple[str, int, int]] = []
    result = validate.cross_validate(
        training, counted, SPEC, TINY, repeats=2, int8=True, progress=lambda *step: told.append(step)
    )
    held_out = [set(fold) for run in result.runs for fold in run.folds]
    assert len(trained_on) == len(held_out) == 4
    assert all(not learnt & held for learnt, held in zip(trained_on, held_out, strict=True))
    assert [done for _, done, _ in told] == list(range(1, 9))
    assert {total for _, _, total in told} == {8}

    assert [run.seed for run in result.runs] == [4, 5]
    assert result.metrics.windows == 2 * len(counted)
    assert result.int8 is not None
    assert result.int8.windows == 2 * len(counted)
    assert set(result.accuracy_by_wearer()) == {"01", "02", "03", "04"}
    logits, label = result.held_out()
    assert (logits.argmax(axis=1) == label).mean() == pytest.approx(result.metrics.accuracy)

    data = json.loads(json.dumps(result.to_dict()))
    accuracies = [run["float32"]["accuracy"] for run in data["runs"]]
    assert data["float32"]["accuracy"]["mean"] == pytest.approx(np.mean(accuracies))
    assert data["float32"]["accuracy"]["sd"] == pytest.approx(np.std(accuracies, ddof=1))
    assert data["epochs"] == 2
