"""Memory of devices that are gone is given back, and the state of those that stay is not touched."""

import itertools
from collections.abc import Iterable

import numpy as np
import pytest

from harstream.core.batches import Predictions, WindowBatch
from harstream.core.devices import MIN_CAPACITY, DeviceTable
from harstream.core.engine import Engine
from harstream.core.grid import Grid
from harstream.core.rows import RowArrays
from harstream.core.smoothing import Smoother
from harstream.core.smoothing_section import Smoothing

from ..constants import T0_NS
from .mishaps import BOTH, HOUR, SPEC, stream
from .streams import Message, assert_same, batch, feed, gait, restamped, walk


def parts_of(owner: Engine | Smoother) -> Iterable[RowArrays]:
    return owner._parts().values()


def n_bytes(owner: Engine | Smoother) -> int:
    return sum(
        getattr(part, name).nbytes for part in parts_of(owner) for name in part.ROW_ARRAYS if hasattr(part, name)
    )


def crowd(n: int, rate_hz: float = 50.0, first: int = 0) -> list[Message]:
    """Return one message of each of many devices."""
    return [Message(f"crowd{k}", T0_NS, gait(5, rate_hz), rate_hz, arrival_s=50.0) for k in range(first, first + n)]


def test_a_table_gives_its_rows_back_when_most_devices_are_gone():
    table, other = DeviceTable(MIN_CAPACITY, 10_000), DeviceTable(MIN_CAPACITY, 10_000)
    names = [f"d{k}" for k in range(1000)]
    table.find_or_add(names, np.arange(1000.0))
    other.grow(table.capacity)
    other.last_accepted_s[:1000] = np.arange(1000.0)
    table.evict(700.0)
    assert table.compact([table, other]) is None  # 300 of 1024 rows
    table.evict(900.0)
    rows = table.compact([table, other])
    assert rows is not None
    assert rows.tolist() == list(range(900, 1000))
    assert table.capacity == other.capacity == 200
    assert table.last_accepted_s[:100].tolist() == other.last_accepted_s[:100].tolist() == list(range(900, 1000))
    assert table.find(names[900:]).tolist() == list(range(100))
    assert [table.device(row) for row in range(100)] == names[900:]
    assert table.compact([table, other]) is None
    assert table.find_or_add(["new"], np.array([5.0])).tolist() == [100]
    table.evict(1e9)
    moved = table.compact([table, other])
    assert moved is not None
    assert len(moved) == 0
    assert table.capacity == MIN_CAPACITY
    assert table.find_or_add(["new"], np.array([5.0])).tolist() == [0]


@BOTH
@pytest.mark.parametrize("mishap", ["gap", "rate", "held", "irregular", "coarse", "unit", "overlap", "drift"])
def test_devices_that_stay_go_on_to_the_bit_when_most_others_are_gone(spec, mishap):
    messages = stream(mishap)
    want = feed(Engine(spec), messages)
    fresh = n_bytes(Engine(spec))
    # The crowd comes before and in the middle of the stream, so that the device has rows of all kinds.
    for at in (0, len(messages) // 3, 22):
        engine, out = Engine(spec), []
        out.append(feed(engine, messages[:at]))
        assert len(feed(engine, crowd(300), [300])) == 0
        assert n_bytes(engine) > 4 * fresh
        out.append(engine.feed(batch(messages[at : at + 1])))
        held = dict(engine._grid.timeline.jumps.held)
        assert sorted(engine.evict(60.0)) == sorted(f"crowd{k}" for k in range(300))
        assert n_bytes(engine) == fresh
        assert [len(message.samples) for message in engine._grid.timeline.jumps.held.values()] == [
            len(message.samples) for message in held.values()
        ]
        assert engine.health().devices == ["a"]
        out.append(feed(engine, messages[at + 1 :]))
        got = WindowBatch.concatenate(out)
        assert_same(got, want)
        assert got.problems.tolist() == want.problems.tolist()


def test_the_message_that_waits_moves_with_its_device():
    messages = walk("a", 50.0)
    ahead = restamped(messages[20:], [m.t_ns + HOUR for m in messages[20:]])
    engine = Engine(SPEC)
    feed(engine, crowd(300), [300])
    out = [feed(engine, [*messages[:20], ahead[0]])]
    assert list(engine._grid.timeline.jumps.held) == [300]
    engine.evict(60.0)
    assert list(engine._grid.timeline.jumps.held) == [0]
    out.append(feed(engine, ahead[1:]))
    assert_same(WindowBatch.concatenate(out), feed(Engine(SPEC), [*messages[:20], *ahead]))


def test_pending_samples_move_with_their_device():
    messages = [Message(name, T0_NS, gait(400, seed=k), 50.0) for k, name in enumerate("ab")]
    engine = Engine(SPEC)
    feed(engine, crowd(300), [300])
    out = [engine.feed(batch([messages[0], *crowd(5), messages[1]]), None, 3)]
    engine.evict(60.0)
    assert engine.busy == {"a", "b"}
    while engine.n_pending:
        out.append(engine.feed(batch([]), None, 3))
    got = WindowBatch.concatenate(out)
    for message in messages:
        of_one = np.array([name == message.device for name in got.devices])
        np.testing.assert_array_equal(got.windows[of_one], feed(Engine(SPEC), [message]).windows)


def test_resamplers_forget_devices_that_are_gone_or_have_another_rate():
    engine = Engine(SPEC)
    feed(engine, crowd(300, 100.0), [300])
    stays = walk("stays", 100.0)
    out = [feed(engine, stays[:20])]
    for rate_hz in (100.0, 200.0, 400.0):
        feed(engine, walk("changes", rate_hz, 1.0, t_ns=T0_NS + round(rate_hz * 1e9)))
    assert isinstance(engine._grid, Grid)
    resamplers = {float(ratio): one for ratio, one in engine._grid.resamplers.items()}
    assert {ratio: one.n_fed for ratio, one in resamplers.items()} == {0.5: 302, 0.25: 1, 0.125: 1}
    engine.evict(60.0)
    resamplers = {float(ratio): one for ratio, one in engine._grid.resamplers.items()}
    assert {ratio: one.n_fed for ratio, one in resamplers.items()} == {0.5: 1, 0.125: 1}
    assert len(resamplers[0.5]._history) == 1
    out.append(feed(engine, stays[20:]))
    assert_same(WindowBatch.concatenate(out), feed(Engine(SPEC), stays))


def windows_and_predictions(device: str, n: int) -> tuple[WindowBatch, Predictions]:
    end_ns = (np.arange(n) + 2) * 1_280_000_000
    probabilities = np.random.default_rng(7).dirichlet(np.ones(3), n).astype(np.float32)
    windows = WindowBatch(
        [device] * n,
        np.zeros((n, 8, 1), np.float32),
        end_ns - 2_560_000_000,
        end_ns,
        np.zeros(n),
        np.zeros(n, np.int64),
    )
    top = probabilities.argmax(axis=1)
    return windows, Predictions(probabilities, top, probabilities.max(axis=1), np.zeros(n, np.bool_))


@pytest.mark.parametrize(
    "smoothing", [Smoothing("exponential", 0.5, weight=0.4), Smoothing("hysteresis", margin=0.1), Smoothing("hmm")]
)
def test_a_smoother_gives_memory_back_and_goes_on_to_the_bit(smoothing):
    def label(smoother: Smoother, first: int, last: int) -> tuple[list[int], list[float], list[str]]:
        windows, predictions = windows_and_predictions("a", 40)
        part = slice(first, last)
        some = WindowBatch(windows.devices[part], *(getattr(windows, name)[part] for name in _ARRAYS))
        found = smoother.label(
            some,
            Predictions(
                predictions.probabilities[part],
                predictions.label[part],
                predictions.confidence[part],
                predictions.unfamiliar[part],
            ),
        )
        events = [f"{event.kind} {event.label} {event.t_ns}" for event in found.events]
        return found.smoothed.label.tolist(), found.smoothed.confidence.tolist(), events

    alone, crowded = Smoother(smoothing, 3, 1.28), Smoother(smoothing, 3, 1.28)
    fresh = n_bytes(alone)
    want = [label(alone, 0, 13), label(alone, 13, 40)]
    names = [f"crowd{k}" for k in range(300)]
    for name in names[:200]:
        crowded.label(*windows_and_predictions(name, 1))
    got = [label(crowded, 0, 13)]
    for name in names[200:]:
        crowded.label(*windows_and_predictions(name, 1))
    assert n_bytes(crowded) > 4 * fresh
    crowded.evict(names)
    assert n_bytes(crowded) == fresh
    assert len(crowded) == 1
    assert [*got, label(crowded, 13, 40)] == want


_ARRAYS = ("windows", "start_ns", "end_ns", "arrival_s", "problems")


def test_growing_and_shrinking_again_and_again_keeps_every_state():
    engine, out, number = Engine(SPEC), [], itertools.count()
    messages = walk("a", 100.0)
    for k, message in enumerate(messages):
        if k % 9 == 0:
            feed(engine, crowd(150, 100.0, first=150 * next(number)), [150])
        if k % 9 == 5:
            engine.evict(60.0)
        out.append(engine.feed(batch([message])))
    assert_same(WindowBatch.concatenate(out), feed(Engine(SPEC), messages))
