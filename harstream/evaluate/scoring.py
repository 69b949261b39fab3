"""A model on a data set: recordings through the engine, published windows through the network alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from harstream.bundle import UNKNOWN, Bundle
from harstream.classifier import Classifier
from harstream.core.spec import DEFAULT_CHANNELS
from harstream.datasets.base import PublishedWindows, Recording, subjects_of
from harstream.datasets.windows import check_gyro, cut, whole
from harstream.errors import DatasetError
from harstream.evaluate import sessions as streaming
from harstream.evaluate.metrics import Evaluation, by_subject, reliability, score

#: Kinds of windows, with the kind of the recordings of the same people, who have the same numbers in both.
_SAME_SUBJECTS = {"uci-har": "hapt"}


def of_recordings(recordings: Sequence[Recording], classifier: Classifier, data: str) -> Evaluation:
    """The network's own label of every due window that lies wholly inside an activity it knows.

    Raises DatasetError where there is none.
    """
    bundle = classifier.bundle
    windows = cut(whole(recordings), bundle.spec, bundle.labels)
    _need(len(windows), data, bundle)
    said = classifier.predict(windows.windows)
    return Evaluation(
        bundle.id,
        classifier.backend,
        data,
        f"{len(recordings)} recordings of {len(subjects_of(recordings))} subjects, single windows",
        _seen_in_training(bundle, data, subjects_of(recordings)),
        score(windows.label, said.label, bundle.labels),
        reliability(said.confidence, said.label == windows.label),
        by_subject(windows.label, said.label, windows.subject, bundle.labels),
    )


def of_sessions(recordings: Sequence[Recording], classifier: Classifier, data: str) -> Evaluation:
    """The same windows with the labels that would be published, and whole sessions in ``stream``.

    A window on which UNKNOWN is published counts as wrong: accuracy is the share of all due windows inside
    activities whose published label is right. Raises DatasetError where there is no such window, and as
    ``check_gyro`` does.
    """
    bundle = classifier.bundle
    check_gyro(recordings, bundle.spec)
    stream = streaming.evaluate(recordings, classifier)
    metrics = stream.published.metrics
    _need(metrics.windows, data, bundle)
    subject = np.concatenate([np.full(len(session.label), session.subject) for session in stream.sessions])
    return Evaluation(
        bundle.id,
        classifier.backend,
        data,
        f"{len(recordings)} recordings of {len(subjects_of(recordings))} subjects, labels as published",
        (
            f"labels as they would be published; {UNKNOWN} counts as wrong",
            *_seen_in_training(bundle, data, subjects_of(recordings)),
        ),
        metrics,
        stream.published.reliability,
        by_subject(
            np.concatenate([session.label for session in stream.sessions]),
            np.concatenate([session.believed for session in stream.sessions]),
            subject,
            bundle.labels,
            abstains=True,
        ),
        stream,
    )


def of_windows(windows: PublishedWindows, classifier: Classifier, data: str) -> Evaluation:
    """Windows as their publisher cut and filtered them: nothing but the network is applied.

    Labels go by name; windows of labels the bundle does not know are left out, and a note says how many.
    Raises DatasetError where the windows are not such as the bundle takes, or none is left.
    """
    bundle = classifier.bundle
    spec = bundle.spec
    n_samples = windows.windows.shape[1]
    if spec.window_samples != n_samples:
        raise DatasetError(f"{data}: windows of {n_samples} samples, but {bundle.id} takes {spec.window_samples}")
    if spec.sample_rate_hz != windows.rate_hz:
        raise DatasetError(f"{data}: {windows.rate_hz:g} Hz, but {bundle.id} takes {spec.sample_rate_hz:g} Hz")
    channels = [DEFAULT_CHANNELS.index(name) for name in spec.channels]
    index = np.array([bundle.labels.index(name) if name in bundle.labels else -1 for name in windows.labels])
    label = index[windows.label]
    known = label >= 0
    _need(int(known.sum()), data, bundle)
    label = label[known]
    said = classifier.predict(windows.windows[known][:, :, channels])
    notes = ["windows cut and filtered by their publisher: only the network was applied, not the engine"]
    if not known.all():
        notes.append(f"{int((~known).sum())} windows left out: the model does not know their labels")
    if windows.subject is None:
        notes.append("the subjects are not given: the model may have been trained on some of them")
        subjects = {}
    else:
        subject = windows.subject[known]
        subjects = by_subject(label, said.label, subject, bundle.labels)
        notes += _seen_in_training(bundle, data, subjects)
    return Evaluation(
        bundle.id,
        classifier.backend,
        data,
        f"{len(label)} published windows",
        tuple(notes),
        score(label, said.label, bundle.labels),
        reliability(said.confidence, said.label == label),
        subjects,
    )


def _need(windows: int, data: str, bundle: Bundle) -> None:
    if not windows:
        raise DatasetError(f"{data}: no window lies inside an activity of {bundle.id} ({', '.join(bundle.labels)})")


def _seen_in_training(bundle: Bundle, data: str, subjects: Iterable[str]) -> tuple[str, ...]:
    """A warning where the bundle says that it was trained on subjects that it is now scored on."""
    trained_on = bundle.training.get("data")
    kind = data.partition(":")[0]
    if not isinstance(trained_on, str) or trained_on.partition(":")[0] not in (kind, _SAME_SUBJECTS.get(kind)):
        return ()
    names = list(subjects)
    seen = sorted(set(names) & {str(name) for name in bundle.training.get("subjects", ())})
    if not seen:
        return ()
    return (
        f"{len(seen)} of these {len(names)} subjects are named among those {bundle.id} was trained on: "
        "this says nothing about people it has never met",
    )
