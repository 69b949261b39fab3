"""Unfamiliar windows in the smoother: UNKNOWN each, and UNKNOWN with a problem where they persist."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harstream.core import smoothing as module
from harstream.core.batches import Predictions, WindowBatch
from harstream.core.events import ENTER, EXIT
from harstream.core.familiar import MEMORY, UnfamiliarDevices
from harstream.core.labels import UNKNOWN_INDEX
from harstream.core.problems import Problem
from harstream.core.smoothing import Labelled, Smoother
from harstream.core.smoothing_section import Smoothing

from ..constants import T0_NS

STRIDE_NS, WINDOW_NS = 1_280_000_000, 2_560_000_000
SMOOTHINGS = [Smoothing(), Smoothing("none", 0.6), Smoothing("hmm", 0.5, fixed_lag_windows=2)]
by_name = pytest.mark.parametrize("smoothing", SMOOTHINGS, ids=lambda s: f"{s.type}-{s.unknown_below}")


class Windows:
    """Windows of several devices, written as letters.

    A, B and C are familiar windows of that label, a, b and c unfamiliar ones of which the network is as sure, ! is a
    window of a device with the problem GRAVITY, and ? one that is unfamiliar too.
    """

    def __init__(self, **letters: str) -> None:
        self.devices: list[str] = []
        self.letters: list[str] = []
        self.number: list[int] = []  # of the window of its device
        for at in range(max(map(len, letters.values()), default=0)):
            for device, text in letters.items():
                if at < len(text):
                    self.add(device, text[at])

    def add(self, device: str, letter: str) -> None:
        self.number.append(self.devices.count(device))
        self.devices.append(device)
        self.letters.append(letter)

    def label(self, smoother: Smoother, first: int = 0, last: int | None = None) -> Labelled:
        letters = self.letters[first:last]
        end_ns = T0_NS + np.array(self.number[first:last], np.int64) * STRIDE_NS + WINDOW_NS
        problems = np.array([Problem.GRAVITY if one in "!?" else 0 for one in letters], np.int64)
        batch = WindowBatch(
            self.devices[first:last],
            np.zeros((len(letters), 4, 1), np.float32),
            end_ns - WINDOW_NS,
            end_ns,
            end_ns / 1e9,
            problems,
        )
        output = np.array(["ABC".index(one.upper()) if one not in "!?" else 0 for one in letters], np.int64)
        probabilities = np.full((len(letters), 3), 0.05, np.float32)
        probabilities[np.arange(len(letters)), output] = 0.9
        unfamiliar = np.array([one in "abc?" for one in letters], np.bool_)
        return smoother.label(batch, Predictions(probabilities, output, probabilities.max(axis=1), unfamiliar))


def new_smoother(smoothing: Smoothing = SMOOTHINGS[0]) -> Smoother:
    return Smoother(smoothing, 3, STRIDE_NS / 1e9)


def published(labelled: Labelled) -> str:
    """Return the labels that are published, and . for UNKNOWN."""
    return "".join("ABC."[index] for index in labelled.smoothed.label.tolist())


def persisting(labelled: Labelled) -> str:
    """Return x for each window with the problem UNFAMILIAR, and . for another."""
    return "".join(".x"[int(mask & Problem.UNFAMILIAR != 0)] for mask in labelled.windows.problems.tolist())


@by_name
def test_an_unfamiliar_window_alone_is_unknown_without_a_problem(smoothing: Smoothing) -> None:
    labelled = Windows(w="AAAAAAAAbAAAAAA").label(new_smoother(smoothing))
    assert published(labelled) == "AAAAAAAA.AAAAAA"
    assert not labelled.windows.problems.any()
    assert labelled.changed == {}
    assert labelled.predictions.probabilities[8].tolist() == pytest.approx([1 / 3] * 3)
    assert labelled.predictions.label[8] == UNKNOWN_INDEX
    assert labelled.predictions.label[7] == 0
    assert labelled.smoothed.confidence[8] == pytest.approx(1 / 3)


@by_name
def test_where_most_windows_are_unfamiliar_all_are_unknown_with_the_problem(smoothing: Smoothing) -> None:
    labelled = Windows(w="aBaa" + "aaaa" * 3 + "aBBCaaAa", other="A" * 24).label(new_smoother(smoothing))
    mine, others = (np.array([one == name for one in labelled.windows.devices]) for name in ("w", "other"))
    of_mine = np.array(list(published(labelled)))[mine].tolist()
    assert of_mine[1] == "B"  # nobody knows yet
    assert of_mine[2:] == ["."] * 22
    first = MEMORY - 1
    assert np.array(list(persisting(labelled)))[mine].tolist() == ["."] * first + ["x"] * (24 - first)
    assert set(np.array(list(persisting(labelled)))[others]) == {"."}
    assert set(labelled.smoothed.label[others]) == {0}
    assert labelled.changed == {"w": True}
    assert [event.kind for event in labelled.events if event.device == "w"][2:] == []
    np.testing.assert_allclose(labelled.predictions.probabilities[mine][first:], 1 / 3)


@by_name
def test_a_device_that_is_familiar_again_gets_labels_again(smoothing: Smoothing) -> None:
    smoother = new_smoother(smoothing)
    labelled = Windows(w="a" * 20).label(smoother)
    assert labelled.changed == {"w": True}
    windows = Windows(w="a" * 20 + "B" * 60)
    labelled = windows.label(smoother, 20)
    held = persisting(labelled).index(".")
    assert persisting(labelled) == "x" * held + "." * (60 - held)
    assert 10 < held < 40
    assert labelled.changed == {"w": False}
    assert set(published(labelled)[:held]) == {"."}
    assert set(published(labelled)[held + 2 :]) == {"B"}


def test_a_persisting_device_has_exit_and_no_further_event() -> None:
    smoother = new_smoother(Smoothing("hmm", 0.5, fixed_lag_windows=2))
    labelled = Windows(w="A" * 8 + "b" * 30).label(smoother)
    assert [(event.kind, event.label) for event in labelled.events] == [(ENTER, 0), (EXIT, 0)]
    assert smoother.evict(["w"]) == []


def test_windows_that_cannot_be_trusted_anyway_are_not_counted() -> None:
    smoother = new_smoother()
    labelled = Windows(w="?" * 30 + "A").label(smoother)
    assert persisting(labelled) == "." * 31
    assert set(labelled.windows.problems.tolist()[:30]) == {int(Problem.GRAVITY)}
    assert published(labelled)[-1] == "A"
    assert labelled.changed == {}
    labelled = Windows(v="a" * 20 + "!" * 50).label(smoother)
    assert labelled.windows.problems[-1] == Problem.GRAVITY | Problem.UNFAMILIAR  # no window has shown otherwise
    assert labelled.changed == {"v": True}


@by_name
@given(
    windows=st.lists(st.tuples(st.sampled_from("xyz"), st.sampled_from("ABabbb!?")), min_size=1, max_size=150),
    cuts=st.lists(st.integers(1, 150), max_size=8),
)
@settings(max_examples=60)
def test_batches_and_other_devices_change_nothing_to_the_bit(
    smoothing: Smoothing, windows: list[tuple[str, str]], cuts: list[int]
) -> None:
    crowd = Windows()
    for device, letter in windows:
        crowd.add(device, letter)
    whole = crowd.label(new_smoother(smoothing))
    smoother = new_smoother(smoothing)
    bounds = sorted({0, *(cut for cut in cuts if cut < len(windows)), len(windows)})
    parts = [crowd.label(smoother, first, last) for first, last in pairwise(bounds)]
    for values in (
        lambda one: one.smoothed.label,
        lambda one: one.smoothed.confidence,
        lambda one: one.windows.problems,
        lambda one: one.predictions.probabilities,
    ):
        np.testing.assert_array_equal(np.concatenate([values(part) for part in parts]), values(whole))
    assert [event for part in parts for event in part.events] == whole.events
    last_change = {device: begins for part in parts for device, begins in part.changed.items()}
    assert {device for device, begins in last_change.items() if begins} == {
        device for device, begins in whole.changed.items() if begins
    }
    for device in "xyz":
        own = [i for i, name in enumerate(crowd.devices) if name == device]
        alone = Windows(**{device: "".join(crowd.letters[i] for i in own)}).label(new_smoother(smoothing))
        np.testing.assert_array_equal(alone.windows.problems, whole.windows.problems[own])
        np.testing.assert_array_equal(alone.smoothed.label, whole.smoothed.label[own])


@by_name
def test_a_restored_smoother_goes_on_to_the_bit(smoothing: Smoothing) -> None:
    rng = np.random.default_rng(0)
    texts = {
        f"d{i}": "".join(rng.choice(list("ABab!"), 60)) for i in range(100)
    }  # more than there is room for at first
    windows = Windows(**texts)
    smoother = new_smoother(smoothing)
    windows.label(smoother, 0, 3000)
    restored = new_smoother(smoothing)
    restored.restore(smoother.snapshot())
    one, other = windows.label(restored, 3000), windows.label(smoother, 3000)
    np.testing.assert_array_equal(one.windows.problems, other.windows.problems)
    assert (one.windows.problems & Problem.UNFAMILIAR != 0).any()
    assert one.changed == other.changed
    np.testing.assert_array_equal(one.smoothed.label, other.smoothed.label)
    assert restored.forget_unfamiliar() == smoother.forget_unfamiliar()


def test_an_evicted_device_begins_anew() -> None:
    smoother = new_smoother()
    Windows(w="a" * 20, v="a" * 20).label(smoother)
    smoother.evict(["w"])
    labelled = Windows(w="A" * 15 + "aA", v="A").label(smoother)
    mine = np.array([name == "w" for name in labelled.windows.devices])
    assert set(np.array(list(persisting(labelled)))[mine]) == {"."}
    assert labelled.changed == {}
    assert smoother.forget_unfamiliar() == ["v"]


def test_devices_can_be_judged_anew() -> None:
    smoother = new_smoother()
    Windows(w="a" * 20, v="a" * 20, u="A" * 20).label(smoother)
    assert smoother.forget_unfamiliar(["w", "u", "nobody"]) == ["w"]
    assert smoother.forget_unfamiliar(["w"]) == []
    labelled = Windows(w="BBBBB", u="BBBBB").label(smoother)
    assert published(labelled) == "BBBBBBBBBB"
    assert smoother.forget_unfamiliar() == ["v"]
    assert smoother.forget_unfamiliar() == []


def test_where_nothing_is_unfamiliar_windows_are_counted_and_nothing_else_is_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The path of every message stays short: no loop over rounds, and no copy of windows or predictions."""
    counted: list[Sequence[Any]] = []
    monkeypatch.setattr(UnfamiliarDevices, "_count", lambda self, *given: counted.append(given))
    monkeypatch.setattr(module, "replace", lambda *_, **__: pytest.fail("the windows were copied"))
    smoother = new_smoother()
    labelled = Windows(w="AABBA!", v="CCC").label(smoother)
    assert counted == []
    assert labelled.changed == {}
    rows = smoother._devices.find(["w", "v"])
    assert smoother._unfamiliar.n_windows[rows].tolist() == [5, 3]
    monkeypatch.undo()
    Windows(other="a" * 9).label(smoother)
    monkeypatch.setattr(UnfamiliarDevices, "_count", lambda self, *given: counted.append(given))
    Windows(w="A", v="C").label(smoother)  # an unfamiliar device costs the batches of others nothing
    assert counted == []
