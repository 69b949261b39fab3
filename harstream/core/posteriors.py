"""What is believed of each device, window after window: four filters over probabilities, state by row.

A filter sees one window of a row at a time. Where abstaining is wanted, UNKNOWN is one more state behind
the labels (``with_doubt``): it competes like a label, and is as steady as the others.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from harstream.core.batches import Bool, Float64, Int64
from harstream.core.rows import RowArrays

#: No window counts for more against a label than this: what the network holds for impossible happens.
LEAST_PROBABILITY = 1e-4
#: The part of all changes between labels that goes by way of UNKNOWN, where there is one: from sitting to standing
#: one must get up, but from walking one may go straight upstairs.
BY_UNKNOWN = 0.9


class PosteriorFilter(RowArrays):
    """Every window for itself; the base of the filters that remember."""

    ROW_ARRAYS: ClassVar[tuple[str, ...]] = ("posterior",)

    def __init__(self, n_states: int, capacity: int) -> None:
        self.posterior = np.zeros((capacity, n_states))

    def feed(self, rows: Int64, restart: Bool, probabilities: Float64) -> tuple[Int64, Float64]:
        """The next window of each of ``rows`` (each once), (n_rows, n_states), to state and posterior in it.

        The rows where ``restart`` is true begin anew.
        """
        self.posterior[rows] = probabilities
        return _best(probabilities)


class ExponentialFilter(PosteriorFilter):
    """The exponentially weighted mean of the probabilities; ``weight`` is the newest window's."""

    def __init__(self, weight: float, n_states: int, capacity: int) -> None:
        super().__init__(n_states, capacity)
        self._weight = weight

    def feed(self, rows: Int64, restart: Bool, probabilities: Float64) -> tuple[Int64, Float64]:
        before = np.where(restart[:, None], probabilities, self.posterior[rows])
        return super().feed(rows, restart, before + self._weight * (probabilities - before))


class HysteresisFilter(PosteriorFilter):
    """Change to a state once it has been ahead of the current one by ``margin`` in ``windows`` windows in a row."""

    ROW_ARRAYS = ("posterior", "state", "rival", "ahead")

    def __init__(self, margin: float, windows: int, n_states: int, capacity: int) -> None:
        super().__init__(n_states, capacity)
        self._margin, self._windows = margin, windows
        self.state = np.zeros(capacity, np.int64)
        self.rival = np.zeros(capacity, np.int64)
        self.ahead = np.zeros(capacity, np.int64)  # windows in a row that the rival was ahead in

    def feed(self, rows: Int64, restart: Bool, probabilities: Float64) -> tuple[Int64, Float64]:
        best, top = super().feed(rows, restart, probabilities)
        each = np.arange(len(rows))
        current = np.where(restart, best, self.state[rows])
        ahead = (best != current) & (top - probabilities[each, current] >= self._margin)
        count = np.where(ahead, np.where(best == self.rival[rows], self.ahead[rows], 0) + 1, 0)
        change = count >= self._windows
        state = np.where(change, best, current)
        self.state[rows], self.rival[rows], self.ahead[rows] = state, best, np.where(change, 0, count)
        return state, probabilities[each, state]


class HmmFilter(PosteriorFilter):
    """The forward filter of a hidden Markov model (Rabiner 1989) and, for those who can wait, its fixed-lag smoother.

    ``transitions`` (n_states, n_states) are the probabilities from the row's state to the column's within
    one stride. Of a window, the evidence for a state is its calibrated probability (that is the scaled
    likelihood under uniform priors, Bourlard and Morgan 1994) to the power of ``trust``: windows overlap and
    err together, so each of them counts for less than an independent one.
    """

    ROW_ARRAYS = ("posterior", "held_belief", "held_evidence")

    def __init__(self, transitions: Float64, trust: float, lag: int, capacity: int) -> None:
        n_states = len(transitions)
        super().__init__(n_states, capacity)
        self._transitions, self._trust = transitions, trust
        # Of the last windows, the newest last; posteriors as they were when the window came.
        self.held_belief = np.zeros((capacity, lag + 1, n_states))
        self.held_evidence = np.zeros((capacity, lag + 1, n_states))

    def feed(self, rows: Int64, restart: Bool, probabilities: Float64) -> tuple[Int64, Float64]:
        evidence = np.maximum(probabilities, LEAST_PROBABILITY) ** self._trust
        expected = _times(self.posterior[rows], self._transitions)
        expected[restart] = 1.0
        posterior = _normalised(expected * evidence)
        for held, new in ((self.held_belief, posterior), (self.held_evidence, evidence)):
            held[rows, :-1] = held[rows, 1:]
            held[rows, -1] = new
        return super().feed(rows, restart, posterior)

    def looking_back(self, rows: Int64, n_windows: int) -> tuple[Int64, Float64]:
        """State and posterior of the window ``n_windows`` before the newest, given all that came since."""
        backward = np.ones((len(rows), self.posterior.shape[1]))
        for ago in range(n_windows):
            backward = _times(backward * self.held_evidence[rows, -1 - ago], self._transitions.T)
            backward /= backward.max(axis=1, keepdims=True)
        return _best(_normalised(self.held_belief[rows, -1 - n_windows] * backward))


def dwelling(dwell_s: float, stride_s: float, n_labels: int) -> Float64:
    """(n_labels, n_labels) transitions per stride where each label lasts ``dwell_s`` in the mean, then any other.

    A stride much longer than that says nothing of the next label: all are as likely then.
    """
    stay = max(float(np.exp(-stride_s / dwell_s)), 1 / n_labels)
    transitions = np.full((n_labels, n_labels), (1 - stay) / (n_labels - 1))
    np.fill_diagonal(transitions, stay)
    return transitions


def with_unknown(transitions: Float64, unknown_dwell_s: float, stride_s: float) -> Float64:
    """``transitions`` and a last state, UNKNOWN, which lasts ``unknown_dwell_s`` in the mean, then any label.

    No label is likelier to become UNKNOWN than to stay: where a stride is as long as an activity, so much more
    changes go straight to another label. Windows that the network is sure of would be UNKNOWN otherwise.
    """
    n_labels = len(transitions)
    stays = np.diag(transitions)
    leaves = 1 - stays
    by_unknown = np.minimum(leaves * BY_UNKNOWN, stays)
    unknown_stays = np.exp(-stride_s / unknown_dwell_s)
    out = np.zeros((n_labels + 1, n_labels + 1))
    out[:-1, :-1] = transitions * (1 - by_unknown / np.maximum(leaves, np.finfo(np.float64).tiny))[:, None]
    out[:-1, -1] = by_unknown
    out[-1, :-1] = (1 - unknown_stays) / n_labels
    np.fill_diagonal(out, [*stays, unknown_stays])
    return out


def with_doubt(probabilities: Float64, unknown_below: float) -> Float64:
    """(n_rows, n_labels) and a last column for UNKNOWN: (n_rows, n_labels + 1), no longer summing to 1.

    What the network's top probability leaves to all other labels, scaled such that UNKNOWN is ahead of every
    label exactly where the top probability is below ``unknown_below``: the odds of the one over the odds of the
    other. A constant in its place would hardly ever be far behind, and a filter, once in UNKNOWN, stuck there.
    """
    rest = 1 - probabilities.max(axis=1, keepdims=True)
    return np.concatenate([probabilities, rest * (unknown_below / (1 - unknown_below))], axis=1)


def _best(posteriors: Float64) -> tuple[Int64, Float64]:
    state = posteriors.argmax(axis=1)
    return state, posteriors[np.arange(len(state)), state]


# Sums in one order, whatever the number of rows: numpy's own reductions, like BLAS, choose by shape.


def _times(vectors: Float64, matrix: Float64) -> Float64:
    """(n_rows, n_states) each times (n_states, n_states)."""
    out: Float64 = vectors[:, :1] * matrix[0]
    for i in range(1, len(matrix)):
        out += vectors[:, i : i + 1] * matrix[i]
    return out


def _normalised(values: Float64) -> Float64:
    """(n_rows, n_states) such that each row sums to 1."""
    total = values[:, 0].copy()
    for i in range(1, values.shape[1]):
        total += values[:, i]
    out: Float64 = values / total[:, None]
    return out
