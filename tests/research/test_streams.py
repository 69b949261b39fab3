"""Held-out streams: whole recordings, each through a network that never saw its subject, kept as soon as it is done."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tensorflow")

from harstream.core.batches import Float32
from harstream.core.spec import SignalSpec
from harstream.datasets.base import Recording
from harstream.datasets.windows import LabelledWindows, RecordingStream, due_windows
from harstream.evaluate.events import NO_LABEL
from harstream.evaluate.sessions import locate_windows, truth_track
from harstream.train.fitting.fit import fit_temperature
from harstream.train.fitting.recipe import FitConfig
from research.smoothing import streams
from research.smoothing import unfamiliar as strangers
from research.smoothing.streams import Run

SPEC = SignalSpec()
CONFIG = FitConfig(folds=2)


class Judge:
    """Stands in for a network, which takes seconds: how much a window moves, not too well, against those it knows."""

    def __init__(self, data: LabelledWindows) -> None:
        self.subjects = set(data.subject.tolist())
        self.limit = float(self._motion(data.windows).mean())

    def logits(self, windows: Float32) -> Float32:
        moves = self._motion(windows) - self.limit
        return np.stack([moves, -moves], axis=1)

    def _motion(self, windows: Float32) -> Float32:
        motion: Float32 = np.log(windows.std(axis=1).mean(axis=1)) + 3 * np.sin(100 * windows.sum(axis=(1, 2)))
        return motion


@pytest.fixture(scope="module")
def fits() -> Iterator[list[set[str]]]:
    """The subjects of every fit that is done in this module, in order."""
    done: list[set[str]] = []

    def fit(data: LabelledWindows, *rest: Any, **named: Any) -> Judge:
        done.append(Judge(data).subjects)
        return Judge(data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streams, "fit", fit)
        yield done


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("held-out") / "work"


def hear(recordings: list[Recording], work: Path, **changed: Any) -> list[Run]:
    labels, runs = streams.held_out(recordings, SPEC, None, CONFIG, work=work, **changed)
    assert labels == ("MOVING", "STILL")
    return runs


@pytest.fixture(scope="module")
def run(recordings: list[Recording], work: Path, fits: list[set[str]]) -> Run:
    (only,) = hear(recordings, work)
    return only


def test_every_recording_is_heard_once_by_a_network_that_never_saw_its_subject(
    run: Run, recordings: list[Recording], fits: list[set[str]]
) -> None:
    assert sorted(stream.recording.name for stream in run.streams) == sorted(one.name for one in recordings)
    everybody = {one.subject for one in recordings}
    for trained_on, heard in zip(fits[:2], (run.streams[:2], run.streams[2:]), strict=True):
        assert everybody - trained_on == {stream.recording.subject for stream in heard}


def test_it_is_heard_of_every_window_that_would_fall_due(run: Run) -> None:
    for stream in run.streams:
        due = due_windows(RecordingStream.whole(stream.recording), SPEC)
        np.testing.assert_array_equal(stream.start_ns, due.start_ns)
        np.testing.assert_array_equal(stream.end_ns, due.end_ns)
        assert set(stream.strange) == set(strangers.STRANGERS) - {"as it is"}
        for said in (stream.predictions, *stream.strange.values()):
            assert said.probabilities.shape == (len(due), 2)
            np.testing.assert_allclose(said.probabilities.sum(axis=1), 1, atol=1e-6)
        assert not np.array_equal(stream.strange["inverted"].probabilities, stream.predictions.probabilities)


def test_a_change_in_one_subjects_recording_is_another_fold_of_every_subject(
    run: Run, recordings: list[Recording], work: Path, tmp_path: Path, fits: list[set[str]]
) -> None:
    for path in work.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    before = len(fits)
    other = replace(recordings[0], samples=recordings[0].samples * np.float32(1.01))
    hear([other, *recordings[1:]], tmp_path)
    assert len(fits) == before + 2


def test_the_temperature_is_that_of_the_other_folds_windows_inside_activities(run: Run) -> None:
    for fold, others in ((0, run.streams[2:]), (1, run.streams[:2])):
        logits, label = [], []
        for stream in others:
            truth = truth_track(stream.recording, ("MOVING", "STILL"))
            inside, _ = locate_windows(truth, stream.start_ns, stream.end_ns, 50.0)
            # The other fold's own temperature scales what is left of its logits.
            logits.append(np.log(stream.predictions.probabilities[inside != NO_LABEL]) * run.temperatures[1 - fold])
            label.append(inside[inside != NO_LABEL])
        found = fit_temperature(np.concatenate(logits), np.concatenate(label))
        assert run.temperatures[fold] == pytest.approx(found, rel=0.02)


def test_what_is_done_is_not_done_again_and_what_is_spoilt_is(
    run: Run, recordings: list[Recording], work: Path, fits: list[set[str]]
) -> None:
    assert [path.suffix for path in work.iterdir()] == [".npz", ".npz"]  # no checkpoint is left
    before = len(fits)
    (again,) = hear(recordings, work)
    assert len(fits) == before
    for old, new in zip(run.streams, again.streams, strict=True):
        np.testing.assert_array_equal(old.predictions.probabilities, new.predictions.probabilities)
    next(work.iterdir()).write_bytes(b"half of a")
    first, second = hear(recordings, work, repeats=2)
    assert len(fits) == before + 3
    assert (first.seed, second.seed) == (0, 1)
    assert first.temperatures == pytest.approx(run.temperatures, rel=1e-3)
