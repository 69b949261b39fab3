"""Scores of whole sessions: published labels over time, compared with the activities of the subject.

Single windows show how often a label is wrong. Whole sessions also show how steady the labels are, how late a change of
activity is published, how often the model abstains, and which activities were found (module ``events``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from harstream.classifier import Classifier
from harstream.core.batches import Bool, Float64, Int64, Predictions
from harstream.core.labels import UNKNOWN_INDEX
from harstream.core.smoothing import SmoothedLabels
from harstream.core.spec import SignalSpec
from harstream.datasets.base import Recording
from harstream.datasets.windows import labels_of_windows
from harstream.evaluate import published
from harstream.evaluate.events import NO_LABEL, EventCounts, Track, score_events
from harstream.evaluate.metrics import Reliability, Scores, reliability_of_labels, score
from harstream.evaluate.unfamiliar import UnfamiliarStretch, find_stretches
from harstream.progress import Progress, silent, track_progress

#: Where a due window lies in its recording. The last three hold signals that the model was not trained on.
PLACES = ("inside", "partly_other", "mostly_other", "elsewhere")


class Abstained(NamedTuple):
    """Windows in one place, and how many of them were published as UNKNOWN."""

    windows: int
    unknown: int


@dataclass(frozen=True, slots=True)
class ActivityChange:
    """Change of the subject from one activity that the model knows to another."""

    label: int  # index of the new activity
    delay_s: float | None  # from its start to its label; 0: published before it began; None: not before it ended


@dataclass(frozen=True, slots=True)
class Session:
    """One recording: its true labels and the labels that would have been published.

    Arrays of n_windows describe the due windows that lie wholly inside one activity that the model knows.
    """

    name: str
    subject: str
    duration_ns: int
    truth: Track  # labelled segments of the recording; NO_LABEL for activities that the model does not know
    segment_names: tuple[str, ...]  # names of the segments of ``truth``, as in the recording
    published: Track  # published labels, each from the end of its window to the end of the next; may be UNKNOWN
    single: Track  # the same for the labels that the network gives each window by itself
    true_label: Int64  # (n_windows,) label index
    published_label: Int64  # (n_windows,) label index; UNKNOWN_INDEX: abstained
    published_confidence: Float64  # (n_windows,)
    predicted_label: Int64  # (n_windows,) label that the network gives the window by itself; UNKNOWN_INDEX: a state
    predicted_confidence: Float64  # (n_windows,) calibrated
    abstained: Mapping[str, Abstained]  # by place, for all due windows
    # (n_windows,) whether the window is unfamiliar, as published and by itself; None: the model cannot tell.
    published_unfamiliar: Bool | None = None
    unfamiliar: Bool | None = None
    stretches: tuple[UnfamiliarStretch, ...] = ()  # of all due windows, as published

    @property
    def accuracy(self) -> float:
        """Share of the n_windows whose published label is right; 1 if there is no window."""
        return float((self.published_label == self.true_label).mean()) if len(self.true_label) else 1.0


@dataclass(frozen=True, slots=True)
class TrackScores:
    """Scores of all sessions, either for published labels or for labels of single windows."""

    scores: Scores
    reliability: Reliability  # of the windows that got a label
    events: tuple[EventCounts, ...]  # (n_labels,)
    label_changes: int  # changes of the label over whole sessions, to and from UNKNOWN included
    flips: int  # changes of the label inside one activity, without the one by which the right label arrives
    activity_changes: tuple[ActivityChange, ...]  # of the subjects, with the delay of the published label

    @property
    def all_events(self) -> EventCounts:
        """Event counts of all labels together."""
        return sum(self.events, EventCounts())

    def delay_s(self, percentile: float, label: int | None = None) -> float | None:
        """Return a percentile of the delays in seconds, of changes to ``label`` or of all; None if none was published.

        Args:
            percentile: Percentile from 0 to 100.
            label: Index of the new activity; None: all activities.

        """
        delays_s = [c.delay_s for c in self.activity_changes if c.delay_s is not None and label in (None, c.label)]
        return float(np.percentile(delays_s, percentile)) if delays_s else None

    @property
    def missed(self) -> int:
        """Number of changes whose label was not published before the new activity ended."""
        return sum(change.delay_s is None for change in self.activity_changes)


@dataclass(frozen=True, slots=True)
class SessionScores:
    """Scores of all sessions, for published labels and, to compare, for labels of single windows."""

    labels: tuple[str, ...]
    window_s: float
    sessions: tuple[Session, ...]
    published: TrackScores
    single: TrackScores

    @property
    def minutes(self) -> float:
        """Duration of all sessions in minutes."""
        return sum(session.duration_ns for session in self.sessions) / 60e9

    @property
    def minutes_inside(self) -> float:
        """Time inside activities that the model knows, in minutes."""
        known_ns = [(s.truth.stop_ns - s.truth.start_ns)[s.truth.label != NO_LABEL].sum() for s in self.sessions]
        return float(sum(known_ns)) / 60e9

    @property
    def true_changes(self) -> int:
        """Number of changes from one activity that the model knows to another."""
        return len(self.published.activity_changes)

    @property
    def abstained(self) -> dict[str, Abstained]:
        """Number of due windows and of those published as UNKNOWN, for each of PLACES."""
        return {
            place: Abstained(*map(sum, zip(*(session.abstained[place] for session in self.sessions), strict=True)))
            for place in PLACES
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the ``stream`` section of ``harstream evaluate --json``; rates are per minute."""
        return {
            "sessions": len(self.sessions),
            "minutes": self.minutes,
            "minutes_inside": self.minutes_inside,
            "window_s": self.window_s,
            "true_changes": self.true_changes,
            "true_changes_per_minute": _ratio(self.true_changes, self.minutes),
            "unknown": {
                place: {"windows": windows, "unknown": unknown, "share": _ratio(unknown, windows)}
                for place, (windows, unknown) in self.abstained.items()
            },
            "published": self._track_to_dict(self.published),
            "single_windows": self._track_to_dict(self.single),
        }

    def _track_to_dict(self, track: TrackScores) -> dict[str, Any]:
        delay_s = {"median": track.delay_s(50), "p95": track.delay_s(95)}
        return {
            "accuracy": track.scores.accuracy,
            "macro_f1": track.scores.macro_f1,
            "macro_recall": track.scores.macro_recall,
            "calibration_error": track.reliability.error,
            "changes_per_minute": _ratio(track.label_changes, self.minutes),
            "flips_per_minute": _ratio(track.flips, self.minutes_inside),
            "delay_s": delay_s,
            "delay_beyond_window_s": {k: None if v is None else v - self.window_s for k, v in delay_s.items()},
            "missed_changes": track.missed,
            **({} if track.scores.unfamiliar is None else {"unfamiliar": int(track.scores.unfamiliar.sum())}),
            "events": {
                "all": track.all_events.to_dict(),
                **{label: one.to_dict() for label, one in zip(self.labels, track.events, strict=True)},
            },
        }


def score_streams(
    recordings: Sequence[Recording], classifier: Classifier, progress: Progress = silent
) -> SessionScores:
    """Stream whole recordings through engine, network and smoother, and compare the labels with the truth."""
    bundle = classifier.bundle
    sessions = []
    for recording in track_progress(recordings, "labelling recordings", progress):
        result = published.label_recording(recording, classifier)
        times = result.windows.start_ns, result.windows.end_ns
        unfamiliar = None if bundle.familiar is None else result.unfamiliar
        sessions.append(
            build_session(
                recording, bundle.labels, bundle.spec, *times, result.alone, result.smoothed, unfamiliar, bundle.states
            )
        )
    return summarise(sessions, bundle.labels, bundle.spec)


def summarise(sessions: Sequence[Session], labels: tuple[str, ...], spec: SignalSpec) -> SessionScores:
    """Return the scores of all ``sessions``, which must be at least one."""
    truth, label, confidence, predicted, predicted_confidence = (
        np.concatenate([getattr(session, name) for session in sessions])
        for name in (
            "true_label",
            "published_label",
            "published_confidence",
            "predicted_label",
            "predicted_confidence",
        )
    )
    window_ns = round(spec.window_samples * spec.period_ns)
    return SessionScores(
        labels,
        window_ns / 1e9,
        tuple(sessions),
        _score_tracks(
            [(session.truth, session.published) for session in sessions],
            window_ns,
            score(truth, label, labels, abstains=True, unfamiliar=joined("published_unfamiliar", sessions)),
            reliability_of_labels(confidence, label, truth),
        ),
        _score_tracks(
            [(session.truth, session.single) for session in sessions],
            window_ns,
            score(truth, predicted, labels, abstains=True, unfamiliar=joined("unfamiliar", sessions)),
            reliability_of_labels(predicted_confidence, predicted, truth),
        ),
    )


def joined(name: str, sessions: Sequence[Session]) -> Bool | None:
    """Return a field about unfamiliar windows, of all sessions; None if a session does not have it."""
    parts = [part for session in sessions if (part := getattr(session, name)) is not None]
    return np.concatenate(parts) if len(parts) == len(sessions) else None


def build_session(
    recording: Recording,
    labels: Sequence[str],
    spec: SignalSpec,
    start_ns: Int64,
    end_ns: Int64,
    predictions: Predictions,
    smoothed: SmoothedLabels,
    unfamiliar: Bool | None = None,
    states: Sequence[str] = (),
) -> Session:
    """Return the session of a recording whose first sample is at event time 0.

    Args:
        recording: Recording with its true labels.
        labels: Labels of the bundle.
        spec: Signal of the bundle.
        start_ns: Event time at which each due window starts, (n_due,).
        end_ns: Event time at which each due window ends, (n_due,).
        predictions: Predictions of the network for these windows, each by itself.
        smoothed: Labels that the smoother makes of them.
        unfamiliar: Whether each window is published as UNKNOWN because it, or most windows of the device, are
            unfamiliar, (n_due,); None: the model cannot tell.
        states: States of the bundle.

    """
    alone = predictions.without(predictions.unfamiliar)
    truth = truth_track(recording, labels)
    true_label, other = locate_windows(truth, start_ns, end_ns, recording.rate_hz)
    inside, unknown = true_label != NO_LABEL, smoothed.label == UNKNOWN_INDEX
    masks = {
        "inside": inside,
        "partly_other": ~inside & (other > 0) & (other < 0.5),
        "mostly_other": ~inside & (other >= 0.5),
        "elsewhere": ~inside & (other == 0),
    }
    stretches: list[UnfamiliarStretch] = []
    if unfamiliar is not None:
        stretches = find_stretches(
            [recording.name] * len(start_ns),
            start_ns / 1e9,
            end_ns / 1e9,
            [labels[index] if index != NO_LABEL else "" for index in true_label.tolist()],
            predictions.output_names((*labels, *states)),
            unfamiliar,
            spec.stride_samples / spec.sample_rate_hz,
        )
    duration_ns = round(len(recording.samples) * 1e9 / recording.rate_hz)
    return Session(
        recording.name,
        recording.subject,
        duration_ns,
        truth,
        tuple(segment.label for segment in recording.segments),
        label_track(end_ns, smoothed.label, duration_ns, spec),
        label_track(end_ns, alone.label, duration_ns, spec),
        true_label[inside],
        smoothed.label[inside],
        smoothed.confidence[inside].astype(np.float64),
        alone.label[inside],
        alone.confidence[inside].astype(np.float64),
        {place: Abstained(int(mask.sum()), int((mask & unknown).sum())) for place, mask in masks.items()},
        None if unfamiliar is None else unfamiliar[inside],
        None if unfamiliar is None else predictions.unfamiliar[inside],
        tuple(stretches),
    )


def truth_track(recording: Recording, labels: Sequence[str]) -> Track:
    """Return the labelled segments of a recording whose first sample is at event time 0."""
    period_ns = 1e9 / recording.rate_hz
    return Track(
        np.array([round(segment.start * period_ns) for segment in recording.segments], np.int64),
        np.array([round(segment.stop * period_ns) for segment in recording.segments], np.int64),
        np.array([labels.index(s.label) if s.label in labels else NO_LABEL for s in recording.segments], np.int64),
    )


def label_track(end_ns: Int64, label: Int64, duration_ns: int, spec: SignalSpec) -> Track:
    """Return labels as a subscriber sees them: each holds from the end of its window until the next label comes."""
    last = end_ns[-1:] + round(spec.stride_samples * spec.period_ns)
    return Track(end_ns, np.r_[end_ns[1:], np.maximum(last, duration_ns)].astype(np.int64), label.astype(np.int64))


def locate_windows(truth: Track, start_ns: Int64, end_ns: Int64, rate_hz: float) -> tuple[Int64, Float64]:
    """Return in which activity each window lies, and how much of it lies in activities that the model does not know.

    A window lies inside an activity by the rule by which training windows are cut: to half a sample.

    Args:
        truth: True labels of the recording.
        start_ns: Start of each window, (n_windows,).
        end_ns: End of each window, (n_windows,).
        rate_hz: Sample rate of the recording.

    Returns:
        The label of the activity that each window lies wholly inside, else NO_LABEL, (n_windows,); and the share of
        each window that overlaps intervals labelled with an activity that the model does not know, (n_windows,).

    """
    intervals = list(zip(truth.start_ns.tolist(), truth.stop_ns.tolist(), truth.label.tolist(), strict=True))
    known = (one for one in intervals if one[2] != NO_LABEL)
    label = labels_of_windows(known, start_ns, end_ns, 0.5e9 / rate_hz)
    other_ns = np.zeros(len(start_ns))
    for start, stop, index in intervals:
        if index == NO_LABEL:
            other_ns += np.clip(np.minimum(end_ns, stop) - np.maximum(start_ns, start), 0, None)
    return label, other_ns / np.maximum(end_ns - start_ns, 1)


def _score_tracks(
    sessions: Sequence[tuple[Track, Track]], window_ns: int, scores: Scores, bins: Reliability
) -> TrackScores:
    """Return the scores of (truth, published) tracks, one pair per session."""
    n_labels = len(scores.labels)
    total = [EventCounts()] * n_labels
    for truth, track in sessions:
        total = [one + more for one, more in zip(total, score_events(truth, track, n_labels, window_ns), strict=True)]
    return TrackScores(
        scores,
        bins,
        tuple(total),
        sum(int((track.label[1:] != track.label[:-1]).sum()) for _, track in sessions),
        sum(count_flips(truth, track) for truth, track in sessions),
        tuple(change for truth, track in sessions for change in measure_delays(truth, track)),
    )


def count_flips(truth: Track, track: Track) -> int:
    """Count changes of the label inside one activity, without the one by which the right label arrives."""
    count = 0
    for start, stop, label in zip(truth.start_ns, truth.stop_ns, truth.label, strict=True):
        if label == NO_LABEL:
            continue
        seen = track.label[_overlapping(track, start, stop)]
        changes = int((seen[1:] != seen[:-1]).sum())
        arrived = len(seen) > 0 and seen[0] != label and bool((seen == label).any())
        count += changes - int(arrived)
    return count


def measure_delays(truth: Track, track: Track) -> list[ActivityChange]:
    """Return every change from one known activity to another, in order of time, with the delay of its label.

    The change is where the segment of the new activity starts, whatever time lies between the two segments.
    """
    known = np.flatnonzero(truth.label != NO_LABEL)
    changes = []
    for before, after in pairwise(known):
        label = int(truth.label[after])
        if label == truth.label[before]:
            continue
        start, stop = int(truth.start_ns[after]), int(truth.stop_ns[after])
        right = np.flatnonzero(_overlapping(track, start, stop) & (track.label == label))
        delay_s = max(int(track.start_ns[right[0]]) - start, 0) / 1e9 if len(right) else None
        changes.append(ActivityChange(label, delay_s))
    return changes


def _overlapping(track: Track, start_ns: int, stop_ns: int) -> Bool:
    """Return True for each interval, (n_intervals,), that overlaps the time from ``start_ns`` to ``stop_ns``."""
    return (track.stop_ns > start_ns) & (track.start_ns < stop_ns)


def _ratio(part: float, whole: float) -> float:
    """Return ``part / whole``; 0 if ``whole`` is 0."""
    return part / whole if whole else 0.0
