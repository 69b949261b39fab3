"""Whatever happens to devices: batches change no window, and no message does harm."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harstream.core.engine import Engine
from harstream.core.problems import Problem

from ..constants import SECOND, T0_NS
from .mishaps import BOTH, HOUR, MISHAPS, stream
from .streams import Message, assert_same, feed, gait, of, walk

#: What each of the streams must show, so that it tests something.
SHOWN = {
    "gap": lambda stats, found: stats.gaps == 2,
    "restart": lambda stats, found: stats.restarts == 1,
    "late": lambda stats, found: stats.samples_late == 100,
    "rate": lambda stats, found: stats.restarts == 2,
    "drift": lambda stats, found: stats.gaps == stats.restarts == 0,
    "learning": lambda stats, found: stats.rates_measured == 1,
    "unstamped": lambda stats, found: stats.gaps == 0,
    "reset": lambda stats, found: found == [Problem.CLOCK] * 2 and stats.restarts == 2,
    "held": lambda stats, found: found == [Problem.CLOCK] and stats.samples_late == 30 and stats.restarts == 1,
    "irregular": lambda stats, found: stats.gaps >= 1 and stats.samples_late >= 2,
    "coarse": lambda stats, found: found == [Problem.STAMPS],
    "milliseconds": lambda stats, found: found == [Problem.STAMPS],
    "unit": lambda stats, found: found == [Problem.GRAVITY] and stats.restarts == 1,
    "overlap": lambda stats, found: Problem.OVERLAP in found,
}


def table(engine):
    """Return what the engine knows of its devices."""
    health = engine.health()
    return (
        engine.stats,
        *(list(getattr(health, name)) for name in ("devices", "late", "gaps", "restarts", "acc_unit", "problems")),
        health.rate_hz.tolist(),
    )


@BOTH
@pytest.mark.parametrize("mishap", MISHAPS)
@given(batches=st.lists(st.integers(1, 15), max_size=12))
@settings(max_examples=6)
def test_what_happens_to_a_device_within_one_batch_is_what_happens_message_by_message(spec, mishap, batches):
    messages = stream(mishap)
    one_by_one, together = Engine(spec), Engine(spec)
    assert_same(feed(together, messages, [*batches, len(messages)]), feed(one_by_one, messages))
    assert table(together) == table(one_by_one)
    found = one_by_one.take_incidents()
    assert sorted(map(str, together.take_incidents())) == sorted(map(str, found))
    assert SHOWN[mishap](one_by_one.stats, [incident.problem for incident in found])


# --- whatever a device sends ---------------------------------------------------------------------

YEAR_2200_NS = 7_258_118_399 * SECOND
near = st.integers(T0_NS, T0_NS + 4 * SECOND)
single = st.builds(
    Message,
    device=st.sampled_from(["a", "b", "c"]),
    t_ns=st.one_of(st.integers(0, YEAR_2200_NS), near, near.map(lambda t_ns: t_ns // SECOND * SECOND)),
    samples=st.integers(1, 60).map(gait),
    rate_hz=st.one_of(st.sampled_from([0.0, 50.0, 100.0, 20.0]), st.floats(width=32)),
    stamped=st.booleans(),
    arrival_s=st.one_of(st.floats(0, 8e9), st.floats(T0_NS / 1e9, T0_NS / 1e9 + 5)),
    acc_unit_auto=st.booleans(),
)
# Parts of the streams above at any time, in another unit, of any of the devices.
part = st.builds(
    lambda mishap, device, begin, count, ahead_ns, factor: [
        replace(m, device=device, t_ns=m.t_ns + ahead_ns, samples=m.samples * np.float32(factor))
        for m in stream(mishap)[begin : begin + count]
        if 0 <= m.t_ns + ahead_ns <= YEAR_2200_NS
    ],
    st.sampled_from(MISHAPS),
    st.sampled_from(["a", "b", "c"]),
    st.integers(0, 300),
    st.integers(1, 120),
    st.one_of(st.sampled_from([0, 0, -HOUR, HOUR]), st.integers(-T0_NS, 10**18)),
    st.sampled_from([1.0, 9.80665, 0.0]),
)
hostile = st.lists(st.one_of(part, st.lists(single, min_size=1, max_size=12)), min_size=1, max_size=6)


class Account:
    """Counts of the samples that an engine accepts as they are, and of irregular ones that it interpolates between."""

    def __init__(self, engine):
        self.timeline = engine._grid.timeline
        self.accepted = self.irregular = 0
        self._feed, self._interpolate = self.timeline.feed, self.timeline.irregular.interpolate
        self.timeline.feed = self.feed
        self.timeline.irregular.interpolate = self.interpolate

    def feed(self, rows, batch):
        accepted = self._feed(rows, batch)
        self.accepted += int(accepted.count.sum())
        assert (accepted.missing >= 0).all()
        return accepted

    def interpolate(self, times, samples, count, *args):
        outputs, number = self._interpolate(times, samples, count, *args)
        self.irregular += int(count.sum())
        self.accepted -= len(outputs)
        assert number.sum() == len(outputs)
        return outputs, number

    @property
    def waiting(self):
        return sum(len(message.samples) for message in self.timeline.jumps.held.values())


@BOTH
@given(parts=hostile, batches=st.lists(st.integers(1, 30), max_size=8))
@settings(max_examples=40)
def test_no_message_raises_or_warns_and_every_sample_is_accounted_for(spec, parts, batches):
    messages = [message for some in parts for message in some]
    spec = replace(spec, stride_samples=32)
    engine = Engine(spec, max_devices=2)
    account = Account(engine)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = feed(engine, messages, batches)
    stats, timeline = engine.stats, engine._grid.timeline.stats
    used = account.accepted + account.irregular + account.waiting
    dropped = stats.samples_late + timeline.samples_rate + stats.samples_devices
    assert used + dropped == sum(len(m) for m in messages)
    assert engine.health().late.sum() == stats.samples_late
    assert all(getattr(stats, name) >= 0 for name in stats.__slots__ if name != "pairing")
    assert np.isfinite(got.windows).all()
    assert (got.end_ns > got.start_ns).all()
    # and a decent device is served as if they had not been there
    decent = walk("decent", 50.0)
    wide = Engine(spec, max_devices=10)
    assert_same(
        of(feed(wide, [m for pair in zip(decent, messages, strict=False) for m in pair]), "decent"),
        feed(Engine(spec), decent[: len(messages)]),
    )
