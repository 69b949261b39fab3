"""A short soak with every kind of fault once or so, and what the report says. The long one is ``make soak``."""

from __future__ import annotations

import numpy as np
import pytest

from .soak import Outage, Report, Soak


@pytest.mark.slow
def test_a_short_soak_loses_and_changes_no_label(tmp_path, random_bundle, classifier):
    report = Soak(tmp_path, random_bundle, seconds=60, devices=6, seed=2).run(classifier)
    text = "\n".join(report.lines())
    assert not report.problems, text
    assert report.labels > 200
    assert set(report.missing.values()) == set(report.extra.values()) == {0}, text
    assert report.rejected >= report.poison > 0, text
    assert report.outages, text


def test_the_report_tells_growth_silence_and_labels():
    report = Report(
        outages=[Outage("cut", "steady", 1.0, 0.5, 0.75), Outage("cut", "steady", 5.0, 0.5, 2.5)],
        memory=[(float(s), 100.0 if s < 30 else 100.0 + s - 30) for s in range(91)],
        missing={"steady": 1, "killed": 0},
        extra={"steady": 0, "killed": 2},
        repeated={"steady": 3, "killed": 4},
        labels=50,
        problems=["daemon killed: exit code 1 after SIGTERM"],
    )
    assert report.growth == pytest.approx(60 / 130)
    text = "\n".join(report.lines())
    assert "daemon steady: of 50 labels 1 missing, 0 that should not be, 3 repeated" in text
    assert "+46.15% over the last 67% of the time" in text
    assert text.endswith("exit code 1 after SIGTERM")
    line = next(line for line in text.splitlines() if line.startswith("cut"))
    assert np.array(line.split()[1:], float).tolist() == [2, 0.5, pytest.approx(1.12, abs=0.01), 2.0]
