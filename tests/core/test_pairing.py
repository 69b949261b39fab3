"""Split sensors: windows depend on event time only, whatever clocks, rates, order of arrival and cuts are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from harstream.core.batches import Sensor, WindowBatch
from harstream.core.engine import Engine
from harstream.core.pairing import LONGEST_WAIT_NS, MISSING_NS, WAIT_NS
from harstream.core.problems import Problem
from harstream.core.spec import CHANNELS, GYRO, NoiseFilter, SignalSpec

from ..constants import SECOND, T0_NS
from .split_sensors import SPEC, SensorClock, SplitStream, assert_merged, by_arrival, delayed, merged_offline
from .streams import Message, assert_same, batch, feed, gait_at, part_of

ACC = SensorClock(Sensor.ACC, 50.0)
GYRO_ONLY = SensorClock(Sensor.GYRO, 25.0)
WAIT_S = WAIT_NS / SECOND


def paired(spec: SignalSpec = SPEC) -> Engine:
    return Engine(spec, paired=True)


def waiting(engine: Engine) -> tuple[int, int]:
    """Return how many samples of each sensor are kept of the first device."""
    return engine._grid.pairing.n_waiting(0)  # type: ignore[union-attr]


def kinds(engine: Engine) -> list[str]:
    """Return the beginnings of the details of new incidents."""
    incidents = engine.take_incidents()
    assert {incident.problem for incident in incidents} <= {Problem.GYROSCOPE}
    return [" ".join(incident.detail.split()[:4]) for incident in incidents]


# --- what is promised ----------------------------------------------------------------------------

RATES = [20.0, 25.0, 26.0, 50.0, 52.0, 100.0, 104.0]
DRIFTS = st.sampled_from([0.0, 1e-4, -1e-4, -3e-3, 2e-3])
LOSSES = st.tuples(st.sampled_from([Sensor.ACC, Sensor.GYRO]), st.floats(0, 25), st.floats(0.1, 13))
# Messages of up to 2 s that are delayed by up to 7 s stay within the bound of 10 s.
SIZES = st.lists(st.floats(0.1, 2.0), min_size=1, max_size=4)
DELAYS = st.sampled_from([0.0, 0.3, 7.0])


def clocks(start_s: st.SearchStrategy[float]) -> st.SearchStrategy[tuple[SensorClock, SensorClock]]:
    one, other = (
        st.builds(SensorClock, st.just(sensor), st.sampled_from(RATES), start, DRIFTS)
        for sensor, start in ((Sensor.ACC, st.just(0.0)), (Sensor.GYRO, start_s))
    )
    return st.tuples(one, other)


STREAMS = st.builds(
    SplitStream,
    clocks(st.floats(-1.5, 1.5)),
    st.tuples(SIZES, SIZES),
    st.lists(LOSSES, max_size=3),
    st.tuples(DELAYS, DELAYS),
    st.integers(0, 1000),
)
BATCHES = st.lists(st.integers(1, 60), max_size=20)


@given(stream=STREAMS, batches=BATCHES, most=st.sampled_from([None, 1, 3]))
@settings(max_examples=40, deadline=None)
def test_windows_are_those_of_the_whole_recordings_merged(stream, batches, most):
    engine, messages = paired(), stream.messages()
    got = feed_limited(engine, messages, batches, most)
    assert_merged(got, merged_offline(messages, SPEC), is_open=waiting(engine)[0] > 0)


def feed_limited(engine: Engine, messages: list[Message], batches: list[int], most: int | None) -> WindowBatch:
    """Feed the messages in batches, the rest at once, and whatever is pending after each."""
    out, begin = [], 0
    for size in [*batches, len(messages)]:
        out.append(engine.feed(batch(messages[begin : begin + size]), None, most))
        while engine.n_pending:
            out.append(engine.feed(batch([]), None, most))
        begin += size
    return WindowBatch.concatenate(out)


@given(
    stream=STREAMS,
    late_sensor=st.sampled_from([Sensor.ACC, Sensor.GYRO]),
    late_s=st.sampled_from([12.0, 40.0]),
    batches=BATCHES,
)
@example(  # the first sample that is paired was there before, and so was the one of the gyroscope
    stream=SplitStream(
        (SensorClock(Sensor.ACC, 20.0), SensorClock(Sensor.GYRO, 20.0)),
        ([1.0], [1.0]),
        [(Sensor.ACC, 3.0, 6.0)],
        (0.0, 0.0),
        0,
    ),
    late_sensor=Sensor.ACC,
    late_s=40.0,
    batches=[],
)
@settings(max_examples=20, deadline=None)
def test_batches_change_nothing_even_beyond_the_bound(stream, late_sensor, late_s, batches):
    delays = tuple(late_s if clock.sensor == late_sensor else 0.0 for clock in stream.clocks)
    messages = replace(stream, most_delay_s=delays).messages()
    one_by_one, together = paired(), paired()
    want = feed(one_by_one, messages)
    got = feed_limited(together, messages, batches, 2)
    assert_same(got, want)
    assert got.untrusted.tolist() == want.untrusted.tolist()
    assert together.stats == one_by_one.stats
    assert waiting(together) == waiting(one_by_one)


@given(
    rates=st.tuples(*[st.sampled_from(RATES)] * 2),
    announced=st.booleans(),
    sizes=st.tuples(SIZES, SIZES),
    start_s=st.floats(-1.0, 1.0),
    jump_s=st.sampled_from([0.0, -3.0, -8.0, 2.5]),
    delays=st.tuples(st.floats(0, 6), st.floats(0, 6)),
    seed=st.integers(0, 1000),
)
@settings(max_examples=30, deadline=None)
def test_order_changes_nothing_though_rates_are_measured_and_clocks_jump(
    rates, announced, sizes, start_s, jump_s, delays, seed
):
    def windows(delays_s):
        streams, rng = [], np.random.default_rng(seed)
        for k, sensor in enumerate((Sensor.ACC, Sensor.GYRO)):
            clock = SensorClock(sensor, rates[k], k * start_s, announced=announced)
            messages = clock.messages(40.0, [max(round(size_s * rates[k]), 1) for size_s in sizes[k]])
            jumped = [
                replace(m, t_ns=m.t_ns + (m.t_ns > T0_NS + 20 * SECOND) * round(jump_s * SECOND)) for m in messages
            ]
            streams.append(delayed(jumped, rng.uniform(0, delays_s[k], len(messages))))
        return feed(paired(), by_arrival(*streams))

    want = windows((0.0, 0.0))
    assert len(want) > 15
    assert_same(windows(delays), want)


@pytest.mark.parametrize(("acc_hz", "gyro_hz"), [(50.0, 25.0), (25.0, 50.0), (100.0, 100.0), (25.0, 25.0)])
@given(
    sizes=st.tuples(*[st.lists(st.integers(1, 80), min_size=1, max_size=8)] * 2),
    start_s=st.sampled_from([0.0, 0.013, -0.4]),
)
@settings(max_examples=15, deadline=None)
def test_cuts_change_nothing(acc_hz, gyro_hz, sizes, start_s):
    sensors = SensorClock(Sensor.ACC, acc_hz), SensorClock(Sensor.GYRO, gyro_hz, start_s)
    whole = feed(paired(), by_arrival(*(clock.messages(9.0, [1000]) for clock in sensors)))
    assert len(whole) > 9
    cut = [clock.messages(9.0, some) for clock, some in zip(sensors, sizes, strict=True)]
    assert_same(feed(paired(), by_arrival(*cut)), whole)


def test_cuts_change_little_where_only_the_clocks_differ():
    sensors = SensorClock(Sensor.ACC, 50.0, 0.0, 1e-4), SensorClock(Sensor.GYRO, 52.0, 0.011, -2e-4)
    cuts = [(25, 26), (10, 52), (50, 13)]
    got = [
        feed(paired(), by_arrival(*(clock.messages(30.0, [n]) for clock, n in zip(sensors, cut, strict=True))))
        for cut in cuts
    ]
    for other in got[1:]:
        assert len(other) == len(got[0])
        # Other cuts show other stamps, so the clocks are known a little differently.
        assert np.abs(other.end_ns - got[0].end_ns).max() < 1_000_000
        assert np.abs(other.windows - got[0].windows).max() < 0.01


def test_the_gyroscope_is_that_of_the_time_of_the_accelerometer():
    spec = replace(SPEC, noise_filter=NoiseFilter("none"))
    sensors = SensorClock(Sensor.ACC, 25.0), SensorClock(Sensor.GYRO, 104.0, -0.31)
    got = feed(paired(spec), by_arrival(sensors[0].messages(20.0, [10]), sensors[1].messages(20.0, [50])))
    assert len(got) > 20
    gyro = got.windows[:, :, [spec.channels.index(name) for name in GYRO]]
    t_s = (got.start_ns[:, None] - T0_NS) / SECOND + np.arange(spec.window_samples) / spec.sample_rate_hz
    want = np.stack([gait_at(t)[:, 3:] for t in t_s])
    # Linear interpolation of 1.8 Hz at 25 Hz is off by up to 2.6 %. The very first sample may be held.
    assert np.abs(gyro - want)[1:].max() < 0.026


def test_devices_do_not_change_each_other():
    alone = {}
    for k, name in enumerate("abc"):
        acc = SensorClock(Sensor.ACC, [25.0, 50.0, 104.0][k]).messages(20.0, [7 + k], device=name)
        gyro = SensorClock(Sensor.GYRO, [52.0, 25.0, 100.0][k], 0.1 * k).messages(20.0, [20 - k], device=name)
        alone[name] = by_arrival(acc, [] if name == "b" else gyro)
    engine = paired()
    got = feed(engine, by_arrival(*alone.values()), [11] * 30)
    for name, messages in alone.items():
        assert_same(part_of(got, np.array([d == name for d in got.devices], np.bool_)), feed(paired(), messages))


def test_a_message_with_both_sensors_is_one_of_each():
    both = [
        Message("a", T0_NS + k * SECOND, gait_at(k + np.arange(25) / 25.0).astype(np.float32), 25.0) for k in range(20)
    ]
    got, want = feed(paired(), both), feed(Engine(SPEC), both)
    assert_same(got, want)
    assert len(got) == 30


def test_a_model_without_gyroscope_never_waits():
    spec = replace(SPEC, channels=tuple(name for name in CHANNELS if "acc" in name), normalisation=None)
    acc = ACC.messages(20.0, [10])
    engine = paired(spec)
    assert not engine.paired
    want = feed(Engine(spec), [replace(m, sensor=Sensor.BOTH) for m in acc])
    assert_same(feed(engine, by_arrival(acc, GYRO_ONLY.messages(20.0, [25]))), want)
    assert len(want) > 20


def test_an_engine_that_pairs_nothing_takes_no_single_sensor_where_it_needs_both():
    engine = Engine(SPEC)
    assert not len(feed(engine, by_arrival(ACC.messages(20.0, [10]), GYRO_ONLY.messages(20.0, [25]))))
    assert engine.n_devices == 0


# --- missing and late ----------------------------------------------------------------------------


def test_a_missing_gyroscope_is_named_and_one_that_comes_back_ends_it():
    engine = paired()
    acc, gyro = ACC.messages(120.0, [25]), GYRO_ONLY.messages(120.0, [25])
    lost = [m for m in gyro if not 20 <= (m.t_ns - T0_NS) / SECOND < 60]
    messages = by_arrival(acc, lost)
    before = sum(m.t_ns < T0_NS + 18 * SECOND + MISSING_NS for m in messages)
    feed(engine, messages[:before])
    assert kinds(engine) == []
    windows = feed(engine, messages[before:])
    assert kinds(engine) == ["its gyroscope is missing:"]
    assert engine.problems_of(["a"]) == [0]
    assert not windows.untrusted.any()
    assert engine.stats.pairing.late_gyroscope == 0
    # What is dropped are the 40 s without gyroscope, but for what holds at their ends.
    assert engine.stats.pairing.no_gyroscope == pytest.approx(40 * 25, abs=3)


def test_a_gyroscope_that_never_came_is_missing():
    engine = paired()
    assert not len(feed(engine, ACC.messages(MISSING_NS / SECOND + 5, [25])))
    assert kinds(engine) == ["its gyroscope is missing:"]
    assert engine.health().problems.tolist() == [Problem.GYROSCOPE]


@pytest.mark.parametrize("late_s", [WAIT_S + 5, 50.0])
def test_a_late_gyroscope_is_told_apart(late_s):
    engine = paired()
    acc, gyro = ACC.messages(120.0, [25]), GYRO_ONLY.messages(120.0, [25])
    messages = by_arrival(acc, delayed(gyro, [late_s] * len(gyro)))
    assert not len(feed(engine, messages[: messages.index(acc[-1])]))
    assert kinds(engine)[-1] == "its gyroscope comes late:"
    assert engine.stats.pairing.late_gyroscope > 1000
    assert engine.health().problems.tolist() == [Problem.GYROSCOPE]


def test_a_gyroscope_within_the_bound_is_not_late():
    engine = paired()
    acc, gyro = ACC.messages(60.0, [25]), GYRO_ONLY.messages(60.0, [25])
    late = feed(engine, by_arrival(acc, delayed(gyro, [WAIT_S - 1.5] * len(gyro))))
    assert kinds(engine) == []
    assert_same(late, feed(paired(), by_arrival(acc, gyro)))


def test_a_missing_accelerometer_is_named():
    engine = paired()
    assert not len(feed(engine, GYRO_ONLY.messages(MISSING_NS / SECOND + 5, [25])))
    assert kinds(engine) == ["its accelerometer is missing:"]
    assert engine.stats.pairing.no_accelerometer > 500
    assert engine.health().last_seen_s[0] > T0_NS / SECOND + 30


def test_a_late_accelerometer_is_told_apart():
    engine = paired()
    acc, gyro = ACC.messages(120.0, [25]), GYRO_ONLY.messages(120.0, [25])
    messages = by_arrival(delayed(acc, [WAIT_S + 8] * len(acc)), gyro)
    assert not len(feed(engine, messages[: messages.index(gyro[-1])]))
    assert kinds(engine)[-1] == "its accelerometer comes late:"
    assert engine.stats.pairing.late_accelerometer > 1000


def test_what_waits_is_bounded():
    engine = paired()
    feed(engine, ACC.messages(400.0, [50]))
    assert waiting(engine)[0] <= (WAIT_S + 1) * 25 + 2
    feed(engine, [Message("b", T0_NS, ACC.messages(400.0, [10**6])[0].samples, 50.0, sensor=Sensor.ACC)])
    assert engine._grid.pairing.n_waiting(1)[0] <= LONGEST_WAIT_NS / SECOND * 25 + 2  # type: ignore[union-attr]
    feed(engine, [replace(m, device="c") for m in GYRO_ONLY.messages(400.0, [50])])
    assert engine._grid.pairing.n_waiting(2)[1] <= (WAIT_S + 4) * 25  # type: ignore[union-attr]
    # A pair of sensors that both go on needs little more than the message that waits.
    both = by_arrival(ACC.messages(60.0, [25], device="d"), GYRO_ONLY.messages(60.0, [25], device="d"))
    feed(engine, both)
    assert sum(engine._grid.pairing.n_waiting(3)) < 60  # type: ignore[union-attr]


def test_messages_may_be_long_if_each_gyroscope_s_comes_before_the_next_accelerometer_s():
    acc, gyro = ACC.messages(240.0, [60 * 50]), GYRO_ONLY.messages(240.0, [60 * 25])
    got = feed(paired(), [m for pair in zip(acc, gyro, strict=True) for m in pair])
    assert_merged(got, merged_offline([*acc, *gyro], SPEC), is_open=True)
    assert len(got) > 350


# --- clocks that jump, units, state --------------------------------------------------------------


@pytest.mark.parametrize("to_s", [-100_000.0, -37.3, 3600.0])
@pytest.mark.parametrize("first", [Sensor.ACC, Sensor.GYRO])
def test_after_a_reboot_both_sensors_go_on_whichever_is_first(to_s, first):
    streams = []
    for clock in (ACC, GYRO_ONLY):
        before, after = (
            clock.messages(20.0, [25]),
            clock.messages(40.0, [25], t0_ns=T0_NS + round((20 + to_s) * SECOND)),
        )
        after = [replace(m, arrival_s=m.arrival_s - to_s + (3.0 if clock.sensor != first else 0)) for m in after]
        streams.append([*before, *after])
    engine = paired()
    got = feed(engine, by_arrival(*streams))
    (at,) = np.flatnonzero(np.abs(np.diff(got.end_ns)) > 10 * SECOND)
    end_s = (got.end_ns - T0_NS) / SECOND
    assert 18.5 < end_s[at] <= 20
    assert 0 < end_s[at + 1] - 20 - to_s < 8
    assert 38 < end_s[-1] - 20 - to_s <= 40
    assert engine.stats.pairing.no_gyroscope < 4 * 25


def test_the_unit_of_the_accelerometer_is_told_again_where_its_windows_begin_again():
    acc = [replace(m, samples=m.samples * np.float32(9.80665), acc_unit_auto=True) for m in ACC.messages(60.0, [25])]
    gyro = [m for m in GYRO_ONLY.messages(60.0, [25]) if not 20 <= (m.t_ns - T0_NS) / SECOND < 40]
    engine = paired()
    got = feed(engine, by_arrival(acc, gyro))
    want = feed(paired(), by_arrival(ACC.messages(60.0, [25]), gyro))
    np.testing.assert_allclose(got.windows, want.windows, atol=1e-4)
    assert engine.health().acc_unit == ["m/s2"]
    assert engine.stats.restarts == 0 or len(got) > 40


@given(stream=STREAMS, at=st.floats(0, 1))
@settings(max_examples=15, deadline=None)
def test_a_restored_engine_goes_on_to_the_bit(stream, at):
    messages = stream.messages()
    k = round(at * len(messages))
    straight, first = paired(), paired()
    want = feed(straight, messages)
    out = [feed(first, messages[:k])]
    second, third = paired(), paired()
    second.restore(first.snapshot())
    middle = (k + len(messages)) // 2
    out.append(feed(second, messages[k:middle]))
    third.adopt(second, 0.0)
    out.append(feed(third, messages[middle:]))
    assert_same(WindowBatch.concatenate(out), want)
    assert waiting(third) == waiting(straight)


def test_a_snapshot_of_another_kind_of_engine_is_refused():
    engine = paired()
    feed(engine, ACC.messages(2.0, [25]))
    with pytest.raises(ValueError, match="paired True"):
        Engine(SPEC).restore(engine.snapshot())


def test_forgotten_devices_leave_nothing_and_others_keep_what_waits():
    engine = paired()
    crowd = [replace(m, device=f"d{k}") for k in range(300) for m in ACC.messages(2.0, [25])]
    engine.feed(batch(crowd), 0.0)
    mine, want = by_arrival(ACC.messages(40.0, [25]), GYRO_ONLY.messages(40.0, [20])), paired()
    middle = len(mine) // 2
    expected = feed(want, mine)
    out = [engine.feed(batch([m]), 100.0) for m in mine[:middle]]
    assert len(engine.evict(50.0)) == 300
    out += [engine.feed(batch([m]), 100.0) for m in mine[middle:]]
    assert_same(WindowBatch.concatenate(out), expected)
    assert engine.forget(["a"]) == ["a"]
    assert waiting(engine) == (0, 0)
    assert_same(feed(engine, mine), expected)
