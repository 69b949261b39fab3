"""Calibration of a bundle by held-out windows: bias and temperature of its logits, limits of unfamiliar windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from harstream.core.batches import Float32, Float64, Int64
from harstream.core.familiar import Limits, energy
from harstream.errors import DatasetError
from harstream.train.fitting.familiarity import COST_OF_A_SET, limits_for
from harstream.train.fitting.fit import fit_bias, fit_temperature


class HeldOut(Protocol):
    """Windows that a network was not trained on, such as a ``FoldResult``."""

    @property
    def learnt(self) -> Sequence[int]:
        """Indices of the labels that the network was trained on."""

    @property
    def logits(self) -> Float32:
        """Logits of the network, (n_windows, n_outputs)."""

    @property
    def distance(self) -> Float64:
        """Distances of the features, (n_windows,), see ``core.familiar``."""

    @property
    def label(self) -> Int64:
        """True label, (n_windows,)."""

    @property
    def data_set(self) -> npt.NDArray[np.str_]:
        """Name of the data set, (n_windows,)."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """Bias, temperature and limits, fitted on windows that their networks were not trained on."""

    bias: Float32  # (n_outputs,) is added to the logits; 0 where folds are by subject
    temperature: float  # divides the logits after that
    limits: Limits  # of unfamiliar windows, by the logits with the bias


def calibrate(folds: Sequence[HeldOut], *, by_data: bool) -> Calibration:
    """Return the calibration by the held-out windows of ``folds``.

    Windows of a label that the network of their fold has not learnt do not count: it can only be wrong about them, and
    the network of the bundle has learnt all labels.

    Args:
        folds: Of one run or several.
        by_data: Whether whole data sets were held out. Then the bias takes back the preference for labels that many
            sets have, and the limits are the highest of those of each set.

    Raises:
        DatasetError: No held-out window has a label that the network of its fold has learnt.

    """
    known = [np.isin(fold.label, fold.learnt) for fold in folds]
    logits = np.concatenate([fold.logits[which] for fold, which in zip(folds, known, strict=True)])
    label = np.concatenate([fold.label[which] for fold, which in zip(folds, known, strict=True)])
    distance = np.concatenate([fold.distance[which] for fold, which in zip(folds, known, strict=True)])
    data_set = np.concatenate([fold.data_set[which] for fold, which in zip(folds, known, strict=True)])
    if not len(label):
        raise DatasetError(
            "no network was scored on a label that it had learnt: the parts that are held out share no label; hold out "
            "subjects instead (--folds subject), or add recordings with the same labels"
        )
    bias = fit_bias(logits, label, data_set) if by_data else np.zeros(logits.shape[1], np.float32)
    logits = logits + bias
    energies = energy(logits)
    limits = [limits_for(distance, energies)]
    if by_data:
        # People of other laboratories are further from the training data than others of the same one, and by how much
        # differs. Those who are still to come may be as far as the farthest.
        parts = [data_set == name for name in np.unique(data_set)]
        limits = [limits_for(distance[part], energies[part], COST_OF_A_SET) for part in parts]
    return Calibration(bias, fit_temperature(logits, label), Limits(*map(max, zip(*limits, strict=True))))
