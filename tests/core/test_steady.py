"""Messages that only confirm their clocks are handled one by one, to the bit as the arrays of the timeline do it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harstream.core import steady, timeline
from harstream.core.engine import Engine
from harstream.core.spec import SignalSpec

from ..constants import SECOND, T0_NS
from .mishaps import MISHAPS, SPEC, stream
from .streams import Message, batch, cut, gait, walk

#: State that a device gets from others which overlap in the same round, and that is set anew before it is used.
UNUSED = {"overlaps.ends", "overlaps.ends_known"}


def devices(n: int, seed: int) -> list[list[Message]]:
    """Return the messages of ``n`` devices of several rates, whose stamps jitter and whose clocks drift."""
    rng = np.random.default_rng(seed)
    made = []
    for k in range(n):
        rate_hz = [50.0, 100.0, 31.25, 49.3][k % 4]
        announced = 0.0 if k % 3 == 0 and rate_hz < 60 else rate_hz
        own = cut(gait(600, rate_hz, k), rng.integers(5, 40, 30), device=f"d{k}", rate_hz=rate_hz, announced=announced)
        jitter = rng.normal(0, 0.1e9 / rate_hz, len(own))
        made.append(
            [replace(m, t_ns=m.t_ns + round(j), arrival_s=m.t_ns / 1e9 + 0.1) for m, j in zip(own, jitter, strict=True)]
        )
    return made


def in_rounds(streams: list[list[Message]]) -> list[list[Message]]:
    """Return batches with one message of each device."""
    longest = max(len(one) for one in streams)
    return [[one[k] for one in streams if k < len(one)] for k in range(longest)]


def together(batches: list[list[Message]], n: int) -> list[list[Message]]:
    """Return batches that have the messages of ``n`` batches each."""
    return [[message for one in batches[k : k + n] for message in one] for k in range(0, len(batches), n)]


def run(spec: SignalSpec, batches: list[list[Message]]) -> tuple[list, dict[str, np.ndarray]]:
    engine = Engine(spec)
    windows = [engine.feed(batch(messages)) for messages in batches]
    return [(w.devices, w.windows, w.start_ns, w.end_ns, w.problems) for w in windows], engine.snapshot()


def assert_equal_to_the_bit(spec: SignalSpec, batches: list[list[Message]], monkeypatch) -> int:
    """Compare both paths, and return the number of messages that the path for few messages has taken."""
    taken = 0
    accept = steady.SteadyMessages._accept

    def count(self, rows, given, first, chosen, advances):
        nonlocal taken
        taken += len(chosen)
        return accept(self, rows, given, first, chosen, advances)

    with monkeypatch.context() as patch:
        patch.setattr(steady.SteadyMessages, "_accept", count)
        windows, state = run(spec, batches)
    with monkeypatch.context() as patch:
        patch.setattr(timeline, "FEW_DEVICES", 0)
        other_windows, other_state = run(spec, batches)
    for got, want in zip(windows, other_windows, strict=True):
        order, other_order = np.argsort(got[0], kind="stable"), np.argsort(want[0], kind="stable")
        for one, other in zip(got, want, strict=True):
            np.testing.assert_array_equal(np.array(one)[order], np.array(other)[other_order])
    assert state.keys() == other_state.keys()
    for name in state.keys() - UNUSED:
        np.testing.assert_array_equal(state[name], other_state[name], err_msg=name)
    return taken


@pytest.mark.parametrize("seed", range(3))
def test_both_paths_give_the_same_windows_and_the_same_state(seed, monkeypatch):
    batches = in_rounds(devices(12, seed))
    n_messages = sum(map(len, batches))
    assert assert_equal_to_the_bit(SPEC, batches, monkeypatch) > n_messages / 2


@pytest.mark.parametrize("rounds", [2, 5])
def test_several_messages_of_a_device_in_one_batch(rounds, monkeypatch):
    batches = in_rounds(devices(12, 5))
    joined = together(batches, rounds)
    assert assert_equal_to_the_bit(SPEC, joined, monkeypatch) > sum(map(len, batches)) / 2


@pytest.mark.parametrize("rounds", [1, 7])
@pytest.mark.parametrize("mishap", MISHAPS)
def test_what_a_device_does_wrong_is_left_to_the_timeline(mishap, rounds, monkeypatch):
    """The messages of a device with a mishap come together with those of a sound one."""
    sound = walk("sound", 50.0, seconds=16.0)
    joined = together(in_rounds([stream(mishap), sound]), rounds)
    assert_equal_to_the_bit(SPEC, joined, monkeypatch)


@given(
    steps=st.lists(
        st.tuples(st.integers(1, 40), st.floats(-0.7, 0.7), st.sampled_from([0, 0, 0, 0, 1, -2, 30])),
        min_size=8,
        max_size=40,
    ),
    rate_hz=st.sampled_from([20.0, 50.0, 100.0]),
    announced=st.booleans(),
)
@settings(max_examples=60)
def test_any_jitter_any_gap_and_any_length_of_messages(steps, rate_hz, announced):
    """A step is the number of samples of a message, the error of its stamp in periods, and samples lost before it."""
    messages, at = [], 0
    signal = gait(sum(40 + 30 for _ in steps), rate_hz)
    for count, error, lost in steps:
        at = max(at + lost, 0)
        t_ns = T0_NS + round((at + error) * SECOND / rate_hz)
        messages.append(Message("a", t_ns, signal[at : at + count], rate_hz if announced else 0.0))
        at += count
    with pytest.MonkeyPatch.context() as patch:
        assert_equal_to_the_bit(SPEC, [[message] for message in messages], patch)
