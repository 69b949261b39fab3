"""Synthetic recordings of a few seconds, and a stand-in for fits: no data of a real person is in the repository."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harstream.datasets.base import Recording, Segment
from harstream.datasets.csv import CsvWriter

RATE_HZ = 50.0
STILL_S, MOVING_S, PAUSE_S = 16, 16, 3
#: Settings of a fit without augmentation and averaging: their graph takes longer to build than the fit to run.
PLAIN: dict[str, Any] = dict.fromkeys(
    (
        *("stretch", "warp", "tilt_deg", "turned_share", "mirrored_share", "flipped_share", "scale"),
        *("vigour", "coupling_db"),
        *("smoothed_share", "gyro_drift", "jitter", "channel_dropout", "unfamiliar_share", "mixup", "average"),
    ),
    0.0,
)


def subject(subject: str, seed: int, rate_hz: float = RATE_HZ) -> Recording:
    """Return a recording of standing still, a pause without label, and something like walking."""
    rng = np.random.default_rng(seed)
    n_still, n_pause, n_moving = (round(seconds * rate_hz) for seconds in (STILL_S, PAUSE_S, MOVING_S))
    n = n_still + n_pause + n_moving
    gravity = np.array([1.0, 0.0, 0.0]) + rng.normal(scale=0.1, size=3)
    samples = np.hstack([np.tile(gravity, (n, 1)), np.zeros((n, 3))]) + rng.normal(scale=0.01, size=(n, 6))
    t = np.arange(n_moving)[:, None] / rate_hz
    samples[-n_moving:] += 0.3 * np.sin(2 * np.pi * rng.uniform(1.5, 2.0) * t + rng.uniform(0, 6, size=6))
    segments = (Segment(0, n_still, "STILL"), Segment(n - n_moving, n, "MOVING"))
    return Recording(f"{subject}_1", subject, rate_hz, samples.astype(np.float32), segments)


def write_csv(folder: Path, recordings: list[Recording], names: Mapping[str, str] | None = None) -> str:
    """Write recordings as csv files, with other names for their labels if given, and return their KIND:PATH."""
    folder.mkdir()
    for one in recordings:
        labels = np.full(len(one.samples), "", object)
        for segment in one.segments:
            labels[segment.start : segment.stop] = (names or {}).get(segment.label, segment.label)
        ends = [0, *(np.flatnonzero(labels[1:] != labels[:-1]) + 1).tolist(), len(labels)]
        with CsvWriter(folder / f"{one.name}.csv", gyro=one.has_gyro) as writer:
            for start, stop in pairwise(ends):
                t = np.arange(start, stop) / one.rate_hz
                writer.write(t, one.samples[start:stop], str(labels[start]))
    return f"csv:{folder}"


def two_data_sets(recordings: list[Recording]) -> list[Recording]:
    """Return the first two recordings as those of set ``a``, and the others, without STILL, as those of set ``b``."""
    return [
        replace(one, subject=f"a/{one.subject}", data_set="a")
        if index < 2
        else replace(one, subject=f"b/{one.subject}", data_set="b", segments=one.segments[1:])
        for index, one in enumerate(recordings)
    ]


def hold_out_without_fit(prepared: Any, task: Any, progress: Any) -> Any:
    """Stand in for ``hold_out``, which takes seconds: return random logits for the windows of the fold."""
    from harstream.train.validation.task import FoldResult, not_held_out

    test = prepared.scored.of_subjects(task.held_out)
    learnt = tuple(np.unique(not_held_out(prepared.training, task).label).tolist())
    seed, epochs = task.config.seed, task.config.epochs
    logits = np.random.default_rng(seed).normal(size=(len(test), len(test.labels))).astype(np.float32)
    progress("training", epochs, epochs)
    names = test.subject, test.data_set
    return FoldResult(
        seed, task.held_out, test.labels, learnt, logits, None, np.zeros(len(test)), test.label, *names, 99, epochs, 0.1
    )


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return the list of the tasks that are done, without a fit."""
    pytest.importorskip("tensorflow")
    from harstream.train.validation import pool

    tasks: list[Any] = []

    def record(prepared: Any, task: Any, progress: Any) -> Any:
        tasks.append(task)
        return hold_out_without_fit(prepared, task, progress)

    monkeypatch.setattr(pool, "hold_out", record)
    return tasks


@pytest.fixture(scope="session")
def recordings() -> list[Recording]:
    return [subject(f"{number:02d}", number) for number in range(1, 5)]
