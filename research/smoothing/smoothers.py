"""Smoothers compared: each type's best parameters, chosen on some subjects and counted on others."""

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
from harstream.core.smoothing import SmoothedLabels, Smoother, Smoothing
from harstream.core.spec import SignalSpec
from harstream.evaluate import sessions as streaming
from harstream.evaluate.sessions import Session
from harstream.progress import Progress, silent
from research.smoothing import results as stream_results
from research.smoothing.streams import Stream

#: The most that choosing allows: UNKNOWN in windows wholly inside an activity, and strides of added median delay.
MAX_UNKNOWN_INSIDE, MAX_DELAY_STRIDES = 0.01, 1.0
#: The subjects are halved so many times.
SPLITS = 5


@dataclass(frozen=True, slots=True)
class Tally:
    """What choosing needs to know of one session."""

    inside: int  # windows wholly inside an activity
    right: int  # of them; UNKNOWN is wrong
    unknown: int  # of them
    other: int  # windows mostly inside something that was never taught
    unknown_other: int  # of them
    delays_s: tuple[float, ...]  # of the changes whose label came

    @classmethod
    def of(cls, session: Session) -> Tally:
        inside, unknown = session.abstained["inside"]
        changes = streaming.measure_delays(session.truth, session.published)
        return cls(
            inside,
            int((session.published_label == session.true_label).sum()),
            unknown,
            *session.abstained["mostly_other"],
            tuple(change.delay_s for change in changes if change.delay_s is not None),
        )


class SubjectStreams:
    """The streams of one run, to be smoothed one way or another."""

    def __init__(self, held_out: Sequence[Stream], labels: tuple[str, ...], spec: SignalSpec) -> None:
        self.streams, self.labels, self.spec = tuple(held_out), labels, spec
        self.stride_s = spec.stride_samples / spec.sample_rate_hz

    def smooth(
        self, smoothing: Smoothing, said: Sequence[Predictions] = ()
    ) -> tuple[list[SmoothedLabels], dict[str, list[ActivityEvent]]]:
        """What is believed of each stream, and its events by name: all worn at once, as so many devices.

        ``said`` stand in for the streams' own predictions.
        """
        smoother = Smoother(smoothing, len(self.labels), self.stride_s)
        names = [stream.recording.name for stream in self.streams]
        lengths = [len(stream.start_ns) for stream in self.streams]
        believed, events = smoother.feed(
            np.repeat(names, lengths).tolist(),
            np.concatenate([one.probabilities for one in said or [stream.predictions for stream in self.streams]]),
            np.concatenate([stream.start_ns for stream in self.streams]),
            np.concatenate([stream.end_ns for stream in self.streams]),
        )
        by_name: dict[str, list[ActivityEvent]] = {name: [] for name in names}
        for event in [*events, *smoother.evict(names)]:
            by_name[event.device].append(event)
        at = np.cumsum(lengths)[:-1]
        parts = zip(np.split(believed.label, at), np.split(believed.confidence, at), strict=True)
        return [SmoothedLabels(label, confidence) for label, confidence in parts], by_name

    def sessions(self, smoothing: Smoothing) -> list[Session]:
        """The streams as they would be published."""
        beliefs, _ = self.smooth(smoothing)
        return [self._session(stream, said) for stream, said in zip(self.streams, beliefs, strict=True)]

    def held_back(self, smoothing: Smoothing) -> tuple[list[Session], list[Session]]:
        """The same by what events say of each window, as if it were known at once, and at the time it is known."""
        beliefs, events = self.smooth(smoothing)
        held_ns = round(smoothing.fixed_lag_windows * self.stride_s * 1e9)
        sessions, late = [], []
        for stream, said in zip(self.streams, beliefs, strict=True):
            label = told(stream, events[stream.recording.name])
            sessions.append(self._session(stream, SmoothedLabels(label, said.confidence)))
            track = streaming.label_track(stream.end_ns + held_ns, label, sessions[-1].duration_ns, self.spec)
            late.append(replace(sessions[-1], published=track))
        return sessions, late

    def section(self, sessions: Sequence[Session]) -> dict[str, Any]:
        """The ``stream`` section that ``harstream evaluate --stream --json`` would write of them."""
        return streaming.summarise(sessions, self.labels, self.spec).to_dict()

    def _session(self, stream: Stream, said: SmoothedLabels) -> Session:
        at = stream.start_ns, stream.end_ns
        return streaming.build_session(stream.recording, self.labels, self.spec, *at, stream.predictions, said)


def told(stream: Stream, events: Sequence[ActivityEvent]) -> Int64:
    """(n_windows,) the label that the events give the middle of every window: of a fixed lag, the last word on it."""
    middle = stream.start_ns + (stream.end_ns - stream.start_ns) // 2
    out = np.full(len(middle), UNKNOWN_INDEX, np.int64)
    for event in events:
        out[middle >= event.t_ns] = event.label if event.kind == ENTER else UNKNOWN_INDEX
    return out


# --- choosing and comparing ---------------------------------------------------------------------------


def candidates(kind: str) -> Iterator[Smoothing]:
    """Every definition of a type that is tried, without abstaining."""
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
    """The same with every threshold that is tried."""
    for threshold in (0.4, 0.5, 0.6, 0.7, 0.8, 0.9):
        for dwell_s in (1.0, 1.5, 2.5, 5.0) if smoothing.type == "hmm" else (smoothing.unknown_dwell_s,):
            yield replace(smoothing, unknown_below=threshold, unknown_dwell_s=dwell_s)


def choose(
    tallies: Mapping[Smoothing, Sequence[Tally]], own: Sequence[Tally], which: Sequence[int], stride_s: float
) -> Smoothing:
    """The best of the definitions in ``tallies``, on the sessions ``which``; ``own`` are of the windows' own labels.

    Of those that never abstain, the most accurate that adds no more than MAX_DELAY_STRIDES to the median delay of the
    windows' own labels. Of those that do and are as quick, abstain in at most MAX_UNKNOWN_INSIDE of the windows
    inside activities and are as accurate as the windows' own labels, the one that abstains most often in what was
    never taught; where there is none, the most accurate.
    """

    def summed(counts: Sequence[Tally]) -> tuple[float, float, float, float]:
        """Accuracy, the shares of UNKNOWN inside activities and in what was never taught, the median delay."""
        chosen = [counts[index] for index in which]
        n_inside, n_other = sum(one.inside for one in chosen), sum(one.other for one in chosen)
        delays = [delay for one in chosen for delay in one.delays_s]
        return (
            sum(one.right for one in chosen) / max(n_inside, 1),
            sum(one.unknown for one in chosen) / max(n_inside, 1),
            sum(one.unknown_other for one in chosen) / max(n_other, 1),
            float(np.median(delays)) if delays else np.inf,
        )

    least, _, _, own_delay_s = summed(own)

    def merit(smoothing: Smoothing) -> tuple[bool, float]:
        accuracy, unknown, unknown_other, delay_s = summed(tallies[smoothing])
        quick = delay_s <= own_delay_s + MAX_DELAY_STRIDES * stride_s
        if not smoothing.unknown_below:
            return quick, accuracy
        allowed = quick and unknown <= MAX_UNKNOWN_INSIDE and accuracy >= least
        return allowed, unknown_other if allowed else accuracy

    return max(tallies, key=merit)


def halves(subjects: Sequence[str], seed: int) -> tuple[list[int], list[int]]:
    """The sessions of one half of the subjects, drawn at random, and those of the other; ``subjects`` by session."""
    names = sorted(set(subjects))
    chosen = set(np.random.default_rng(seed).permutation(names)[: len(names) // 2].tolist())
    first = [index for index, subject in enumerate(subjects) if subject in chosen]
    return first, [index for index, subject in enumerate(subjects) if subject not in chosen]


def compare(streams: SubjectStreams, kind: str, doubting: bool, progress: Progress = silent) -> dict[str, Any]:
    """A row of the results: the type's best, chosen on one half of the subjects for the other, mean of SPLITS."""
    tried = [one for certain in candidates(kind) for one in (abstaining(certain) if doubting else (certain,))]
    tallies = {}
    for number, smoothing in enumerate(tried):
        progress(f"{kind}, {'abstaining' if doubting else 'certain'}", number, len(tried))
        tallies[smoothing] = [Tally.of(session) for session in streams.sessions(smoothing)]
    own = [Tally.of(session) for session in streams.sessions(Smoothing())]
    subjects = [stream.recording.subject for stream in streams.streams]
    chosen: list[Smoothing] = []
    made: dict[Smoothing, list[Session]] = {}
    figures = []
    for split in range(SPLITS):
        two = halves(subjects, split)
        sessions: dict[int, Session] = {}
        for chosen_on, scored_on in (two, two[::-1]):
            best = choose(tallies, own, chosen_on, streams.stride_s)
            chosen.append(best)
            if best not in made:
                made[best] = streams.sessions(best)
            sessions |= {index: made[best][index] for index in scored_on}
        figures.append(stream_results.figures(streams.section([sessions[index] for index in sorted(sessions)])))
    return {
        "name": f"{kind}, abstaining" if doubting else kind,
        "chosen": [{"smoothing": one.to_dict(), "times": n} for one, n in Counter(chosen).most_common()],
        "figures": stream_results.mean(figures),
    }
