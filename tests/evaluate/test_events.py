"""Events written as one letter a second, compared with the kinds of the paper."""

from __future__ import annotations

import numpy as np
import pytest

from harstream.evaluate.events import NO_LABEL, EventCounts, Track, score_events

LABELS = "ABC"


def track(drawn: str) -> Track:
    """Return a track of one-second intervals: a letter is a label, ``?`` is -1, ``.`` is a second without interval."""
    seconds = [i for i, letter in enumerate(drawn) if letter != "."]
    start = np.array(seconds, np.int64) * 10**9
    label = np.array([LABELS.find(drawn[i]) for i in seconds], np.int64)
    return Track(start, start + 10**9, label)


def of(truth: str, published: str, label: str = "A", window_s: int = 0) -> dict[str, int]:
    """Return the counts of one label that are not zero."""
    counted = score_events(track(truth), track(published), len(LABELS), window_s * 10**9)[LABELS.index(label)].to_dict()
    return {name: count for name, count in counted.items() if count and name not in ("true", "published")}


@pytest.mark.parametrize(
    ("truth", "published", "wanted"),
    [
        ("BAAAB", "BAAAB", {"correct": 1}),
        ("BAAAB", "AAAAA", {"correct": 1}),  # too long, which matters for the delay and not for the event
        ("BAAAB", "BBABB", {"correct": 1}),
        ("BAAAB", "BBBBB", {"deleted": 1}),
        ("BBBBB", "BBABB", {"inserted": 1}),
        ("BAAAB", "BABAB", {"fragmented": 1, "fragmenting": 2}),
        ("AAAAAA", "A?A?A?", {"fragmented": 1, "fragmenting": 3}),  # UNKNOWN breaks an event like a wrong label
        ("BABAB", "BAAAB", {"merged": 2, "merging": 1}),
        ("ABABA", "AAAAA", {"merged": 3, "merging": 1}),
        ("ABABA", "AABBB", {"correct": 1, "deleted": 2}),
        # The first is broken in two, and the second half covers another one too.
        ("AAABA", "ABAAA", {"fragmented_and_merged": 1, "merged": 1, "fragmenting": 1, "fragmenting_and_merging": 1}),
        ("BBABBBAB", "BBBABBAB", {"deleted": 1, "inserted": 1, "correct": 1}),
    ],
)
def test_an_event_is_what_the_paper_calls_it(truth: str, published: str, wanted: dict[str, int]) -> None:
    assert of(truth, published) == wanted


def test_every_label_is_counted_against_all_the_rest() -> None:
    a, b, c = score_events(track("AAABBBCCC"), track("AABABBCCA"), 3)
    assert (a.correct, a.inserted, a.published) == (1, 2, 3)
    assert (b.correct, b.inserted) == (1, 1)
    assert (c.correct, c.published) == (1, 1)


def test_every_event_of_truth_and_prediction_is_counted_once() -> None:
    rng = np.random.default_rng(3)
    for _ in range(50):
        truth, published = ("".join(rng.choice(list("ABC"), 40)) for _ in range(2))
        for label, one in zip(LABELS, score_events(track(truth), track(published), 3), strict=True):
            assert one.true == len("".join(c if c == label else " " for c in truth).split())
            assert one.published == len("".join(c if c == label else " " for c in published).split())


def test_turning_truth_and_prediction_round_swaps_fragments_and_merges() -> None:
    rng = np.random.default_rng(4)
    for _ in range(50):
        one, other = (track("".join(rng.choice(list("AB"), 40))) for _ in range(2))
        there, back = score_events(one, other, 1)[0], score_events(other, one, 1)[0]
        assert (there.correct, there.deleted, there.inserted) == (back.correct, back.inserted, back.deleted)
        assert (there.fragmented, there.merged, there.fragmented_and_merged) == (
            back.merging,
            back.fragmenting,
            back.fragmenting_and_merging,
        )


@pytest.mark.parametrize("gap", ["..", "??"])
def test_what_is_published_while_the_truth_is_unknown_counts_neither_way(gap: str) -> None:
    assert of(f"AA{gap}BB", "AACCBB", "C") == {}
    assert of(f"AA{gap}BB", "AACCBB", "A") == {"correct": 1}
    assert of(f"AA{gap}AA", "AABBAA", "A") == {"correct": 2}  # two events, because the subject may have paused
    assert of(f"AA{gap}AA", "AAAAAA", "A") == {"correct": 2}  # the label need not pause either
    assert of(f"AA{gap}B{gap}AA", "AAAAAAAAA", "A") == {"merged": 2, "merging": 1}  # here it must


def test_a_label_whose_windows_reach_into_unknown_time_is_undecided_not_inserted() -> None:
    # the window of the C at second 4 covers seconds 2 and 3, whose truth is not known; that at second 6 covers 4 and 5
    assert of("AA..BBBB", "AA..CBBB", "C", window_s=2) == {"undecided": 1}
    assert of("AA..BBBB", "AA..CCCB", "C", window_s=2) == {"inserted": 1}
    assert of("AAAABBBB", "AAAACBBB", "C", window_s=2) == {"inserted": 1}


def test_an_empty_track_has_no_event() -> None:
    assert score_events(track(""), track(""), 3) == (EventCounts(),) * 3
    assert of("AAA", "") == {"deleted": 1}
    assert of("", "AAA") == {}


def test_events_add_up() -> None:
    assert EventCounts(correct=1, inserted=2) + EventCounts(correct=3) == EventCounts(correct=4, inserted=2)


def test_a_track_must_be_in_order() -> None:
    with pytest.raises(ValueError, match="order"):
        Track(np.array([0, 5]), np.array([6, 9]), np.array([0, 1]))
    with pytest.raises(ValueError, match="2 starts, 1 stops"):
        Track(np.array([0, 5]), np.array([6]), np.array([0, 1]))


def test_a_track_gives_the_label_at_a_time() -> None:
    ab = track("A.B")
    half = np.arange(7) * 5 * 10**8
    assert ab.labels_at(half).tolist() == [0, 0, NO_LABEL, NO_LABEL, 1, 1, NO_LABEL]
    assert track("AAB?").join_touching().label.tolist() == [0, 1, NO_LABEL]
