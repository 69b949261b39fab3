"""Activities as events: which were found, and how the others went wrong.

The event analysis of Ward, Lukowicz and Gellersen (2011), "Performance metrics for activity recognition",
ACM Transactions on Intelligent Systems and Technology 2(1): each label against all the rest, on segments
in which neither truth nor prediction changes. An event is a longest stretch of one label.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from harstream.core.batches import Bool, Int64

#: In a track: something that is not one of the labels, or that nothing is said.
NONE = -1


@dataclass(frozen=True, slots=True)
class Track:
    """What holds when: stretches in order of time that do not overlap; between them nothing is said."""

    start_ns: Int64  # (n_stretches,)
    stop_ns: Int64  # (n_stretches,) exclusive
    label: Int64  # (n_stretches,) index into the labels, or NONE

    def __post_init__(self) -> None:
        if not len(self.start_ns) == len(self.stop_ns) == len(self.label):
            raise ValueError(f"{len(self.start_ns)} starts, {len(self.stop_ns)} stops, {len(self.label)} labels")
        if (self.stop_ns < self.start_ns).any() or (self.start_ns[1:] < self.stop_ns[:-1]).any():
            raise ValueError("the stretches of a track must be in order of time and not overlap")

    def __len__(self) -> int:
        return len(self.label)

    def at(self, t_ns: Int64) -> Int64:
        """(n,) the label that holds at each of the times."""
        if not len(self):
            return np.full(len(t_ns), NONE, np.int64)
        index = np.searchsorted(self.start_ns, t_ns, side="right") - 1
        holds = (index >= 0) & (t_ns < self.stop_ns[index])
        return np.where(holds, self.label[index], NONE)

    def runs(self) -> Track:
        """The same with stretches of one label that touch as one."""
        if not len(self):
            return self
        begins = np.r_[True, (self.label[1:] != self.label[:-1]) | (self.start_ns[1:] != self.stop_ns[:-1])]
        first = np.flatnonzero(begins)
        return Track(self.start_ns[first], self.stop_ns[np.r_[first[1:], len(self)] - 1], self.label[first])


@dataclass(frozen=True, slots=True)
class Events:
    """The events of one label: first those of the truth, ``correct`` those of both, then the published ones."""

    deleted: int = 0  # nowhere published
    fragmented: int = 0  # published as several events
    fragmented_and_merged: int = 0
    merged: int = 0  # published as one event together with others of the truth
    correct: int = 0  # one event of the truth, one published
    merging: int = 0  # published: covers several of the truth
    fragmenting_and_merging: int = 0
    fragmenting: int = 0  # published: one of several that one of the truth was broken into
    inserted: int = 0  # published: nowhere true
    undecided: int = 0  # published, nowhere true, of windows that reach where the truth is not known; not in the paper

    @property
    def true(self) -> int:
        """The events of the truth."""
        return self.deleted + self.fragmented + self.fragmented_and_merged + self.merged + self.correct

    @property
    def published(self) -> int:
        return self.correct + self.merging + self.fragmenting_and_merging + self.fragmenting + self.inserted

    def __add__(self, other: Events) -> Events:
        return Events(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(Events)))

    def to_dict(self) -> dict[str, int]:
        return {"true": self.true, "published": self.published, **{f.name: getattr(self, f.name) for f in fields(self)}}


def events(truth: Track, published: Track, n_labels: int, window_ns: int = 0) -> tuple[Events, ...]:
    """The events of each label.

    ``published`` has a stretch for every label published, and each label tells of the ``window_ns`` before it.

    The paper knows the truth of all time. Here time in which it is none of the labels, or not known, is cut out of
    both tracks. What is published there counts neither way, and where none of an event's windows lies wholly in
    known time it is not inserted but ``undecided``. Between two stretches of one activity such time parts both
    tracks: whether the activity paused cannot be known.
    """
    times = np.unique(np.concatenate([truth.start_ns, truth.stop_ns, published.start_ns, published.stop_ns]))
    true, said = truth.at(times[:-1]), published.at(times[:-1])
    kept = np.flatnonzero(true != NONE)
    true, said = true[kept], said[kept]
    parted = np.zeros(len(kept), bool)
    parted[1:] = (np.diff(kept) > 1) & (true[1:] == true[:-1])
    clear = Track(published.start_ns, published.stop_ns, _clear(truth, published.start_ns, window_ns).astype(np.int64))
    decided = clear.at(times[:-1])[kept] == 1
    return tuple(_events(true == label, said == label, parted, decided) for label in range(n_labels))


def _clear(truth: Track, end_ns: Int64, window_ns: int) -> Bool:
    """(n_windows,) whether the truth is known, but for a hundredth, of the whole window that ends then."""
    known = truth.label != NONE
    start, stop = truth.start_ns[known], truth.stop_ns[known]
    before = np.r_[0, np.cumsum(stop - start)]

    def known_until(t_ns: Int64) -> Int64:
        index = np.searchsorted(start, t_ns, side="right")
        beyond = np.where(index > 0, stop[index - 1] - np.minimum(t_ns, stop[index - 1]), 0) if len(start) else 0
        return np.asarray(before[index] - beyond, np.int64)

    return np.asarray(known_until(end_ns) - known_until(end_ns - window_ns) >= 0.99 * window_ns)


def _events(true: Bool, said: Bool, parted: Bool, decided: Bool) -> Events:
    """Of one label, given for every segment whether it is true, whether published, and whether a new event begins
    there in any case; ``decided`` are those whose published label tells of known time.
    """
    # Two events belong together where they share a segment; what they are follows from how many they share with.
    true_event, said_event = _number(true, parted), _number(said, parted)
    both = true & said
    pairs = np.unique(np.stack([true_event[both], said_event[both]], axis=1), axis=0)
    of_true = np.bincount(pairs[:, 0], minlength=int(true_event.max(initial=-1)) + 1)  # published events in each
    of_said = np.bincount(pairs[:, 1], minlength=int(said_event.max(initial=-1)) + 1)
    merged, fragmenting, meant = (np.zeros(n, bool) for n in (len(of_true), len(of_said), len(of_said)))
    merged[pairs[of_said[pairs[:, 1]] > 1, 0]] = True
    fragmenting[pairs[of_true[pairs[:, 0]] > 1, 1]] = True
    meant[said_event[said & decided]] = True
    fragmented, merging, nowhere = of_true > 1, of_said > 1, of_said == 0
    return Events(
        deleted=int((of_true == 0).sum()),
        fragmented=int((fragmented & ~merged).sum()),
        fragmented_and_merged=int((fragmented & merged).sum()),
        merged=int((~fragmented & merged).sum()),
        correct=int(((of_true == 1) & ~merged).sum()),
        merging=int((merging & ~fragmenting).sum()),
        fragmenting_and_merging=int((merging & fragmenting).sum()),
        fragmenting=int((~merging & fragmenting).sum()),
        inserted=int((nowhere & meant).sum()),
        undecided=int((nowhere & ~meant).sum()),
    )


def _number(mask: Bool, parted: Bool) -> Int64:
    """(n,) for every segment of a run of True the number of the run, counted from 0; -1 elsewhere."""
    begins = mask & (~np.r_[False, mask[:-1]] | parted)
    return np.where(mask, np.cumsum(begins) - 1, -1)
