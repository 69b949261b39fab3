"""Are two sets of windows alike? Kolmogorov-Smirnov distances of ninety plain statistics of a window.

The measure of how well the simulator agrees with recordings that looks at no recognition model.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import ks_2samp

from harstream.simulate.parameters import Float

#: Lags, in samples at 50 Hz, at which a step and a stride show in the autocorrelation.
STEP_LAGS, STRIDE_LAGS = slice(20, 40), slice(45, 75)
N_STATISTICS = 90


def statistics(window: Float) -> Float:
    """(n_samples, 6), at least 76 -> (N_STATISTICS,).

    Per channel mean, log spread, extremes, skewness, kurtosis, log roughness and its log kurtosis,
    drift, and autocorrelation at a step (height and lag) and a stride; correlations between channels;
    extremes and spread of the length of the acceleration.
    """
    spread = window.std(0) + 1e-9
    scaled = (window - window.mean(0)) / spread
    steps = np.diff(window, axis=0)
    half = len(window) // 2
    lagged = np.array([np.correlate(c, c, "full")[len(c) - 1 :] for c in scaled.T]).T / len(window)
    length = np.linalg.norm(window[:, :3], axis=1)
    return np.concatenate(
        [
            window.mean(0),
            np.log(spread),
            scaled.max(0),
            scaled.min(0),
            (scaled**3).mean(0),
            (scaled**4).mean(0),
            np.log(steps.std(0) / spread + 1e-9),
            np.log((steps**4).mean(0) / steps.var(0) ** 2),
            np.log(np.abs(window[:half].mean(0) - window[half:].mean(0)) + 1e-5),
            lagged[STEP_LAGS].max(0),
            lagged[STEP_LAGS].argmax(0),
            lagged[STRIDE_LAGS].max(0),
            np.corrcoef(scaled.T)[np.triu_indices(6, 1)],
            [length.max(), length.min(), np.log(length.std() + 1e-9)],
        ]
    )


def distances(first: Float, second: Float) -> Float:
    """(n, N_STATISTICS), (m, N_STATISTICS) -> (N_STATISTICS,) Kolmogorov-Smirnov distances, 0 alike to 1 apart."""
    return np.array([ks_2samp(first[:, i], second[:, i]).statistic for i in range(first.shape[1])])


def halves(table: Float, subjects: list[str], rounds: int = 5) -> Float:
    """The same between random halves of the subjects of one set, mean over rounds: what chance does to so few.

    ``subjects``: (n,) who each row of ``table`` (n, N_STATISTICS) is from.
    """
    rng = np.random.default_rng(0)
    names = np.unique(subjects)
    found = []
    for _ in range(rounds):
        inside = np.isin(subjects, rng.permutation(names)[: len(names) // 2])
        found.append(distances(table[inside], table[~inside]))
    return np.asarray(np.mean(found, axis=0), np.float64)
