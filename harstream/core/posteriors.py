"""Four filters over the probabilities of successive windows, with state by row.

A filter takes one window of a row at a time and returns a state with its posterior. The states are the outputs of the
network, in the order of the bundle: its labels, then the states between them that it knows, such as postural
transitions. If the model may abstain, UNKNOWN is one more state, after the last output: it competes with the outputs
and is smoothed like them. Only the columns of these arrays have these extra indices; label indices elsewhere use
UNKNOWN_INDEX.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from harstream.core.batches import Bool, Float64, Int64
from harstream.core.rows import RowArrays

#: Lower limit of the probability of a label in the HMM, because labels that the network considers impossible do occur.
MIN_PROBABILITY = 1e-4


class PosteriorFilter(RowArrays):
    """Filter without memory: the posterior is the probability of the window itself. Base of the other filters."""

    ROW_ARRAYS: ClassVar[tuple[str, ...]] = ("posterior",)

    def __init__(self, n_states: int, capacity: int) -> None:
        self.posterior = np.zeros((capacity, n_states))

    def feed(self, rows: Int64, restart: Bool, probabilities: Float64) -> tuple[Int64, Float64]:
        """Filter the next window of each row.

        Args:
            rows: (n_rows,) each row once.
            restart: (n_rows,) True: reset the row, the window does not continue its earlier ones.
            probabilities: (n_rows, n_states).

        Returns:
            The state and its posterior (n_rows,) each.

        """
        self.posterior[rows] = probabilities
        return _best(probabilities)

    def feed_row(self, row: int, probabilities: Float64) -> tuple[int, float]:
        """Filter the next window (n_states,) of one row that goes on. Return the state and its posterior."""
        state, posterior = self.feed(np.array([row]), np.zeros(1, np.bool_), probabilities[None])
        return state.item(), posterior.item()


class ExponentialFilter(PosteriorFilter):
    """Exponentially weighted mean of the probabilities, in which the newest window has ``weight``."""

    def __init__(self, weight: float, n_states: int, capacity: int) -> None:
        super().__init__(n_states, capacity)
        self._weight = weight

    def feed(self, rows: Int64, restart: Bool, probabilities: Float64) -> tuple[Int64, Float64]:
        """Filter the next window of each row, see ``PosteriorFilter.feed``."""
        before = np.where(restart[:, None], probabilities, self.posterior[rows])
        return super().feed(rows, restart, before + self._weight * (probabilities - before))


class HysteresisFilter(PosteriorFilter):
    """Filter that changes to a state that leads the current one by ``margin`` in ``windows`` windows in a row."""

    ROW_ARRAYS = ("posterior", "state", "rival", "lead")

    def __init__(self, margin: float, windows: int, n_states: int, capacity: int) -> None:
        super().__init__(n_states, capacity)
        self._margin, self._windows = margin, windows
        self.state = np.zeros(capacity, np.int64)
        self.rival = np.zeros(capacity, np.int64)  # the most probable state of the last window
        self.lead = np.zeros(capacity, np.int64)  # windows in a row in which the rival led the state by the margin

    def feed(self, rows: Int64, restart: Bool, probabilities: Float64) -> tuple[Int64, Float64]:
        """Filter the next window of each row, see ``PosteriorFilter.feed``."""
        best, top = super().feed(rows, restart, probabilities)
        each = np.arange(len(rows))
        current = np.where(restart, best, self.state[rows])
        leads = (best != current) & (top - probabilities[each, current] >= self._margin)
        lead = np.where(leads, np.where(best == self.rival[rows], self.lead[rows], 0) + 1, 0)
        change = lead >= self._windows
        state = np.where(change, best, current)
        self.state[rows], self.rival[rows], self.lead[rows] = state, best, np.where(change, 0, lead)
        return state, probabilities[each, state]


class HmmFilter(PosteriorFilter):
    """Forward filter of a hidden Markov model (Rabiner 1989), with a fixed-lag smoother.

    The evidence for a state is its calibrated probability to the power of ``trust``. A calibrated probability is the
    scaled likelihood under uniform priors (Bourlard and Morgan 1994). ``trust`` is below 1 because windows overlap and
    their errors are correlated, so each window is worth less than an independent one.

    Args:
        transitions: (n_states, n_states) probability of going from the state of the row to that of the column within
            one stride.
        trust: Exponent of the probabilities, above 0 and at most 1.
        lag: Number of windows that ``smooth`` can look back.
        capacity: Number of rows.

    """

    ROW_ARRAYS = ("posterior", "last_posteriors", "last_evidence")

    def __init__(self, transitions: Float64, trust: float, lag: int, capacity: int) -> None:
        n_states = len(transitions)
        super().__init__(n_states, capacity)
        self._transitions, self._trust = transitions, trust
        self._transposed = np.ascontiguousarray(transitions.T)
        # Of the last lag + 1 windows, the newest last. The posteriors are those of the forward filter.
        self.last_posteriors = np.zeros((capacity, lag + 1, n_states))
        self.last_evidence = np.zeros((capacity, lag + 1, n_states))

    def feed(self, rows: Int64, restart: Bool, probabilities: Float64) -> tuple[Int64, Float64]:
        """Filter the next window of each row, see ``PosteriorFilter.feed``."""
        evidence = np.maximum(probabilities, MIN_PROBABILITY) ** self._trust
        prior = _multiply(self.posterior[rows], self._transitions)
        prior[restart] = 1.0
        posterior = _normalise(prior * evidence)
        for history, newest in ((self.last_posteriors, posterior), (self.last_evidence, evidence)):
            history[rows, :-1] = history[rows, 1:]
            history[rows, -1] = newest
        return super().feed(rows, restart, posterior)

    def feed_row(self, row: int, probabilities: Float64) -> tuple[int, float]:
        """Filter the next window of one row that goes on, see ``PosteriorFilter.feed_row``."""
        evidence = np.maximum(probabilities, MIN_PROBABILITY) ** self._trust
        posterior = _multiply_row(self.posterior[row], self._transitions) * evidence
        posterior /= np.add.accumulate(posterior)[-1]
        for history, newest in ((self.last_posteriors[row], posterior), (self.last_evidence[row], evidence)):
            history[:-1] = history[1:]
            history[-1] = newest
        self.posterior[row] = posterior
        state = int(posterior.argmax())
        return state, posterior.item(state)

    def smooth_row(self, row: int, n_windows: int) -> tuple[int, float]:
        """Return state and posterior of one window of one row, see ``smooth``."""
        backward = np.ones(self.posterior.shape[1])
        for ago in range(n_windows):
            backward = _multiply_row(backward * self.last_evidence[row, -1 - ago], self._transposed)
            backward /= backward.max()
        smoothed = self.last_posteriors[row, -1 - n_windows] * backward
        smoothed /= np.add.accumulate(smoothed)[-1]
        state = int(smoothed.argmax())
        return state, smoothed.item(state)

    def smooth(self, rows: Int64, n_windows: int) -> tuple[Int64, Float64]:
        """Return state and posterior of the window ``n_windows`` before the newest, given all windows since then."""
        backward = np.ones((len(rows), self.posterior.shape[1]))
        for ago in range(n_windows):
            backward = _multiply(backward * self.last_evidence[rows, -1 - ago], self._transitions.T)
            backward /= backward.max(axis=1, keepdims=True)
        return _best(_normalise(self.last_posteriors[rows, -1 - n_windows] * backward))


def probabilities_with_unknown(probabilities: Float64, unknown_below: float) -> Float64:
    """Return ``probabilities`` (n_rows, n_outputs) with a last column for UNKNOWN; the rows no longer sum to 1.

    The column is what the top probability leaves to the other outputs, scaled so that UNKNOWN leads them all exactly
    where the top probability is below ``unknown_below``. A constant would not work: it would seldom be much
    lower than the top probability, so a filter that has once reached UNKNOWN would stay there.
    """
    rest = 1 - probabilities.max(axis=1, keepdims=True)
    return np.concatenate([probabilities, rest * (unknown_below / (1 - unknown_below))], axis=1)


def _best(posteriors: Float64) -> tuple[Int64, Float64]:
    state = posteriors.argmax(axis=1)
    return state, posteriors[np.arange(len(state)), state]


# The two sums below add in one order for any number of rows. The order in numpy's reductions and in BLAS depends on the
# shape, and with it the last bits of the result. np.add.accumulate adds one after another too; it is faster than a loop
# for few rows, and slower for many.

#: Number of rows up to which it is.
_FEW_ROWS = 12


def _multiply(vectors: Float64, matrix: Float64) -> Float64:
    """Return the product of each vector (n_rows, n_states) with ``matrix`` (n_states, n_states)."""
    if len(vectors) <= _FEW_ROWS:
        return np.asarray(np.add.accumulate(vectors[:, :, None] * matrix, axis=1)[:, -1])
    out: Float64 = vectors[:, :1] * matrix[0]
    for i in range(1, len(matrix)):
        out += vectors[:, i : i + 1] * matrix[i]
    return out


def _multiply_row(vector: Float64, matrix: Float64) -> Float64:
    """Return the product of a vector (n_states,) with ``matrix``, as ``_multiply`` of one row."""
    return np.asarray(np.add.accumulate(vector[:, None] * matrix, axis=0)[-1])


def _normalise(values: Float64) -> Float64:
    """Return ``values`` (n_rows, n_states) scaled so that each row sums to 1."""
    out: Float64 = values / np.add.accumulate(values, axis=1)[:, -1:]
    return out
