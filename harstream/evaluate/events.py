"""Event analysis: counts of activities that were labelled correctly, and of the kinds of errors in the others.

Method: Ward, Lukowicz and Gellersen (2011), "Performance metrics for activity recognition", ACM Transactions on
Intelligent Systems and Technology 2(1). An event is an interval of time with one label, as long as possible. Each label
is compared with all others together, on pieces of time in which neither the true nor the published label changes.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from harstream.core.batches import Bool, Int64

#: Label index in a track of the truth where no label is known: the time is unlabelled, or labelled with an activity
#: that the model does not know. In a track of published labels -1 is UNKNOWN_INDEX: the model abstains.
#: Both are -1 because neither is an index into the labels.
NO_LABEL = -1


@dataclass(frozen=True, slots=True)
class Track:
    """Labels over time: intervals in order of time that do not overlap. There is no label between them."""

    start_ns: Int64  # (n_intervals,)
    stop_ns: Int64  # (n_intervals,) exclusive
    label: Int64  # (n_intervals,) index into the labels; NO_LABEL (truth) or UNKNOWN_INDEX (published)

    def __post_init__(self) -> None:
        if not len(self.start_ns) == len(self.stop_ns) == len(self.label):
            raise ValueError(
                f"expected arrays of one length, got {len(self.start_ns)} starts, {len(self.stop_ns)} stops, "
                f"{len(self.label)} labels"
            )
        if (self.stop_ns < self.start_ns).any() or (self.start_ns[1:] < self.stop_ns[:-1]).any():
            raise ValueError("the intervals of a track must be in order of time and must not overlap")

    def __len__(self) -> int:
        return len(self.label)

    def labels_at(self, t_ns: Int64) -> Int64:
        """Return the label at each of the times, (n_times,); NO_LABEL between intervals."""
        if not len(self):
            return np.full(len(t_ns), NO_LABEL, np.int64)
        index = np.searchsorted(self.start_ns, t_ns, side="right") - 1
        holds = (index >= 0) & (t_ns < self.stop_ns[index])
        return np.where(holds, self.label[index], NO_LABEL)

    def join_touching(self) -> Track:
        """Return the track with intervals that touch and have the same label joined to one."""
        if not len(self):
            return self
        begins = np.r_[True, (self.label[1:] != self.label[:-1]) | (self.start_ns[1:] != self.stop_ns[:-1])]
        first = np.flatnonzero(begins)
        return Track(self.start_ns[first], self.stop_ns[np.r_[first[1:], len(self)] - 1], self.label[first])


@dataclass(frozen=True, slots=True)
class EventCounts:
    """Number of events of one label by kind.

    The first five kinds are of true events, the last five of published events; ``correct`` belongs to both.
    """

    deleted: int = 0  # true: nowhere published
    fragmented: int = 0  # true: published as several events
    fragmented_and_merged: int = 0  # true: fragmented and merged at once
    merged: int = 0  # true: published as one event together with other true ones
    correct: int = 0  # one true event that is one published event
    merging: int = 0  # published: covers several true events
    fragmenting_and_merging: int = 0  # published: fragmenting and merging at once
    fragmenting: int = 0  # published: one of several parts of one true event
    inserted: int = 0  # published: nowhere true
    undecided: int = 0  # published: nowhere true, but its windows reach into time of unknown truth; not in the paper

    @property
    def true(self) -> int:
        """Number of true events."""
        return self.deleted + self.fragmented + self.fragmented_and_merged + self.merged + self.correct

    @property
    def published(self) -> int:
        """Number of published events, without the undecided ones."""
        return self.correct + self.merging + self.fragmenting_and_merging + self.fragmenting + self.inserted

    def __add__(self, other: EventCounts) -> EventCounts:
        return EventCounts(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(EventCounts)))

    def to_dict(self) -> dict[str, int]:
        """Return the counts as a section of ``harstream evaluate --json``."""
        return {"true": self.true, "published": self.published, **{f.name: getattr(self, f.name) for f in fields(self)}}


def score_events(truth: Track, published: Track, n_labels: int, window_ns: int = 0) -> tuple[EventCounts, ...]:
    """Return the event counts of each label, (n_labels,).

    The paper assumes that the truth is known at all times. Here, time without a known true label is cut out of both
    tracks, so labels published in it count neither as right nor as wrong. Cut-out time between two intervals of one
    activity separates events in both tracks, because nobody knows whether the activity paused. A published event
    that is nowhere true is ``undecided`` instead of inserted if none of its windows lies wholly in time of known truth.

    Args:
        truth: True labels.
        published: Published labels, one interval per published label, starting at the end of its window.
        n_labels: Number of labels.
        window_ns: Duration of a window.

    """
    times = np.unique(np.concatenate([truth.start_ns, truth.stop_ns, published.start_ns, published.stop_ns]))
    true_label, published_label = truth.labels_at(times[:-1]), published.labels_at(times[:-1])
    kept = np.flatnonzero(true_label != NO_LABEL)
    true_label, published_label = true_label[kept], published_label[kept]
    separated = np.zeros(len(kept), bool)
    separated[1:] = (np.diff(kept) > 1) & (true_label[1:] == true_label[:-1])
    clear = Track(
        published.start_ns, published.stop_ns, _truth_is_known(truth, published.start_ns, window_ns).astype(np.int64)
    )
    decided = clear.labels_at(times[:-1])[kept] == 1
    return tuple(
        _count_events(true_label == label, published_label == label, separated, decided) for label in range(n_labels)
    )


def _truth_is_known(truth: Track, end_ns: Int64, window_ns: int) -> Bool:
    """Return True for each window, (n_windows,), of which at least 99 % has a known true label."""
    known = truth.label != NO_LABEL
    start, stop = truth.start_ns[known], truth.stop_ns[known]
    before = np.r_[0, np.cumsum(stop - start)]

    def known_until(t_ns: Int64) -> Int64:
        index = np.searchsorted(start, t_ns, side="right")
        beyond = np.where(index > 0, stop[index - 1] - np.minimum(t_ns, stop[index - 1]), 0) if len(start) else 0
        return np.asarray(before[index] - beyond, np.int64)

    return np.asarray(known_until(end_ns) - known_until(end_ns - window_ns) >= 0.99 * window_ns)


def _count_events(true: Bool, published: Bool, separated: Bool, decided: Bool) -> EventCounts:
    """Count the events of one label; all arrays are (n_pieces,).

    Args:
        true: The label is the true one.
        published: The label is the published one.
        separated: A new event begins with this piece, whatever the label before it.
        decided: The window of the published label lies in time of known truth.

    """
    # Two events belong together if they share a piece. The kind of an event follows from how many it shares with.
    true_event, published_event = _number_runs(true, separated), _number_runs(published, separated)
    both = true & published
    pairs = np.unique(np.stack([true_event[both], published_event[both]], axis=1), axis=0)
    per_true = np.bincount(pairs[:, 0], minlength=int(true_event.max(initial=-1)) + 1)
    per_published = np.bincount(pairs[:, 1], minlength=int(published_event.max(initial=-1)) + 1)
    merged = np.zeros(len(per_true), bool)
    merged[pairs[per_published[pairs[:, 1]] > 1, 0]] = True
    fragmenting = np.zeros(len(per_published), bool)
    fragmenting[pairs[per_true[pairs[:, 0]] > 1, 1]] = True
    event_decided = np.zeros(len(per_published), bool)
    event_decided[published_event[published & decided]] = True
    fragmented, merging, nowhere_true = per_true > 1, per_published > 1, per_published == 0
    return EventCounts(
        deleted=int((per_true == 0).sum()),
        fragmented=int((fragmented & ~merged).sum()),
        fragmented_and_merged=int((fragmented & merged).sum()),
        merged=int((~fragmented & merged).sum()),
        correct=int(((per_true == 1) & ~merged).sum()),
        merging=int((merging & ~fragmenting).sum()),
        fragmenting_and_merging=int((merging & fragmenting).sum()),
        fragmenting=int((~merging & fragmenting).sum()),
        inserted=int((nowhere_true & event_decided).sum()),
        undecided=int((nowhere_true & ~event_decided).sum()),
    )


def _number_runs(mask: Bool, separated: Bool) -> Int64:
    """Return the number of the run of True that each piece belongs to, (n_pieces,), from 0; -1 outside runs."""
    begins = mask & (~np.r_[False, mask[:-1]] | separated)
    return np.where(mask, np.cumsum(begins) - 1, -1)
