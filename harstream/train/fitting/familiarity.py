"""Fit of the test of unfamiliar windows (``core.familiar``): class means and covariance, then the limits."""

from __future__ import annotations

import numpy as np

from harstream.core.batches import Float64
from harstream.core.familiar import Familiar, Limits, total
from harstream.datasets.windows import LabelledWindows
from harstream.train.fitting.balance import cap_sets
from harstream.train.fitting.fit import Fitted
from harstream.train.fitting.prepare import served
from harstream.train.fitting.recipe import FitConfig

#: Share of the windows of held-out subjects that the limits are exceeded by. People differ: of those who had no part in
#: the limits, the test takes about twice the share for unfamiliar, and a few of them mostly (HAPT by subject: 0.6 %).
COST = 0.003
#: The same of each held-out data set, where whole sets were held out: the farthest one decides.
COST_OF_A_SET = 0.01
#: Variance added to every feature, in units of its own variance: directions in which the training windows hardly
#: differ would count beyond measure otherwise.
_SHRINKAGE = 0.01


def fit_familiar(fitted: Fitted, data: LabelledWindows, config: FitConfig) -> Familiar:
    """Return class means and covariance of the features of the windows trained on; the limits are infinite.

    The numbers have six digits, so that bundle.json stays small.

    Args:
        fitted: The network.
        data: The windows that it was trained on. They are used as they are served, without augmentation.
        config: The recipe that it was trained by, which may have capped the windows of each data set.

    """
    data = cap_sets(data, config.set_windows, config.seed)
    values = fitted.logits_and_features(served(data, fitted.spec))[1].astype(np.float64)
    classes, number = np.unique(data.label, return_inverse=True)
    means = np.stack([values[number == one].mean(axis=0) for one in range(len(classes))])
    scale = values.std(axis=0)
    scale[scale < 1e-6] = 1.0  # a feature that is always 0
    deviations = (values - means[number]) / scale
    covariance = deviations.T @ deviations / len(values) + _SHRINKAGE * np.eye(len(scale))
    whitening = np.linalg.cholesky(np.linalg.inv(covariance)) / scale[:, None]
    return Familiar(_six_digits(means), _six_digits(whitening), Limits())


def limits_for(distance: Float64, energy: Float64, cost: float = COST) -> Limits:
    """Return the limit of the total that a share ``cost`` of windows exceeds, and of distance for the extreme ones.

    A network is surer of a signal the stronger it is, so the total of a very strong one is low. Its distance is not:
    the limit of distance is the one that a tenth of the share exceeds.

    Args:
        distance: (n_windows,) of windows of subjects that neither the network nor the class means know.
        energy: (n_windows,) of the same windows.
        cost: The share.

    """
    return Limits(
        distance=float(np.quantile(distance, 1 - cost / 10, method="higher")),
        total=float(np.quantile(total(distance, energy), 1 - cost, method="higher")),
    )


def _six_digits(values: Float64) -> Float64:
    return np.array([[float(f"{value:.6g}") for value in row] for row in values.tolist()])
