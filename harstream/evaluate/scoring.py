"""Scoring of a model: recordings pass through the engine, windows cut by their publisher only through the network."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from harstream.bundle import Bundle
from harstream.classifier import Classifier
from harstream.core.labels import UNKNOWN
from harstream.core.spec import DEFAULT_CHANNELS
from harstream.datasets.base import PrecutWindows, Recording, subject_names
from harstream.datasets.windows import cut_windows, require_gyro, whole_streams
from harstream.errors import DatasetError
from harstream.evaluate.evaluation import Evaluation
from harstream.evaluate.metrics import measure_reliability, score, score_by_subject
from harstream.evaluate.sessions import score_streams
from harstream.progress import Progress, silent

#: Data sets of windows, and the data sets of recordings of the same subjects under the same numbers.
_SAME_SUBJECTS = {"uci-har": "hapt"}


def score_recordings(
    recordings: Sequence[Recording], classifier: Classifier, data: str, progress: Progress = silent
) -> Evaluation:
    """Score the network's label of each due window that lies wholly inside one activity that the model knows.

    Args:
        recordings: Recordings to stream through the engine.
        classifier: Bundle and network.
        data: KIND:PATH of the recordings, for messages.
        progress: Called as recordings are done.

    Raises:
        DatasetError: No window lies inside a known activity, or a recording lacks the gyroscope that the bundle needs.

    """
    bundle = classifier.bundle
    windows = cut_windows(whole_streams(recordings), bundle.spec, bundle.labels, progress)
    _require_windows(len(windows), data, bundle)
    predictions = classifier.predict(windows.windows)
    subjects = subject_names(recordings)
    return Evaluation(
        bundle.id,
        classifier.backend,
        data,
        f"{len(recordings)} recordings of {len(subjects)} subjects, single windows",
        _training_notes(bundle, data, subjects),
        score(windows.label, predictions.label, bundle.labels),
        measure_reliability(predictions.confidence, predictions.label == windows.label),
        score_by_subject(windows.label, predictions.label, windows.subject, bundle.labels),
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
    require_gyro(recordings, bundle.spec)
    stream = score_streams(recordings, classifier, progress)
    scores = stream.published.scores
    _require_windows(scores.windows, data, bundle)
    subjects = subject_names(recordings)
    return Evaluation(
        bundle.id,
        classifier.backend,
        data,
        f"{len(recordings)} recordings of {len(subjects)} subjects, labels as published",
        (
            f"labels as they would be published; {UNKNOWN} counts as wrong",
            *_training_notes(bundle, data, subjects),
        ),
        scores,
        stream.published.reliability,
        score_by_subject(
            np.concatenate([session.true_label for session in stream.sessions]),
            np.concatenate([session.published_label for session in stream.sessions]),
            np.concatenate([np.full(len(session.true_label), session.subject) for session in stream.sessions]),
            bundle.labels,
            abstains=True,
        ),
        stream,
    )


def score_windows(windows: PrecutWindows, classifier: Classifier, data: str) -> Evaluation:
    """Score the network on windows that their publisher cut and filtered. The engine is not used.

    Labels are matched by name. Windows with a label that the bundle does not know are left out, and a note tells
    their number.

    Args:
        windows: Windows of the data set.
        classifier: Bundle and network.
        data: KIND:PATH of the windows, for messages.

    Raises:
        DatasetError: Length or rate of the windows differ from the bundle's, or no window has a known label.

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
    channels = [DEFAULT_CHANNELS.index(name) for name in spec.channels]
    index = np.array([bundle.labels.index(name) if name in bundle.labels else -1 for name in windows.labels])
    true_label = index[windows.label]
    known = true_label >= 0
    _require_windows(int(known.sum()), data, bundle)
    true_label = true_label[known]
    predictions = classifier.predict(windows.windows[known][:, :, channels])
    notes = ["windows cut and filtered by their publisher: only the network was applied, not the engine"]
    if not known.all():
        notes.append(f"{int((~known).sum())} windows left out: the model does not know their labels")
    if windows.subject is None:
        notes.append("the subjects are not given: the model may have been trained on some of them")
        by_subject = {}
    else:
        by_subject = score_by_subject(true_label, predictions.label, windows.subject[known], bundle.labels)
        notes += _training_notes(bundle, data, by_subject)
    return Evaluation(
        bundle.id,
        classifier.backend,
        data,
        f"{len(true_label)} windows of the data set",
        tuple(notes),
        score(true_label, predictions.label, bundle.labels),
        measure_reliability(predictions.confidence, predictions.label == true_label),
        by_subject,
    )


def _require_windows(n_windows: int, data: str, bundle: Bundle) -> None:
    """Raise DatasetError if there is no window to score."""
    if not n_windows:
        raise DatasetError(
            f"{data}: no window lies inside an activity that {bundle.id} knows ({', '.join(bundle.labels)}): "
            "compare the labels of the data set"
        )


def _training_notes(bundle: Bundle, data: str, subjects: Iterable[str]) -> tuple[str, ...]:
    """Return a warning if the bundle was trained on some of the subjects that are now scored."""
    trained_on = bundle.training.get("data")
    kind = data.partition(":")[0]
    if not isinstance(trained_on, str) or trained_on.partition(":")[0] not in (kind, _SAME_SUBJECTS.get(kind)):
        return ()
    names = list(subjects)
    seen = sorted(set(names) & {str(name) for name in bundle.training.get("subjects", ())})
    if not seen:
        return ()
    return (
        f"{bundle.id} was trained on {len(seen)} of these {len(names)} subjects: "
        "the scores do not tell how it does on other people",
    )
