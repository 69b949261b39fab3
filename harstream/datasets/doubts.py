"""Doubts about recordings: what is probably not meant as it was understood, each with its mend."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePosixPath

from harstream.core.label_table import simplify
from harstream.core.labels import UNKNOWN
from harstream.core.plausibility import acc_unit, gyro_plausible
from harstream.datasets.base import Recording
from harstream.datasets.description import Inspection
from harstream.datasets.subjects import ANYBODY, BY_COLUMN, BY_FOLDER, subject_of

#: |acc| at rest of a sensor that measures gravity in g: phones of one study are off by up to 5 %.
_GRAVITY_G = 0.85, 1.15
#: Share of the rows from which on those left out are a doubt.
_MANY_LEFT_OUT = 0.02
#: Rates below this, in Hz, are a doubt: steps would be seen by few samples.
_LOW_RATE_HZ = 10.0
#: Seconds of the windows by which the gyroscope is judged, and how many of a recording must be judged.
_GYRO_S, _GYRO_WINDOWS = 2.56, 4
#: Words that begin names of files of any subject.
_ANY_FILE = frozenset({"rec", "recording", "data", "session", "trial", "run", "log", "file", "imu", "sensor", "day"})
#: Subjects or files that are named in one doubt.
_NAMED = 4


def find_doubts(
    found: Inspection, recordings: Sequence[Recording], window_s: float, *, for_training: bool = True
) -> list[str]:
    """Return sentences about what is probably not meant so.

    Args:
        found: What was understood.
        recordings: The recordings.
        window_s: Duration of the windows that they shall be cut into.
        for_training: Doubt what a training needs, too.

    """
    parts = [_of_files(found, recordings), _of_signals(found, recordings)]
    if for_training:
        parts += [_of_rates(found), _of_subjects(found, recordings)]
    parts.append(_of_labels(found, recordings, window_s, for_training=for_training))
    return [doubt for part in parts for doubt in part]


def _of_files(found: Inspection, recordings: Sequence[Recording]) -> Iterator[str]:
    for source in (one.source for one in recordings if one.source is not None):
        yield from source.notes
    n_left_out = sum(found.left_out.values())
    if n_left_out > _MANY_LEFT_OUT * found.rows:
        yield f"{n_left_out:,} of {found.rows:,} rows were left out ({', '.join(found.left_out)}): look at the files"


def _of_signals(found: Inspection, recordings: Sequence[Recording]) -> Iterator[str]:
    rest = found.at_rest_g
    if rest is not None and not _GRAVITY_G[0] <= rest <= _GRAVITY_G[1]:
        unit = "in m/s2: write ax[m/s2]" if 8.5 <= rest <= 11 else "in another unit, or gravity was removed"
        yield f"|acc| at rest is {rest:.2f} g, where gravity gives 1: the accelerations may be {unit}"
    wrong = [one.name for one in recordings if one.has_gyro and not _may_be_gyro(one)]
    if wrong:
        yield (
            f"the gyroscope of {len(wrong)} of {found.gyroscope} recordings does not turn as gravity does "
            f"({_some(wrong)}): if it is in deg/s, write gx[deg/s]"
        )
    low = [rate for rate in found.rate_hz if rate < _LOW_RATE_HZ]
    if low:
        yield (
            f"the rate is {low[0]:g} Hz, which is less than activities need ({_LOW_RATE_HZ:g} Hz): if t counts rows, "
            "write the time of each row; if it is in another unit, write the unit, as in t[ms]"
        )


def _may_be_gyro(recording: Recording) -> bool:
    """Return False if most windows with gravity show that the gyroscope is not in rad/s."""
    length = round(_GYRO_S * recording.rate_hz)
    n = len(recording.samples) // length
    windows = recording.samples[: n * length].reshape(n, length, 6)
    windows = windows[acc_unit(windows[..., :3]) >= 0] if n else windows
    if len(windows) < _GYRO_WINDOWS:
        return True
    return bool(gyro_plausible(windows[..., :3], windows[..., 3:], recording.rate_hz).mean() >= 0.5)


def _of_rates(found: Inspection) -> Iterator[str]:
    if len(found.rate_hz) > 1:
        rates = ", ".join(f"{rate:g}" for rate in found.rate_hz)
        yield f"the rates differ ({rates} Hz): training needs --set sample_rate_hz=..."
    if 0 < found.gyroscope < found.recordings:
        without = found.recordings - found.gyroscope
        yield (
            f"{without} of {found.recordings} recordings have no gyroscope: a model with gyroscope leaves them out; "
            "leave it out for all with --channels total_acc,body_acc"
        )


def _of_subjects(found: Inspection, recordings: Sequence[Recording]) -> Iterator[str]:
    names = {name.rpartition("/")[2]: one["labels"] for name, one in found.subjects.items()}
    activities = {
        subject: label
        for subject, labels in names.items()
        for label in found.labels
        if _is_activity(subject, label, labels)
    }
    if activities:
        labels = ", ".join(dict.fromkeys(activities.values()))
        yield (
            f"subjects are named like activities: {_some(list(activities))} like {labels}; name files "
            "SUBJECT_ACTIVITY.csv, or put those of each subject into a folder of its own"
        )
    if len(names) == 1:
        yield "there is one subject only: training needs two, and figures worth reading at least four"
    by_column = set(found.subjects_by) == {BY_COLUMN}
    single = found.files > 2 and all(len(labels) == 1 for labels in names.values())
    if single and len(names) == found.files and not by_column:
        yield (
            f"{found.files} of {found.files} files are subjects of their own, each with one label: if one person made "
            "several, name them anna_1.csv, anna_2.csv"
        )
    yield from _same_words({name: labels for name, labels in names.items() if name not in activities})
    yield from _same_prefixes(found, recordings)


def _is_activity(subject: str, label: str, labels: Sequence[str]) -> bool:
    """Return whether a subject is named like a label: exactly, or nearly if it has no other one."""
    if simplify(subject) == simplify(label):
        return True
    return list(labels) == [label] and _is_like(_first_word(subject), label)


def _is_like(word: str, label: str) -> bool:
    """Return whether one of two names begins with the other: walk and WALKING."""
    one, other = simplify(word), simplify(label)
    return min(len(one), len(other)) > 2 and (one.startswith(other) or other.startswith(one))


def _first_word(name: str) -> str:
    """Return the letters at the beginning of a name."""
    match = re.match(r"[^\W\d_]+", name)
    return match[0] if match else ""


def _same_words(names: dict[str, list[str]]) -> Iterator[str]:
    """Doubt subjects that differ by case only, or begin with the same word, and so may be one person."""
    for same in _groups((name.casefold(), name) for name in names).values():
        yield f"subjects {' and '.join(same)} differ by case only: give them one name"
    alike = []
    for word, same in _groups((_first_word(name).casefold(), name) for name in names).items():
        if not word or word in ANYBODY or len({name.casefold() for name in same}) == 1:
            continue
        numbered = len(same) == len(names) and all(re.fullmatch(r"[^\W\d_]+\W*\d+", name) for name in same)
        if not numbered or all(len(names[name]) == 1 for name in same):  # else they are people with numbers
            alike.append(same)
    if alike:
        word = _first_word(alike[0][0])
        yield (
            f"subjects begin with one word: {'; '.join(_some(same) for same in alike[:_NAMED])}"
            f"{'; and others' if len(alike) > _NAMED else ''}: if those of a word are one person, name the files "
            f"{word}_1.csv, {word}_2.csv"
        )


def _same_prefixes(found: Inspection, recordings: Sequence[Recording]) -> Iterator[str]:
    """Doubt folders as subjects if files in several of them begin with one name."""
    begins = []
    for one in recordings:
        if one.source is not None and one.source.subject_by == BY_FOLDER:
            prefix = subject_of(re.sub(r"\.csv(\.gz)?$", "", PurePosixPath(one.source.file).name, flags=re.IGNORECASE))
            if prefix.casefold() not in _ANY_FILE and not any(_is_like(prefix, label) for label in found.labels):
                begins.append((prefix, one.subject))
    several = _groups(begins)
    if several:
        prefix, subjects = next(iter(several.items()))
        yield (
            f"folders tell the subjects, but files that begin with {_some(list(several))} are in several "
            f"({_some(subjects)}): if {prefix} is a subject, put the files of each subject into one folder, or all "
            "into one"
        )


def _groups(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Return the different names of each key that has several."""
    groups: dict[str, dict[str, None]] = {}
    for key, name in pairs:
        groups.setdefault(key, {})[name] = None
    return {key: sorted(names) for key, names in groups.items() if len(names) > 1}


def _of_labels(
    found: Inspection, recordings: Sequence[Recording], window_s: float, *, for_training: bool
) -> Iterator[str]:
    without = [one.source.file for one in recordings if one.source is not None and not one.source.has_label]
    if without:
        files = "no file has" if len(without) == found.files else f"{len(without)} of {found.files} files have no"
        yield f"{files} labels ({_some(without)}): expected a column label, activity or class"
    elif not found.labels:
        yield "no sample has a label"
    for name, entry in found.labels.items():
        if name == UNKNOWN:
            yield (
                f"{UNKNOWN} cannot be learnt and is not scored: it says that a model does not know; choose another "
                "name for an activity"
            )
            continue
        if for_training and entry["subjects"] == 1 and len(found.subjects) > 1:
            yield f"only one subject has {name}: while that subject is held out, it cannot be learnt"
        if entry["longest_s"] < window_s:
            yield (
                f"no segment of {name} is as long as a window ({entry['longest_s']:.1f} s of {window_s:g} s): it will "
                f"not be {'learnt' if for_training else 'scored'}; record longer ones, or choose a shorter window"
            )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
