"""Splits of subjects: into folds for validation, and into two parts for early stopping."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from harstream.datasets.windows import LabelledWindows
from harstream.errors import DatasetError


def folds_of(subjects: Iterable[str], n_folds: int, seed: int) -> list[tuple[str, ...]]:
    """Deal the subjects at random into ``n_folds`` folds, or into as many as there are subjects.

    Each subject is in exactly one fold. The result depends on the subjects, the number and the seed alone.

    Raises:
        DatasetError: There are fewer than two subjects; one must be held out and one trained on.

    """
    subjects = sorted(set(subjects))
    if len(subjects) < 2:
        raise DatasetError(
            f"validation by subject needs at least two subjects with known labels, found {len(subjects)}"
            f"{''.join(f' ({name})' for name in subjects)}: add recordings of other subjects; of a csv file, the "
            "subject is its name up to the first _"
        )
    order = np.random.default_rng(seed).permutation(len(subjects))
    groups = np.array_split(order, min(max(2, n_folds), len(subjects)))
    return [tuple(subjects[index] for index in sorted(group)) for group in groups]


def folds_of_data(data_sets: Mapping[str, str]) -> list[tuple[str, ...]]:
    """Return one fold for each data set, in alphabetical order: its subjects, sorted.

    Args:
        data_sets: The data set of each subject.

    Raises:
        DatasetError: There are fewer than two data sets; one must be held out and one trained on.

    """
    names = sorted(set(data_sets.values()))
    if len(names) < 2:
        raise DatasetError(
            f"validation by data set needs at least two data sets with windows of the labels, found {len(names)}"
            f"{''.join(f' ({name})' for name in names)}: give --data again, or choose --folds subject"
        )
    return [tuple(sorted(subject for subject, own in data_sets.items() if own == name)) for name in names]


def split_by_subject(data: LabelledWindows, share: float, seed: int) -> tuple[LabelledWindows, LabelledWindows]:
    """Return the windows of most subjects, and those of a random ``share`` of the subjects, at least one.

    Raises:
        DatasetError: There are fewer than two subjects.

    """
    subjects = np.unique(data.subject)
    if len(subjects) < 2:
        raise DatasetError(
            f"early stopping needs at least two subjects to train on, found {len(subjects)}: set patience to 0"
        )
    n_held_out = min(max(1, round(share * len(subjects))), len(subjects) - 1)
    chosen = np.isin(data.subject, np.random.default_rng(seed).permutation(subjects)[:n_held_out])
    return data.select(np.flatnonzero(~chosen)), data.select(np.flatnonzero(chosen))
