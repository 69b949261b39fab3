"""Training windows are bit-identical to the windows of a live device."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from harstream.core.batches import SampleBatch, WindowBatch
from harstream.core.engine import Engine
from harstream.core.spec import SignalSpec
from harstream.datasets import windows
from harstream.datasets.base import Recording, Segment
from harstream.errors import DatasetError

LABELS = ("MOVING", "STILL")
SPEC = SignalSpec()


def live(recording: Recording, start: int, stop: int, seed: int) -> WindowBatch:
    """Feed samples as a device sends them, in messages of random length."""
    rng = np.random.default_rng(seed)
    engine, batches, first = Engine(SPEC), [], start
    while first < stop:
        last = min(stop, first + int(rng.integers(1, 90)))
        t_ns = round(first * 1e9 / recording.rate_hz)
        batches.append(engine.feed(SampleBatch.from_message("device", recording.samples[first:last], t_ns=t_ns)))
        first = last
    return WindowBatch.concatenate(batches)


@pytest.mark.parametrize("seed", range(5))
def test_windows_are_those_of_a_live_device_to_the_bit(recordings: list[Recording], seed: int) -> None:
    recording = recordings[0]
    cut = windows.cut_windows(windows.whole_streams([recording]), SPEC, LABELS)
    batch = live(recording, 0, len(recording.samples), seed)
    start = np.rint(batch.start_ns * recording.rate_hz / 1e9).astype(int)
    assert len(cut) > 10
    for window, at in zip(cut.windows, cut.start, strict=True):
        np.testing.assert_array_equal(window, batch.windows[np.flatnonzero(start == at)[0]])


def test_training_windows_are_those_of_a_device_that_started_there(recordings: list[Recording]) -> None:
    stream = windows.RecordingStream(recordings[1], 333, 1111)
    cut = windows.cut_windows([stream], SPEC, LABELS)
    batch = live(recordings[1], 333, 1111, seed=7)
    start = np.rint(batch.start_ns * 50 / 1e9).astype(int)
    assert len(cut) > 3
    for window, at in zip(cut.windows, cut.start, strict=True):
        assert (at - 333) % SPEC.stride_samples == 0
        np.testing.assert_array_equal(window, batch.windows[np.flatnonzero(start == at)[0]])


def test_a_window_counts_only_if_it_lies_wholly_inside_one_known_segment() -> None:
    samples = np.random.default_rng(0).normal(size=(640, 6)).astype(np.float32)
    # Windows start at 0, 64, 128 ... and are 128 long.
    segments = (Segment(0, 192, "A"), Segment(192, 321, "B"), Segment(321, 448, "A"), Segment(448, 640, "C"))
    recording = Recording("r", "s", 50.0, samples, segments)
    cut = windows.cut_windows(windows.whole_streams([recording]), SPEC, ("A", "B"))
    assert list(zip(cut.start.tolist(), cut.label.tolist(), strict=True)) == [(0, 0), (64, 0), (192, 1)]
    assert cut.subject.tolist() == ["s"] * 3
    assert cut.recording.tolist() == ["r"] * 3


def test_a_window_of_a_state_lies_there_with_half_its_length() -> None:
    samples = np.random.default_rng(0).normal(size=(1024, 6)).astype(np.float32)
    # Windows start at 0, 64, 128 ... and are 128 long. The second transition is shorter than half a window.
    segments = (
        Segment(0, 200, "SITTING"),
        Segment(200, 330, "SIT_TO_STAND"),
        Segment(340, 600, "STANDING"),
        Segment(600, 660, "STAND_TO_SIT"),
        Segment(660, 1000, "SITTING"),
    )
    recording = Recording("r", "s", 50.0, samples, segments)
    labels, states = ("SITTING", "STANDING"), ("SIT_TO_STAND", "STAND_TO_SIT")
    cut = windows.cut_windows(windows.whole_streams([recording]), SPEC, labels, states=states)
    assert cut.outputs == (*labels, *states)
    assert dict(zip(cut.start.tolist(), cut.label.tolist(), strict=True)) == {
        **{0: 0, 64: 0},
        **{192: 2, 256: 2},  # 120 and 74 samples of 128; the window at 128 has 56
        **{384: 1, 448: 1},
        **{704: 0, 768: 0, 832: 0},
    }
    without = windows.cut_windows(windows.whole_streams([recording]), SPEC, labels)
    of_labels = cut.select(np.flatnonzero(cut.label < 2))
    np.testing.assert_array_equal(of_labels.windows, without.windows)
    assert of_labels.states == states


def test_a_recording_at_another_rate_is_resampled_and_cut_by_time(recordings: list[Recording]) -> None:
    spec = replace(SPEC, sample_rate_hz=25.0)
    cut = windows.cut_windows(windows.whole_streams(recordings[:1]), spec, LABELS)
    assert cut.windows.shape[1:] == (128, 9)
    segments = {segment.label: segment for segment in recordings[0].segments}
    for start, label in zip(cut.start, cut.label, strict=True):
        segment = segments[LABELS[label]]
        assert segment.start - 1 <= start
        assert start + 2 * 128 <= segment.stop + 1


def test_no_window_at_all_is_an_empty_result(recordings: list[Recording]) -> None:
    short = replace(recordings[0], samples=recordings[0].samples[:100], segments=(Segment(0, 100, "STILL"),))
    nothing = replace(short, samples=short.samples[:0], segments=())
    cut = windows.cut_windows(windows.whole_streams([short, nothing]), SPEC, LABELS)
    assert len(cut) == 0
    assert cut.windows.shape == (0, 128, 9)


def test_restarted_streams_stay_inside_their_recording_and_cut_more_densely(recordings: list[Recording]) -> None:
    streams = windows.restarted_streams(recordings, SPEC, seed=3, piece_s=(6, 12))
    assert all(0 <= stream.start < stream.stop <= len(stream.recording.samples) for stream in streams)
    dense = windows.cut_windows(streams, SPEC, LABELS)
    sparse = windows.cut_windows(windows.whole_streams(recordings), SPEC, LABELS)
    assert len(dense) > 2 * len(sparse)
    again = windows.cut_windows(windows.restarted_streams(recordings, SPEC, seed=3, piece_s=(6, 12)), SPEC, LABELS)
    np.testing.assert_array_equal(dense.windows, again.windows)


def test_windows_of_some_subjects(recordings: list[Recording]) -> None:
    cut = windows.cut_windows(windows.whole_streams(recordings), SPEC, LABELS)
    some = cut.of_subjects(["02", "04"])
    assert set(some.subject) == {"02", "04"}
    assert len(some) + len(cut.of_subjects(["01", "03"])) == len(cut)


def test_recordings_of_different_rates_need_a_rate(recordings: list[Recording]) -> None:
    mixed = [recordings[0], replace(recordings[1], rate_hz=20.0)]
    with pytest.raises(DatasetError, match=r"02_1 has 20 Hz, 01_1 has 50 Hz.*--set sample_rate_hz=20"):
        windows.common_rate(mixed)


def test_labels_are_those_that_occur_but_for_unknown(recordings: list[Recording]) -> None:
    assert windows.known_labels(recordings) == LABELS
    odd = replace(recordings[0], segments=(Segment(0, 100, "UNKNOWN"), Segment(100, 200, "STILL")))
    with pytest.raises(DatasetError, match="1 known labels"):
        windows.known_labels([odd])
