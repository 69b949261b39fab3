"""Learning curves are drawn, read back, and tell the best epoch."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("matplotlib")

from matplotlib import image

from harstream.errors import ConfigError
from harstream.train.fitting import history as curves
from harstream.train.fitting.history import Epoch


def history(held_out: bool = True, n: int = 8) -> list[Epoch]:
    def of(k: int) -> tuple[float, float] | tuple[None, None]:
        return (0.3 + 0.02 * (k - 5) ** 2, 0.95 - 0.01 * abs(k - 5)) if held_out else (None, None)

    return [Epoch(k, 1.5 / k, 1 - 0.5 / k, 1e-3 * (n - k), 2.5, *of(k)) for k in range(1, n + 1)]


def test_the_best_epoch_is_the_first_of_lowest_held_out_loss() -> None:
    assert curves.best_epoch(history()) == 5
    assert curves.best_epoch([*history(), *history()]) == 5
    assert curves.best_epoch(history(held_out=False)) is None
    assert curves.best_epoch([]) is None


@pytest.mark.parametrize("held_out", [True, False])
def test_a_history_comes_back_from_its_file(tmp_path: Path, held_out: bool) -> None:
    path = tmp_path / "history.json"
    path.write_text(curves.to_json(history(held_out)))
    assert curves.load(path) == history(held_out)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"epochs": [{"epoch": 1}]}', '{"epochs": 3}'])
def test_what_is_no_history_is_refused_with_its_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "history.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"history\.json: not a history"):
        curves.load(path)


def test_curves_are_a_picture_with_more_ink_for_more_fits(tmp_path: Path) -> None:
    def ink(name: str) -> float:
        pixels = image.imread(tmp_path / name)
        assert pixels.shape[0] > 400
        assert pixels.shape[1] > 1000
        return float((pixels[:, :, :3].min(axis=2) < 0.9).mean())

    curves.plot(history(held_out=False), tmp_path / "new/one.png", title="a title")
    curves.plot({"seed 0": history(), "seed 1": history(False, 4)}, tmp_path / "new/two.png")
    assert 0.005 < ink("new/one.png") < ink("new/two.png") < 0.5


def test_no_epoch_is_no_curve(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at least one epoch"):
        curves.plot([], tmp_path / "none.png")
