"""Windows and signal of a training, from recordings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from harstream.core.batches import Float32
from harstream.core.label_table import LabelTable
from harstream.core.smoothing_section import Smoothing
from harstream.core.spec import BODY_ACC, DEFAULT_CHANNELS, GYRO, ORIENTATION_FREE, TOTAL_ACC, SignalSpec
from harstream.core.transitions import possible_moves, transitions_from_moves
from harstream.datasets import base, windows
from harstream.datasets.base import Recording
from harstream.datasets.sets import DataSet, kind_of
from harstream.datasets.windows import LabelledWindows
from harstream.errors import ConfigError, DatasetError
from harstream.progress import Progress, silent
from harstream.train.folds import folds_of

#: The smoothing of a new bundle, chosen by ``research.smoothing.study``; see docs/results/streaming.md.
DEFAULT_SMOOTHING = Smoothing("hmm", unknown_below=0.5, unknown_dwell_s=1.0, fixed_lag_windows=2)
#: ``dwell_s`` of a model that was judged by leaving out whole data sets. What its network says of a stranger's windows
#: is worth less, and 10 s gives about 1 point more on such sets than 5 s; 15 s gives no more.
UNSEEN_DWELL_S = 10.0
#: ``unknown_share`` of a model that knows states. Most changes pass through a state or need none; some pass through
#: UNKNOWN to any label, so that a transition that the network missed or took for another does not hold the label back
#: for long. On 14 subjects of HAPT, each half by a network trained on the other, 0.02 and 0.05 found most transitions
#: and labelled best; 0.3 costs 0.2 points.
UNKNOWN_SHARE_WITH_STATES = 0.05
#: The libraries whose versions a bundle and the results of a sweep state.
_LIBRARIES = ("numpy", "scipy", "tensorflow", "keras")
#: Text of the model card for recordings of no known data set.
_ABOUT_OWN = """\
Recordings of the person who ran `harstream train`. The placement of the device, the source and the licence are not
known to harstream: describe them here before you pass the model on."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """The windows of a training, cut in two ways from the same recordings."""

    spec: SignalSpec  # without a normalisation
    # To train on: cut more densely than one stride, also after restarts; with the channels of ``training_channels``.
    training: LabelledWindows
    scored: LabelledWindows  # to score: one stride apart, as in serving, and without those of states


def prepare(
    recordings: Sequence[Recording],
    spec: SignalSpec | None = None,
    labels: Sequence[str] | None = None,
    *,
    states: Sequence[str] = (),
    train_only: Sequence[str] = (),
    seed: int = 0,
    progress: Progress = silent,
) -> Prepared:
    """Cut the windows to train on and those to score.

    Args:
        recordings: Recordings of at least two subjects.
        spec: The signal; by default that of ``spec_of``.
        labels: The labels to learn, in the order of the network's outputs; by default all that occur and are no
            states. A label without a window is left out.
        states: The states between labels to learn as further outputs.
        train_only: Names of data sets that are trained on and never scored.
        seed: Decides where the training streams restart.
        progress: Is called before and after.

    Raises:
        DatasetError: The sample rates differ and there is no spec, fewer than two labels or subjects have windows, a
            data set or a state has none, or as ``scored_sets`` raises it.
        ConfigError: A state has the name of a label, or does not begin and end in a label that has windows.

    """
    spec = spec or spec_of(recordings)
    wanted = tuple(labels or windows.known_labels(recordings, states))
    require_other_names(wanted, states)
    names = sorted({recording.data_set for recording in recordings})
    scored_sets(names, train_only)
    progress("cutting windows", 0, 1)
    scored = windows.cut_windows(windows.whole_streams(recordings), spec, wanted)
    present = tuple(label for index, label in enumerate(wanted) if (scored.label == index).any())
    if len(present) < 2:
        raise DatasetError(
            f"training needs two labels with windows, found {len(present)} of {', '.join(wanted)}: "
            f"no segment of another label is as long as a window of {spec.window_samples} samples"
        )
    for name in sorted(set(names) - set(scored.data_set.tolist())):
        raise DatasetError(
            f"{name}: no window of {spec.window_samples} samples lies inside an activity with one of the labels "
            f"{', '.join(wanted)}: compare the labels of the data set, or leave it out"
        )
    scored = scored.select(np.flatnonzero(~np.isin(scored.data_set, list(train_only))))
    folds_of(scored.subject.tolist(), 2, seed)  # raises if there are too few subjects, before the long part
    if present != wanted:
        scored_recordings = [recording for recording in recordings if recording.data_set not in train_only]
        scored = windows.cut_windows(windows.whole_streams(scored_recordings), spec, present)
    possible_moves(present, states)  # raises if a state does not fit the labels
    cut = replace(spec, channels=training_channels(spec), normalisation=None)
    training = windows.cut_windows(windows.restarted_streams(recordings, spec, seed), cut, present, states=states)
    absent = [state for index, state in enumerate(states, len(present)) if not (training.label == index).any()]
    if absent:
        raise DatasetError(f"no window lies with half its length in a segment of {', '.join(absent)}: omit the states")
    progress("cutting windows", 1, 1)
    return Prepared(spec, training, scored)


def training_channels(spec: SignalSpec) -> tuple[str, ...]:
    """Return the channels of windows to train on: those of the spec, and those that augmentations need besides.

    Orientation-free channels cannot be augmented by themselves. The accelerations that they are made of can.
    """
    needed = (*TOTAL_ACC, *BODY_ACC) if set(ORIENTATION_FREE) & set(spec.channels) else ()
    return (*spec.channels, *(name for name in needed if name not in spec.channels))


def served(data: LabelledWindows, spec: SignalSpec) -> Float32:
    """Return windows to train on as they are served, with the channels of the spec only."""
    return data.windows[:, :, : spec.n_channels]


def spec_of(recordings: Sequence[Recording], fields: Mapping[str, Any] | None = None) -> SignalSpec:
    """Return the signal to train for: ``fields`` of its JSON section, completed for the recordings.

    The defaults are the rate of the recordings, windows of 128 samples, a stride of 64, and all nine channels, or the
    six without gyroscope if a recording has none.

    Raises:
        ConfigError: ``fields`` are not valid.
        DatasetError: The sample rates of the recordings differ, and ``fields`` has none.

    """
    known = dict(fields or {})
    if "sample_rate_hz" not in known:
        known["sample_rate_hz"] = windows.common_rate(recordings)
    if "channels" not in known and not all(recording.has_gyro for recording in recordings):
        known["channels"] = [channel for channel in DEFAULT_CHANNELS if channel not in GYRO]
    return SignalSpec.from_dict(known)


def smoothing_for(spec: SignalSpec, *, by_data: bool = False) -> Smoothing:
    """Return DEFAULT_SMOOTHING, with longer times if windows are more than 1.28 s apart.

    DEFAULT_SMOOTHING was chosen for windows 1.28 s apart: its times are about 3.9 and 0.78 strides.

    Args:
        spec: The signal.
        by_data: Whether the model is judged by leaving out whole data sets (UNSEEN_DWELL_S).

    """
    stride_s = spec.stride_samples / spec.sample_rate_hz
    dwell_s = UNSEEN_DWELL_S if by_data else DEFAULT_SMOOTHING.dwell_s
    return replace(
        DEFAULT_SMOOTHING,
        dwell_s=max(dwell_s, round(3.9 * stride_s, 3)),
        unknown_dwell_s=max(DEFAULT_SMOOTHING.unknown_dwell_s, round(0.78 * stride_s, 3)),
        fixed_lag_windows=DEFAULT_SMOOTHING.fixed_lag_windows if stride_s <= 2 else 1,
    )


def smoothing_with_states(
    spec: SignalSpec, labels: Sequence[str], states: Sequence[str], recordings: Sequence[Recording]
) -> Smoothing:
    """Return the smoothing of a model that knows states: that of ``smoothing_for``, with possible transitions only.

    The mean durations are those of the segments of ``recordings``, which should be those that the network is trained
    on; an output without a segment lasts ``dwell_s``. The order of the segments does not count: it is that of a
    protocol. Probabilities have five decimals, so that a person can read them in bundle.json.
    """
    smoothing = smoothing_for(spec)
    lengths: dict[str, list[float]] = {}
    for recording in recordings:
        for segment in recording.segments:
            lengths.setdefault(segment.label, []).append((segment.stop - segment.start) / recording.rate_hz)
    duration_s = np.array([np.mean(lengths.get(name, smoothing.dwell_s)) for name in (*labels, *states)])
    stride_s = spec.stride_samples / spec.sample_rate_hz
    transitions = transitions_from_moves(possible_moves(labels, states), duration_s, stride_s).round(5)
    np.fill_diagonal(transitions, 0.0)
    np.fill_diagonal(transitions, (1 - transitions.sum(axis=1)).round(5))
    return replace(
        smoothing,
        unknown_share=UNKNOWN_SHARE_WITH_STATES,
        transitions=tuple(map(tuple, transitions.tolist())),
    )


def labels_wanted(data: str | Sequence[str], table: LabelTable | None) -> tuple[str, ...] | None:
    """Return the labels of a table; without one those of the KIND of a single data set, else None: all that occur."""
    if table is not None:
        return table.labels
    names = each_of(data)
    return labels_of_kind(names[0]) if len(names) == 1 else None


def labels_of_kind(data: str) -> tuple[str, ...] | None:
    """Return the labels that a KIND of data is trained on by default, None if it has no such list."""
    return getattr(_module(data), "LABELS", None)


def states_of(data: str | Sequence[str]) -> tuple[str, ...]:
    """Return the states between labels that KINDs of data name.

    Raises:
        ConfigError: None of them names any.

    """
    states = dict.fromkeys(state for one in each_of(data) for state in getattr(_module(one), "STATES", ()))
    if not states:
        kinds = ", ".join(map(kind_of, each_of(data)))
        raise ConfigError(f"--states: {kinds} names no states between labels; leave the option out")
    return tuple(states)


def scored_sets(names: Sequence[str], train_only: Sequence[str]) -> list[str]:
    """Return the names of the data sets that are scored: those that are not trained on only.

    Raises:
        DatasetError: There is no data set of a name in ``train_only``, or none is left to score.

    """
    for name in train_only:
        if name not in names:
            raise DatasetError(f"--train-only: no data set is called {name!r}: the data sets are {', '.join(names)}")
    scored = [name for name in names if name not in train_only]
    if not scored:
        raise DatasetError(
            f"--train-only: it names every data set ({', '.join(names)}), so that none is left to validate on: "
            "name fewer of them"
        )
    return scored


def require_other_names(labels: Sequence[str], states: Sequence[str]) -> None:
    """Raise ConfigError if a state has the name of a label: each is an output of its own."""
    both = [state for state in states if state in labels]
    if both:
        raise ConfigError(
            f"--states: {', '.join(both)} would be a label and a state between labels: "
            "take the name out of the labels, or leave --states out"
        )


def default_table(sets: Sequence[DataSet], states: Sequence[str] = ()) -> LabelTable:
    """Return the labels that data sets are trained on without a table: those of the kind, else all that occur.

    A name of a later set that differs from a label only by case, spaces, ``-`` and ``_`` is not a label of its own,
    and neither is one that differs from one of ``states`` in no other way.

    Raises:
        DatasetError: There are fewer than two labels.

    """
    table, between = LabelTable.plain(()), LabelTable.plain(states)
    for data_set in sets:
        names = labels_of_kind(data_set.data) or windows.labels_in(data_set.recordings)
        new = [name for name in names if not any(known.label_of(data_set.kind, name) for known in (table, between))]
        table = table.only((*table.labels, *new))
    windows.require_two(table.labels)
    return table


def about_kind(data: str) -> str:
    """Return the paragraph of the model card about a KIND of data: its source and licence."""
    return str(getattr(_module(data), "ABOUT", _ABOUT_OWN))


def data_name(data: str) -> str:
    """Return KIND:PATH without the folders: ``hapt:/some/where/hapt.zip`` becomes ``hapt:hapt.zip``."""
    kind, _, place = data.partition(":")
    path = Path(place)
    return f"{kind}:{path.resolve().name if path.name in ('', '..') else path.name}"


def data_names(data: str | Sequence[str]) -> str:
    """Return each KIND:PATH without the folders, separated by commas."""
    return ", ".join(data_name(one) for one in each_of(data))


def each_of(data: str | Sequence[str]) -> tuple[str, ...]:
    """Return one KIND:PATH or several as a tuple."""
    return (data,) if isinstance(data, str) else tuple(data)


def signal_dict(spec: SignalSpec) -> dict[str, Any]:
    """Return the JSON section of the signal without its normalisation, which every fit computes."""
    return {name: value for name, value in spec.to_dict().items() if name != "normalisation"}


def library_versions() -> dict[str, str]:
    """Return the version of each library that decides the numbers of a fit."""
    return {library: version(library) for library in _LIBRARIES}


def _module(data: str) -> Any:
    kind = kind_of(data)
    return import_module(base.KINDS[kind]) if kind in base.KINDS else None
