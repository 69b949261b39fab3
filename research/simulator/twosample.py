"""Two-sample comparison of sets of windows: Kolmogorov-Smirnov distances of ninety statistics of a window.

It measures how well simulated windows agree with recorded ones without any recognition model.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import ks_2samp

from harstream.simulate.parameters import Float

#: Ranges of lags, in samples at 50 Hz, of the autocorrelation peaks of a step and of a stride.
STEP_LAGS, STRIDE_LAGS = slice(20, 40), slice(45, 75)
N_STATISTICS = 90


def statistics(window: Float) -> Float:
    """Return statistics (N_STATISTICS,) of a window (n_samples, 6) of at least 76 samples.

    Per channel: mean, log standard deviation, extremes, skewness, kurtosis, log roughness and its log kurtosis, drift,
    and autocorrelation at a step (height and lag) and a stride (height). Also correlations between channels, and
    extremes and log standard deviation of the length of the acceleration.
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
    """Return the Kolmogorov-Smirnov distance (N_STATISTICS,) of each statistic, 0 (same distribution) to 1 (disjoint).

    ``first`` is (n, N_STATISTICS), ``second`` (m, N_STATISTICS).
    """
    return np.array([ks_2samp(first[:, i], second[:, i]).statistic for i in range(first.shape[1])])


def halves(table: Float, subjects: list[str], rounds: int = 5) -> Float:
    """Return the distances between random halves of the subjects of one set, mean over ``rounds``.

    They show how far apart two groups of so few subjects are by chance. ``subjects`` (n,) names the subject of each row
    of ``table`` (n, N_STATISTICS).
    """
    rng = np.random.default_rng(0)
    names = np.unique(subjects)
    rounds_of_distances = []
    for _ in range(rounds):
        inside = np.isin(subjects, rng.permutation(names)[: len(names) // 2])
        rounds_of_distances.append(distances(table[inside], table[~inside]))
    return np.asarray(np.mean(rounds_of_distances, axis=0), np.float64)
