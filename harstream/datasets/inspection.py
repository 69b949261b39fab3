"""Description of recordings as they were understood, with doubts, before anything is trained or scored on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from harstream.core.batches import Float64
from harstream.core.label_table import simplify
from harstream.datasets.base import Recording, Segment, subject_names
from harstream.datasets.description import Inspection
from harstream.datasets.doubts import find_doubts

#: A stretch of this many seconds is at rest if |acc| deviates by less than this from its mean, in g.
_REST_S, _REST_G = 1.0, 0.03


def inspect(
    data: str, recordings: Sequence[Recording], window_s: float = 2.56, *, for_training: bool = True
) -> Inspection:
    """Return what was understood of recordings.

    Labels whose names differ only by case, spaces, ``-`` and ``_`` are one label, as in a training.

    Args:
        data: KIND:PATH.
        recordings: The recordings that were read.
        window_s: Duration of the windows that they shall be cut into: shorter segments give none.
        for_training: Doubt what a training needs, such as several subjects.

    """
    left_out: Counter[str] = Counter()
    sources = [one.source for one in recordings if one.source is not None]
    for source in sources:
        left_out.update(source.left_out)
    subjects: dict[str, dict[str, Any]] = {
        name: {"recordings": [], "seconds": 0.0, "labels": set()} for name in subject_names(recordings)
    }
    names, notes = _label_names(recordings)
    labels: dict[str, dict[str, Any]] = {}
    for one in recordings:
        subjects[one.subject]["recordings"].append(one.name)
        subjects[one.subject]["seconds"] += one.duration_s
        before, longest = Segment(0, 0, ""), 0.0
        for segment in one.segments:
            label = names[simplify(segment.label)]
            entry = labels.setdefault(label, {"seconds": 0.0, "longest_s": 0.0, "subjects": set()})
            seconds = (segment.stop - segment.start) / one.rate_hz
            touches = (before.stop, before.label) == (segment.start, label)
            longest = seconds + (longest if touches else 0.0)
            before = replace(segment, label=label)
            entry["seconds"] += seconds
            entry["longest_s"] = max(entry["longest_s"], longest)
            entry["subjects"].add(one.subject)
            subjects[one.subject]["labels"].add(label)
    for entry in subjects.values():
        entry["labels"] = sorted(entry["labels"])
    rest = at_rest(recordings)
    inspection = Inspection(
        data,
        len(recordings),
        len(sources),
        sum(source.rows for source in sources),
        sum(len(one.samples) for one in recordings),
        dict(left_out),
        dict(Counter(source.form for source in sources)),
        tuple(dict.fromkeys(name for source in sources for name in source.unused)),
        tuple(sorted({one.rate_hz for one in recordings})),
        sum(one.has_gyro for one in recordings),
        float(np.median(rest)) if len(rest) else None,
        dict(Counter(source.subject_by for source in sources)),
        subjects,
        {name: {**entry, "subjects": len(entry["subjects"])} for name, entry in sorted(labels.items())},
        notes,
        (),
    )
    return replace(inspection, warnings=tuple(find_doubts(inspection, recordings, window_s, for_training=for_training)))


def _label_names(recordings: Sequence[Recording]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the name of each label, by its simplified name, and notes about other spellings.

    The spelling with most samples is the name, as in ``windows.labels_in``.
    """
    samples: dict[str, Counter[str]] = {}
    for segment in (segment for one in recordings for segment in one.segments):
        samples.setdefault(simplify(segment.label), Counter())[segment.label] += segment.stop - segment.start
    names, notes = {}, []
    for key, spellings in sorted(samples.items()):
        ordered = sorted(spellings, key=lambda name: (-spellings[name], name))
        names[key] = ordered[0]
        if len(ordered) > 1:
            notes.append(f"{ordered[0]}: also spelled {', '.join(ordered[1:])}")
    return names, tuple(notes)


def at_rest(recordings: Sequence[Recording]) -> Float64:
    """Return the mean of |acc| in g of each stretch at rest, (n_stretches,)."""
    found = []
    for one in recordings:
        n = max(2, round(_REST_S * one.rate_hz))
        norm = np.linalg.norm(one.samples[: len(one.samples) // n * n, :3], axis=1).reshape(-1, n).astype(np.float64)
        mean, deviation = norm.mean(axis=1), norm.std(axis=1)
        found.append(mean[deviation < _REST_G * np.maximum(1.0, mean)])
    return np.concatenate([np.zeros(0), *found])
