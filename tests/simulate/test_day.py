"""Script of activities: only possible changes, and plausible times."""

from __future__ import annotations

from itertools import islice, pairwise
from typing import Any

import numpy as np
import pytest

from harstream.simulate.day import DWELL_S, NEXT, SHORTEST_S, ActivityBout, script, shares
from harstream.simulate.parameters import ACTIVITIES, STANCES, default


def bouts(seed: int, n: int = 400, **options: Any) -> list[ActivityBout]:
    return list(islice(script(np.random.default_rng(seed), default().transition_s, **options), n))


def test_every_change_of_activity_is_possible() -> None:
    script = bouts(1)
    for before, after in pairwise(script):
        assert after.activity in NEXT[before.activity]
    assert {b.activity for b in script} == set(ACTIVITIES)


def test_walking_begins_from_standing_only_and_stairs_from_walking_only() -> None:
    assert not {"WALKING", "WALKING_UPSTAIRS", "WALKING_DOWNSTAIRS"} & (set(NEXT["LAYING"]) | set(NEXT["SITTING"]))
    assert {a for a in NEXT if "WALKING_UPSTAIRS" in NEXT[a]} == {"WALKING"}
    assert all(sum(after.values()) == pytest.approx(1.0) for after in NEXT.values())


def test_bouts_follow_each_other_without_a_gap() -> None:
    script = bouts(2)
    assert script[0].start_s == script[0].steady_s == 0.0
    for before, after in pairwise(script):
        assert before.stop_s == after.start_s
        assert after.start_s < after.steady_s < after.stop_s
        assert after.stop_s - after.steady_s >= SHORTEST_S - 1e-9


def test_a_posture_depends_on_the_activity_before_it() -> None:
    script = bouts(3)
    assert {b.stance for b in script} == set(STANCES)
    for before, after in pairwise(script):
        if after.activity == "SITTING":
            assert after.stance == ("sit1" if before.activity == "STANDING" else "sit2")


def test_pace_shortens_the_stay() -> None:
    def usual(pace: float) -> float:
        return float(np.median([b.stop_s - b.steady_s for b in bouts(4, pace=pace) if b.activity == "SITTING"]))

    assert usual(1.0) == pytest.approx(DWELL_S["SITTING"], rel=0.2)
    assert usual(4.0) == pytest.approx(DWELL_S["SITTING"] / 4, rel=0.2)


def test_the_first_activity_is_as_likely_as_its_share_of_time() -> None:
    assert sum(shares().values()) == pytest.approx(1.0)
    firsts = [bouts(seed, 1)[0].activity for seed in range(600)]
    for activity, share in shares().items():
        assert firsts.count(activity) / 600 == pytest.approx(share, abs=0.06)


@pytest.mark.parametrize("pace", [0.0, -1.0, float("nan"), float("inf")])
def test_an_impossible_pace_is_refused(pace: float) -> None:
    with pytest.raises(ValueError, match="pace"):
        script(np.random.default_rng(0), {}, pace=pace)


def test_an_unknown_first_activity_is_refused() -> None:
    with pytest.raises(ValueError, match="first: 'FLYING'"):
        script(np.random.default_rng(0), {}, first="FLYING")
