"""Transitions of the HMM: durations, possible moves between postures, and UNKNOWN."""

from __future__ import annotations

import re
from itertools import pairwise

import numpy as np
import pytest

from harstream.core import posteriors, transitions
from harstream.core.posteriors import HmmFilter
from harstream.datasets import hapt
from harstream.errors import ConfigError

OUTPUTS = (*hapt.LABELS, *hapt.STATES)


def followers(labels: tuple[str, ...], states: tuple[str, ...]) -> dict[str, set[str]]:
    """Return the outputs that may follow each output."""
    outputs = (*labels, *states)
    moves = transitions.possible_moves(labels, states)
    return {name: {outputs[i] for i in np.flatnonzero(row)} for name, row in zip(outputs, moves, strict=True)}


def states_of(probabilities: np.ndarray, matrix: np.ndarray) -> list[int]:
    """Return the state of the HMM after each window."""
    posterior_filter = HmmFilter(matrix, 0.7, 0, 1)
    return [
        int(posterior_filter.feed(np.array([0]), np.array([i == 0]), p[None])[0][0])
        for i, p in enumerate(probabilities)
    ]


# --- durations ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_labels", [2, 6, 18])
def test_transitions_are_probabilities_and_states_last_as_long_as_given(n_labels):
    labels = transitions.transitions_from_dwell(20.0, 1.28, n_labels)
    for matrix in (labels, transitions.transitions_with_unknown(labels, 2.0, 1.28)):
        np.testing.assert_allclose(matrix.sum(axis=1), 1)
        assert (matrix > 0).all()
        assert matrix[0, 0] == pytest.approx(np.exp(-1.28 / 20))
    assert matrix[-1, -1] == pytest.approx(np.exp(-1.28 / 2))


def test_over_a_long_stride_a_label_is_not_likelier_to_be_another_than_itself():
    for n_labels in (2, 6):
        np.testing.assert_allclose(
            transitions.transitions_from_dwell(0.5, 10.0, n_labels), np.full((n_labels, n_labels), 1 / n_labels)
        )


def test_only_possible_moves_have_a_probability_and_all_the_same():
    moves = transitions.possible_moves(hapt.LABELS, hapt.STATES)
    duration_s = np.linspace(2.0, 24.0, len(OUTPUTS))
    matrix = transitions.transitions_from_moves(moves, duration_s, 1.28)
    np.testing.assert_allclose(matrix.sum(axis=1), 1)
    np.testing.assert_allclose(np.diag(matrix), np.exp(-1.28 / duration_s))
    np.fill_diagonal(matrix, 0)
    np.testing.assert_array_equal(matrix > 0, moves)
    for row in matrix:
        assert len(set(row[row > 0].tolist())) == 1


# --- UNKNOWN ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stride_s", [1.28, 2.5, 5.0, 10.0])
@pytest.mark.parametrize("n_labels", [2, 6, 18])
def test_however_long_the_stride_what_the_network_is_sure_of_is_not_unknown(n_labels, stride_s):
    labels = transitions.transitions_from_dwell(5.0, stride_s, n_labels)
    matrix = transitions.transitions_with_unknown(labels, 1.0, stride_s)
    np.testing.assert_allclose(matrix.sum(axis=1), 1)
    sure = posteriors.probabilities_with_unknown(np.array([[0.8, *[0.2 / (n_labels - 1)] * (n_labels - 1)]] * 10), 0.5)
    assert states_of(sure, matrix) == [0] * 10


def test_labels_that_stay_for_ever_never_become_unknown():
    matrix = transitions.transitions_with_unknown(np.eye(3), 1.0, 1.28)
    np.testing.assert_array_equal(matrix[:3], np.eye(4)[:3])


@pytest.mark.parametrize("share", [0.0, 0.05, 0.9])
def test_the_share_is_that_of_the_changes_that_go_to_unknown(share):
    labels = transitions.transitions_from_dwell(20.0, 1.28, 6)
    matrix = transitions.transitions_with_unknown(labels, 1.0, 1.28, share)
    np.testing.assert_allclose(matrix[:-1, -1], share * (1 - np.diag(labels)))
    np.testing.assert_allclose(matrix.sum(axis=1), 1)
    assert (matrix[-1, :-1] > 0).all()


# --- moves --------------------------------------------------------------------------------------------


def test_postures_are_reached_by_their_transitions_only_and_walking_is_next_to_standing():
    walks = {"WALKING", "WALKING_UPSTAIRS", "WALKING_DOWNSTAIRS"}
    upright, from_upright = {*walks, "STANDING"}, {"STAND_TO_SIT", "STAND_TO_LIE"}
    assert followers(hapt.LABELS, hapt.STATES) == {
        **{name: upright - {name} | from_upright for name in upright},
        "SITTING": {"SIT_TO_STAND", "SIT_TO_LIE"},
        "LAYING": {"LIE_TO_STAND", "LIE_TO_SIT"},
        "SIT_TO_STAND": upright,
        "LIE_TO_STAND": upright,
        "STAND_TO_SIT": {"SITTING"},
        "LIE_TO_SIT": {"SITTING"},
        "STAND_TO_LIE": {"LAYING"},
        "SIT_TO_LIE": {"LAYING"},
    }


def test_a_posture_without_a_chain_of_states_to_another_is_followed_by_it_directly():
    moves = followers(("SITTING", "STANDING", "LAYING"), ("SIT_TO_STAND", "LIE_TO_SIT"))
    assert moves["SITTING"] == {"SIT_TO_STAND", "LAYING"}
    assert moves["STANDING"] == {"SITTING", "LAYING"}
    assert moves["LAYING"] == {"LIE_TO_SIT"}  # up to standing too: by sitting


def test_without_an_upright_posture_the_other_labels_are_next_to_every_posture():
    moves = followers(("SITTING", "RIDING", "LAYING"), ("SIT_TO_LIE", "LIE_TO_SIT"))
    assert moves["RIDING"] == {"SITTING", "LAYING"}
    assert moves["SITTING"] == {"SIT_TO_LIE", "RIDING"}


def test_the_words_of_a_state_may_be_labels_themselves():
    assert followers(("OPEN", "SHUT"), ("OPEN_TO_SHUT", "SHUT_TO_OPEN"))["OPEN"] == {"OPEN_TO_SHUT"}


def test_the_words_of_postures_may_be_labels_themselves():
    moves = followers(("SIT", "STAND", "WALK"), ("SIT_TO_STAND", "STAND_TO_SIT"))
    assert moves["SIT"] == {"SIT_TO_STAND"}
    assert moves["STAND"] == {"STAND_TO_SIT", "WALK"}
    assert moves["WALK"] == {"STAND", "STAND_TO_SIT"}


def test_without_states_every_label_may_follow_every_other():
    np.testing.assert_array_equal(transitions.possible_moves(("A", "B", "C"), ()), ~np.eye(3, dtype=bool))


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ("SIT_TO_KNEEL", "begins in SITTING and ends in KNEEL, but the labels are WALKING, "),
        ("FALLING", "state 'FALLING': expected a name A_TO_B of two postures"),
        ("SIT_TO_SITTING", "expected a name A_TO_B of two postures"),
        ("SIT_TO_STAND_TO_LIE", "expected a name A_TO_B of two postures"),
    ],
)
def test_a_state_that_does_not_lie_between_two_labels_is_refused(state, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        transitions.possible_moves(hapt.LABELS, (state,))


# --- the HMM that they make ---------------------------------------------------------------------------


def matrix_of_postures(share: float = 0.05) -> np.ndarray:
    moves = transitions.possible_moves(hapt.LABELS, hapt.STATES)
    duration_s = np.array([20.0] * 6 + [3.5] * 6)
    return transitions.transitions_with_unknown(
        transitions.transitions_from_moves(moves, duration_s, 1.28), 1, 1.28, share
    )


def probabilities(*names: str, sure: float = 0.97) -> np.ndarray:
    """Return the probabilities (n_windows, n_outputs + 1) of a network that is sure of each name in turn."""
    rows = np.full((len(names), len(OUTPUTS)), (1 - sure) / (len(OUTPUTS) - 1))
    rows[np.arange(len(names)), [OUTPUTS.index(name) for name in names]] = sure
    return posteriors.probabilities_with_unknown(rows, 0.5)


def test_two_windows_of_standing_do_not_make_a_sitting_subject_stand():
    confused = probabilities(*["SITTING"] * 10, *["STANDING"] * 2, *["SITTING"] * 5, sure=0.9)
    assert set(states_of(confused, matrix_of_postures())) == {OUTPUTS.index("SITTING")}
    free = transitions.transitions_with_unknown(transitions.transitions_from_dwell(5.0, 1.28, 12), 1.0, 1.28)
    assert OUTPUTS.index("STANDING") in states_of(confused, free)


def test_getting_up_is_followed_at_once():
    got = states_of(
        probabilities(*["SITTING"] * 6, *["SIT_TO_STAND"] * 2, *["STANDING"] * 4, *["WALKING"] * 4),
        matrix_of_postures(),
    )
    assert [OUTPUTS[state] for state, _ in [(got[0], 0), *((b, a) for a, b in pairwise(got) if a != b)]] == [
        "SITTING",
        "SIT_TO_STAND",
        "STANDING",
        "WALKING",
    ]


@pytest.mark.parametrize("after", [name for name in hapt.LABELS if name != "SITTING"])
@pytest.mark.parametrize("sure", [0.9, 0.97, 0.999])
def test_a_transition_that_the_network_misses_holds_the_label_back_for_a_few_windows_only(after, sure):
    got = states_of(probabilities(*["SITTING"] * 30, *[after] * 10, sure=sure), matrix_of_postures())
    assert OUTPUTS.index(after) in got[30:33]
    assert got[33:] == [OUTPUTS.index(after)] * 7


def test_an_aborted_transition_is_followed_by_the_posture_that_it_began_in():
    got = states_of(probabilities(*["SITTING"] * 9, *["SIT_TO_STAND"] * 2, *["SITTING"] * 9), matrix_of_postures())
    assert got[13:] == [OUTPUTS.index("SITTING")] * 7
