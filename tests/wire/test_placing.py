"""Samples with times of their own, from the message to the core: none is lost, and a gap is one wherever it lies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cbor2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harstream.core.spec import SignalSpec
from harstream.core.timeline import Timeline
from harstream.wire.decoder import Decoder, Message
from harstream.wire.fields import Fields
from harstream.wire.payloads import PayloadConfig
from harstream.wire.topics import TopicTemplate

from .payload_checks import T_NS, encoded

ARRIVAL_S = 1.7e9
LISTS = {"t": "at", "acc": ["x", "y", "z"], "t_unit": "ns"}
LINES = {"columns": ["t", "ax", "ay", "az"], "t_unit": "ns"}


def rows(number: Sequence[int]) -> list[list[float]]:
    """Return samples that their number tells apart."""
    return [[0.0, i / 1000, 1.0] for i in number]


def encode(name: str, number: Sequence[int], t_ns: Sequence[int]) -> bytes:
    """Return a message of samples with their times."""
    samples = rows(number)
    if name == "csv":
        return "\n".join(",".join(map(str, [t, *row])) for t, row in zip(t_ns, samples, strict=True)).encode()
    if name == "fields":
        return encoded({"at": list(t_ns), **dict(zip("xyz", zip(*samples, strict=True), strict=True))})
    if name == "phyphox":
        columns = {f"acc{axis}": [9.80665 * row[i] for row in samples] for i, axis in enumerate("XYZ")}
        return encoded({**columns, "acc_time": [t / 1e9 for t in t_ns]})
    if name == "senml":
        return cbor2.dumps(
            [
                {"n": f"a{axis}", "u": "g", "t": t / 1e9, "v": row[i]}
                for t, row in zip(t_ns, samples, strict=True)
                for i, axis in enumerate("xyz")
            ]
        )
    measured = [
        {
            "name": "totalacceleration",
            "time": t,
            "values": dict(zip("xyz", (9.80665 * one for one in row), strict=True)),
        }
        for t, row in zip(t_ns, samples, strict=True)
    ]
    return encoded({"deviceId": "w", "sessionId": "s", "payload": measured})


NAMES = {"csv": LINES, "fields": LISTS, "phyphox": {}, "senml": {}, "sensor-logger": {}}


class Run:
    """A decoder and a timeline of one device."""

    def __init__(self, name: str) -> None:
        config = PayloadConfig(name, Fields.parse(NAMES.get(name, {})))
        self._decoder = Decoder(TopicTemplate("w/{device}"), needs_gyro=False, payload=config)
        self.timeline = Timeline(SignalSpec(50.0, 128, 64), 4)
        self.placed: list[tuple[int, int]] = []  # event time in ms and number of each accepted sample

    def feed(self, payload: bytes, arrival_s: float = ARRIVAL_S) -> None:
        batch, rejections = self._decoder.decode([Message("w/w", payload, arrival_s)])
        assert rejections == []
        accepted = self.timeline.feed(np.zeros(len(batch), np.int64), batch)
        for k in range(len(accepted)):
            first, count, missing = (int(of[k]) for of in (accepted.first, accepted.count, accepted.missing))
            times = accepted.t_ns[k] + (missing + np.arange(count)) * accepted.period_ns[k]
            numbers = np.rint(accepted.samples[first : first + count, 1] * 1000).astype(int)
            self.placed += zip(np.rint((times - T_NS) / 1e6).astype(int).tolist(), numbers.tolist(), strict=True)

    def counts(self) -> tuple[int, int, int]:
        stats = self.timeline.stats
        return stats.gaps, stats.restarts, stats.samples_late


def times(number: Any) -> list[int]:
    return (T_NS + np.asarray(number, np.int64) * 20_000_000).tolist()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("lost", [1, 2, 3, 10, 24, 200])
@pytest.mark.parametrize("at", [1, 2, 40, 98, 99])
def test_a_gap_inside_a_message_is_one_as_between_two(name, lost, at):
    inside, between = Run(name), Run(name)
    before = np.arange(100)
    numbers = np.concatenate([100 + np.arange(at), 100 + lost + np.arange(at, 100)])
    for run, messages in ((inside, [before, numbers]), (between, [before, numbers[:at], numbers[at:]])):
        for message in messages:
            run.feed(encode(name, message.tolist(), times(message)))
        last = numbers[-1] + 1 + np.arange(100)
        run.feed(encode(name, last.tolist(), times(last)))
    assert inside.counts() == between.counts()
    assert inside.counts()[0] + inside.counts()[1] > 0
    assert inside.placed == between.placed
    assert max(abs(t_ms - 20 * number) for t_ms, number in inside.placed) <= 10


@pytest.mark.parametrize("name", NAMES)
def test_two_samples_of_a_message_may_have_a_gap_between_them(name):
    pairs, alone = Run(name), Run(name)
    for pair in ([0, 1], [2, 3], [4, 5], [6, 106], [107, 108]):
        pairs.feed(encode(name, pair, times(pair)))
        for number in pair:
            alone.feed(encode(name, [number], times([number])))
    assert pairs.counts() == alone.counts()
    assert pairs.counts()[1] == 1
    assert pairs.placed == alone.placed
    assert [number for _, number in pairs.placed] == [0, 1, 2, 3, 4, 5, 6, 106, 107, 108]


@pytest.mark.parametrize("name", NAMES)
@given(
    st.integers(0, 60),
    st.lists(st.integers(1, 60), min_size=1, max_size=12),
    st.sampled_from([10**9, 100_000_000, 40_000_000]),
)
def test_no_sample_is_lost_where_times_are_rounded_down(name, begin, sizes, tick_ns):
    config = PayloadConfig(name, Fields.parse(NAMES[name]))
    decoder = Decoder(TopicTemplate("w/{device}"), needs_gyro=False, payload=config)
    for size in sizes:
        number = begin + np.arange(size)
        t_ns = np.asarray(times(number)) // tick_ns * tick_ns
        batch, rejections = decoder.decode([Message("w/w", encode(name, number.tolist(), t_ns.tolist()), ARRIVAL_S)])
        assert rejections == []
        assert np.rint(batch.samples[:, 1] * 1000).astype(int).tolist() == number.tolist()
        begin += size


@pytest.mark.parametrize("name", ["csv", "fields"])
def test_samples_with_whole_seconds_are_counted_as_those_of_canonical_messages_are(name):
    run, canonical = Run(name), Run("json")
    for k in range(40):
        number = np.arange(25 * k, 25 * k + 25)
        t_ns = (np.asarray(times(number)) // 10**9 * 10**9).tolist()
        run.feed(encode(name, number.tolist(), t_ns))
        canonical.feed(encoded({"t_ns": t_ns[0], "acc": rows(number.tolist())}))
    assert run.placed == canonical.placed
    assert run.counts() == canonical.counts()
    assert run.timeline.stats.samples_late == 0
    assert len(run.placed) == 1000


@pytest.mark.parametrize("at", [5, 50, 99])
@pytest.mark.parametrize("lost_s", [1.0, 60.0])
def test_a_gap_in_a_pack_with_relative_times_is_one_as_between_two(at, lost_s):
    inside, between = Run("senml"), Run("senml")
    t_s = np.arange(100) * 0.02 + np.where(np.arange(100) < at, 0.0, lost_s)
    first = encode("senml", range(100), [round(-2e9 + 20_000_000 * i) for i in range(100)])
    last = encode("senml", range(200, 300), [round(20_000_000 * (i - 99)) for i in range(100)])
    relative = [round((one - t_s[-1]) * 1e9) for one in t_s]
    end_s = ARRIVAL_S + t_s[-1] + 0.02
    for run in (inside, between):
        run.feed(first, ARRIVAL_S)
    inside.feed(encode("senml", range(100, 200), relative), end_s)
    between.feed(encode("senml", range(100, 100 + at), relative[:at]), end_s + relative[at - 1] / 1e9)
    between.feed(encode("senml", range(100 + at, 200), relative[at:]), end_s)
    for run in (inside, between):
        run.feed(last, end_s + 2)
    assert inside.counts() == between.counts()
    assert inside.counts()[:2] != (0, 0)
    assert inside.placed == between.placed
    assert [number for _, number in inside.placed] == list(range(300))


def test_entries_that_are_sent_twice_count_once():
    run = Run("csv")
    number = [*range(50), *range(20, 40)]
    run.feed(encode("csv", number, times(number)))
    assert [number for _, number in run.placed] == list(range(50))
