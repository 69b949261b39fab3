"""Labels that a bundle publishes for other data sets and for signals that nobody wears."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harstream.bundle import Bundle
from harstream.classifier import Classifier
from harstream.core.smoothing_section import Smoothing
from harstream.datasets.base import Segment
from research.labs import unfamiliar

from ..fakes import FunctionNetwork
from ..made_recordings import subject, write_csv


def test_right_wrong_and_unknown_are_all_windows_inside_activities(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_csv(
        tmp_path / "mine", [subject("01", 1), subject("02", 2)], {"STILL": "STANDING", "MOVING": "JUMPING"}
    )
    out = tmp_path / "found.json"
    assert unfamiliar.main(["--model", "waist", "--backend", "litert", "--data", data, "--json", str(out)]) == 0
    rows = {row["name"]: row for row in json.loads(out.read_text())["signals"]}
    assert list(rows) == ["csv", "white noise", "shaking", "on a table, any orientation"]
    assert "| white noise | 1,800 | 0.0 |" in capsys.readouterr().out


def test_a_label_is_right_wrong_or_unknown_and_wrong_where_the_model_has_none(bundle: Bundle) -> None:
    """The network says STANDING while the device moves little, and tells nothing else apart."""
    still = replace(subject("01", 1), segments=(Segment(0, 800, "STANDING"),))
    jumping = replace(subject("02", 2), segments=(Segment(0, 800, "JUMPING"),))
    standing = bundle.labels.index("STANDING")

    def counts(unknown_below: float) -> list[tuple[int, int, int]]:
        smoothing = Smoothing("none", unknown_below)
        outputs = np.full(len(bundle.labels), 0.0, np.float32)
        outputs[standing] = 2.0  # 0.6 of the probability
        network = FunctionNetwork(lambda inputs: np.tile(outputs, (len(inputs), 1)))
        classifier = Classifier(replace(bundle, smoothing=smoothing, temperature=1.0), "litert", network)
        found = [unfamiliar.outcome("x", [one], classifier) for one in (still, jumping)]
        return [(one.right, one.wrong, one.unknown) for one in found]

    n = (800 - 128) // 64 + 1
    assert counts(0.5) == [(n, 0, 0), (0, n, 0)]
    assert counts(0.9) == [(0, 0, n), (0, 0, n)]


@pytest.mark.parametrize("name", unfamiliar.SIGNALS)
def test_made_signals_have_gravity_and_follow_from_the_seed(name: str) -> None:
    one, again = (unfamiliar.made_recordings(name)[0] for _ in range(2))
    np.testing.assert_array_equal(one.samples, again.samples)
    assert np.linalg.norm(one.samples[:, :3].mean(axis=0)) == pytest.approx(1.0, abs=0.1)
    assert len({tuple(recording.samples[0]) for recording in unfamiliar.made_recordings(name)}) == 40


def test_segments_of_one_subject_and_activity_are_joined() -> None:
    first, second = subject("01", 1), subject("01", 2)
    other = replace(subject("02", 3), segments=(Segment(10, 60, "MOVING"),))
    joined = unfamiliar.stitch([first, second, other])
    assert [(one.subject, one.segments[0].label, len(one.samples)) for one in joined] == [
        ("01", "STILL", 1600),
        ("01", "MOVING", 1600),
        ("02", "MOVING", 50),
    ]
    np.testing.assert_array_equal(joined[0].samples[800:], second.samples[:800])
    turned = replace(second, samples=-second.samples)
    assert [len(one.samples) for one in unfamiliar.stitch([first, turned, second])] == [1600, 800, 1600, 800]
