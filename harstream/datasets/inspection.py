"""Description of recordings as they were understood, with doubts, before anything is trained or scored on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from harstream.core.batches import Float64
from harstream.core.label_table import simplify
from harstream.datasets.base import Recording, subject_names
from harstream.tables import plain

#: A stretch of this many seconds is at rest if |acc| deviates by less than this from its mean, in g.
_REST_S, _REST_G = 1.0, 0.03
#: |acc| at rest of a sensor that measures gravity in g: phones of one study are off by up to 5 %.
_GRAVITY_G = 0.85, 1.15
#: Subjects in the table at most.
_SHOWN = 20
#: Recordings of a subject that are named there.
_NAMES = 2
#: Share of the rows from which on those left out are a doubt.
_MANY_LEFT_OUT = 0.02


@dataclass(frozen=True, slots=True)
class Inspection:
    """Description of the recordings of one data set as they were understood."""

    data: str  # KIND:PATH
    recordings: int
    samples: int
    left_out: dict[str, int]  # rows of the files by the reason why they were left out
    rate_hz: tuple[float, ...]
    gyroscope: int  # number of recordings with one
    at_rest_g: float | None  # median of |acc| at rest; None: nothing was at rest
    subjects: dict[str, dict[str, Any]]  # subject to names of recordings and seconds
    labels: dict[str, dict[str, float]]  # label to seconds, longest segment in seconds, and number of subjects
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the content as JSON."""
        return asdict(self)

    def to_text(self) -> str:
        """Return the content as tables for a terminal."""
        rates = ", ".join(f"{rate:g}" for rate in self.rate_hz)
        rest = "nothing was at rest" if self.at_rest_g is None else f"{self.at_rest_g:.2f} g"
        left_out = ", ".join(f"{count:,} with {reason}" for reason, count in self.left_out.items()) or "none"
        facts = [
            ("recordings", f"{self.recordings:,}"),
            ("samples", f"{self.samples:,}"),
            ("rows left out", left_out),
            ("rate", f"{rates} Hz"),
            ("gyroscope", f"in {self.gyroscope} of {self.recordings} recordings"),
            ("|acc| at rest", rest),
        ]
        width = max(len(name) for name, _ in facts)
        subjects = [
            (name, f"{len(one['recordings'])}", f"{one['seconds']:.0f}", _shorten(one["recordings"]))
            for name, one in self.subjects.items()
        ]
        if len(subjects) > _SHOWN:
            subjects = [*subjects[:_SHOWN], (f"and {len(subjects) - _SHOWN} more", "", "", "")]
        labels = [
            (name, f"{one['seconds']:.0f}", f"{one['longest_s']:.1f}", f"{one['subjects']:.0f}")
            for name, one in self.labels.items()
        ]
        parts = [
            "\n".join([self.data, *(f"  {name:<{width}}  {text}" for name, text in facts)]),
            plain(("subject", "recordings", "seconds", "names"), subjects, right=(1, 2)),
            plain(("label", "seconds", "longest, s", "subjects"), labels, right=(1, 2, 3))
            if labels
            else "no sample has a label",
            *(f"doubt: {text}" for text in self.warnings),
        ]
        return "\n\n".join(parts[:3]) + ("\n\n" + "\n".join(parts[3:]) if self.warnings else "")


def _shorten(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMES]) + (", ..." if len(names) > _NAMES else "")


def inspect(data: str, recordings: Sequence[Recording], window_s: float = 2.56) -> Inspection:
    """Return what was understood of recordings.

    Args:
        data: KIND:PATH.
        recordings: The recordings that were read.
        window_s: Duration of the windows that they shall be cut into: shorter segments give none.

    """
    left_out: Counter[str] = Counter()
    subjects: dict[str, dict[str, Any]] = {
        name: {"recordings": [], "seconds": 0.0} for name in subject_names(recordings)
    }
    labels: dict[str, dict[str, Any]] = {}
    for one in recordings:
        left_out.update(one.left_out)
        subjects[one.subject]["recordings"].append(one.name)
        subjects[one.subject]["seconds"] += one.duration_s
        for segment in one.segments:
            entry = labels.setdefault(segment.label, {"seconds": 0.0, "longest_s": 0.0, "subjects": set()})
            seconds = (segment.stop - segment.start) / one.rate_hz
            entry["seconds"] += seconds
            entry["longest_s"] = max(entry["longest_s"], seconds)
            entry["subjects"].add(one.subject)
    found = {name: {**entry, "subjects": len(entry["subjects"])} for name, entry in sorted(labels.items())}
    rest = at_rest(recordings)
    inspection = Inspection(
        data,
        len(recordings),
        sum(len(one.samples) for one in recordings),
        dict(left_out),
        tuple(sorted({one.rate_hz for one in recordings})),
        sum(one.has_gyro for one in recordings),
        float(np.median(rest)) if len(rest) else None,
        subjects,
        found,
        (),
    )
    return replace(inspection, warnings=tuple(_doubts(inspection, window_s)))


def at_rest(recordings: Sequence[Recording]) -> Float64:
    """Return the mean of |acc| in g of each stretch at rest, (n_stretches,)."""
    found = []
    for one in recordings:
        n = max(2, round(_REST_S * one.rate_hz))
        norm = np.linalg.norm(one.samples[: len(one.samples) // n * n, :3], axis=1).reshape(-1, n).astype(np.float64)
        mean, deviation = norm.mean(axis=1), norm.std(axis=1)
        found.append(mean[deviation < _REST_G * np.maximum(1.0, mean)])
    return np.concatenate([np.zeros(0), *found])


def _doubts(found: Inspection, window_s: float) -> list[str]:
    """Return sentences about what is probably not meant so, each with its mend."""
    doubts = []
    rows = found.samples + sum(found.left_out.values())
    if sum(found.left_out.values()) > _MANY_LEFT_OUT * rows:
        doubts.append(
            f"{sum(found.left_out.values()):,} of {rows:,} rows were left out "
            f"({', '.join(found.left_out)}): look at the files"
        )
    rest = found.at_rest_g
    if rest is not None and not _GRAVITY_G[0] <= rest <= _GRAVITY_G[1]:
        unit = "in m/s2: write ax[m/s2]" if 8.5 <= rest <= 11 else "in another unit, or gravity was removed"
        doubts.append(f"|acc| at rest is {rest:.2f} g, where gravity gives 1: the accelerations may be {unit}")
    if len(found.rate_hz) > 1:
        rates = ", ".join(f"{rate:g}" for rate in found.rate_hz)
        doubts.append(f"the rates differ ({rates} Hz): training needs --set sample_rate_hz=...")
    if 0 < found.gyroscope < found.recordings:
        without = found.recordings - found.gyroscope
        doubts.append(
            f"{without} of {found.recordings} recordings have no gyroscope: a model with gyroscope leaves them out; "
            "leave it out for all with --channels total_acc,body_acc"
        )
    for subject in found.subjects:
        for label in found.labels:
            if simplify(subject) == simplify(label):
                doubts.append(
                    f"subject {subject} has the name of the label {label}: name files SUBJECT_ACTIVITY.csv, or put "
                    "those of each subject into a folder of its own"
                )
    if len(found.subjects) == 1:
        doubts.append("there is one subject only: training needs two, and figures worth reading at least four")
    names = list(found.labels)
    for number, name in enumerate(names):
        for other in names[:number]:
            if simplify(name) == simplify(other):
                doubts.append(f"{other} and {name} count as one label: they differ in spelling only")
        entry = found.labels[name]
        if entry["subjects"] == 1 and len(found.subjects) > 1:
            doubts.append(f"only one subject has {name}: while that subject is held out, it cannot be learnt")
        if entry["longest_s"] < window_s:
            doubts.append(
                f"no segment of {name} is as long as a window ({entry['longest_s']:.1f} s of {window_s:g} s): it will "
                "not be learnt; record longer ones, or choose a shorter window"
            )
    return doubts
