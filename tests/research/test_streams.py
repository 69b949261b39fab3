"""Held-out streams: whole recordings through networks trained on other subjects; finished folds are stored."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tensorflow")

from harstream.core.batches import Float32
from harstream.core.familiar import energy
from harstream.core.labels import UNKNOWN_INDEX
from harstream.core.spec import SignalSpec
from harstream.datasets.base import Recording, Segment
from harstream.datasets.windows import LabelledWindows, RecordingStream, due_windows
from harstream.evaluate.events import NO_LABEL
from harstream.evaluate.sessions import locate_windows, truth_track
from harstream.train.fitting.familiarity import limits_for
from harstream.train.fitting.fit import fit_temperature
from harstream.train.fitting.prepare import smoothing_with_states
from harstream.train.fitting.recipe import FitConfig
from research.smoothing import streams
from research.smoothing.streams import StudyRun
from research.smoothing.unfamiliar import ALTERATIONS, UNALTERED

SPEC = SignalSpec()
CONFIG = FitConfig(folds=2)


class MotionClassifier:
    """Substitute for a network: it compares the motion of a window, imprecisely, with that of the training windows."""

    def __init__(self, data: LabelledWindows) -> None:
        self.spec = SPEC
        self.subjects = set(data.subject.tolist())
        self.limit = float(self._motion(data.windows).mean())

    def logits_and_features(self, windows: Float32) -> tuple[Float32, Float32]:
        motion = self._motion(windows)
        moves = motion - self.limit
        return np.stack([moves, -moves], axis=1), motion[:, None]

    def _motion(self, windows: Float32) -> Float32:
        motion: Float32 = np.log(windows.std(axis=1).mean(axis=1)) + 3 * np.sin(100 * windows.sum(axis=(1, 2)))
        return motion


@pytest.fixture(scope="module")
def fits() -> Iterator[list[set[str]]]:
    """The training subjects of each fit in this module, in order."""
    done: list[set[str]] = []

    def fit(data: LabelledWindows, *rest: Any, **named: Any) -> MotionClassifier:
        done.append(MotionClassifier(data).subjects)
        return MotionClassifier(data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streams, "fit", fit)
        yield done


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("held-out") / "work"


def stream_held_out(recordings: list[Recording], work: Path, **changed: Any) -> list[StudyRun]:
    labels, runs = streams.held_out(recordings, SPEC, None, CONFIG, work=work, **changed)
    assert labels == ("MOVING", "STILL")
    return runs


@pytest.fixture(scope="module")
def run(recordings: list[Recording], work: Path, fits: list[set[str]]) -> StudyRun:
    (only,) = stream_held_out(recordings, work)
    return only


def test_each_recording_goes_once_through_a_network_trained_on_other_subjects(
    run: StudyRun, recordings: list[Recording], fits: list[set[str]]
) -> None:
    assert sorted(stream.recording.name for stream in run.streams) == sorted(one.name for one in recordings)
    all_subjects = {one.subject for one in recordings}
    for trained_on, held_out in zip(fits[:2], (run.streams[:2], run.streams[2:]), strict=True):
        assert all_subjects - trained_on == {stream.recording.subject for stream in held_out}


def test_every_due_window_has_a_prediction(run: StudyRun) -> None:
    for stream in run.streams:
        due = due_windows(RecordingStream.whole(stream.recording), SPEC)
        np.testing.assert_array_equal(stream.start_ns, due.start_ns)
        np.testing.assert_array_equal(stream.end_ns, due.end_ns)
        assert set(stream.unfamiliar) == set(ALTERATIONS) - {UNALTERED}
        for predictions in (stream.predictions, *stream.unfamiliar.values()):
            assert predictions.probabilities.shape == (len(due), 2)
            np.testing.assert_allclose(predictions.probabilities.sum(axis=1), 1, atol=1e-6)
        assert not np.array_equal(stream.unfamiliar["inverted"].probabilities, stream.predictions.probabilities)


def test_a_change_in_one_subjects_recording_is_another_fold_of_every_subject(
    run: StudyRun, recordings: list[Recording], work: Path, tmp_path: Path, fits: list[set[str]]
) -> None:
    for path in work.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    before = len(fits)
    other = replace(recordings[0], samples=recordings[0].samples * np.float32(1.01))
    stream_held_out([other, *recordings[1:]], tmp_path)
    assert len(fits) == before + 2


def test_temperature_and_limits_are_those_of_the_other_folds_windows_inside_activities(
    run: StudyRun, work: Path
) -> None:
    stored = {one.name: one for path in work.glob("*.npz") for one in streams._load(path) or ()}
    for fold, (own, others) in enumerate(((run.streams[:2], run.streams[2:]), (run.streams[2:], run.streams[:2]))):
        logits, label, distance = [], [], []
        for stream in others:
            truth = truth_track(stream.recording, ("MOVING", "STILL"))
            inside, _ = locate_windows(truth, stream.start_ns, stream.end_ns, 50.0)
            logits.append(stored[stream.recording.name].logits[UNALTERED][inside != NO_LABEL])
            distance.append(stored[stream.recording.name].distance[UNALTERED][inside != NO_LABEL])
            label.append(inside[inside != NO_LABEL])
        assert run.temperatures[fold] == fit_temperature(np.concatenate(logits), np.concatenate(label))
        limits = limits_for(np.concatenate(distance), energy(np.concatenate(logits)))
        for stream in own:
            one = stored[stream.recording.name]
            far = limits.exceeded_by(one.distance[UNALTERED], energy(one.logits[UNALTERED]))
            np.testing.assert_array_equal(stream.predictions.unfamiliar, far)
            assert (stream.predictions.label[far] == UNKNOWN_INDEX).all()


def test_the_smoothing_of_a_fold_is_of_the_subjects_trained_on(
    recordings: list[Recording], tmp_path: Path, fits: list[set[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    labels, states = ("SITTING", "STANDING"), ("SIT_TO_STAND",)

    def getting_up(recording: Recording) -> Recording:
        first, last = recording.segments
        turn = first.stop + 40 + 10 * int(recording.subject)
        parts = Segment(0, first.stop, "SITTING"), Segment(first.stop, turn, states[0]), replace(last, label="STANDING")
        return replace(recording, segments=parts)

    made = [getting_up(one) for one in recordings]
    _, (run,) = streams.held_out(made, SPEC, labels, CONFIG, work=tmp_path, states=states)
    for stream in run.streams:
        own = {other.recording.subject for other in run.streams if other.smoothing == stream.smoothing}
        others = [one for one in made if one.subject not in own]
        assert len(others) == 2
        assert stream.smoothing == smoothing_with_states(SPEC, labels, states, others)


def test_a_stored_fold_is_not_fitted_again_unless_its_file_is_damaged(
    run: StudyRun, recordings: list[Recording], work: Path, fits: list[set[str]]
) -> None:
    assert [path.suffix for path in work.iterdir()] == [".npz", ".npz"]  # checkpoints are removed
    before = len(fits)
    (again,) = stream_held_out(recordings, work)
    assert len(fits) == before
    for old, new in zip(run.streams, again.streams, strict=True):
        np.testing.assert_array_equal(old.predictions.probabilities, new.predictions.probabilities)
    next(work.iterdir()).write_bytes(b"half of a")
    first, second = stream_held_out(recordings, work, repeats=2)
    assert len(fits) == before + 3
    assert (first.seed, second.seed) == (0, 1)
    assert first.temperatures == pytest.approx(run.temperatures, rel=1e-3)
