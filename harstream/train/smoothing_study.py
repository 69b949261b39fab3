"""Which smoothing? The smoothers compared on whole sessions of wearers the network was not trained on.

    python -m harstream.train.smoothing_study PROBABILITIES.npz [--json FILE]

reads an archive of held-out probabilities of every due window (``load`` says what is in it), chooses each
type's parameters on one half of the wearers, and says what they do on the other half.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from harstream.core.batches import Bool, Float32, Float64, Int64
from harstream.core.changes import ENTER, Event
from harstream.core.smoothing import UNKNOWN_INDEX, Beliefs, Smoother, Smoothing

#: The most that choosing allows: UNKNOWN in windows wholly inside an activity, and strides of added median delay.
MAX_UNKNOWN_INSIDE, MAX_DELAY_STRIDES = 0.01, 1.0
#: Held back for events, in windows: these are compared.
LAGS = (1, 2, 3, 4)
#: What a bundle gets unless told otherwise: by this study, on HAPT. Events wait for two windows.
RECOMMENDED = Smoothing("hmm", unknown_below=0.6, fixed_lag_windows=2)
#: Of segments whose label the network was never taught: postural transitions, in HAPT.
UNTAUGHT = -2


@dataclass(frozen=True, slots=True)
class Session:
    """A whole recording: the network's probabilities of every due window, and the truth."""

    name: str
    subject: str
    probabilities: Float32  # (n_windows, n_labels), calibrated, by a network that never saw the wearer
    start_ns: Int64  # (n_windows,)
    end_ns: Int64  # (n_windows,)
    segment_ns: Int64  # (n_segments, 2) from and to; in order of time, not overlapping
    segment_label: Int64  # (n_segments,) index into the labels, or UNTAUGHT

    @property
    def minutes(self) -> float:
        return float(self.end_ns[-1] - self.start_ns[0]) / 60e9

    def inside(self) -> Int64:
        """(n_windows,) the label of the segment a window lies wholly inside of; else UNKNOWN_INDEX."""
        out = np.full(len(self.start_ns), UNKNOWN_INDEX, np.int64)
        slack = 10_000_000  # half a sample at 50 Hz
        for (begin, end), label in zip(self.segment_ns, self.segment_label, strict=True):
            out[(self.start_ns >= begin - slack) & (self.end_ns <= end + slack)] = label
        return out

    def mostly(self) -> Int64:
        """(n_windows,) the label of the segment that covers at least half of a window; else UNKNOWN_INDEX."""
        out = np.full(len(self.start_ns), UNKNOWN_INDEX, np.int64)
        for (begin, end), label in zip(self.segment_ns, self.segment_label, strict=True):
            overlap = np.minimum(self.end_ns, end) - np.maximum(self.start_ns, begin)
            out[2 * overlap >= self.end_ns - self.start_ns] = label
        return out


@dataclass(frozen=True, slots=True)
class Figures:
    """What a smoothing does to a set of sessions."""

    accuracy: float  # of windows wholly inside a segment of a known label; UNKNOWN is wrong
    right_if_known: float  # the same, of those that are not UNKNOWN
    unknown_inside: float  # the share of those that are UNKNOWN
    unknown_untaught: float  # the share of UNKNOWN in windows at least half of which is untaught
    changes_per_minute: float  # of the published label, everywhere
    true_changes_per_minute: float  # of the label of each window's larger part, what is not known being UNKNOWN
    flips_per_minute: float  # changes between two windows wholly inside the same segment of a known label
    delay_median_s: float  # from the begin of a segment to the end of the first window with its label
    delay_p95_s: float
    missed: float  # the share of segments whose label never came while they lasted


def load(path: Path) -> tuple[tuple[str, ...], list[Session]]:
    """Labels and sessions of an archive: ``sessions`` and ``labels``, names of both, and for every session NAME
    ``NAME/subject``, ``NAME/probabilities``, ``NAME/start_ns``, ``NAME/end_ns`` by window, and
    ``NAME/seg_start``, ``NAME/seg_stop`` (samples at ``rate_hz``, 50 if absent) and ``NAME/seg_label`` by segment.
    """
    with np.load(path, allow_pickle=False) as arrays:
        labels = tuple(str(label) for label in arrays["labels"])
        period_ns = 1e9 / float(arrays.get("rate_hz", 50.0))
        index = {label: i for i, label in enumerate(labels)}
        sessions = []
        for name in map(str, arrays["sessions"]):
            bounds = np.stack([arrays[f"{name}/seg_start"], arrays[f"{name}/seg_stop"]], axis=1)
            sessions.append(
                Session(
                    name,
                    str(arrays[f"{name}/subject"]),
                    arrays[f"{name}/probabilities"],
                    arrays[f"{name}/start_ns"],
                    arrays[f"{name}/end_ns"],
                    np.rint(bounds * period_ns).astype(np.int64),
                    np.array([index.get(str(label), UNTAUGHT) for label in arrays[f"{name}/seg_label"]], np.int64),
                )
            )
    return labels, sessions


def smooth(sessions: Sequence[Session], smoothing: Smoothing) -> tuple[list[Beliefs], list[list[Event]]]:
    """What is published of each session: all of them worn at once, as so many devices."""
    smoother = Smoother(smoothing, sessions[0].probabilities.shape[1], _stride_s(sessions))
    device = np.repeat(np.arange(len(sessions)), [len(session.start_ns) for session in sessions])
    believed, events = smoother.feed(
        [session.name for session in sessions for _ in session.start_ns],
        np.concatenate([session.probabilities for session in sessions]),
        np.concatenate([session.start_ns for session in sessions]),
        np.concatenate([session.end_ns for session in sessions]),
    )
    events += smoother.evict([session.name for session in sessions])
    by_name: dict[str, list[Event]] = {session.name: [] for session in sessions}
    for event in events:
        by_name[event.device].append(event)
    beliefs = [Beliefs(believed.label[device == i], believed.confidence[device == i]) for i in range(len(sessions))]
    return beliefs, list(by_name.values())


def told(session: Session, events: Sequence[Event]) -> Int64:
    """(n_windows,) the label that the events give the middle of every window: of a fixed lag, the last word on it."""
    middle = session.start_ns + (session.end_ns - session.start_ns) // 2
    out = np.full(len(middle), UNKNOWN_INDEX, np.int64)
    for event in events:
        out[middle >= event.t_ns] = event.label if event.kind == ENTER else UNKNOWN_INDEX
    return out


def score(sessions: Sequence[Session], said_of: Sequence[Int64], held_s: float = 0.0) -> Figures:
    """The figures of the labels that were published of each session, ``held_s`` after each window's end."""
    truth, said, untaught, delays = [], [], [], []
    changes, true_changes, flips = 0, 0, 0
    for session, label in zip(sessions, said_of, strict=True):
        inside, mostly = session.inside(), session.mostly()
        truth.append(inside[inside >= 0])
        said.append(label[inside >= 0])
        untaught.append(label[mostly == UNTAUGHT])
        changes += _changes(label)
        true_changes += _changes(np.maximum(mostly, UNKNOWN_INDEX))
        flips += int(((label[1:] != label[:-1]) & (inside[1:] == inside[:-1]) & (inside[1:] >= 0)).sum())
        delays.append(_delays(session, label))
    true, guess, delay = np.concatenate(truth), np.concatenate(said), np.concatenate(delays)
    known = guess != UNKNOWN_INDEX
    minutes = sum(session.minutes for session in sessions)
    came = np.isfinite(delay)
    return Figures(
        accuracy=_share(true == guess),
        right_if_known=_share((true == guess)[known]),
        unknown_inside=_share(~known),
        unknown_untaught=_share(np.concatenate(untaught) == UNKNOWN_INDEX),
        changes_per_minute=changes / minutes,
        true_changes_per_minute=true_changes / minutes,
        flips_per_minute=flips / (len(true) * _stride_s(sessions) / 60),
        delay_median_s=float(np.quantile(delay[came], 0.5)) + held_s if came.any() else np.inf,
        delay_p95_s=float(np.quantile(delay[came], 0.95)) + held_s if came.any() else np.inf,
        missed=_share(~came),
    )


def _share(which: Bool) -> float:
    """Of the windows; 0 where there is none."""
    return float(which.mean()) if len(which) else 0.0


def _changes(label: Int64) -> int:
    return int((label[1:] != label[:-1]).sum())


def _delays(session: Session, label: Int64) -> Float64:
    """(n_changes,) seconds from the begin of every segment of a known label to the end of the first window with it.

    Not a number where it never came before the segment's end. The first segment, and one that follows another of
    its own label, are no change.
    """
    out = []
    known = np.flatnonzero(session.segment_label >= 0)
    for before, i in itertools.pairwise(known):
        if session.segment_label[before] != session.segment_label[i]:
            begin, end = session.segment_ns[i]
            during = (session.end_ns > begin) & (session.end_ns <= end)
            at = session.end_ns[during & (label == session.segment_label[i])]
            out.append((at[0] - begin) / 1e9 if len(at) else np.nan)
    return np.array(out)


def _stride_s(sessions: Sequence[Session]) -> float:
    return float(np.median(np.diff(sessions[0].start_ns))) / 1e9


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
    for threshold in (0.4, 0.5, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9):
        for dwell_s in (1.0, 1.5, 2.5, 5.0) if smoothing.type == "hmm" else (smoothing.unknown_dwell_s,):
            yield replace(smoothing, unknown_below=threshold, unknown_dwell_s=dwell_s)


def choose(sessions: Sequence[Session], kind: str) -> tuple[Smoothing, Smoothing]:
    """The best definitions of a type on these sessions, without abstaining and with.

    Without: the most accurate of those that add no more than MAX_DELAY_STRIDES to the median delay of the windows'
    own labels. With: of those that are as quick, abstain in at most MAX_UNKNOWN_INSIDE of the windows inside
    activities and keep the accuracy that the windows' own labels have, the one that abstains most often in what
    was never taught; where there is none, the most accurate.
    """
    own = _figures(sessions, Smoothing())
    latest_s = own.delay_median_s + MAX_DELAY_STRIDES * _stride_s(sessions)
    sure = {smoothing: _figures(sessions, smoothing) for smoothing in candidates(kind)}
    doubting = {
        smoothing: _figures(sessions, smoothing) for certain in candidates(kind) for smoothing in abstaining(certain)
    }

    def quick(figures: Figures) -> bool:
        return figures.delay_median_s <= latest_s

    def allowed(figures: Figures) -> bool:
        return figures.unknown_inside <= MAX_UNKNOWN_INSIDE and figures.accuracy >= own.accuracy and quick(figures)

    best = max(sure, key=lambda smoothing: (quick(sure[smoothing]), sure[smoothing].accuracy))
    best_doubting = max(
        doubting,
        key=lambda smoothing: (
            allowed(doubting[smoothing]),
            doubting[smoothing].unknown_untaught if allowed(doubting[smoothing]) else doubting[smoothing].accuracy,
        ),
    )
    return best, best_doubting


def halves(sessions: Sequence[Session], seed: int = 0) -> tuple[list[Session], list[Session]]:
    """The sessions of one half of the wearers, drawn at random, and those of the other."""
    wearers = sorted({session.subject for session in sessions})
    chosen = set(np.random.default_rng(seed).permutation(wearers)[: len(wearers) // 2].tolist())
    first = [session for session in sessions if session.subject in chosen]
    return first, [session for session in sessions if session.subject not in chosen]


def compare(sessions: Sequence[Session], seed: int = 0) -> list[tuple[Smoothing, bool, Figures]]:
    """(definition, whether held back for its fixed lag, figures) of each type's best, chosen on one half of the
    wearers and scored on the other.
    """
    chosen_on, scored_on = halves(sessions, seed)
    rows = []
    for kind in ("none", "exponential", "hysteresis", "hmm"):
        for smoothing in choose(chosen_on, kind):
            rows.append((smoothing, False, _figures(scored_on, smoothing)))
            for lag in LAGS if kind == "hmm" else ():
                held = replace(smoothing, fixed_lag_windows=lag)
                _, events = smooth(scored_on, held)
                labels = [told(session, mine) for session, mine in zip(scored_on, events, strict=True)]
                rows.append((held, True, score(scored_on, labels, lag * _stride_s(scored_on))))
    return rows


def _figures(sessions: Sequence[Session], smoothing: Smoothing) -> Figures:
    return score(sessions, [beliefs.label for beliefs in smooth(sessions, smoothing)[0]])


def table(rows: Sequence[tuple[Smoothing, bool, Figures]]) -> str:
    """As Markdown; delays in seconds, UNKNOWN in per cent of windows."""
    lines = [
        "| smoothing | accuracy | of known | UNKNOWN inside | untaught | changes/min | flips/min | delay | 95 % |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for smoothing, held, figures in rows:
        name = ", ".join(f"{key} {value}" for key, value in smoothing.to_dict().items() if key != "fixed_lag_windows")
        name = name.removeprefix("type ") + (f", held {smoothing.fixed_lag_windows}" if held else "")
        lines.append(
            f"| {name} | {100 * figures.accuracy:.2f} | {100 * figures.right_if_known:.2f} "
            f"| {100 * figures.unknown_inside:.2f} | {100 * figures.unknown_untaught:.1f} "
            f"| {figures.changes_per_minute:.2f} (true {figures.true_changes_per_minute:.2f}) "
            f"| {figures.flips_per_minute:.2f} | {figures.delay_median_s:.2f} | {figures.delay_p95_s:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Print the table; with ``--json``, write its rows too."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("probabilities", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--seed", type=int, default=0, help="of the halves of the wearers")
    arguments = parser.parse_args()
    _, sessions = load(arguments.probabilities)
    rows = compare(sessions, arguments.seed)
    print(table(rows))
    if arguments.json is not None:
        data = [{"smoothing": s.to_dict(), "held_back": held, "figures": asdict(f)} for s, held, f in rows]
        arguments.json.write_text(json.dumps({"seed": arguments.seed, "rows": data}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
