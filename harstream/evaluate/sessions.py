"""What would be published of whole sessions, against what their subjects did: steadiness, delay, doubt, events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from harstream.classifier import Classifier
from harstream.core.batches import Bool, Float64, Int64, Predictions
from harstream.core.smoothing import SmoothedLabels
from harstream.core.spec import SignalSpec
from harstream.datasets.base import Recording
from harstream.datasets.windows import inside
from harstream.evaluate import published
from harstream.evaluate.events import NONE, Events, Track, events
from harstream.evaluate.metrics import Metrics, Reliability, reliability, score


@dataclass(frozen=True, slots=True)
class Change:
    """A subject goes from one activity the model knows to another, through whatever lies between."""

    label: int  # the new activity
    delay_s: float | None  # from its start until its label is published; 0: it was already; None: not before its end


@dataclass(frozen=True, slots=True)
class Session:
    """One recording as its subject lived it and as it would have been published."""

    name: str
    subject: str
    duration_ns: int
    truth: Track  # the labelled stretches; NONE for labels the model does not know
    names: tuple[str, ...]  # (n_stretches,) of the truth, as the recording calls them
    published: Track  # each label from the end of its window until that of the next; NONE for UNKNOWN
    single: Track  # the same of the network's own label of each window
    label: Int64  # (n_windows,) of the due windows that lie inside an activity the model knows: the truth
    believed: Int64  # (n_windows,) the published label of each of them, NONE for UNKNOWN
    confidence: Float64  # (n_windows,) the confidence published with it
    guessed: Int64  # (n_windows,) the network's own label
    sureness: Float64  # (n_windows,) the network's own confidence, calibrated
    doubt: Mapping[str, tuple[int, int]]  # where the window lies, to (windows, UNKNOWN of them)

    @property
    def accuracy(self) -> float:
        """The share of the windows inside activities whose published label was right; 1 where there is none."""
        return float((self.believed == self.label).mean()) if len(self.label) else 1.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """Figures of one way of labelling all sessions."""

    metrics: Metrics
    reliability: Reliability  # of its confidence, where it gives a label
    events: tuple[Events, ...]  # (n_labels,)
    changes: int  # of the label, over whole sessions; to and from UNKNOWN too
    flips: int  # changes inside one activity, beyond the one by which its label arrives
    delays: tuple[Change, ...]

    @property
    def all_events(self) -> Events:
        return sum(self.events, Events())

    def delay_s(self, percentile: float, label: int | None = None) -> float | None:
        """A percentile of the delays, of one new activity or of all; None where no change was followed."""
        known = [c.delay_s for c in self.delays if c.delay_s is not None and label in (None, c.label)]
        return float(np.percentile(known, percentile)) if known else None

    @property
    def missed(self) -> int:
        """ActivityTracker whose label was not published before the activity ended."""
        return sum(change.delay_s is None for change in self.delays)


#: Where a due window lies; the last three are what the model was not, or not only, taught.
PLACES = ("inside", "partly_other", "mostly_other", "elsewhere")


@dataclass(frozen=True, slots=True)
class Streaming:
    """All sessions together, labelled as published and, to compare, by single windows."""

    labels: tuple[str, ...]
    window_s: float
    sessions: tuple[Session, ...]
    published: Outcome
    single: Outcome

    @property
    def minutes(self) -> float:
        return sum(session.duration_ns for session in self.sessions) / 60e9

    @property
    def minutes_inside(self) -> float:
        """Time inside activities the model knows."""
        known = [(s.truth.stop_ns - s.truth.start_ns)[s.truth.label != NONE].sum() for s in self.sessions]
        return float(sum(known)) / 60e9

    @property
    def true_changes(self) -> int:
        return len(self.published.delays)

    @property
    def doubt(self) -> dict[str, tuple[int, int]]:
        """For each of PLACES (windows, how many of them are published as UNKNOWN)."""
        return {
            place: (sum(s.doubt[place][0] for s in self.sessions), sum(s.doubt[place][1] for s in self.sessions))
            for place in PLACES
        }

    def to_dict(self) -> dict[str, Any]:
        """The ``stream`` section of ``harstream evaluate --json``; rates are per minute."""
        return {
            "sessions": len(self.sessions),
            "minutes": self.minutes,
            "minutes_inside": self.minutes_inside,
            "window_s": self.window_s,
            "true_changes": self.true_changes,
            "true_changes_per_minute": _per(self.true_changes, self.minutes),
            "unknown": {
                place: {"windows": windows, "unknown": unknown, "share": _per(unknown, windows)}
                for place, (windows, unknown) in self.doubt.items()
            },
            "published": self._outcome(self.published),
            "single_windows": self._outcome(self.single),
        }

    def _outcome(self, outcome: Outcome) -> dict[str, Any]:
        delay = {"median": outcome.delay_s(50), "p95": outcome.delay_s(95)}
        return {
            "accuracy": outcome.metrics.accuracy,
            "macro_f1": outcome.metrics.macro_f1,
            "calibration_error": outcome.reliability.error,
            "changes_per_minute": _per(outcome.changes, self.minutes),
            "flips_per_minute": _per(outcome.flips, self.minutes_inside),
            "delay_s": delay,
            "delay_beyond_window_s": {k: None if v is None else v - self.window_s for k, v in delay.items()},
            "missed_changes": outcome.missed,
            "events": {
                "all": outcome.all_events.to_dict(),
                **{label: one.to_dict() for label, one in zip(self.labels, outcome.events, strict=True)},
            },
        }


def evaluate(recordings: Sequence[Recording], classifier: Classifier) -> Streaming:
    """Stream whole recordings through engine, network and smoother, and compare with their labels."""
    bundle = classifier.bundle
    sessions = []
    for recording in recordings:
        said = published.stream(recording, classifier)
        at = said.windows.start_ns, said.windows.end_ns
        sessions.append(session_of(recording, bundle.labels, bundle.spec, *at, said.predictions, said.beliefs))
    return together(sessions, bundle.labels, bundle.spec)


def together(sessions: Sequence[Session], labels: tuple[str, ...], spec: SignalSpec) -> Streaming:
    """The figures of all ``sessions``, at least one."""
    label, believed, confidence, guessed, sureness = (
        np.concatenate([getattr(session, name) for session in sessions])
        for name in ("label", "believed", "confidence", "guessed", "sureness")
    )
    said = believed != NONE
    window_ns = round(spec.window_samples * spec.period_ns)
    return Streaming(
        labels,
        window_ns / 1e9,
        tuple(sessions),
        _outcome(
            [(session.truth, session.published) for session in sessions],
            window_ns,
            score(label, believed, labels, abstains=True),
            reliability(confidence[said], believed[said] == label[said]),
        ),
        _outcome(
            [(session.truth, session.single) for session in sessions],
            window_ns,
            score(label, guessed, labels),
            reliability(sureness, guessed == label),
        ),
    )


def session_of(
    recording: Recording,
    labels: Sequence[str],
    spec: SignalSpec,
    start_ns: Int64,
    end_ns: Int64,
    predictions: Predictions,
    beliefs: SmoothedLabels,
) -> Session:
    """A recording that begins at event time 0, and what was said of its due windows, aligned with their times."""
    truth = truth_of(recording, labels)
    label, other = places(truth, start_ns, end_ns, recording.rate_hz)
    inside, unknown = label != NONE, beliefs.label == NONE
    where = {
        "inside": inside,
        "partly_other": ~inside & (other > 0) & (other < 0.5),
        "mostly_other": ~inside & (other >= 0.5),
        "elsewhere": ~inside & (other == 0),
    }
    duration_ns = round(len(recording.samples) * 1e9 / recording.rate_hz)
    return Session(
        recording.name,
        recording.subject,
        duration_ns,
        truth,
        tuple(segment.label for segment in recording.segments),
        in_force(end_ns, beliefs.label, duration_ns, spec),
        in_force(end_ns, predictions.label, duration_ns, spec),
        label[inside],
        beliefs.label[inside],
        beliefs.confidence[inside].astype(np.float64),
        predictions.label[inside],
        predictions.confidence[inside].astype(np.float64),
        {place: (int(mask.sum()), int((mask & unknown).sum())) for place, mask in where.items()},
    )


def truth_of(recording: Recording, labels: Sequence[str]) -> Track:
    """The labelled stretches of a recording that begins at event time 0."""
    period_ns = 1e9 / recording.rate_hz
    return Track(
        np.array([round(segment.start * period_ns) for segment in recording.segments], np.int64),
        np.array([round(segment.stop * period_ns) for segment in recording.segments], np.int64),
        np.array([labels.index(s.label) if s.label in labels else NONE for s in recording.segments], np.int64),
    )


def places(truth: Track, start_ns: Int64, end_ns: Int64, rate_hz: float) -> tuple[Int64, Float64]:
    """Where windows lie: (n_windows,) the label of the one known stretch each is wholly inside of, else NONE,
    and (n_windows,) the share of each that overlaps stretches of labels the model does not know.

    Inside by the rule training cuts by: to half a sample of the recording.
    """
    stretches = list(zip(truth.start_ns.tolist(), truth.stop_ns.tolist(), truth.label.tolist(), strict=True))
    label = inside((one for one in stretches if one[2] != NONE), start_ns, end_ns, 0.5e9 / rate_hz)
    other = np.zeros(len(start_ns))
    for start, stop, index in stretches:
        if index == NONE:
            other += np.clip(np.minimum(end_ns, stop) - np.maximum(start_ns, start), 0, None)
    return label, other / np.maximum(end_ns - start_ns, 1)


def in_force(end_ns: Int64, label: Int64, duration_ns: int, spec: SignalSpec) -> Track:
    """What a subscriber sees: a label stands from the end of its window until the next comes."""
    last = end_ns[-1:] + round(spec.stride_samples * spec.period_ns)
    return Track(end_ns, np.r_[end_ns[1:], np.maximum(last, duration_ns)].astype(np.int64), label.astype(np.int64))


def _outcome(sessions: Sequence[tuple[Track, Track]], window_ns: int, metrics: Metrics, bins: Reliability) -> Outcome:
    n_labels = len(metrics.labels)
    total = [Events()] * n_labels
    for truth, said in sessions:
        total = [one + more for one, more in zip(total, events(truth, said, n_labels, window_ns), strict=True)]
    return Outcome(
        metrics,
        bins,
        tuple(total),
        sum(int((said.label[1:] != said.label[:-1]).sum()) for _, said in sessions),
        sum(flips(truth, said) for truth, said in sessions),
        tuple(change for truth, said in sessions for change in delays(truth, said)),
    )


def flips(truth: Track, said: Track) -> int:
    """How often the label changed inside one activity, beyond the one change by which the right label arrives."""
    count = 0
    for start, stop, label in zip(truth.start_ns, truth.stop_ns, truth.label, strict=True):
        if label == NONE:
            continue
        seen = said.label[_during(said, start, stop)]
        changes = int((seen[1:] != seen[:-1]).sum())
        arrived = len(seen) > 0 and seen[0] != label and bool((seen == label).any())
        count += changes - int(arrived)
    return count


def delays(truth: Track, said: Track) -> list[Change]:
    """Every change from one known activity to another, in order of time.

    The change is where the new activity's labelled stretch begins, however long what lies before it.
    """
    known = np.flatnonzero(truth.label != NONE)
    changes = []
    for before, after in pairwise(known):
        label = int(truth.label[after])
        if label == truth.label[before]:
            continue
        start, stop = int(truth.start_ns[after]), int(truth.stop_ns[after])
        right = np.flatnonzero(_during(said, start, stop) & (said.label == label))
        delay_s = max(int(said.start_ns[right[0]]) - start, 0) / 1e9 if len(right) else None
        changes.append(Change(label, delay_s))
    return changes


def _during(track: Track, start_ns: int, stop_ns: int) -> Bool:
    """(n_stretches,) those that hold at some time from ``start_ns`` on and before ``stop_ns``."""
    return (track.stop_ns > start_ns) & (track.start_ns < stop_ns)


def _per(count: float, of: float) -> float:
    return count / of if of else 0.0
