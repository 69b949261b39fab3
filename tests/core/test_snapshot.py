"""Snapshots: an engine that is restored continues to the bit, whatever happens to its devices."""

import io
from dataclasses import replace

import numpy as np
import pytest

from harstream.core.engine import Engine
from harstream.core.spec import GravityFilter, NoiseFilter, Normalisation

from ..constants import SECOND, T0_NS
from .mishaps import AIDED, BOTH, FREE, MISHAPS, SPEC, stream
from .streams import assert_same, batch, cut, feed, gait, walk


def trouble():
    """Return messages of devices with other rates, with gaps, a drifting clock, a measured rate, or no stamps."""
    streams = [
        walk("fifty", 50.0),
        walk("hundred", 100.0, seed=1),
        walk("odd", 104.0, seed=2),
        walk("slow", 20.0, seed=3),
        walk("gap", 50.0, seed=4)[:5] + walk("gap", 50.0, seed=4)[6:],
        cut(gait(400), 10, device="drifting", rate_hz=49.3),
        cut(gait(200, 25.0), 5, device="measured", rate_hz=25.0),
        [replace(m, stamped=False) for m in walk("unstamped", 50.0, seed=5)],
    ]
    return sorted((m for stream in streams for m in stream), key=lambda m: m.t_ns)


@pytest.mark.parametrize(
    ("spec", "part", "via_file"),
    [
        *((SPEC, part, False) for part in (0.0, 0.01, 0.05, 0.3, 0.62, 0.9)),
        *((spec, part, False) for spec in (AIDED, FREE) for part in (0.01, 0.62)),
        *((spec, 0.3, True) for spec in (SPEC, AIDED, FREE)),
    ],
)
def test_a_restored_engine_goes_on_to_the_bit(spec, part, via_file, tmp_path):
    messages = trouble()
    at = int(part * len(messages))
    straight, before, after = Engine(spec), Engine(spec), Engine(spec)
    feed(straight, messages[:at], [at])
    feed(before, messages[:at], [at])
    state = before.snapshot()
    if via_file:
        np.savez(tmp_path / "state.npz", **state)
        with np.load(tmp_path / "state.npz", allow_pickle=False) as file:
            state = dict(file)
    feed(before, messages[at:])  # the snapshot is a copy: what follows does not reach it
    after.restore(state)
    got, want = feed(after, messages[at:]), feed(straight, messages[at:])
    assert_same(got, want)
    np.testing.assert_array_equal(got.start_ns, want.start_ns)
    np.testing.assert_array_equal(got.end_ns, want.end_ns)
    assert after.evict(T0_NS / 1e9) == []
    assert sorted(after.evict(1e18)) == sorted({m.device for m in messages})


@BOTH
@pytest.mark.parametrize("mishap", MISHAPS)
def test_an_engine_restored_in_the_middle_of_a_mishap_goes_on_to_the_bit(spec, mishap):
    messages = stream(mishap)
    straight, restored, held = Engine(spec), [], 0
    places = {*range(0, len(messages), len(messages) // 8), *range(21, 25)}  # in "held", a message waits then
    for place, message in enumerate(messages):
        if place in places:
            file = io.BytesIO()
            np.savez(file, **straight.snapshot())
            file.seek(0)
            restored.append(Engine(spec))
            restored[-1].restore(dict(np.load(file, allow_pickle=False)))
            held += len(straight._grid.timeline.jumps.held)
        want = straight.feed(batch([message]))
        incidents = straight.take_incidents()
        for engine in restored:
            got = engine.feed(batch([message]))
            assert_same(got, want)
            np.testing.assert_array_equal(got.end_ns, want.end_ns)
            assert got.problems.tolist() == want.problems.tolist()
            assert engine.take_incidents() == incidents
    assert held == (3 if mishap == "held" else 0)
    for engine in restored:
        assert repr(engine.health()) == repr(straight.health())


def test_more_than_the_first_capacity_of_devices_is_restored():
    engine, again = Engine(SPEC), Engine(SPEC)
    messages = [m for i in range(100) for m in walk(f"d{i}", 50.0, 1.0, 50, i)]
    feed(engine, messages, [100])
    engine.evict(0.0)
    again.restore(engine.snapshot())
    later = [m for i in range(100) for m in walk(f"d{i}", 50.0, 1.0, 50, i + 1, T0_NS + SECOND)]
    assert_same(feed(again, later, [100]), feed(engine, later, [100]))


@pytest.mark.parametrize(
    "other",
    [
        replace(SPEC, window_samples=64),
        replace(SPEC, stride_samples=8),
        replace(SPEC, sample_rate_hz=100.0),
        replace(SPEC, channels=tuple(reversed(SPEC.channels))),
        replace(SPEC, channels=SPEC.channels[:8], normalisation=None),
        replace(SPEC, noise_filter=NoiseFilter("none")),
        replace(SPEC, gravity_filter=GravityFilter(cutoff_hz=0.5)),
        AIDED,
        replace(SPEC, max_gap_s=1.0),
    ],
    ids=["window", "stride", "rate", "order", "channels", "noise", "gravity", "aided", "gap"],
)
def test_restoring_into_another_spec_is_refused(other):
    engine, fresh = Engine(SPEC), Engine(other)
    feed(engine, trouble()[:50])
    with pytest.raises(ValueError, match="snapshot"):
        fresh.restore(engine.snapshot())
    assert fresh.n_devices == 0


def test_a_model_with_another_normalisation_accepts_the_snapshot():
    engine = Engine(SPEC)
    feed(engine, trouble()[:50])
    again = Engine(replace(SPEC, sample_rate_hz=50, normalisation=Normalisation((1.0,) * 9, (2.0,) * 9)))
    again.restore(engine.snapshot())
    assert again.n_devices == engine.n_devices


def test_restoring_into_an_engine_in_use_is_refused():
    engine = Engine(SPEC)
    feed(engine, trouble()[:50])
    with pytest.raises(ValueError, match="already"):
        engine.restore(engine.snapshot())


def test_what_a_smaller_engine_has_no_room_for_is_left_out():
    engine, small = Engine(SPEC), Engine(SPEC, max_devices=2)
    messages = {name: walk(name, 50.0, seed=i) for i, name in enumerate("abc")}
    for name in "abc":
        feed(engine, messages[name][:20])
    small.restore(engine.snapshot())
    assert small.n_devices == 2
    for name in "ab":
        assert_same(feed(small, messages[name][20:]), feed(engine, messages[name][20:]))


@pytest.mark.parametrize("spec", [SPEC, AIDED, FREE])
@pytest.mark.parametrize("part", [0.01, 0.3, 0.62])
def test_devices_that_move_from_one_engine_to_another_go_on_to_the_bit(spec, part):
    messages = trouble()
    at = int(part * len(messages))
    moving = ["hundred", "gap", "measured", "drifting"]
    straight, old, new = Engine(spec), Engine(spec), Engine(spec)
    feed(straight, messages[:at], [at])
    feed(old, messages[:at], [at])
    others = [replace(m, device=f"other {m.device}") for m in messages]
    feed(new, [m for m in others if m.device != "other gap"][:at], [at])  # with resamplers of their own
    new.forget(["other fifty"])  # its row is free again
    between = Engine(spec)
    between.restore(old.snapshot([*moving, "unknown"]), 0.0)
    gone = old.forget(moving)
    assert sorted(gone) == sorted(new.adopt(between, 1.0)) == sorted(straight.snapshot(moving)["devices"].tolist())
    assert new.adopt(between, 1.0) == []  # they are there
    later = messages[at:]
    want = feed(straight, [m for m in later if m.device in moving])
    got = feed(new, [m for m in later if m.device in moving])
    assert_same(got, want)
    np.testing.assert_array_equal(got.end_ns, want.end_ns)
    rest = [m for m in later if m.device not in moving]
    assert_same(feed(old, rest), feed(straight, rest))


@pytest.mark.parametrize("mishap", MISHAPS)
def test_a_device_that_moves_in_the_middle_of_a_mishap_goes_on_to_the_bit(mishap):
    messages = stream(mishap)
    straight, engines = Engine(SPEC), [Engine(SPEC), Engine(SPEC)]
    for place, message in enumerate(messages):
        one, other = engines if place % 2 == 0 else engines[::-1]
        want, got = straight.feed(batch([message])), one.feed(batch([message]))
        assert_same(got, want)
        assert got.problems.tolist() == want.problems.tolist()
        between = Engine(SPEC)
        between.restore(one.snapshot(one.devices), 0.0)
        assert repr(between.health()) == repr(straight.health())
        one.forget(one.devices)
        other.adopt(between, float(place))


def test_an_engine_adopts_only_devices_for_which_it_has_room():
    engine, small = Engine(SPEC), Engine(SPEC, max_devices=3)
    messages = {name: walk(name, 50.0, seed=i) for i, name in enumerate("abcd")}
    feed(small, messages["d"][:20])
    for name in "abc":
        feed(engine, messages[name][:20])
    assert small.adopt(engine, 5.0) == ["a", "b"]
    assert small.last_accepted_s(["a", "c"]) == 5.0
    assert small.last_accepted_s(["c"]) == -np.inf
    with pytest.raises(ValueError, match=r"the snapshot has .*, but this engine has"):
        Engine(AIDED).adopt(engine, 0.0)
