"""Comparison of smoothers: the parameters of each type are chosen on some subjects and scored on others."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from harstream.core.batches import Int64, Predictions
from harstream.core.events import ENTER, ActivityEvent
from harstream.core.labels import UNKNOWN_INDEX
from harstream.core.smoothing import SmoothedLabels, Smoother
from harstream.core.smoothing_section import Smoothing
from harstream.core.spec import SignalSpec
from harstream.evaluate.sessions import Session, build_session, label_track, measure_delays, summarise
from harstream.progress import Progress, silent
from research.smoothing import results
from research.smoothing.streams import HeldOutStream
from research.windows import without_samples

#: Limits of the choice: share of UNKNOWN in windows inside an activity, and strides of additional median delay.
MAX_UNKNOWN_INSIDE, MAX_DELAY_STRIDES = 0.01, 1.0
#: Number of random splits of the subjects into halves.
SPLITS = 5


@dataclass(frozen=True, slots=True)
class SessionCounts:
    """Counts of one session from which parameters are chosen."""

    inside: int  # windows wholly inside an activity
    right: int  # windows inside an activity whose published label is right; UNKNOWN is wrong
    unknown: int  # windows inside an activity that are published as UNKNOWN
    other: int  # windows mostly inside a segment whose label the network does not know
    unknown_other: int  # of these, windows that are published as UNKNOWN
    delays_s: tuple[float, ...]  # delay of each change of activity whose label was published

    @classmethod
    def of(cls, session: Session) -> SessionCounts:
        """Count one session."""
        inside, unknown = session.abstained["inside"]
        changes = measure_delays(session.truth, session.published)
        return cls(
            inside,
            int((session.published_label == session.true_label).sum()),
            unknown,
            *session.abstained["mostly_other"],
            tuple(change.delay_s for change in changes if change.delay_s is not None),
        )


class SubjectStreams:
    """Held-out streams of one run, which any smoothing can be applied to."""

    def __init__(self, streams: Sequence[HeldOutStream], labels: tuple[str, ...], spec: SignalSpec) -> None:
        self.streams, self.labels, self.spec = tuple(streams), labels, spec
        self.stride_s = spec.stride_samples / spec.sample_rate_hz

    def smooth(
        self, smoothing: Smoothing | Sequence[Smoothing], predictions: Sequence[Predictions] = ()
    ) -> tuple[list[SmoothedLabels], dict[str, list[ActivityEvent]]]:
        """Return the smoothed labels of each stream, and the events by name of the recording.

        Args:
            smoothing: Of all streams, or of each. Streams with the same one are smoothed together, as those of as many
                devices.
            predictions: Of each stream, in place of its own.

        """
        each = self._each(smoothing)
        predictions = predictions or [stream.predictions for stream in self.streams]
        labels: dict[int, SmoothedLabels] = {}
        by_name: dict[str, list[ActivityEvent]] = {stream.recording.name: [] for stream in self.streams}
        for one in dict.fromkeys(each):
            index = [i for i, other in enumerate(each) if other == one]
            streams = [self.streams[i] for i in index]
            predicted = Predictions.concatenate([predictions[i] for i in index])
            n_states = predicted.probabilities.shape[1] - len(self.labels)
            smoother = Smoother(one, len(self.labels), self.stride_s, n_states)
            names = [stream.recording.name for stream in streams]
            lengths = [len(stream.start_ns) for stream in streams]
            windows = without_samples(
                np.repeat(names, lengths).tolist(),
                np.concatenate([stream.start_ns for stream in streams]),
                np.concatenate([stream.end_ns for stream in streams]),
                self.spec,
            )
            labelled = smoother.label(windows, predicted)
            smoothed = labelled.smoothed
            for event in [*labelled.events, *smoother.evict(names)]:
                by_name[event.device].append(event)
            at = np.cumsum(lengths)[:-1]
            parts = zip(np.split(smoothed.label, at), np.split(smoothed.confidence, at), strict=True)
            labels |= {i: SmoothedLabels(*part) for i, part in zip(index, parts, strict=True)}
        return [labels[i] for i in range(len(self.streams))], by_name

    def sessions(self, smoothing: Smoothing | Sequence[Smoothing]) -> list[Session]:
        """Return the streams as sessions with the labels that would be published."""
        smoothed, _ = self.smooth(smoothing)
        return [self._session(stream, labels) for stream, labels in zip(self.streams, smoothed, strict=True)]

    def held_back(self, smoothing: Smoothing | Sequence[Smoothing]) -> tuple[list[Session], list[Session]]:
        """Return the streams as sessions with the labels that events give, which wait for the fixed lag.

        The first list has each label at the end of its window, the second at the time at which it is known.
        """
        smoothed, events = self.smooth(smoothing)
        at_window_end, when_known = [], []
        for stream, labels, one in zip(self.streams, smoothed, self._each(smoothing), strict=True):
            lag_ns = round(one.fixed_lag_windows * self.stride_s * 1e9)
            label = labels_of_events(stream, events[stream.recording.name], len(self.labels))
            session = self._session(stream, SmoothedLabels(label, labels.confidence))
            track = label_track(stream.end_ns + lag_ns, label, session.duration_ns, self.spec)
            at_window_end.append(session)
            when_known.append(replace(session, published=track))
        return at_window_end, when_known

    def scores(self, sessions: Sequence[Session]) -> dict[str, Any]:
        """Return the scores of sessions, as the section ``stream`` of ``harstream evaluate --stream --json``."""
        return summarise(sessions, self.labels, self.spec).to_dict()

    def _each(self, smoothing: Smoothing | Sequence[Smoothing]) -> Sequence[Smoothing]:
        """Return the smoothing of each stream."""
        return [smoothing] * len(self.streams) if isinstance(smoothing, Smoothing) else smoothing

    def _session(self, stream: HeldOutStream, smoothed: SmoothedLabels) -> Session:
        times = stream.start_ns, stream.end_ns
        return build_session(stream.recording, self.labels, self.spec, *times, stream.predictions, smoothed)


def labels_of_events(stream: HeldOutStream, events: Sequence[ActivityEvent], n_labels: int) -> Int64:
    """Return the label (n_windows,) that events give to the middle of each window of a stream.

    It is UNKNOWN in a state between labels, whose index is ``n_labels`` or more.
    """
    middle = stream.start_ns + (stream.end_ns - stream.start_ns) // 2
    label = np.full(len(middle), UNKNOWN_INDEX, np.int64)
    for event in events:
        entered = event.kind == ENTER and event.label < n_labels
        label[middle >= event.t_ns] = event.label if entered else UNKNOWN_INDEX
    return label


# --- choice and comparison ----------------------------------------------------------------------------


def candidates(kind: str) -> Iterator[Smoothing]:
    """Yield the parameters of a type of smoothing that are tried, all without abstaining."""
    if kind == "none":
        yield Smoothing()
    elif kind == "exponential":
        for weight in (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8):
            yield Smoothing(kind, weight=weight)
    elif kind == "hysteresis":
        for margin, windows in itertools.product((0.0, 0.2, 0.4, 0.6, 0.8), (1, 2, 3)):
            yield Smoothing(kind, margin=margin, windows=windows)
    else:
        for dwell_s, trust in itertools.product((2.5, 5.0, 10.0, 20.0, 40.0), (0.35, 0.5, 0.7, 1.0)):
            yield Smoothing(kind, dwell_s=dwell_s, trust=trust)


def abstaining(smoothing: Smoothing) -> Iterator[Smoothing]:
    """Yield the smoothing with each threshold of abstaining that is tried."""
    for threshold in (0.4, 0.5, 0.6, 0.7, 0.8, 0.9):
        for dwell_s in (1.0, 1.5, 2.5, 5.0) if smoothing.type == "hmm" else (smoothing.unknown_dwell_s,):
            yield replace(smoothing, unknown_below=threshold, unknown_dwell_s=dwell_s)


def choose(
    counts: Mapping[Smoothing, Sequence[SessionCounts]],
    unsmoothed: Sequence[SessionCounts],
    which: Sequence[int],
    stride_s: float,
) -> Smoothing:
    """Return the best smoothing on some of the sessions.

    Both rules admit only smoothings whose median delay exceeds that of unsmoothed labels by at most MAX_DELAY_STRIDES.
    Of those that never abstain, the most accurate is the best. Of those that abstain, it is the one that abstains most
    often in activities that the network does not know; it must abstain in at most MAX_UNKNOWN_INSIDE of the windows
    inside known activities and be at least as accurate as unsmoothed labels. If none is admitted, it is the most
    accurate.

    Args:
        counts: Counts of all sessions under each smoothing.
        unsmoothed: Counts of all sessions with the network's own labels.
        which: Indices of the sessions to choose on.
        stride_s: Stride of the windows in s.

    """

    def totals(all_counts: Sequence[SessionCounts]) -> tuple[float, float, float, float]:
        """Return accuracy, share of UNKNOWN inside activities and in unknown ones, and median delay in s."""
        chosen = [all_counts[index] for index in which]
        n_inside, n_other = sum(one.inside for one in chosen), sum(one.other for one in chosen)
        delays = [delay for one in chosen for delay in one.delays_s]
        return (
            sum(one.right for one in chosen) / max(n_inside, 1),
            sum(one.unknown for one in chosen) / max(n_inside, 1),
            sum(one.unknown_other for one in chosen) / max(n_other, 1),
            float(np.median(delays)) if delays else np.inf,
        )

    least_accuracy, _, _, unsmoothed_delay_s = totals(unsmoothed)

    def merit(smoothing: Smoothing) -> tuple[bool, float]:
        accuracy, unknown, unknown_other, delay_s = totals(counts[smoothing])
        quick = delay_s <= unsmoothed_delay_s + MAX_DELAY_STRIDES * stride_s
        if not smoothing.unknown_below:
            return quick, accuracy
        admitted = quick and unknown <= MAX_UNKNOWN_INSIDE and accuracy >= least_accuracy
        return admitted, unknown_other if admitted else accuracy

    return max(counts, key=merit)


def halves(subjects: Sequence[str], seed: int) -> tuple[list[int], list[int]]:
    """Return the indices of the sessions of a random half of the subjects, and of the other half.

    ``subjects`` names the subject of each session.
    """
    names = sorted(set(subjects))
    chosen = set(np.random.default_rng(seed).permutation(names)[: len(names) // 2].tolist())
    first = [index for index, subject in enumerate(subjects) if subject in chosen]
    return first, [index for index, subject in enumerate(subjects) if subject not in chosen]


def compare(streams: SubjectStreams, kind: str, abstains: bool, progress: Progress = silent) -> dict[str, Any]:
    """Return a row of the results: a type of smoothing, chosen on half of the subjects and scored on the other half.

    Both halves are chosen on in turn, and the figures are the mean over SPLITS random splits.
    """
    tried = [one for candidate in candidates(kind) for one in (abstaining(candidate) if abstains else (candidate,))]
    counts = {}
    for number, smoothing in enumerate(tried):
        progress(f"{kind}, {'abstaining' if abstains else 'never UNKNOWN'}", number, len(tried))
        counts[smoothing] = [SessionCounts.of(session) for session in streams.sessions(smoothing)]
    unsmoothed = [SessionCounts.of(session) for session in streams.sessions(Smoothing())]
    subjects = [stream.recording.subject for stream in streams.streams]
    chosen: list[Smoothing] = []
    labelled: dict[Smoothing, list[Session]] = {}
    figures = []
    for split in range(SPLITS):
        two = halves(subjects, split)
        scored: dict[int, Session] = {}
        for chosen_on, scored_on in (two, two[::-1]):
            best = choose(counts, unsmoothed, chosen_on, streams.stride_s)
            chosen.append(best)
            if best not in labelled:
                labelled[best] = streams.sessions(best)
            scored |= {index: labelled[best][index] for index in scored_on}
        figures.append(results.figures(streams.scores([scored[index] for index in sorted(scored)])))
    return {
        "name": f"{kind}, abstaining" if abstains else kind,
        "chosen": [{"smoothing": one.to_dict(), "times": n} for one, n in Counter(chosen).most_common()],
        "figures": results.mean(figures),
    }
