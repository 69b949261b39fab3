"""Engine: windows depend neither on how a stream is cut nor on the other devices."""

import doctest
import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harstream.core import engine as engine_module
from harstream.core.batches import WindowBatch
from harstream.core.engine import Engine
from harstream.core.spec import CHANNELS, ORIENTATION_FREE, GravityFilter, NoiseFilter, SignalSpec

from ..constants import SECOND, T0_NS
from . import oracle
from .streams import Message, assert_same, batch, cut, feed, gait, of, walk

SPEC = SignalSpec(window_samples=32, stride_samples=16)
AIDED = replace(SPEC, gravity_filter=GravityFilter("complementary"))
FREE = replace(SPEC, channels=ORIENTATION_FREE, noise_filter=NoiseFilter("none"), normalisation=None)
RATES = [20.0, 31.25, 50.0, 100.0, 104.0]
EACH_RATE = [*((SPEC, rate_hz) for rate_hz in RATES), (AIDED, 50.0), (AIDED, 31.25), (FREE, 50.0), (FREE, 104.0)]
EACH = pytest.mark.parametrize("spec", [SPEC, AIDED, FREE], ids=["butterworth", "complementary", "orientation-free"])


# --- how a stream is cut -------------------------------------------------------------------------


@pytest.mark.parametrize(("spec", "rate_hz"), EACH_RATE)
@given(sizes=st.lists(st.integers(1, 80), max_size=30), batches=st.lists(st.integers(1, 12), max_size=10))
@settings(max_examples=20, deadline=None)
def test_windows_do_not_depend_on_how_the_stream_is_cut(spec, rate_hz, sizes, batches):
    whole = feed(Engine(spec), walk("a", rate_hz, sizes=[]))
    assert len(whole) > 15
    random = walk("a", rate_hz, sizes=sizes)
    assert_same(feed(Engine(spec), random), whole)
    assert_same(feed(Engine(spec), random, batches), whole)  # several messages of the device in one batch
    assert_same(feed(Engine(spec), random, [len(random)]), whole)


@pytest.mark.parametrize(("spec", "rate_hz"), EACH_RATE)
@pytest.mark.parametrize("batches", [None, [10_000], [3] * 300])
def test_sample_by_sample_gives_the_windows_of_the_whole(spec, rate_hz, batches):
    whole = feed(Engine(spec), walk("a", rate_hz, 4.0, sizes=[]))
    assert_same(feed(Engine(spec), walk("a", rate_hz, 4.0, sizes=1), batches), whole)


@EACH
@given(data=st.data(), seed=st.integers(0, 100))
@settings(max_examples=10, deadline=None)
def test_windows_do_not_depend_on_the_other_devices(spec, data, seed):
    rng = np.random.default_rng(seed)
    sizes = st.lists(st.integers(1, 60), max_size=20)
    alone = {
        f"d{i}": walk(f"d{i}", rate_hz, 5.0, data.draw(sizes), i) for i, rate_hz in enumerate([*RATES, 50.0, 50.0])
    }
    # Their messages in any order, each device's own kept.
    turns = rng.permutation([name for name, messages in alone.items() for _ in messages])
    queues = {name: iter(messages) for name, messages in alone.items()}
    mixed = [next(queues[name]) for name in turns.tolist()]
    got = feed(Engine(spec), mixed, rng.integers(1, 30, len(mixed)).tolist())
    for name, messages in alone.items():
        assert_same(of(got, name), feed(Engine(spec), messages))


def test_an_empty_batch_is_nothing():
    got = Engine(SPEC).feed(batch([]))
    assert len(got) == 0
    assert got.windows.shape == (0, 32, 9)


def test_the_engine_keeps_no_reference_to_what_it_was_given_or_gave():
    messages, engine = walk("a", 50.0), Engine(SPEC)
    want, got = feed(Engine(SPEC), messages), []
    for message in messages:
        given_ = batch([message])
        windows = engine.feed(given_)
        got.append(replace(windows, windows=windows.windows.copy()))
        given_.samples[:] = 99
        windows.windows[:] = -99
    assert_same(WindowBatch.concatenate(got), want)


def test_a_window_carries_the_arrival_of_the_message_that_completed_it():
    messages = [replace(m, arrival_s=1000.0 + i) for i, m in enumerate(walk("a", 50.0, 2.0, 10))]
    for batches in (None, [10]):
        # due at samples 32, 48, 64, 80, 96
        assert feed(Engine(SPEC), messages, batches).arrival_s.tolist() == [1003.0, 1004.0, 1006.0, 1007.0, 1009.0]


# --- what a window holds -------------------------------------------------------------------------

ACC_ONLY = tuple(name for name in CHANNELS if "acc" in name)
SPECS = {
    "default": SignalSpec(),
    "no stride overlap": SignalSpec(window_samples=40, stride_samples=40),
    "100/10": SignalSpec(window_samples=100, stride_samples=10),
    "stride 1": SignalSpec(window_samples=16, stride_samples=1),
    "acc only": replace(SignalSpec(window_samples=64, stride_samples=32), channels=ACC_ONLY, normalisation=None),
    "one channel": SignalSpec(window_samples=64, stride_samples=32, channels=("total_acc_z",)),
    "body only": SignalSpec(window_samples=64, stride_samples=32, channels=("body_acc_z", "body_acc_x")),
    "gyro only": SignalSpec(window_samples=64, stride_samples=32, channels=("gyro_y",)),
    "mixed order": SignalSpec(window_samples=64, stride_samples=32, channels=("gyro_z", "total_acc_y", "body_acc_y")),
    "no noise filter": SignalSpec(window_samples=64, stride_samples=32, noise_filter=NoiseFilter("none")),
    "median 5": SignalSpec(window_samples=64, stride_samples=32, noise_filter=NoiseFilter(size=5)),
    "other gravity": SignalSpec(
        window_samples=64, stride_samples=32, gravity_filter=GravityFilter(order=1, cutoff_hz=1.0)
    ),
    "complementary": SignalSpec(window_samples=64, stride_samples=32, gravity_filter=GravityFilter("complementary")),
    "complementary, acc only": SignalSpec(
        channels=ACC_ONLY, gravity_filter=GravityFilter("complementary", order=2, cutoff_hz=0.2)
    ),
    "other grid": SignalSpec(sample_rate_hz=20.0, window_samples=40, stride_samples=20),
    "orientation-free": SignalSpec(
        window_samples=64, stride_samples=32, channels=ORIENTATION_FREE, noise_filter=NoiseFilter("none")
    ),
    "some orientation-free": SignalSpec(
        window_samples=64, stride_samples=32, channels=("gravity_turn", "gyro_x", "vertical_acc", "body_acc_z")
    ),
    "no gap": SignalSpec(window_samples=64, stride_samples=32, max_gap_s=0.0),
}


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("rate_hz", RATES)
def test_windows_are_the_oracles_whatever_the_spec(name, rate_hz):
    spec = SPECS[name]
    signal = gait(int(14 * rate_hz), rate_hz)
    # one gap that is bridged (unless none may be), one that is not: ####.####......####
    #  each in samples                                                a    b      c
    a, b, c = int(5 * rate_hz), int(5.2 * rate_hz), int(10 * rate_hz)
    arrived = [(0, signal[:a]), (a + 3, signal[a + 3 : b + 9]), (b + 9, signal[b + 9 : c]), (c + 200, signal[c:])]
    got = feed(
        Engine(spec), [Message("a", T0_NS + round(slot * 1e9 / rate_hz), part, rate_hz) for slot, part in arrived]
    )
    windows, slots = oracle.expected(
        oracle.follow(arrived, rate_hz, spec.max_gap_s),
        rate_hz,
        grid_hz=spec.sample_rate_hz,
        window=spec.window_samples,
        stride=spec.stride_samples,
        channels=spec.channels,
        median=spec.noise_filter.size if spec.noise_filter.type == "median" else None,
        order=spec.gravity_filter.order,
        cutoff_hz=spec.gravity_filter.cutoff_hz,
        aided=spec.gravity_filter.type == "complementary",
    )
    assert len(got) > 2
    assert got.windows.dtype == np.float32
    assert got.windows.shape == windows.shape
    # Turns are differences of directions, times the rate: so are their rounding errors.
    atol = np.where([channel == "gravity_turn" for channel in spec.channels], 1e-5, 2e-6)
    assert (np.abs(got.windows - windows) <= atol + 1e-7 * np.abs(windows)).all()
    np.testing.assert_allclose(got.start_ns - T0_NS - np.rint(slots * 1e9 / rate_hz), 0, atol=1000)


@pytest.mark.parametrize("rate_hz", RATES)
def test_a_still_device_has_no_body_acceleration_and_no_start_transient(rate_hz):
    still = np.tile(np.array([0.48, -0.6, 0.64, 0, 0, 0], np.float32), (int(12 * rate_hz), 1))
    got = feed(Engine(SignalSpec(channels=CHANNELS)), cut(still, 7, rate_hz=rate_hz, announced=rate_hz))
    assert len(got) > 5
    np.testing.assert_allclose(
        got.windows[:, :, :3], np.broadcast_to(still[0, :3], got.windows[:, :, :3].shape), rtol=3e-7
    )
    assert np.abs(got.windows[:, :, 3:6]).max() < 1e-6


def test_gravity_is_seeded_from_the_mean_of_the_first_window_after_start_and_restart():
    # 128 samples of 0.2 g and 1.8 g in turn: from the first sample alone, gravity would start at 0.2 g
    shaking = np.zeros((400, 6), np.float32)
    shaking[:, 2] = np.where(np.arange(400) % 2, 1.8, 0.2)
    spec = SignalSpec(channels=("total_acc_z", "body_acc_z"), noise_filter=NoiseFilter("none"))
    restarted = [*cut(shaking[:200], 9), *cut(shaking[200:], 9, t_ns=T0_NS + 60 * SECOND)]
    got = feed(Engine(spec), restarted)
    assert len(got) == 4
    gravity = got.windows[..., 0] - got.windows[..., 1]
    np.testing.assert_allclose(gravity, 1.0, atol=0.02)


@EACH
def test_no_window_spans_a_restart(spec):
    late = walk("a", 50.0, 4.0, 10, t_ns=T0_NS + 60 * SECOND)
    early = walk("a", 50.0, 3.0, 7, seed=1)
    got = feed(Engine(spec), early + late, [4, 100])
    assert_same(got, WindowBatch.concatenate([feed(Engine(spec), early), feed(Engine(spec), late)]))


# --- many devices --------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", [SPEC, FREE], ids=["butterworth", "orientation-free"])
def test_growing_past_the_first_capacity_keeps_every_state(spec):
    signals = {f"d{i}": walk(f"d{i}", 50.0 if i % 3 else 100.0, 3.0, 30, i % 10) for i in range(150)}
    engine, batches = Engine(spec), []
    # Ten devices join at a time while the others are in the middle of a window. Rows 64 and 128 make it grow.
    joined = list(signals)
    queues = {name: list(messages) for name, messages in signals.items()}
    turn = 0
    while any(queues.values()):
        turn += 1
        sending = [name for name in joined[: 10 * turn] if queues[name]]
        batches.append(engine.feed(batch([queues[name].pop(0) for name in sending])))
    got = WindowBatch.concatenate(batches)
    assert engine.n_devices == 150
    for name in joined[::7]:
        assert_same(of(got, name), feed(Engine(spec), signals[name]))


def test_devices_with_nothing_accepted_for_long_are_evicted():
    engine = Engine(SPEC)
    feed(
        engine,
        [Message(name, T0_NS, gait(10), arrival_s=at) for name, at in [("a", 100.0), ("b", 200.0), ("c", 300.0)]],
    )
    assert engine.evict(200.0) == ["a"]
    assert engine.n_devices == 2
    feed(engine, [Message("b", T0_NS + SECOND // 5, gait(10), arrival_s=400.0)])
    assert engine.evict(350.0) == ["c"]
    feed(engine, [Message("b", T0_NS, gait(10), arrival_s=500.0)])  # late: it does not keep the device
    assert engine.evict(450.0) == ["b"]
    assert engine.n_devices == 0
    assert (engine.stats.samples_late, engine.stats.restarts) == (10, 0)


def test_given_devices_are_forgotten_and_the_others_continue_to_the_bit():
    engine, alone = Engine(SPEC), Engine(SPEC)
    first, second = walk("a", 50.0)[:6], walk("b", 50.0, seed=2)
    feed(engine, [*first, *second[:5]])
    feed(alone, second[:5])
    assert sorted(engine.forget(["a", "unknown", "a"])) == ["a"]
    assert engine.health().devices == ["b"]
    assert_same(feed(engine, second[5:]), feed(alone, second[5:]))
    assert_same(feed(engine, first), feed(Engine(SPEC), first))
    assert engine.forget([]) == []


@EACH
@pytest.mark.parametrize("rate_hz", [50.0, 100.0, 20.0])
@pytest.mark.parametrize("before_hz", [50.0, 100.0, 20.0, 1.0])
def test_nothing_leaks_to_the_next_device_on_a_row(spec, rate_hz, before_hz):
    engine = Engine(spec, max_devices=1)
    unusual = 50 * gait(3000, seed=5)
    feed(engine, cut(unusual, 77, device="old", rate_hz=49.0, announced=before_hz, t_ns=T0_NS + 9999 * SECOND))
    feed(engine, [Message("old", T0_NS + 9960 * SECOND, unusual[:50], before_hz)])
    assert engine.evict(1e18) == ["old"]
    messages = walk("new", rate_hz)
    before = engine.stats
    assert_same(feed(engine, messages), feed(Engine(spec), messages))
    assert engine.stats == before


def test_a_device_that_comes_back_after_eviction_starts_even_in_the_past():
    engine = Engine(SPEC)
    feed(engine, walk("a", 50.0, t_ns=T0_NS + 3600 * SECOND))
    back = walk("a", 50.0, seed=2)
    engine.evict(1e18)
    assert_same(feed(engine, back), feed(Engine(SPEC), back))


def test_devices_beyond_the_limit_are_counted_and_the_others_served():
    messages = {name: walk(name, 50.0, seed=i) for i, name in enumerate("abc")}
    engine = Engine(SPEC, max_devices=2)
    mixed = [m for trio in zip(*messages.values(), strict=True) for m in trio]
    got = feed(engine, mixed, [7] * 10)
    for name in "ab":
        assert_same(of(got, name), feed(Engine(SPEC), messages[name]))
    assert len(of(got, "c")) == 0
    assert engine.stats.samples_devices == 400
    assert engine.n_devices == 2
    assert len(engine.feed(batch(messages["c"]))) == 0  # there is room for no device of the batch
    engine.evict(1e18)
    assert_same(feed(engine, messages["c"]), feed(Engine(SPEC), messages["c"]))


# --- whatever a device sends ---------------------------------------------------------------------

YEAR_2200_NS = 7_258_118_399 * SECOND


@pytest.mark.parametrize("t_ns", [0, 1, YEAR_2200_NS - 20 * SECOND])
@pytest.mark.parametrize("rate_hz", RATES)
def test_the_first_and_last_times_there_are_work_like_any(t_ns, rate_hz):
    got = feed(Engine(SPEC), walk("a", rate_hz, t_ns=t_ns))
    want = feed(Engine(SPEC), walk("a", rate_hz))
    np.testing.assert_array_equal(got.windows, want.windows)
    np.testing.assert_allclose((got.start_ns - t_ns) - (want.start_ns - T0_NS), 0, atol=1000)


def test_after_a_jump_back_by_hours_the_third_message_restarts_the_device():
    engine = Engine(SPEC)
    feed(engine, walk("a", 50.0))
    back = walk("a", 50.0, seed=1, t_ns=T0_NS - 7200 * SECOND)
    assert_same(feed(engine, back), feed(Engine(SPEC), back[2:]))
    assert (engine.stats.samples_late, engine.stats.restarts, engine.stats.gaps) == (20, 1, 0)


@pytest.mark.parametrize("jump_s", [1, 3600, 5_000_000_000])
def test_after_a_jump_forward_the_device_restarts(jump_s):
    engine = Engine(SPEC)
    early, late = walk("a", 50.0), walk("a", 50.0, seed=1, t_ns=T0_NS + (8 + jump_s) * SECOND)
    assert_same(
        feed(engine, early + late), WindowBatch.concatenate([feed(Engine(SPEC), early), feed(Engine(SPEC), late)])
    )
    assert (engine.stats.gaps, engine.stats.restarts, engine.stats.samples_late) == (1, 1, 0)


@pytest.mark.parametrize("rate_hz", [5e-324, 1e-300, 6.2, 1601.0, 1e30, 1e308, float("inf")])
def test_rates_that_cannot_be_resampled_are_dropped_and_counted(rate_hz):
    engine, good = Engine(SPEC), walk("good", 50.0)
    bad = [Message("bad", T0_NS + k * SECOND, gait(10), rate_hz) for k in range(5)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = feed(engine, bad + good, [len(bad) + 20])
    assert_same(got, feed(Engine(SPEC), good))
    assert engine.stats.samples_rate == 50
    feed(engine, [replace(good[-1], t_ns=good[-1].t_ns + SECOND, rate_hz=rate_hz)])  # one message of a known device
    assert engine.stats.samples_rate == 60
    assert (engine.stats.samples_late, engine.stats.gaps, engine.stats.restarts) == (0, 0, 0)


@pytest.mark.parametrize("rate_hz", [0.0, -1.0, float("nan")])
def test_no_rate_is_the_specs(rate_hz):
    messages = [replace(m, rate_hz=rate_hz) for m in walk("a", 50.0)]
    assert_same(feed(Engine(SPEC), messages), feed(Engine(SPEC), walk("a", 50.0)))


@EACH
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 3e38])
@pytest.mark.parametrize("rate_hz", [50.0, 100.0])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_values_out_of_this_world_stay_with_their_device(spec, value, rate_hz):
    good, bad = walk("good", rate_hz), walk("bad", rate_hz, seed=1)
    bad[3].samples[4] = value
    mixed = [m for pair in zip(bad, good, strict=True) for m in pair]
    engine = Engine(spec)
    got = feed(engine, mixed, [5] * 10)
    assert_same(of(got, "good"), feed(Engine(spec), good))
    assert len(of(got, "bad")) == len(of(got, "good"))
    # and leave it with a restart
    again = walk("bad", rate_hz, seed=2, t_ns=T0_NS + 60 * SECOND)
    assert_same(feed(engine, again), feed(Engine(spec), again))


def test_a_batch_must_be_aligned():
    aligned = batch([Message("a", T0_NS, np.zeros((1, 6), np.float32))])
    with pytest.raises(ValueError, match="rate_hz"):
        replace(aligned, rate_hz=np.zeros(2))
    with pytest.raises(ValueError, match="samples"):
        replace(aligned, samples=np.zeros((2, 6), np.float32))


def test_the_example_in_the_engines_docstring_is_true():
    assert doctest.testmod(engine_module).attempted > 5
    assert doctest.testmod(engine_module).failed == 0
