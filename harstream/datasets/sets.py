"""Data sets used together: names that keep their subjects apart, and the choice of what a model can use.

Whatever is left out is named in a note.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from harstream.core.label_table import LabelTable
from harstream.core.spec import SignalSpec
from harstream.datasets import base, public
from harstream.datasets.base import PrecutWindows, Recording, Segment, subject_names
from harstream.datasets.windows import gyro_needed_for
from harstream.errors import DatasetError


@dataclass(frozen=True, slots=True)
class DataSet:
    """One data set of those that a command was given."""

    data: str  # KIND:PATH
    name: str  # what figures and notes call it
    recordings: tuple[Recording, ...]
    windows: PrecutWindows | None = None  # of a kind that holds windows; there are no recordings then
    notes: tuple[str, ...] = ()  # what was left out

    @property
    def kind(self) -> str:
        """The KIND of KIND:PATH."""
        return kind_of(self.data)

    @property
    def is_empty(self) -> bool:
        """True if everything was left out."""
        return self.windows is None and not self.recordings

    def cover(self, table: LabelTable, states: Sequence[str] = ()) -> DataSet:
        """Return the data set with the label that covers each segment in place of its activity.

        Segments that touch and have one label are joined: a subject who sits, then lies, is still throughout. Segments
        that no label covers keep the name of their activity, and a note tells their duration, unless they are
        one of the ``states`` between labels that the model knows, whose name they then have.
        """
        between = LabelTable.plain(states)
        missing: dict[str, float] = {}
        recordings = []
        for recording in self.recordings:
            segments: list[Segment] = []
            for segment in recording.segments:
                label = table.label_of(self.kind, segment.label)
                name = label or between.label_of(self.kind, segment.label)
                if name is None:
                    seconds = (segment.stop - segment.start) / recording.rate_hz
                    missing[segment.label] = missing.get(segment.label, 0.0) + seconds
                if label and segments and (segments[-1].label, segments[-1].stop) == (label, segment.start):
                    segments[-1] = replace(segments[-1], stop=segment.stop)
                else:
                    segments.append(replace(segment, label=name or segment.label))
            recordings.append(replace(recording, segments=tuple(segments)))
        names = ", ".join(f"{name} ({seconds:.0f} s)" for name, seconds in sorted(missing.items()))
        notes = (f"no label covers {names}",) if missing else ()
        return replace(self, recordings=tuple(recordings), notes=self.notes + notes)


def kind_of(data: str) -> str:
    """Return the KIND of KIND:PATH."""
    return data.partition(":")[0]


def names_of(data: Sequence[str]) -> tuple[str, ...]:
    """Return a name for each KIND:PATH: its kind, or KIND:NAME of the file or folder where several have one kind.

    Raises:
        DatasetError: Two of them have the same name.

    """
    kinds = [kind_of(one) for one in data]
    names = tuple(
        kind if kinds.count(kind) == 1 else f"{kind}:{Path(one.partition(':')[2]).resolve().name}"
        for kind, one in zip(kinds, data, strict=True)
    )
    for name in names:
        if names.count(name) > 1:
            raise DatasetError(f"{name} is given more than once: give each data set once, under names that differ")
    return names


def put_together(data: Sequence[str], contents: Sequence[Sequence[Recording] | PrecutWindows]) -> list[DataSet]:
    """Return the data sets with their content, in order.

    If there are several, ``NAME/`` is put before the names of subjects, and ``NAME.`` before those of recordings: a
    subject of one set is not the same as one of another.

    Args:
        data: KIND:PATH of each.
        contents: Recordings or windows of each.

    Raises:
        DatasetError: Two data sets have the same name.

    """
    return [
        _name_content(DataSet(one, name, ()), content, several=len(data) > 1)
        for one, name, content in zip(data, names_of(data), contents, strict=True)
    ]


def _name_content(data_set: DataSet, content: Sequence[Recording] | PrecutWindows, *, several: bool) -> DataSet:
    name = data_set.name
    if isinstance(content, PrecutWindows):
        if several and content.subject is not None:
            content = replace(content, subject=np.array([f"{name}/{subject}" for subject in content.subject]))
        return replace(data_set, windows=content)
    if not several:
        return replace(data_set, recordings=tuple(replace(one, data_set=name) for one in content))
    device = re.sub("[/+#]", "-", name)  # a recording's name is a level of a topic
    return replace(
        data_set,
        recordings=tuple(
            replace(one, name=f"{device}.{one.name}", subject=f"{name}/{one.subject}", data_set=name) for one in content
        ),
    )


def recordings_of(sets: Iterable[DataSet]) -> list[Recording]:
    """Return the recordings of all sets, in order."""
    return [recording for data_set in sets for recording in data_set.recordings]


def seconds_of(recordings: Iterable[Recording]) -> dict[str, float]:
    """Return the duration of each label in seconds, in alphabetical order."""
    seconds: dict[str, float] = {}
    for recording in recordings:
        for segment in recording.segments:
            length = (segment.stop - segment.start) / recording.rate_hz
            seconds[segment.label] = seconds.get(segment.label, 0.0) + length
    return dict(sorted(seconds.items()))


def notes_of(sets: Sequence[DataSet]) -> tuple[str, ...]:
    """Return the notes of all sets, each with the name of its set."""
    return tuple(f"{data_set.name}: {note}" for data_set in sets for note in data_set.notes)


def select_subjects(sets: Sequence[DataSet], subjects: Sequence[str]) -> list[DataSet]:
    """Return the recordings of these subjects. A set without any stays, with a note only.

    Raises:
        DatasetError: A subject has no recording.

    """
    base.select_subjects(recordings_of(sets), subjects)  # raises for all sets together
    why = "who were not chosen"
    return [_leave_out(data_set, lambda recording: recording.subject not in subjects, why) for data_set in sets]


def select_placements(sets: Sequence[DataSet], placements: Sequence[str]) -> list[DataSet]:
    """Return the recordings of these placements. A set that names no placement is returned as it is.

    A placement such as ``umafall:pocket`` is chosen of the sets of one kind only. A kind without placements of its own
    keeps those that are given for all sets, or everything if none is.

    Raises:
        DatasetError: A set has no recording of these placements, or no set has one of a placement.

    """
    require_placements(
        placements, ((data_set.kind, recording.placement) for data_set in sets for recording in data_set.recordings)
    )
    by_kind: dict[str, list[str]] = {}  # "" for all sets
    for entry in placements:
        kind, _, name = entry.rpartition(":")
        by_kind.setdefault(kind, []).append(name)
    chosen = []
    for data_set in sets:
        wanted = by_kind.get(data_set.kind, by_kind.get("", ()))
        own = {recording.placement for recording in data_set.recordings} - {""}
        if not own or not wanted:
            chosen.append(data_set)
            continue
        if not own & set(wanted):
            raise DatasetError(
                f"{data_set.data}: no recording has the placement {' or '.join(wanted)}, only "
                f"{', '.join(sorted(own))}: choose one of them, or leave the data set out"
            )
        others = {recording.placement or "a place that is not named" for recording in data_set.recordings}
        why = f"were worn at {', '.join(sorted(others - set(wanted)))}, not at {' or '.join(wanted)}"
        chosen.append(_leave_out(data_set, partial(_is_worn_elsewhere, frozenset(wanted)), why))
    return chosen


def published_placements(data: Iterable[str]) -> list[tuple[str, str]]:
    """Return the kind and each placement of the public sets among KIND:PATHs, which are known before they are read."""
    kinds = dict.fromkeys(map(kind_of, data))
    return [(kind, placement) for kind in kinds if kind in public.SETS for placement in public.SETS[kind].placements]


def require_placements(placements: Iterable[str], named: Iterable[tuple[str, str]]) -> None:
    """Raise DatasetError if a chosen placement, such as ``pocket`` or ``umafall:pocket``, does not occur.

    Args:
        placements: The chosen ones.
        named: Kind and placement of what there is; an empty placement is none.

    """
    there = {(kind, placement) for kind, placement in named if placement}
    for entry in placements:
        wanted, colon, name = entry.rpartition(":")
        found = sorted({placement for kind, placement in there if not colon or kind == wanted})
        if name not in found:
            of = f" of {wanted}" if colon else ""
            known = (
                f"the placements{of} are {', '.join(found)}"
                if found
                else f"no data{of} with a placement is given; leave --placement {entry} out"
            )
            raise DatasetError(f"no recording has the placement {entry!r}: {known}")


def _is_worn_elsewhere(placements: frozenset[str], recording: Recording) -> bool:
    return recording.placement not in placements


def leave_out_without_gyro(sets: Sequence[DataSet], spec: SignalSpec) -> list[DataSet]:
    """Return the recordings that a signal can be made of.

    Where the signal needs a gyroscope, recordings without one are left out, and a note tells their number. If none has
    one, and there are no sets of windows either, all are returned: cutting their windows raises the error.
    """
    usable = any(data_set.windows is not None or any(one.has_gyro for one in data_set.recordings) for data_set in sets)
    if not spec.uses_gyro or not usable:
        return list(sets)
    why = f"were made without the gyroscope that {gyro_needed_for(spec)} need"
    return [_leave_out(data_set, lambda recording: not recording.has_gyro, why) for data_set in sets]


def _leave_out(data_set: DataSet, unwanted: Callable[[Recording], bool], why: str) -> DataSet:
    """Return the data set without the unwanted recordings, and a note that tells their number and ``why``."""
    left_out = [recording for recording in data_set.recordings if unwanted(recording)]
    if not left_out:
        return data_set
    note = f"{len(left_out)} recordings of {len(subject_names(left_out))} subjects {why}: left out"
    kept = tuple(recording for recording in data_set.recordings if not unwanted(recording))
    return replace(data_set, recordings=kept, notes=(*data_set.notes, note))
