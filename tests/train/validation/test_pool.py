"""Fits in several processes give the results of fits in this one, and no process outlives an error."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tensorflow")

from harstream.core.spec import SignalSpec
from harstream.datasets.base import Recording
from harstream.errors import ConfigError, DatasetError
from harstream.train.fitting.prepare import Prepared, prepare
from harstream.train.fitting.recipe import FitConfig
from harstream.train.validation import child, pool
from harstream.train.validation.task import FoldTask, hold_out

from ...made_recordings import PLAIN
from ...servers import DEADLINE_S
from . import light

SPEC = SignalSpec(window_samples=32, stride_samples=32, channels=("total_acc_x",))
OTHER_SPEC = replace(SPEC, stride_samples=16)


@pytest.fixture(scope="module")
def prepared(recordings: list[Recording]) -> Prepared:
    return prepare(recordings, SPEC)


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    before = set(multiprocessing.active_children())
    yield
    assert not set(multiprocessing.active_children()) - before


@pytest.fixture
def without_tensorflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "start", light.start_process)
    monkeypatch.setattr(pool, "_fit_fold", light.fit_fold)
    monkeypatch.setattr(pool, "_fits_per_process", lambda tasks: 20)


def run(prepared: Prepared, *work: str) -> Iterator[Any]:
    """Do light tasks in two processes."""
    tasks: Any = [light.LightTask(SPEC, name) for name in work]
    return pool.run(tasks, lambda _: prepared, 2, lambda *_: None)


def test_each_fit_of_a_large_network_has_a_process_of_its_own() -> None:
    def fits_per_process(dense: int) -> int:
        spec = replace(SPEC, window_samples=128)
        config = FitConfig("depthwise-cnn", {"dense": dense, "filters": 60})
        return pool._fits_per_process([FoldTask(spec, config, 0, ("01",))])

    assert fits_per_process(1000) == 1  # 7 million parameters
    assert fits_per_process(10) > 1


@pytest.mark.usefixtures("without_tensorflow")
@pytest.mark.parametrize("jobs", [1, 2])
def test_processes_are_replaced_after_some_fits_and_epochs_are_reported(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch, jobs: int
) -> None:
    monkeypatch.setattr(pool, "_fits_per_process", lambda tasks: 1)
    tasks: Any = [light.LightTask(SPEC, "fit")] * 5
    epochs: list[tuple[int, int]] = []
    results: Any = dict(pool.run(tasks, lambda _: prepared, jobs, lambda *epoch: epochs.append(epoch)))
    assert {index: result[0] for index, result in results.items()} == {k: k for k in range(5)}
    assert len({process for _, process, _ in results.values()}) == 5
    assert sorted(epochs) == [(k, 1) for k in range(5)]


@pytest.mark.usefixtures("without_tensorflow")
def test_the_windows_of_a_signal_are_made_once(prepared: Prepared) -> None:
    tasks: Any = [light.LightTask(spec, "fit") for spec in (SPEC, SPEC, SPEC, OTHER_SPEC, OTHER_SPEC)]
    made: list[SignalSpec] = []

    def windows_of(spec: SignalSpec) -> Prepared:
        made.append(spec)
        return prepared

    results: Any = dict(pool.run(tasks, windows_of, 2, lambda *_: None))
    assert made == [SPEC, OTHER_SPEC]
    assert all(files == ["scored", "training"] for _, _, files in results.values())


@pytest.mark.usefixtures("without_tensorflow")
@pytest.mark.parametrize(
    ("work", "error", "message"),
    [("refuse", DatasetError, "no window"), ("die", ConfigError, "--jobs 2: a training process ended unexpectedly")],
)
def test_an_error_in_a_process_is_raised_here(
    prepared: Prepared, work: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        list(run(prepared, "fit", work, "sleep"))


@pytest.mark.usefixtures("without_tensorflow")
def test_an_interruption_ends_the_processes(prepared: Prepared) -> None:
    results: Any = run(prepared, "fit", "sleep", "sleep")
    assert next(results)[0] == 0
    started = time.monotonic()
    results.close()
    assert time.monotonic() - started < DEADLINE_S  # the tasks would sleep for much longer


@pytest.mark.slow  # each process imports TensorFlow
def test_processes_give_the_results_of_this_process_and_say_nothing_of_the_machine(
    prepared: Prepared, capfd: pytest.CaptureFixture[str]
) -> None:
    config = FitConfig("mlp", {"units": 2, "dropouts": [0.1, 0.1]}, epochs=1, folds=2, **PLAIN)
    tasks = [FoldTask(SPEC, config, fold, held_out) for fold, held_out in enumerate((("01", "02"), ("03",)))]
    epochs: list[tuple[int, int]] = []
    results = dict(pool.run(tasks, lambda _: prepared, 2, lambda *epoch: epochs.append(epoch)))
    assert sorted(epochs) == [(0, 1), (1, 1)]
    assert capfd.readouterr().err == ""
    for index, task in enumerate(tasks):
        assert (results[index].held_out, results[index].epochs) == (task.held_out, 1)
        np.testing.assert_allclose(results[index].logits, hold_out(prepared, task).logits, atol=1e-3)
