"""Scoring of a model: recordings pass through the engine, windows cut by their publisher only through the network.

An activity counts as the label that covers it (see ``core.label_table``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from harstream.bundle import Bundle
from harstream.classifier import Classifier
from harstream.core.batches import Int64, Predictions
from harstream.core.labels import UNKNOWN
from harstream.core.spec import DEFAULT_CHANNELS
from harstream.datasets import public
from harstream.datasets.base import PrecutWindows, Recording, subject_names
from harstream.datasets.sets import DataSet, kind_of, leave_out_without_gyro, notes_of, seconds_of
from harstream.datasets.windows import LabelledWindows, cut_windows, require_gyro, whole_streams
from harstream.errors import DatasetError
from harstream.evaluate.evaluation import Evaluation, together
from harstream.evaluate.metrics import Reliability, Scores, reliability_of_labels, score, score_by
from harstream.evaluate.sessions import joined, score_streams
from harstream.evaluate.unfamiliar import UnfamiliarStretch, find_stretches
from harstream.progress import Progress, silent

#: Data sets of windows, and the data sets of recordings of the same subjects under the same numbers.
_SAME_SUBJECTS = {"uci-har": "hapt"}
_ENDING = re.compile(r"(\.(csv|zip|tar|tgz|gz|bz2|xz))+$", re.IGNORECASE)


def score_sets(
    sets: Sequence[DataSet], classifier: Classifier, *, stream: bool = False, progress: Progress = silent
) -> Evaluation:
    """Score each data set by itself, and several together as well.

    Recordings without the gyroscope that the bundle needs are left out if there are others.

    Args:
        sets: At least one data set.
        classifier: Bundle and network.
        stream: Score whole sessions as published, not single windows.
        progress: Called as recordings are done.

    Raises:
        DatasetError: A data set cannot be scored with this bundle.

    """
    spec = classifier.bundle.spec
    usable = leave_out_without_gyro(sets, spec)
    score_one = score_sessions if stream else score_recordings
    parts = []
    for data_set in usable:
        if data_set.is_empty:
            continue
        if data_set.windows is not None:
            part = score_windows(data_set.windows, classifier, data_set.data)
        else:
            part = score_one(data_set.recordings, classifier, data_set.data, progress)
        parts.append(replace(part, name=data_set.name, notes=(*data_set.notes, *part.notes)))
    notes = notes_of([data_set for data_set in usable if data_set.is_empty])
    whole = parts[0] if len(parts) == 1 else together(parts, spec)
    return replace(whole, notes=(*notes, *whole.notes))


def score_recordings(
    recordings: Sequence[Recording], classifier: Classifier, data: str, progress: Progress = silent
) -> Evaluation:
    """Score the network's label of each due window that lies wholly inside one activity that the model knows.

    A window that the network takes for a state between activities, or that is unfamiliar, counts as wrong, as UNKNOWN.

    Args:
        recordings: Recordings to stream through the engine.
        classifier: Bundle and network.
        data: KIND:PATH of the recordings, for messages.
        progress: Called as recordings are done.

    Raises:
        DatasetError: No window lies inside a known activity, or a recording lacks the gyroscope that the bundle needs.

    """
    bundle = classifier.bundle
    recordings, left_out = _usable(recordings, data, bundle)
    windows = cut_windows(whole_streams(recordings), bundle.spec, bundle.labels, progress)
    _require_windows(len(windows), data, bundle, seconds_of(recordings))
    predictions = classifier.predict(windows.windows)
    subjects = subject_names(recordings)
    placement = {recording.name: recording.placement for recording in recordings}
    placements = np.array([placement[name] for name in windows.recording.tolist()])
    single = _SingleWindows(bundle, predictions, windows.label)
    return Evaluation(
        bundle.id,
        classifier.backend,
        data,
        f"{len(recordings)} recordings of {len(subjects)} subjects, single windows",
        (*left_out, *_training_notes(bundle, data, subjects)),
        single.scores,
        single.reliability,
        single.score_by(windows.subject),
        by_placement=single.score_by(placements),
        name=kind_of(data),
        stretches=_stretches(recordings, windows, predictions, bundle),
    )


def score_sessions(
    recordings: Sequence[Recording], classifier: Classifier, data: str, progress: Progress = silent
) -> Evaluation:
    """Score the published labels of the same windows, and whole sessions (in ``stream``).

    A window published as UNKNOWN counts as wrong: accuracy is the share of all due windows inside known activities
    whose published label is right.

    Args:
        recordings: Recordings to stream through engine, network and smoother.
        classifier: Bundle and network.
        data: KIND:PATH of the recordings, for messages.
        progress: Called as recordings are done.

    Raises:
        DatasetError: No window lies inside a known activity, or a recording lacks the gyroscope that the bundle needs.

    """
    bundle = classifier.bundle
    recordings, left_out = _usable(recordings, data, bundle)
    require_gyro(recordings, bundle.spec)
    stream = score_streams(recordings, classifier, progress)
    scores = stream.published.scores
    _require_windows(scores.windows, data, bundle, seconds_of(recordings))
    subjects = subject_names(recordings)

    def score_sessions_by(names: Iterable[str]) -> dict[str, Scores]:
        """Return the scores of the sessions of each name."""
        pairs = zip(names, stream.sessions, strict=True)
        return score_by(
            np.concatenate([np.full(len(session.true_label), name) for name, session in pairs]),
            np.concatenate([session.true_label for session in stream.sessions]),
            np.concatenate([session.published_label for session in stream.sessions]),
            bundle.labels,
            abstains=True,
            unfamiliar=joined("published_unfamiliar", stream.sessions),
        )

    return Evaluation(
        bundle.id,
        classifier.backend,
        data,
        f"{len(recordings)} recordings of {len(subjects)} subjects, labels as published",
        (
            f"labels as they would be published; {UNKNOWN} counts as wrong",
            *left_out,
            *_training_notes(bundle, data, subjects),
        ),
        scores,
        stream.published.reliability,
        score_sessions_by(recording.subject for recording in recordings),
        stream,
        by_placement=score_sessions_by(recording.placement for recording in recordings),
        name=kind_of(data),
        stretches=None if bundle.familiar is None else tuple(one for part in stream.sessions for one in part.stretches),
    )


def score_windows(windows: PrecutWindows, classifier: Classifier, data: str) -> Evaluation:
    """Score the network on windows that their publisher cut and filtered. The engine is not used.

    Windows that no label covers are left out, and a note tells their number.

    Args:
        windows: Windows of the data set.
        classifier: Bundle and network.
        data: KIND:PATH of the windows, for messages.

    Raises:
        DatasetError: Length, rate or channels of the windows differ from the bundle's, or no window has a known label.

    """
    bundle = classifier.bundle
    spec = bundle.spec
    n_samples = windows.windows.shape[1]
    if spec.window_samples != n_samples:
        raise DatasetError(
            f"{data}: windows of {n_samples} samples, but {bundle.id} needs {spec.window_samples}: "
            "choose another --model"
        )
    if spec.sample_rate_hz != windows.rate_hz:
        raise DatasetError(
            f"{data}: windows at {windows.rate_hz:g} Hz, but {bundle.id} needs {spec.sample_rate_hz:g} Hz: "
            "choose another --model"
        )
    for name in spec.channels:
        if name not in DEFAULT_CHANNELS:
            raise DatasetError(
                f"{data}: windows with the channels {', '.join(DEFAULT_CHANNELS)}, but {bundle.id} needs {name}: "
                "choose another --model, or recordings such as hapt"
            )
    channels = [DEFAULT_CHANNELS.index(name) for name in spec.channels]
    table = bundle.table
    covering = [table.label_of(kind_of(data), name) for name in windows.labels]
    index = np.array([-1 if label is None else bundle.labels.index(label) for label in covering])
    true_label = index[windows.label]
    known = true_label >= 0
    _require_windows(int(known.sum()), data, bundle, dict.fromkeys(windows.labels))
    true_label = true_label[known]
    single = _SingleWindows(bundle, classifier.predict(windows.windows[known][:, :, channels]), true_label)
    notes = ["windows cut and filtered by their publisher: only the network was applied, not the engine"]
    if not known.all():
        counts = np.bincount(windows.label, minlength=len(index))
        names = [f"{name} ({n})" for name, n, at in zip(windows.labels, counts, index, strict=True) if n and at < 0]
        notes.append(f"{int((~known).sum())} windows left out: no label covers {', '.join(names)}")
    if windows.subject is None:
        notes.append("the subjects are not given: the model may have been trained on some of them")
        by_subject = {}
    else:
        by_subject = single.score_by(windows.subject[known])
        notes += _training_notes(bundle, data, by_subject)
    return Evaluation(
        bundle.id,
        classifier.backend,
        data,
        f"{len(true_label)} windows of the data set",
        tuple(notes),
        single.scores,
        single.reliability,
        by_subject,
        name=kind_of(data),
    )


@dataclass(frozen=True, slots=True)
class _SingleWindows:
    """Windows that are labelled each by itself. An unfamiliar window is UNKNOWN, as it would be published."""

    bundle: Bundle
    predictions: Predictions
    true_label: Int64  # (n_windows,)

    @property
    def scores(self) -> Scores:
        return score(self.true_label, self._labelled.label, self.bundle.labels, **self._unknown)

    @property
    def reliability(self) -> Reliability:
        return reliability_of_labels(self._labelled.confidence, self._labelled.label, self.true_label)

    def score_by(self, names: npt.NDArray[np.str_]) -> dict[str, Scores]:
        """Return the scores of the windows of each name (n_windows,)."""
        return score_by(names, self.true_label, self._labelled.label, self.bundle.labels, **self._unknown)

    @property
    def _labelled(self) -> Predictions:
        return self.predictions.without(self.predictions.unfamiliar)

    @property
    def _unknown(self) -> dict[str, Any]:
        """The arguments of ``score`` about windows that can be UNKNOWN."""
        tells = self.bundle.familiar is not None
        return {
            "abstains": tells or bool(self.bundle.states),
            "unfamiliar": self.predictions.unfamiliar if tells else None,
        }


def _usable(
    recordings: Sequence[Recording], data: str, bundle: Bundle
) -> tuple[tuple[Recording, ...], tuple[str, ...]]:
    """Return the recordings that the bundle can be scored on, with its labels, and notes about what was left out."""
    data_set = DataSet(data, kind_of(data), tuple(recordings)).cover(bundle.table, bundle.states)
    [usable] = leave_out_without_gyro([data_set], bundle.spec)
    return usable.recordings, usable.notes


def _stretches(
    recordings: Sequence[Recording], windows: LabelledWindows, predictions: Predictions, bundle: Bundle
) -> tuple[UnfamiliarStretch, ...] | None:
    """Return the stretches of unfamiliar windows; None if the model cannot tell them."""
    if bundle.familiar is None:
        return None
    spec, rate_hz = bundle.spec, {recording.name: recording.rate_hz for recording in recordings}
    start_s = windows.start / np.array([rate_hz[name] for name in windows.recording.tolist()])
    return tuple(
        find_stretches(
            windows.recording.tolist(),
            start_s,
            start_s + spec.window_samples / spec.sample_rate_hz,
            [bundle.labels[index] for index in windows.label.tolist()],
            predictions.output_names(bundle.outputs),
            predictions.unfamiliar,
            spec.stride_samples / spec.sample_rate_hz,
        )
    )


def _require_windows(n_windows: int, data: str, bundle: Bundle, found: Mapping[str, float | None]) -> None:
    """Raise DatasetError if there is no window to score.

    Args:
        n_windows: Number of windows to score.
        data: KIND:PATH of the data set.
        bundle: The bundle.
        found: The labels of the data set, with their duration in seconds if it is known.

    """
    if n_windows:
        return
    if not found:
        raise DatasetError(
            f"{data}: the recordings have no labels: expected a column label, activity or class, with labels such as "
            f"{', '.join(bundle.labels[:2])}"
        )
    names = ", ".join(f"{name} {seconds:.0f} s" if seconds is not None else name for name, seconds in found.items())
    window_s = bundle.spec.window_samples / bundle.spec.sample_rate_hz
    raise DatasetError(
        f"{data}: no window lies inside an activity that {bundle.id} knows ({', '.join(bundle.labels)}); found: "
        f"{names}: name the labels alike, or record segments longer than {window_s:.2f} s"
    )


def _training_notes(bundle: Bundle, data: str, subjects: Iterable[str]) -> tuple[str, ...]:
    """Return a warning if the bundle was trained on some of the subjects that are now scored."""
    trained_on = bundle.training.get("data")
    sets = [str(one) for one in (trained_on if isinstance(trained_on, list) else [trained_on])]
    own = set()
    for subject in map(str, bundle.training.get("subjects", ())):
        prefix, _, name = subject.rpartition("/")  # if the bundle was trained on several data sets
        # The prefix is KIND if there is one set of this kind, and else KIND:NAME.
        of_prefix = [prefix] if ":" in prefix else [one for one in sets if kind_of(one) == prefix] or [prefix]
        if any(_may_be_one(one, data) for one in (of_prefix if prefix else sets)):
            own.add(name)
    names = list(subjects)
    seen = [name for name in names if name.rpartition("/")[2] in own]
    if not seen:
        return ()
    return (
        f"{bundle.id} was trained on {len(seen)} of these {len(names)} subjects: "
        "the scores do not tell how it does on other people",
    )


def _may_be_one(trained: str, data: str) -> bool:
    """Return whether KIND:NAME of a set trained on may be, contain or be part of the set KIND:PATH.

    A public set has the same subjects whatever its file is called. Own recordings are known by the name of their file
    or folder, so that a subject of another folder is not taken for one of the same name.
    """
    kind, _, name = trained.partition(":")
    own_kind, _, place = data.partition(":")
    if kind not in (own_kind, _SAME_SUBJECTS.get(own_kind)):
        return False
    if kind in public.SETS or not name:
        return True
    path = Path(place)
    names = {path.name, path.resolve().name, path.resolve().parent.name}
    names |= {inside.name for inside in path.iterdir()} if path.is_dir() else set()
    return _without_ending(name) in map(_without_ending, names)


def _without_ending(name: str) -> str:
    """Return the name of a file or archive without its ending, as the folder is called that an archive is made of."""
    return _ENDING.sub("", name)
