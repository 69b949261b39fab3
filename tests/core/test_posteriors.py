"""Posterior filters of one device: the states that follow from a sequence of probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harstream.core import posteriors
from harstream.core.posteriors import ExponentialFilter, HmmFilter, HysteresisFilter, PosteriorFilter
from harstream.core.transitions import transitions_from_dwell

A, B = [0.9, 0.1], [0.1, 0.9]
ROW = np.array([0])


def states(posterior_filter: PosteriorFilter, probabilities) -> list[int]:
    """Return the state after each window."""
    return [
        int(posterior_filter.feed(ROW, np.array([i == 0]), np.array([p], np.float64))[0][0])
        for i, p in enumerate(probabilities)
    ]


def hmm(dwell_s: float = 10.0, trust: float = 1.0, lag: int = 0) -> HmmFilter:
    return HmmFilter(transitions_from_dwell(dwell_s, 1.28, 2), trust, lag, 1)


def test_without_smoothing_every_window_is_its_own():
    assert states(PosteriorFilter(2, 1), [A, B, A, A, B]) == [0, 1, 0, 0, 1]


@pytest.mark.parametrize(
    "posterior_filter", [ExponentialFilter(0.4, 2, 1), HysteresisFilter(0.0, 2, 2, 1), hmm(30.0, 0.7)]
)
def test_one_odd_window_changes_nothing_and_two_do(posterior_filter):
    assert states(posterior_filter, [A, A, A, B, A, A, A, B, B, B]) == [0, 0, 0, 0, 0, 0, 0, 0, 1, 1]


def test_the_exponential_filter_is_a_weighted_mean():
    posterior_filter = ExponentialFilter(0.25, 2, 1)
    states(posterior_filter, [[1, 0], [0, 1], [1, 0]])
    np.testing.assert_allclose(posterior_filter.posterior[0], [0.75 * 0.75 + 0.25, 0.75 * 0.25], rtol=1e-15)


def test_hysteresis_changes_only_if_the_same_rival_leads_by_a_margin_in_consecutive_windows():
    ahead, hardly, other = [0.2, 0.7, 0.1], [0.4, 0.5, 0.1], [0.2, 0.1, 0.7]
    first = [0.8, 0.1, 0.1]
    for windows, state in (
        ([ahead, ahead], 1),
        ([hardly, hardly, hardly], 0),
        ([ahead, hardly, ahead], 0),
        ([ahead, other, ahead], 0),
        ([other, ahead, ahead], 1),
    ):
        assert states(HysteresisFilter(0.3, 2, 3, 1), [first, *windows])[-1] == state


def test_the_hmm_filter_is_the_forward_algorithm():
    transitions = np.array([[0.9, 0.08, 0.02], [0.2, 0.7, 0.1], [0.05, 0.15, 0.8]])
    probabilities = np.random.default_rng(0).dirichlet([1, 1, 1], 20)
    posterior_filter = HmmFilter(transitions, 0.6, 0, 1)
    states(posterior_filter, probabilities)
    alpha = np.ones(3)
    for i, p in enumerate(probabilities):
        alpha = (alpha if i == 0 else alpha @ transitions) * p**0.6
    np.testing.assert_allclose(posterior_filter.posterior[0], alpha / alpha.sum(), rtol=1e-9)


def test_the_fixed_lag_smoother_is_the_forward_backward_algorithm():
    transitions = np.array([[0.9, 0.08, 0.02], [0.2, 0.7, 0.1], [0.05, 0.15, 0.8]])
    probabilities = np.random.default_rng(1).dirichlet([1, 1, 1], 6)
    posterior_filter = HmmFilter(transitions, 1.0, 3, 1)
    states(posterior_filter, probabilities)
    # The reference enumerates all paths.
    paths = np.stack(np.meshgrid(*[range(3)] * 6, indexing="ij"), axis=-1).reshape(-1, 6)
    weight = np.prod(probabilities[np.arange(6), paths], axis=1)
    weight *= np.prod(transitions[paths[:, :-1], paths[:, 1:]], axis=1)
    for ago in range(4):
        expected = np.bincount(paths[:, -1 - ago], weight, 3) / weight.sum()
        state, posterior = posterior_filter.smooth(ROW, ago)
        assert state[0] == expected.argmax()
        np.testing.assert_allclose(posterior, expected.max(), rtol=1e-9)


def test_a_certain_and_wrong_network_cannot_make_the_posterior_irrevocable():
    certain = [[1.0, 0.0]] * 100
    assert states(hmm(), [*certain, [0, 1], [0, 1]])[-1] == 1


def test_less_trust_and_longer_activities_make_changes_slower():
    def windows_to_change(**settings: Any) -> int:
        return states(hmm(**settings), [A] * 10 + [B] * 30)[10:].index(1)

    assert windows_to_change(trust=1.0) < windows_to_change(trust=0.4) < windows_to_change(trust=0.2)
    assert windows_to_change(dwell_s=3, trust=0.5) < windows_to_change(dwell_s=3000, trust=0.5)


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7, 0.9])
def test_unknown_is_ahead_exactly_where_the_top_probability_is_below_the_threshold(threshold):
    probabilities = np.random.default_rng(2).dirichlet([0.3] * 6, 500)
    state = posteriors.probabilities_with_unknown(probabilities, threshold).argmax(axis=1)
    np.testing.assert_array_equal(state == 6, probabilities.max(axis=1) < threshold)
    np.testing.assert_array_equal(state[state < 6], probabilities.argmax(axis=1)[state < 6])
