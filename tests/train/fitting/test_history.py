"""Learning curves are drawn and read back, and have a best epoch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("matplotlib")

from matplotlib import image

from harstream.train.fitting.history import Epoch, best_epoch, from_json, plot, to_json


def history(held_out: bool = True, n: int = 8) -> list[Epoch]:
    def of(k: int) -> tuple[float, float] | tuple[None, None]:
        return (0.3 + 0.02 * (k - 5) ** 2, 0.95 - 0.01 * abs(k - 5)) if held_out else (None, None)

    return [Epoch(k, 1.5 / k, 1 - 0.5 / k, 1e-3 * (n - k), 2.5, *of(k)) for k in range(1, n + 1)]


def test_the_best_epoch_is_the_first_of_lowest_held_out_loss() -> None:
    assert best_epoch(history()) == 5
    assert best_epoch([*history(), *history()]) == 5
    assert best_epoch(history(held_out=False)) is None
    assert best_epoch([]) is None


@pytest.mark.parametrize("held_out", [True, False])
def test_a_history_comes_back_from_its_text(held_out: bool) -> None:
    assert from_json(json.loads(to_json(history(held_out)))["epochs"]) == history(held_out)


def test_curves_are_a_picture_with_more_ink_for_held_out_subjects(tmp_path: Path) -> None:
    def ink(name: str) -> float:
        pixels = image.imread(tmp_path / name)
        assert pixels.shape[0] > 400
        assert pixels.shape[1] > 1000
        return float((pixels[:, :, :3].min(axis=2) < 0.9).mean())

    plot(history(held_out=False), tmp_path / "new/one.png", "a title")
    plot(history(), tmp_path / "new/two.png", "a title")
    assert 0.005 < ink("new/one.png") < ink("new/two.png") < 0.5
