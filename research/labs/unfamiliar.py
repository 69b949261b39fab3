"""Labels that a bundle publishes for signals that it was not made for: right, wrong and UNKNOWN.

    python -m research.labs.unfamiliar --model waist --data difronzo:difronzo.zip --data sp-sw:sp-sw.zip

streams each data set as devices would send it, and prints a row for each placement: the share of the windows inside an
activity that are published right, wrong (another label than the true one, or any label where the model has none for the
activity) and as UNKNOWN. Signals that nobody wears follow: white noise, shaking, a device on a table.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from harstream.classifier import Classifier, load_classifier
from harstream.cli import options
from harstream.core.batches import Float32, Int64
from harstream.core.labels import UNKNOWN_INDEX
from harstream.core.spec import SignalSpec
from harstream.datasets.base import Recording, Segment
from harstream.datasets.sets import leave_out_without_gyro, notes_of
from harstream.datasets.windows import labels_of_windows
from harstream.evaluate import published
from harstream.storage import replace_file
from harstream.tables import markdown
from research.command import command

#: Devices and seconds of each made signal, and its rate.
_DEVICES, _SECONDS, _RATE_HZ = 40, 60.0, 50.0
#: Greatest angle between the mean accelerations of segments that ``stitch`` joins.
STITCH_DEG = 45.0
#: Index of an activity for which the model has no label.
_OTHER = -1


@dataclass(frozen=True, slots=True)
class Outcome:
    """Number of windows of one kind of signal, by what was published."""

    name: str
    windows: int
    right: int
    wrong: int
    unknown: int

    def row(self) -> tuple[str, ...]:
        """Return the cells of a table, in percent."""
        shares = (f"{100 * count / max(1, self.windows):.1f}" for count in (self.right, self.wrong, self.unknown))
        return (self.name, f"{self.windows:,}", *shares)


def _noise(n: int, rng: np.random.Generator) -> Float32:
    """Return gravity in a random direction and white noise of 0.2 to 1 g and 0.2 to 3 rad/s."""
    samples = _at_rest(n, rng)
    samples += rng.normal(size=(n, 6)) * np.repeat([rng.uniform(0.2, 1.0), rng.uniform(0.2, 3.0)], 3)
    return samples.astype(np.float32)


def _shaking(n: int, rng: np.random.Generator) -> Float32:
    """Return a device that is shaken by hand, 3 to 6 times a second, with 0.7 to 2 g and 2 to 6 rad/s."""
    t = np.arange(n) / _RATE_HZ
    phase = 2 * np.pi * rng.uniform(3.0, 6.0) * t + 0.5 * np.sin(t)
    samples = _at_rest(n, rng)
    samples[:, :3] += rng.uniform(0.7, 2.0) * np.sin(phase)[:, None] * _direction(rng)
    samples[:, 3:] += rng.uniform(2.0, 6.0) * np.sin(phase + 1.0)[:, None] * _direction(rng)
    return (samples + rng.normal(scale=0.1, size=samples.shape)).astype(np.float32)


def _table(n: int, rng: np.random.Generator) -> Float32:
    """Return a device that lies still in any orientation, with the noise of a phone's sensors."""
    return (_at_rest(n, rng) + rng.normal(scale=0.002, size=(n, 6))).astype(np.float32)


def _at_rest(n: int, rng: np.random.Generator) -> Float32:
    samples = np.zeros((n, 6), np.float32)
    samples[:, :3] = _direction(rng)
    return samples


def _direction(rng: np.random.Generator) -> Float32:
    vector = rng.normal(size=3)
    return np.asarray(vector / np.linalg.norm(vector), np.float32)


#: Name of a made signal -> function that makes its samples (n_samples, 6), and the activity that it truly is.
SIGNALS: dict[str, tuple[Callable[[int, np.random.Generator], Float32], str]] = {
    "white noise": (_noise, ""),
    "shaking": (_shaking, ""),
    "on a table, any orientation": (_table, "STILL"),
}


def made_recordings(name: str, seed: int = 0) -> list[Recording]:
    """Return recordings of a made signal, by several devices."""
    make, activity = SIGNALS[name]
    n = round(_SECONDS * _RATE_HZ)
    rng = np.random.default_rng([seed, *name.encode()])
    segments = (Segment(0, n, activity or name),)
    return [Recording(f"made-{k}", "made", _RATE_HZ, make(n, rng), segments) for k in range(_DEVICES)]


def stitch(recordings: Sequence[Recording]) -> list[Recording]:
    """Return a recording for each subject, activity and rate, of all segments of it one after the other.

    A model whose windows are longer than any segment cannot be scored otherwise. The joints are no movement of a
    person, so the result is rougher than one of whole recordings. Segments in which the device lay otherwise, by more
    than STITCH_DEG, are not joined.
    """
    parts: dict[tuple[str, str, float, bool], list[list[Float32]]] = {}
    for one in recordings:
        for segment in one.segments:
            samples = one.samples[segment.start : segment.stop]
            groups = parts.setdefault((one.subject, segment.label, one.rate_hz, one.has_gyro), [])
            for group in groups:
                if _angle_deg(group[0], samples) <= STITCH_DEG:
                    group.append(samples)
                    break
            else:
                groups.append([samples])
    result: list[Recording] = []
    for (subject, label, rate_hz, has_gyro), groups in parts.items():
        for group in groups:
            joined = np.concatenate(group)
            segments = (Segment(0, len(joined), label),)
            result.append(Recording(f"stitched-{len(result)}", subject, rate_hz, joined, segments, has_gyro))
    return result


def _angle_deg(one: Float32, other: Float32) -> float:
    """Return the angle between the mean accelerations of two segments."""
    first, second = one[:, :3].mean(axis=0), other[:, :3].mean(axis=0)
    cosine = float(first @ second / (np.linalg.norm(first) * np.linalg.norm(second)))
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


def outcome(name: str, recordings: Sequence[Recording], classifier: Classifier) -> Outcome:
    """Stream recordings, and count what is published for the windows inside any of their segments."""
    labels, spec = classifier.bundle.labels, classifier.bundle.spec
    counts = np.zeros(3, np.int64)
    for recording in recordings:
        result = published.label_recording(recording, classifier)
        true_label, inside = _true_labels(recording, labels, spec, result.windows.start_ns, result.windows.end_ns)
        label = result.smoothed.label[inside]
        unknown, right = label == UNKNOWN_INDEX, (label == true_label[inside]) & (label != UNKNOWN_INDEX)
        counts += [right.sum(), (~right & ~unknown).sum(), unknown.sum()]
    return Outcome(name, int(counts.sum()), *counts.tolist())


def _true_labels(
    recording: Recording, labels: Sequence[str], spec: SignalSpec, start_ns: Int64, end_ns: Int64
) -> tuple[Int64, Int64]:
    """Return the label of each window, or _OTHER; and the indices of those that lie inside one segment."""
    period_ns = 1e9 / recording.rate_hz
    segments = [(float(one.start), float(one.stop), index) for index, one in enumerate(recording.segments)]
    number = labels_of_windows(segments, start_ns / period_ns, end_ns / period_ns, 0.5)
    of_segment = [labels.index(one.label) if one.label in labels else _OTHER for one in recording.segments]
    return np.array([*of_segment, _OTHER])[number], np.flatnonzero(number >= 0)


def outcomes(
    data: Sequence[str], placements: Sequence[str], classifier: Classifier, *, stitched: bool = False
) -> Iterator[Outcome]:
    """Yield the outcome of each placement of each data set, then those of SIGNALS."""
    bundle = classifier.bundle
    sets = [one.cover(bundle.table, bundle.states) for one in options.load_sets(data, None, placements)] if data else []
    usable = leave_out_without_gyro(sets, bundle.spec)
    for note in notes_of(usable):
        print(f"note: {note}", file=sys.stderr)
    for one in usable:
        for placement in dict.fromkeys(recording.placement for recording in one.recordings):
            own = [recording for recording in one.recordings if recording.placement == placement]
            name = f"{one.name}, {placement}" if placement else one.name
            yield outcome(name, stitch(own) if stitched else own, classifier)
    for name in SIGNALS:
        recordings = made_recordings(name)
        covered = [
            replace(
                one,
                segments=tuple(replace(s, label=bundle.table.label_of("", s.label) or s.label) for s in one.segments),
            )
            for one in recordings
        ]
        yield outcome(name, covered, classifier)


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m research.labs.unfamiliar", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--model", required=True, metavar="NAME|DIR", help="name or folder of a bundle")
    parser.add_argument("--backend", default="auto", help="as in harstream evaluate")
    parser.add_argument("--data", action="append", default=[], metavar="KIND:PATH", help="recordings; again for each")
    parser.add_argument("--placement", action="append", default=[], metavar="NAME", help="as in harstream evaluate")
    parser.add_argument("--stitch", action="store_true", help="join the segments of one subject and activity")
    parser.add_argument("--json", type=Path, metavar="FILE", help="JSON file to write")
    chosen = parser.parse_args(arguments)
    classifier = load_classifier(chosen.model, chosen.backend)
    found = list(outcomes(chosen.data, chosen.placement, classifier, stitched=chosen.stitch))
    head = ("signal", "windows", "right, %", "wrong, %", "UNKNOWN, %")
    print(markdown(head, [one.row() for one in found], right=(1, 2, 3, 4)))
    if chosen.json is not None:
        rows = [
            {"name": one.name, "windows": one.windows, "right": one.right, "wrong": one.wrong, "unknown": one.unknown}
            for one in found
        ]
        content = {"model": classifier.bundle.id, "backend": classifier.backend, "signals": rows}
        replace_file(chosen.json, (json.dumps(content, indent=1) + "\n").encode())


if __name__ == "__main__":
    sys.exit(main())
