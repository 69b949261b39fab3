"""Scoring a model on recordings, on whole sessions, and on windows that their publisher cut."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harstream.bundle import Bundle
from harstream.classifier import Classifier
from harstream.core.label_table import LabelTable
from harstream.core.spec import DEFAULT_CHANNELS, Normalisation
from harstream.datasets.base import PrecutWindows, Recording, Segment
from harstream.datasets.sets import put_together
from harstream.errors import DatasetError
from harstream.evaluate import scoring

from ..constants import LABELS
from ..fakes import FunctionNetwork

NAMES = ("LAYING", "WALKING", "DANCING")


def by_sign(inputs: np.ndarray) -> np.ndarray:
    """Return logits for the first label if the mean of the first channel is positive, else for the fourth."""
    logits = np.zeros((len(inputs), 6), np.float32)
    positive = inputs[:, :, 0].mean(axis=1) > 0
    logits[positive, 0] = 3
    logits[~positive, 3] = 3
    return logits


def classifier_of(bundle: Bundle, **signal) -> Classifier:
    spec = replace(bundle.spec, **signal)
    return Classifier(replace(bundle, spec=spec), "litert", FunctionNetwork(by_sign))


def windows(n: int = 12, subject: tuple[str, ...] | None = None, **fields) -> PrecutWindows:
    values = np.zeros((n, 128, 9), np.float32)
    values[:, :, DEFAULT_CHANNELS.index("total_acc_z")] = np.where(np.arange(n) % 3 == 1, 1, -1)[:, None]
    names = None if subject is None else np.array([subject[i % len(subject)] for i in range(n)])
    return PrecutWindows(values, np.arange(n) % 3, NAMES, names, **fields)


def test_published_windows_go_to_the_network_by_channel_and_label_name(bundle: Bundle) -> None:
    one = classifier_of(bundle, channels=("total_acc_z",), normalisation=Normalisation((0.0,), (1.0,)))
    result = scoring.score_windows(windows(), one, "uci-har:x")
    # WALKING is predicted as WALKING, LAYING as SITTING. The bundle does not know DANCING.
    assert result.scores.windows == 8
    assert result.scores.accuracy == 0.5
    assert result.scores.confusion[one.bundle.labels.index("LAYING"), one.bundle.labels.index("SITTING")] == 4
    assert result.by_subject == {}
    assert result.stream is None
    assert "only the network" in result.notes[0]
    assert "4 windows left out" in result.notes[1]
    assert "subjects are not given" in result.notes[2]


def test_published_windows_are_scored_by_subject_if_their_subjects_are_given(bundle: Bundle) -> None:
    one = classifier_of(bundle, channels=("total_acc_z",), normalisation=Normalisation((0.0,), (1.0,)))
    result = scoring.score_windows(windows(subject=("7", "8")), one, "uci-har:x")
    assert {name: scores.windows for name, scores in result.by_subject.items()} == {"7": 4, "8": 4}
    assert not any("subjects" in note for note in result.notes)


@pytest.mark.parametrize(
    ("signal", "fields", "message"),
    [
        ({"window_samples": 100, "stride_samples": 50}, {}, "windows of 128 samples, but random@0.0.1 needs 100"),
        ({"sample_rate_hz": 20.0}, {}, "50 Hz, but random@0.0.1 needs 20 Hz"),
        ({}, {"rate_hz": 100.0}, "100 Hz, but random@0.0.1 needs 50 Hz"),
    ],
)
def test_windows_that_do_not_fit_the_bundle_are_refused_naming_both(bundle: Bundle, signal, fields, message) -> None:
    with pytest.raises(DatasetError, match=message):
        scoring.score_windows(windows(**fields), classifier_of(bundle, **signal), "uci-har:x")


def test_data_without_a_known_activity_is_refused(bundle: Bundle, classifier: Classifier) -> None:
    foreign = replace(windows(), labels=("A", "B", "C"))
    with pytest.raises(DatasetError, match="no window lies inside an activity that random"):
        scoring.score_windows(foreign, classifier, "uci-har:x")
    recording = Recording("a", "a", 50.0, np.zeros((900, 6), np.float32), (Segment(0, 900, "DANCING"),))
    for function in (scoring.score_recordings, scoring.score_sessions):
        with pytest.raises(DatasetError, match="no window lies inside"):
            function([recording], classifier, "csv:x")


def seated(subject: str) -> Recording:
    rng = np.random.default_rng(int(subject))
    samples = rng.normal(scale=0.1, size=(1000, 6)).astype(np.float32)
    return Recording(f"{subject}_1", subject, 50.0, samples, (Segment(0, 1000, "SITTING"),))


def test_recordings_are_scored_by_window_and_by_subject(classifier: Classifier) -> None:
    result = scoring.score_recordings([seated("1"), seated("2")], classifier, "csv:x")
    assert result.scores.windows == 2 * 14
    assert {name: scores.windows for name, scores in result.by_subject.items()} == {"1": 14, "2": 14}
    assert result.scores.unknown is None
    assert result.to_dict()["by_wearer"]["1"]["windows"] == 14
    assert "stream" not in result.to_dict()


def test_a_window_taken_for_a_state_counts_as_wrong_as_unknown(classifier: Classifier) -> None:
    bundle = replace(classifier.bundle, labels=LABELS[1:], states=("SIT_TO_STAND",))
    label = bundle.labels.index("STANDING")

    def in_turn(inputs: np.ndarray) -> np.ndarray:
        """Every third window is in the state, and others stand."""
        return np.eye(6, dtype=np.float32)[np.where(np.arange(len(inputs)) % 3 == 0, 5, label)] * 5

    samples = seated("1").samples + np.array([1, 0, 0, 0, 0, 0], np.float32)
    recording = replace(seated("1"), samples=samples, segments=(Segment(0, 1000, "STANDING"),))
    result = scoring.score_recordings([recording], Classifier(bundle, "litert", FunctionNetwork(in_turn)), "csv:x")
    assert result.scores.unknown is not None
    assert (result.scores.windows, int(result.scores.unknown[label])) == (14, 5)
    assert result.scores.accuracy == pytest.approx(9 / 14)
    assert result.by_subject["1"].accuracy == result.scores.accuracy
    assert result.reliability.windows.sum() == 9
    assert result.to_dict()["unknown"][label] == 5
    stream = scoring.score_sessions([recording], Classifier(bundle, "litert", FunctionNetwork(in_turn)), "csv:x").stream
    assert stream is not None
    assert stream.single.scores.accuracy == stream.published.scores.accuracy == pytest.approx(9 / 14)
    assert stream.single.reliability.windows.sum() == 9


def test_sessions_are_scored_as_published(classifier: Classifier) -> None:
    result = scoring.score_sessions([seated("1"), seated("2")], classifier, "csv:x")
    assert result.stream is not None
    assert result.scores == result.stream.published.scores
    assert result.scores.windows == 2 * 14
    assert result.to_dict()["stream"]["sessions"] == 2
    assert len(result.to_dict()["confusion"]) == len(result.scores.labels)


def test_subjects_the_bundle_was_trained_on_are_pointed_out(classifier: Classifier) -> None:
    trained = replace(classifier.bundle, training={"data": "csv:mine", "subjects": ["2", "3"]})
    known = Classifier(trained, "litert", FunctionNetwork(by_sign))
    result = scoring.score_recordings([seated("1"), seated("2")], known, "csv:/elsewhere/mine")
    assert any("1 of these 2 subjects" in note for note in result.notes)
    assert scoring.score_recordings([seated("1")], known, "csv:/elsewhere/mine").notes == ()
    assert scoring.score_recordings([seated("2")], known, "hapt:x").notes == ()


@pytest.mark.parametrize(
    ("trained", "subject", "data", "same"),
    [
        ("csv:one", "1", "csv:one", True),
        ("csv:one", "1", "csv:/some/where/one", True),
        ("csv:one", "1", "csv:one.zip", True),  # of the folder
        ("csv:one", "1", "csv:one/1_walk.csv", True),  # a file of the folder
        ("csv:one.zip", "1", "csv:one", True),
        ("csv:1_walk.csv", "1", "csv:folder", True),
        ("csv:" + "1" * 999, "1", "csv:folder", False),
        ("csv:1_walk.csv", "1", "csv:folder/2_walk.csv", False),
        ("csv:one", "1", "csv:two", False),
        (["csv:one", "csv:two"], "csv:one/1", "csv:one", True),
        (["csv:one", "csv:two"], "csv:one/1", "csv:two", False),
        (["csv:one", "hapt:hapt.zip"], "csv/1", "csv:one", True),
        (["csv:one", "hapt:hapt.zip"], "csv/1", "csv:two", False),
        (["csv:one", "hapt:hapt.zip"], "hapt/1", "hapt:HAPT", True),
        (["csv:one", "hapt:hapt.zip"], "hapt/1", "csv:one", False),
        ("hapt:hapt.zip", "1", "hapt:HAPT", True),
        ("csv:", "1", "csv:two", True),  # not known
        (None, "hapt/1", "hapt:x", True),
        (None, "1", "hapt:x", False),
    ],
)
def test_a_subject_of_other_recordings_is_not_taken_for_one_of_the_same_name(
    classifier: Classifier,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    trained: object,
    subject: str,
    data: str,
    same: bool,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/1_walk.csv").touch()
    bundle = replace(classifier.bundle, training={"data": trained, "subjects": [subject]})
    known = Classifier(bundle, "litert", FunctionNetwork(by_sign))
    several = [replace(seated("1"), subject="csv:x/1")]  # as named in an evaluation of several sets
    for recordings in ([seated("1")], several):
        notes = scoring.score_recordings(recordings, known, data).notes
        assert any("1 of these 1 subjects" in note for note in notes) == same


def test_published_windows_of_people_the_bundle_was_trained_on_are_pointed_out(bundle: Bundle) -> None:
    """UCI HAR and HAPT have the same subjects under the same numbers."""
    one = classifier_of(bundle, channels=("total_acc_z",), normalisation=Normalisation((0.0,), (1.0,)))
    trained = replace(one.bundle, training={"data": "hapt:hapt.zip", "subjects": ["07"]})
    notes = scoring.score_windows(
        windows(subject=("07", "08")), Classifier(trained, "litert", FunctionNetwork(by_sign)), "uci-har:x"
    ).notes
    assert any("1 of these 2 subjects" in note for note in notes)


def test_without_a_gyroscope_that_the_bundle_needs_nothing_is_scored(classifier: Classifier) -> None:
    for function in (scoring.score_recordings, scoring.score_sessions):
        with pytest.raises(DatasetError, match="1_1: recorded without a gyroscope"):
            function([replace(seated("1"), has_gyro=False)], classifier, "actitracker:x")


def covering(classifier: Classifier, **covers: tuple[str, ...]) -> Classifier:
    """Return the classifier with labels that cover other names as well."""
    return Classifier(replace(classifier.bundle, covers=LabelTable(covers)), "litert", FunctionNetwork(by_sign))


def named(label: str, subject: str = "1", **fields: object) -> Recording:
    recording = seated(subject)
    return replace(recording, segments=(Segment(0, 1000, label),), **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("stream", [False, True])
def test_an_activity_counts_as_the_label_that_covers_it(classifier: Classifier, stream: bool) -> None:
    one = covering(classifier, SITTING=("SEATED", "hapt:IDLE"))
    sets = put_together(["csv:x"], [[named("Seated"), named("IDLE", "2"), named("walking upstairs", "3")]])
    result = scoring.score_sets(sets, one, stream=stream)
    labels = one.bundle.labels
    counts = dict(zip(labels, result.scores.windows_by_label.tolist(), strict=True))
    assert (counts["SITTING"], counts["WALKING_UPSTAIRS"], result.scores.windows) == (14, 14, 28)
    assert any("no label covers IDLE (20 s)" in note for note in result.notes)


def test_windows_of_their_publisher_count_as_the_label_that_covers_them(bundle: Bundle) -> None:
    one = classifier_of(bundle, channels=("total_acc_z",), normalisation=Normalisation((0.0,), (1.0,)))
    result = scoring.score_windows(windows(), covering(one, WALKING=("uci-har:DANCING",)), "uci-har:x")
    assert result.scores.windows == 12
    left = scoring.score_windows(windows(), covering(one, WALKING=("csv:DANCING",)), "uci-har:x")
    assert any("4 windows left out: no label covers DANCING (4)" in note for note in left.notes)


def test_several_data_sets_are_scored_one_by_one_and_together(classifier: Classifier) -> None:
    sets = put_together(
        ["csv:x", "hapt:y"], [[seated("1"), seated("2")], [seated("1"), named("STANDING", "3"), named("JUMPING", "4")]]
    )
    for stream in (False, True):
        result = scoring.score_sets(sets, classifier, stream=stream)
        assert [(part.name, part.data, part.scores.windows) for part in result.parts] == [
            ("csv", "csv:x", 28),
            ("hapt", "hapt:y", 28),
        ]
        assert result.scores.windows == 56
        expected = result.parts[0].scores.confusion + result.parts[1].scores.confusion
        np.testing.assert_array_equal(result.scores.confusion, expected)
        assert set(result.by_subject) == {"csv/1", "csv/2", "hapt/1", "hapt/3"}
        assert (result.stream is not None) == stream
        assert "hapt: no label covers JUMPING (20 s)" in result.notes
        data = result.to_dict()
        assert data["by_data"]["hapt"]["windows"] == 28
        assert data["by_data"]["hapt"]["data"] == "hapt:y"
        means = [part.scores.macro_recall for part in result.parts]
        assert data["macro_recall_of_sets"] == pytest.approx(np.mean(means))
        assert "by_placement" not in data
        head, rows = result.breakdown()
        assert [row[0] for row in rows] == ["csv", "hapt", "mean of the data sets"]
        assert {len(row) for row in rows} == {len(head)}
        csv = dict(zip(head, rows[0], strict=True))
        assert (csv["windows"], csv["WALKING"], csv["SITTING"]) == ("28", "-", csv["accuracy"])


def test_placements_of_a_data_set_are_told_apart(classifier: Classifier) -> None:
    worn = [replace(seated(subject), placement=place) for subject, place in (("1", "waist"), ("2", "wrist"), ("3", ""))]
    for stream in (False, True):
        result = scoring.score_sets(put_together(["csv:x"], [worn]), classifier, stream=stream)
        assert {name: scores.windows for name, scores in result.by_placement.items()} == {
            "": 14,
            "waist": 14,
            "wrist": 14,
        }
        assert set(result.to_dict()["by_placement"]) == {"not named", "waist", "wrist"}
        assert [row[0] for row in result.breakdown()[1]] == ["csv, not named", "csv, waist", "csv, wrist"]
    single = scoring.score_sets(put_together(["csv:x"], [worn[:1]]), classifier)
    assert single.breakdown()[1] == []
    assert not {"by_placement", "by_data"} & set(single.to_dict())


def test_recordings_without_a_needed_gyroscope_are_left_out_with_a_note(classifier: Classifier) -> None:
    bare = replace(seated("1"), has_gyro=False)
    for function in (scoring.score_recordings, scoring.score_sessions):
        result = function([bare, seated("2")], classifier, "csv:x")
        assert set(result.by_subject) == {"2"}
        assert any("1 recordings of 1 subjects were made without the gyroscope" in note for note in result.notes)
    sets = put_together(["csv:x", "hapt:y"], [[bare], [seated("2")]])
    result = scoring.score_sets(sets, classifier)
    assert (result.name, result.parts, set(result.by_subject)) == ("hapt", (), {"hapt/2"})
    assert any(note.startswith("csv: 1 recordings of 1 subjects were made without") for note in result.notes)
    cut = put_together(["csv:x", "uci-har:y"], [[bare], windows()])
    result = scoring.score_sets(cut, classifier)
    assert (result.name, result.scores.windows) == ("uci-har", 8)
    assert any(note.startswith("csv: 1 recordings of 1 subjects were made without") for note in result.notes)
    without = classifier_of(classifier.bundle, channels=("total_acc_z",), normalisation=Normalisation((0.0,), (1.0,)))
    assert scoring.score_sets(sets, without).scores.windows == 28


def test_windows_without_a_needed_channel_are_refused(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    one = classifier_of(bundle, channels=("total_acc_z",), normalisation=Normalisation((0.0,), (1.0,)))
    monkeypatch.setattr(scoring, "DEFAULT_CHANNELS", ("body_acc_x",))
    with pytest.raises(DatasetError, match=r"windows with the channels body_acc_x, but random@.* needs total_acc_z"):
        scoring.score_windows(windows(), one, "uci-har:x")


def test_subjects_of_one_of_several_sets_trained_on_are_pointed_out(classifier: Classifier) -> None:
    training = {"data": ["hapt:hapt.zip", "csv:mine"], "subjects": ["csv/2", "hapt/1", "hapt/2"]}
    known = Classifier(replace(classifier.bundle, training=training), "litert", FunctionNetwork(by_sign))
    [note] = scoring.score_recordings([seated("1"), seated("2")], known, "csv:mine").notes
    assert "1 of these 2 subjects" in note
    sets = put_together(["hapt:x", "csv:mine"], [[seated("1"), seated("2")], [seated("1"), seated("2")]])
    assert scoring.score_sets(sets, known).notes == (
        "hapt: random@0.0.1 was trained on 2 of these 2 subjects: the scores do not tell how it does on other people",
        "csv: random@0.0.1 was trained on 1 of these 2 subjects: the scores do not tell how it does on other people",
    )
