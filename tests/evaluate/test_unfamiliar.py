"""Unfamiliar windows in an evaluation: wrong as UNKNOWN, counted by label, data set and placement, and listed."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from harstream.bundle import Bundle
from harstream.classifier import Classifier
from harstream.cli import main
from harstream.core.familiar import Familiar, Limits
from harstream.core.spec import DEFAULT_CHANNELS, Normalisation
from harstream.datasets.base import PrecutWindows, Recording, Segment
from harstream.datasets.sets import put_together
from harstream.evaluate import published, report, scoring
from harstream.evaluate.unfamiliar import UnfamiliarStretch, find_stretches, longest_first

from ..fakes import FunctionNetwork
from .test_report import Checked

X = DEFAULT_CHANNELS.index("total_acc_x")


def upright_only(inputs: np.ndarray) -> np.ndarray:
    """Return logits that say SITTING, or STANDING where y is up, and one feature: mean acceleration along x in g."""
    outputs = np.zeros((len(inputs), 7), np.float32)
    y_up = inputs[:, :, X + 1].mean(axis=1) > 0.5
    outputs[~y_up, 3] = 5
    outputs[y_up, 4] = 5
    outputs[:, 6] = inputs[:, :, X].mean(axis=1)
    return outputs


@pytest.fixture
def spotting(bundle: Bundle) -> Classifier:
    """A classifier that knows devices whose x axis points up."""
    spec = replace(bundle.spec, normalisation=Normalisation.identity(9))
    familiar = Familiar(np.array([[1.0]]), np.array([[1.0]]), Limits(0.25, 100.0))
    network = FunctionNetwork(upright_only)
    return Classifier(replace(bundle, spec=spec, familiar=familiar), "litert", network)


@pytest.fixture
def blind(spotting: Classifier) -> Classifier:
    """The same classifier without a test of unfamiliar windows."""
    network = FunctionNetwork(lambda inputs: upright_only(inputs)[:, :6])
    return Classifier(replace(spotting.bundle, familiar=None), "litert", network)


def sitting(name: str, turned: tuple[tuple[int, int], ...] = (), **fields: Any) -> Recording:
    """Return 60 s of sitting and 20 s of standing with x up, and y up between the seconds of ``turned``.

    The gyroscope is 0, which is plausible, since no window shows a turn slow enough to be seen.
    """
    samples = np.random.default_rng(0).normal(scale=0.01, size=(4000, 6))
    up = np.zeros(4000)
    for start, stop in turned:
        up[50 * start : 50 * stop] = np.pi / 2
    samples[:, 0] += np.cos(up)
    samples[:, 1] += np.sin(up)
    segments = (Segment(0, 3000, "SITTING"), Segment(3000, 4000, "STANDING"))
    return Recording(f"{name}_1", name, 50.0, samples.astype(np.float32), segments, **fields)


def test_an_unfamiliar_window_counts_as_unknown_and_so_as_wrong(spotting: Classifier, blind: Classifier) -> None:
    one = sitting("a", ((10, 20),))
    before, after = (scoring.score_recordings([one], which, "csv:x") for which in (blind, spotting))
    labels = spotting.bundle.labels
    sits, stands = labels.index("SITTING"), labels.index("STANDING")
    assert before.scores.unfamiliar is None
    assert before.scores.unknown is None
    assert before.stretches is None
    assert not {"unfamiliar", "unfamiliar_stretches", "unknown"} & set(before.to_dict())
    assert before.scores.confusion[sits, stands] > 5

    scores = after.scores
    assert scores.unfamiliar is not None
    assert scores.unknown is not None
    assert scores.windows == before.scores.windows
    assert scores.unfamiliar.tolist() == scores.unknown.tolist()
    assert scores.unfamiliar[sits] == scores.unfamiliar.sum() >= before.scores.confusion[sits, stands]
    assert scores.confusion[sits].sum() == scores.confusion[sits, sits]
    assert scores.recall[sits] == pytest.approx(1 - scores.unfamiliar[sits] / scores.windows_by_label[sits])
    assert after.reliability.windows.sum() == scores.confusion.sum()
    assert after.by_subject["a"].unfamiliar is not None
    data = after.to_dict()
    assert data["unfamiliar"] == data["unknown"] == scores.unfamiliar.tolist()
    assert set(data) > set(before.to_dict())  # no key was removed


def test_a_session_is_scored_as_published_where_other_windows_of_an_unfamiliar_device_are_unknown_too(
    spotting: Classifier,
) -> None:
    one = sitting("a", ((0, 30),))
    result = scoring.score_sessions([one], spotting, "csv:x")
    alone = scoring.score_recordings([one], spotting, "csv:x")
    assert result.stream is not None
    assert result.scores.unfamiliar is not None
    assert alone.scores.unfamiliar is not None
    labelled = published.label_recording(one, spotting)
    inside = labelled.windows.end_ns <= 60 * 10**9
    sits = spotting.bundle.labels.index("SITTING")
    assert result.scores.unfamiliar[sits] == labelled.unfamiliar[inside].sum() > alone.scores.unfamiliar[sits]
    assert result.scores.unknown is not None
    assert (result.scores.unknown >= result.scores.unfamiliar).all()
    assert result.by_subject["a"].unfamiliar is not None
    assert result.by_subject["a"].unfamiliar.tolist() == result.scores.unfamiliar.tolist()
    section = result.to_dict()["stream"]
    assert section["published"]["unfamiliar"] == result.scores.unfamiliar.sum()
    assert section["single_windows"]["unfamiliar"] == alone.scores.unfamiliar.sum()
    single = result.stream.single.scores
    np.testing.assert_array_equal(single.confusion, alone.scores.confusion)
    np.testing.assert_array_equal(single.unfamiliar, alone.scores.unfamiliar)
    assert result.stretches is not None
    assert alone.stretches is not None
    [longest, *_] = longest_first(result.stretches)
    assert (longest.start_s, longest.label) == (0.0, "SITTING")
    assert longest.stop_s > longest_first(alone.stretches)[0].stop_s >= 30


def test_windows_of_a_publisher_are_counted_but_have_no_times(spotting: Classifier) -> None:
    values = np.zeros((8, 128, 9), np.float32)
    values[:, :, X] = 1
    values[4:, :, X] = 0
    windows = PrecutWindows(values, np.arange(8) % 2, ("SITTING", "STANDING"), np.array(["1", "2"] * 4))
    result = scoring.score_windows(windows, spotting, "uci-har:x")
    assert result.scores.unfamiliar is not None
    assert result.scores.unfamiliar.sum() == 4
    assert result.scores.accuracy == 0.25
    assert {name: one.unfamiliar.sum() for name, one in result.by_subject.items() if one.unfamiliar is not None} == {
        "1": 2,
        "2": 2,
    }
    assert result.stretches is None
    assert "unfamiliar_stretches" not in result.to_dict()
    assert "Unfamiliar windows" not in report.render(result)


@pytest.mark.parametrize("stream", [False, True])
def test_data_sets_and_placements_tell_their_share(spotting: Classifier, stream: bool) -> None:
    waist, pocket = sitting("1", placement="waist"), sitting("2", ((0, 80),), placement="pocket")
    result = scoring.score_sets(
        put_together(["csv:x", "hapt:y"], [[waist, pocket], [sitting("1")]]), spotting, stream=stream
    )
    head, rows = result.breakdown()
    table = {row[0]: dict(zip(head, row, strict=True)) for row in rows}
    assert [table[name]["unfamiliar"] for name in ("csv, waist", "csv, pocket", "hapt")] == ["0.000", "1.000", "0.000"]
    assert table["csv"]["unfamiliar"] == table["csv"]["UNKNOWN"] == "0.500"
    assert {len(row) for row in rows} == {len(head)}
    assert result.scores.unfamiliar is not None
    assert int(result.scores.unfamiliar.sum()) == result.scores.windows // 3
    data = result.to_dict()
    assert sum(data["by_data"]["csv"]["by_placement"]["pocket"]["unfamiliar"]) == result.scores.windows // 3
    assert {one["recording"] for one in data["unfamiliar_stretches"]} == {"csv.2_1"}
    assert data["by_data"]["hapt"]["unfamiliar_stretches"] == []


def test_the_page_lists_the_longest_stretches_and_what_the_network_said(spotting: Classifier) -> None:
    result = scoring.score_recordings([sitting("<b>", ((10, 20), (30, 50))), sitting("c")], spotting, "csv:x")
    page = report.render(result)
    checked = Checked(page)
    assert "b>" not in checked.seen
    text = checked.text
    assert "Unfamiliar windows" in text
    # Windows begin every 1.28 s, and are unfamiliar where y is up for more than half of their 2.56 s.
    longest, other = "<b>_129.4 to 51.2 sSITTINGSTANDING16", "<b>_19.0 to 20.5 sSITTINGSTANDING8"
    assert text.index(longest) < text.index(other)
    assert "shorter stretches are left out" not in text
    assert "There is none" in Checked(report.render(scoring.score_recordings([sitting("c")], spotting, "csv:x"))).text


def test_of_many_stretches_the_longest_are_listed(spotting: Classifier) -> None:
    result = scoring.score_recordings([sitting("a")], spotting, "csv:x")
    many = tuple(UnfamiliarStretch(f"r{i:02d}", 0.0, 10.0 + i, "SITTING", "STANDING", i) for i in range(60))
    text = Checked(report.render(replace(result, stretches=many))).text
    assert report.MAX_STRETCHES == 50
    assert "10 shorter stretches are left out" in text
    assert text.index("r59") < text.index("r10")
    assert "r09" not in text


def test_stretches_end_where_the_recording_the_label_or_the_windows_in_a_row_end() -> None:
    start = np.array([0.0, 1, 2, 3, 5, 6, 0, 1])
    stretches = find_stretches(
        ["a"] * 6 + ["b"] * 2,
        start,
        start + 2,
        ["S", "S", "S", "T", "T", "T", "T", ""],
        ["W", "R", "W", "W", "W", "R", "W", "W"],
        np.array([0, 1, 1, 1, 1, 1, 1, 1], np.bool_),
        1.0,
    )
    assert stretches == [
        UnfamiliarStretch("a", 1.0, 4.0, "S", "R", 2),
        UnfamiliarStretch("a", 3.0, 5.0, "T", "W", 1),
        UnfamiliarStretch("a", 5.0, 8.0, "T", "W", 2),
        UnfamiliarStretch("b", 0.0, 2.0, "T", "W", 1),
        UnfamiliarStretch("b", 1.0, 3.0, "", "W", 1),
    ]
    assert [one.duration_s for one in longest_first(stretches)] == [3.0, 3.0, 2.0, 2.0, 2.0]
    assert longest_first(stretches)[1].start_s == 5.0
    none = np.zeros(0)
    assert find_stretches([], none, none, [], [], none.astype(np.bool_), 1.0) == []


@pytest.mark.parametrize("stream", [[], ["--stream"]])
def test_the_command_states_how_many(spotting: Classifier, monkeypatch, tmp_path, stream: list[str]) -> None:
    monkeypatch.setattr("harstream.datasets.load", lambda data: [sitting("a", ((10, 20),))])
    monkeypatch.setattr("harstream.trial.load", lambda model, backend: spotting)
    out = tmp_path / "figures.json"
    result = CliRunner().invoke(main, ["evaluate", "--data", "csv:x", "--json", str(out), *stream])
    assert result.exit_code == 0, result.output
    figures = json.loads(out.read_text())
    n = sum(figures["unfamiliar"])
    assert n > 5
    assert f"found unfamiliar, and so UNKNOWN: {n} windows ({100 * n / figures['windows']:.1f} %)" in result.output
    head = next(line for line in result.output.splitlines() if line.startswith("truth"))
    assert head.split()[:4] == ["truth", "precision", "recall", "unfamiliar"]
    row = next(line for line in result.output.splitlines() if line.startswith("SITTING"))
    assert row.split()[3] == str(n)
