"""Faults of simulated devices: what their messages hold, and when they leave."""

from __future__ import annotations

import itertools

import click
import numpy as np
import pytest

from harstream.cli.simulate import simulate
from harstream.core.batches import Float32
from harstream.core.plausibility import ACC_UNIT_NAMES, acc_unit
from harstream.core.spec import SignalSpec
from harstream.simulate.faults import DRIFT, FAULTS, LOOP_INTERVAL_S
from harstream.simulate.source import sources
from harstream.sources import OutgoingMessage, SampleSource

START_NS = 1_700_000_000_250_000_000


class Sine(SampleSource):
    """Ten minutes of six slow sines at 50 Hz."""

    device = "sine"
    rate_hz = 50.0

    def __init__(self) -> None:
        self.position = 0

    def read(self, n: int) -> Float32:
        rows = self.at(np.arange(self.position, min(self.position + n, 30_000)) / 50)
        self.position += len(rows)
        return rows

    def at(self, t_s: np.ndarray) -> Float32:
        return np.sin(t_s[:, None] * np.arange(1, 7) / 3).astype(np.float32)


def sent(fault: str, seed: int = 0, *, offset_s: float = 0.0) -> list[OutgoingMessage]:
    """Return the messages of a device with a fault, 25 samples each before the fault."""
    return list(FAULTS[fault](Sine().messages(25, offset_s, START_NS), np.random.default_rng(seed)))


def right() -> list[OutgoingMessage]:
    return list(Sine().messages(25, 0.0, START_NS))


def stamps_s(messages: list[OutgoingMessage]) -> np.ndarray:
    """Return the stamps in s since the beginning."""
    return np.array([message.t_ns - START_NS for message in messages]) / 1e9


def test_without_a_fault_stamps_are_right_and_messages_leave_with_their_last_sample():
    messages = right()
    assert len(messages) == 1200
    np.testing.assert_allclose(stamps_s(messages), np.arange(1200) * 0.5, atol=1e-9)
    np.testing.assert_allclose([m.leaves_s for m in messages], np.arange(1, 1201) * 0.5)
    np.testing.assert_array_equal(np.concatenate([m.samples for m in messages]), Sine().read(30_000))


@pytest.mark.parametrize("fault", FAULTS)
def test_the_same_seed_gives_the_same_messages_which_leave_in_order(fault):
    first, again, other = (sent(fault, seed) for seed in (1, 1, 2))
    for messages in (again, other):
        assert (len(messages) == len(first)) or fault in ("loop", "reboot", "dropout")
    for a, b in zip(first, again, strict=True):
        assert (a.leaves_s, a.t_ns, a.rate_hz) == (b.leaves_s, b.t_ns, b.rate_hz)
        np.testing.assert_array_equal(a.samples, b.samples)
    assert (np.diff([message.leaves_s for message in first]) > 0).all()
    random = [m.t_ns for m in first] != [m.t_ns for m in other]
    assert random == (fault in ("loop", "reboot", "dropout"))


def test_units_are_metres_per_second_squared_and_all_else_is_right():
    for message, expected in zip(sent("units"), right(), strict=True):
        np.testing.assert_allclose(message.samples[:, :3], expected.samples[:, :3] * 9.80665, rtol=1e-6)
        np.testing.assert_array_equal(message.samples[:, 3:], expected.samples[:, 3:])
        assert (message.t_ns, message.leaves_s, message.rate_hz) == (expected.t_ns, expected.leaves_s, 50.0)


def test_units_change_samples_without_a_gyroscope_too():
    (message,) = FAULTS["units"](
        iter([OutgoingMessage(0.5, START_NS, 50.0, np.ones((25, 3), np.float32))]), np.random.default_rng(0)
    )
    np.testing.assert_allclose(message.samples, 9.80665, rtol=1e-6)


def test_a_loop_sends_single_samples_at_irregular_intervals_with_right_stamps():
    messages = sent("loop", offset_s=0.2)
    t_s = stamps_s(messages)
    intervals = np.diff(t_s)
    assert t_s[0] == pytest.approx(0.2)
    assert t_s[-1] > 0.2 + 600 - 0.02 - LOOP_INTERVAL_S[1]
    assert LOOP_INTERVAL_S[0] - 1e-6 <= intervals.min() < intervals.max() <= LOOP_INTERVAL_S[1] + 1e-6
    assert intervals.mean() == pytest.approx(0.011, rel=0.01)
    assert {(m.samples.shape, m.rate_hz) for m in messages} == {((1, 6), 0.0)}
    np.testing.assert_allclose([m.leaves_s - t for m, t in zip(messages, t_s, strict=True)], 0.02, atol=1e-6)
    # The samples are those of the signal at these times.
    np.testing.assert_allclose(np.concatenate([m.samples for m in messages]), Sine().at(t_s - 0.2), atol=2e-4)


def test_a_reboot_sets_the_clock_back_to_near_0_every_minute():
    messages = sent("reboot")
    t_ns = np.array([message.t_ns for message in messages])
    leaves_s = np.array([message.leaves_s for message in messages])
    back = np.flatnonzero(np.diff(t_ns) < 0) + 1
    assert 30 <= leaves_s[back[0] - 1] < 60.5
    assert len(back) in (9, 10)
    np.testing.assert_allclose(np.diff(leaves_s[back]), 60.0, atol=0.51)
    assert (t_ns[back] < 4e9).all()
    assert (t_ns > 0).all()  # in packed messages, 0 is no stamp
    for start, stop in itertools.pairwise([0, *back, len(t_ns)]):  # between two reboots, the clock is right
        np.testing.assert_allclose(np.diff(t_ns[start:stop]) / 1e9, 0.5, atol=1e-6)
    assert (leaves_s[back] - leaves_s[back - 1] >= 3.0).all()


def test_coarse_stamps_are_whole_seconds_rounded_down():
    for message, expected in zip(sent("coarse"), right(), strict=True):
        assert message.t_ns % 10**9 == 0
        assert 0 <= expected.t_ns - message.t_ns < 10**9
        assert (message.leaves_s, message.rate_hz) == (expected.leaves_s, 50.0)


def test_a_drifting_clock_is_4_percent_fast_from_the_first_message_on():
    t_s = stamps_s(sent("drift"))
    assert DRIFT == 1.04
    np.testing.assert_allclose(t_s, np.arange(1200) * 0.52, atol=1e-6)


def test_dropout_loses_messages_in_stretches_some_of_them_longer_than_a_gap_may_be():
    left = [stamps_s(sent("dropout", seed)) for seed in range(10)]
    everything = set(stamps_s(right()).tolist())
    assert all(set(t_s.tolist()) < everything for t_s in left)
    missing_s = np.concatenate([np.diff(t_s) for t_s in left]) - 0.5
    bridged = (missing_s > 0.1) & (missing_s <= SignalSpec().max_gap_s)
    assert bridged.sum() > 50
    assert 50 < (missing_s > SignalSpec().max_gap_s).sum() < len(missing_s) / 20
    assert missing_s.max() <= 4.0


def test_no_message_before_the_fault_is_none_after_it():
    for fault in FAULTS.values():
        assert list(fault(iter([]), np.random.default_rng(0))) == []


def test_devices_have_the_faults_in_turn_and_their_names_say_so():
    made = sources(5, 7, faults=["units", "reboot"])
    assert [source.device for source in made] == [
        "sim-0001-units",
        "sim-0002-reboot",
        "sim-0003-units",
        "sim-0004-reboot",
        "sim-0005-units",
    ]
    for source, unit in zip(made[:2], ("m/s2", "g"), strict=True):
        message = next(source.messages(128, 0.0, START_NS))
        assert ACC_UNIT_NAMES[acc_unit(message.samples[None, :, :3])[0]] == unit


def test_a_fault_changes_no_sample_that_the_wearable_makes():
    (faulty,), (faultless,) = sources(1, 7, faults=["drift"]), sources(1, 7)
    np.testing.assert_array_equal(faulty.read(500), faultless.read(500))


def test_the_command_offers_every_fault():
    (option,) = [parameter for parameter in simulate.params if parameter.name == "faults"]
    assert isinstance(option.type, click.Choice)
    assert list(option.type.choices) == list(FAULTS)
    assert all(f"({fault})" in (simulate.help or "") for fault in FAULTS)
