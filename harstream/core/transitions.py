"""Transitions of the HMM per stride: from mean durations, between physical postures, and with UNKNOWN as last state.

A model may know states between its labels, such as the postural transitions of HAPT. A state has the name ``A_TO_B``:
it begins in the posture A and ends in the posture B. Its name and POSTURES decide which moves are possible, so the
order of the activities in a recording protocol is never learnt.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harstream.core.batches import Bool, Float64
from harstream.errors import ConfigError

#: Label of each posture, by its word in the name of a state.
POSTURES = {"SIT": "SITTING", "STAND": "STANDING", "LIE": "LAYING"}
#: Word of the posture from which a person moves on without a state between, such as from standing to walking.
UPRIGHT = "STAND"
#: Share of the changes between labels that pass through UNKNOWN if the model knows no states. Most changes have a
#: transition that belongs to neither label, such as getting up between sitting and standing. Others have none: from
#: walking to walking upstairs.
SHARE_VIA_UNKNOWN = 0.9


def transitions_from_dwell(dwell_s: float, stride_s: float, n_outputs: int) -> Float64:
    """Return the transitions per stride (n_outputs, n_outputs) if each output lasts ``dwell_s`` on average.

    All other outputs are equally likely to follow. If the stride is much longer than ``dwell_s``, the present output is
    as likely to follow as each of the others.
    """
    stay = max(float(np.exp(-stride_s / dwell_s)), 1 / n_outputs)
    transitions = np.full((n_outputs, n_outputs), (1 - stay) / (n_outputs - 1))
    np.fill_diagonal(transitions, stay)
    return transitions


def transitions_from_moves(moves: Bool, duration_s: Float64, stride_s: float) -> Float64:
    """Return the transitions per stride (n_outputs, n_outputs) with only the possible moves.

    All outputs that may follow an output are equally likely.

    Args:
        moves: The result of ``possible_moves``.
        duration_s: (n_outputs,) mean duration of each output.
        stride_s: Time from one window to the next.

    """
    stay = np.exp(-stride_s / duration_s)
    transitions = moves * ((1 - stay) / moves.sum(axis=1))[:, None]
    np.fill_diagonal(transitions, stay)
    return np.asarray(transitions, np.float64)


def transitions_with_unknown(
    transitions: Float64, unknown_dwell_s: float, stride_s: float, share: float = SHARE_VIA_UNKNOWN
) -> Float64:
    """Return ``transitions`` with UNKNOWN as last state, which lasts ``unknown_dwell_s`` on average.

    All others are equally likely to follow it. ``share`` of the changes from each of them go to UNKNOWN, but none is
    more likely to become UNKNOWN than to stay. Otherwise, with a stride as long as an activity, windows of which the
    network is sure would become UNKNOWN.
    """
    n = len(transitions)
    stay = np.diag(transitions)
    leave = 1 - stay
    to_unknown = np.minimum(leave * share, stay)
    unknown_stay = np.exp(-stride_s / unknown_dwell_s)
    out = np.zeros((n + 1, n + 1))
    out[:-1, :-1] = transitions * (1 - to_unknown / np.maximum(leave, np.finfo(np.float64).tiny))[:, None]
    out[:-1, -1] = to_unknown
    out[-1, :-1] = (1 - unknown_stay) / n
    np.fill_diagonal(out, [*stay, unknown_stay])
    return out


def possible_moves(labels: Sequence[str], states: Sequence[str]) -> Bool:
    """Return (n_outputs, n_outputs): whether the output of the column may follow that of the row directly.

    The outputs are the labels, then the states.

    - A state ``A_TO_B`` follows the label of A, and the label of B follows it.
    - Labels at which no state begins or ends, such as walking, follow each other. To them and from them a person moves
      as to and from the upright posture: directly, and by the states that begin or end upright. If no state begins or
      ends upright, they are neighbours of all postures.
    - One posture follows another directly only if no chain of states leads there.

    Raises:
        ConfigError: The name of a state does not give two postures among the labels.

    """
    n_labels, n = len(labels), len(labels) + len(states)
    ends = [_ends_of(state, labels) for state in states]
    moves = np.zeros((n, n), np.bool_)
    for index, (first, last) in enumerate(ends, n_labels):
        moves[first, index] = moves[index, last] = True
    reached = moves.copy()
    for middle in range(n):  # Warshall's algorithm
        reached |= reached[:, middle : middle + 1] & reached[middle]
    is_posture = np.zeros(n_labels, np.bool_)
    is_posture[list({end for pair in ends for end in pair})] = True
    others = np.flatnonzero(~is_posture)
    moves[:n_labels, :n_labels] = is_posture[:, None] & is_posture & ~reached[:n_labels, :n_labels]
    postures = np.flatnonzero(is_posture)
    upright = postures[[labels[i] in (UPRIGHT, POSTURES[UPRIGHT]) for i in postures.tolist()]]
    neighbours = np.concatenate([others, upright if len(upright) else postures])
    moves[np.ix_(others, neighbours)] = moves[np.ix_(neighbours, others)] = True
    for posture in upright:
        moves[others, n_labels:] |= moves[posture, n_labels:]
        moves[n_labels:, others] |= moves[n_labels:, posture, None]
    np.fill_diagonal(moves, False)
    return moves


def _ends_of(state: str, labels: Sequence[str]) -> tuple[int, int]:
    """Return the labels in which a state begins and ends, as indices."""
    words = state.split("_TO_")
    names = [word if word in labels else POSTURES.get(word, word) for word in words]
    missing = [name for name in names if name not in labels]
    if len(words) != 2 or names[0] == names[1]:
        raise ConfigError(f"state {state!r}: expected a name A_TO_B of two postures, such as SIT_TO_STAND")
    if missing:
        raise ConfigError(
            f"state {state!r}: it begins in {names[0]} and ends in {names[1]}, but the labels are {', '.join(labels)}: "
            f"leave the state out, or name it after two of them"
        )
    return labels.index(names[0]), labels.index(names[1])
