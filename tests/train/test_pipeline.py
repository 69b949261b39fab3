"""A training makes a bundle that loads, verifies and classifies."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorflow")

from harstream import bundle as bundles
from harstream import golden
from harstream.classifier import load_classifier
from harstream.core.label_table import LabelTable
from harstream.core.spec import SignalSpec
from harstream.datasets import hapt, windows
from harstream.datasets.base import Recording, Segment
from harstream.datasets.sets import put_together
from harstream.errors import BundleError, ConfigError, DatasetError
from harstream.int8 import MAX_LOSS, MAX_MISSED
from harstream.train import export, pipeline
from harstream.train.card import NOTES
from harstream.train.fitting.prepare import (
    DEFAULT_SMOOTHING,
    about_kind,
    data_name,
    default_table,
    labels_of_kind,
    prepare,
    smoothing_for,
    smoothing_with_states,
    states_of,
)
from harstream.train.fitting.recipe import FitConfig

from ..made_recordings import PLAIN, two_data_sets

TINY = FitConfig("mlp", {"units": 20}, epochs=2, folds=2, learning_rate=1e-2, **PLAIN)


@pytest.fixture(scope="module")
def trained(recordings: list[Recording], tmp_path_factory: pytest.TempPathFactory) -> pipeline.Trained:
    """Read only."""
    out = tmp_path_factory.mktemp("trained") / "mine"
    table = LabelTable({"MOVING": ("WALKING",), "SWIMMING": (), "STILL": ()})
    worn = [replace(one, placement="wrist" if one.subject == "01" else "chest") for one in recordings]
    return pipeline.train(worn, out, data="csv:somewhere/recordings", table=table, config=TINY)


@pytest.fixture
def mine(trained: pipeline.Trained, tmp_path: Path) -> Path:
    """A copy of its bundle."""
    return shutil.copytree(trained.bundle.path, tmp_path / "mine")


def test_a_trained_bundle_serves_on_every_backend(recordings: list[Recording], trained: pipeline.Trained) -> None:
    bundle = bundles.load(trained.bundle.path)
    assert (bundle.id, bundle.labels) == ("mine@1.0.0", ("MOVING", "STILL"))
    assert bundle.spec.sample_rate_hz == 50.0
    assert bundle.covers == LabelTable({"MOVING": ("WALKING",), "STILL": ()})  # no window is SWIMMING
    assert bundle.temperature == trained.bundle.temperature
    assert (bundle.placement, bundle.orientation, bundle.states) == ("chest, wrist", "fixed", ())
    cut = windows.cut_windows(windows.whole_streams(recordings), bundle.spec, bundle.labels)
    assert bundle.familiar is not None
    assert bundle.familiar == trained.bundle.familiar
    assert bundle.familiar.n_features == 20
    distances = {}
    for backend in ("litert", "int8", "tensorflow"):
        opened = load_classifier(bundle.path, backend)
        predictions = opened.predict(cut.windows)
        assert (predictions.label == cut.label).mean() > 0.9
        outputs = opened._network(bundle.spec.norm.apply(cut.windows))
        assert outputs.shape == (len(cut), 2 + 20)
        distances[backend] = bundle.familiar.distance(outputs[:, 2:])
        found = bundle.familiar.unfamiliar(outputs[:, :2], outputs[:, 2:])
        np.testing.assert_array_equal(predictions.unfamiliar, found)
        assert found.mean() < 0.05  # of the windows that the network was trained on
    np.testing.assert_allclose(distances["litert"], distances["tensorflow"], rtol=1e-3)
    scale = np.median(distances["litert"])
    assert np.abs(distances["int8"] - distances["litert"]).mean() < 0.15 * scale

    assert bundle.training["subjects"] == ["01", "02", "03", "04"]
    assert bundle.training["data"] == "csv:recordings"
    assert bundle.training["config"]["epochs"] == 2
    assert 0.5 < bundle.training["metrics"]["float32"]["accuracy"]["mean"] <= 1.0


def test_the_card_has_the_figures_of_the_validation(trained: pipeline.Trained) -> None:
    card = (trained.bundle.path / "README.md").read_text()
    assert "{" not in card
    assert "somewhere" not in card  # no names of local folders
    assert "The placement of the device, the source and the licence are not\nknown" in card
    scores = trained.validation.scores
    for label, precision, recall in zip(scores.labels, scores.precision, scores.recall, strict=True):
        assert f"| {label} | {precision:.3f} | {recall:.3f} |" in card
    share = trained.validation.unfamiliar_share()
    assert f"of the held-out subjects, {100 * share:.2f} % are found unfamiliar" in card
    assert "There is no" not in card


def test_int8_is_not_chosen_where_it_misses_what_is_unfamiliar(recordings: list[Recording], mine: Path) -> None:
    """The range of this network's int8 ends where the training data end, so that noise looks like them."""
    bundle = bundles.load(mine)
    cut = windows.cut_windows(windows.whole_streams(recordings), bundle.spec, bundle.labels)
    noise = np.random.default_rng(0).normal(scale=2, size=cut.windows.shape).astype(np.float32)
    found = {name: load_classifier(mine, name).predict(noise).unfamiliar.mean() for name in ("litert", "int8")}
    assert found["litert"] > 0.7
    assert found["int8"] < 0.1
    assert bundle.training["int8_missed"] == bundle.int8.missed
    assert bundle.int8.missed is not None
    assert bundle.int8.missed > MAX_MISSED
    assert bundle.int8.added == bundle.training["int8_added"]
    assert bundle.int8.loss is not None
    assert bundle.int8.loss <= MAX_LOSS
    assert bundle.best_backend == "litert"


def test_a_bundle_exported_again_gives_the_same_labels(recordings: list[Recording], mine: Path) -> None:
    before = bundles.load(mine)
    cut = windows.cut_windows(windows.whole_streams(recordings), before.spec, before.labels)
    expected = load_classifier(mine, "litert").predict(cut.windows).probabilities
    for name in (bundles.LITERT, bundles.INT8):
        assert name in before.files
    after = pipeline.export_again(str(mine))
    for field in ("id", "labels", "spec", "temperature", "smoothing", "covers", "familiar"):
        assert getattr(after, field) == getattr(before, field)
    assert after.smoothing.type != "none"
    assert after.files[bundles.KERAS] == before.files[bundles.KERAS]
    again = load_classifier(mine, "litert").predict(cut.windows).probabilities
    np.testing.assert_allclose(again, expected, atol=1e-5)
    assert after.int8.loss is None  # nobody measured the new int8 file
    assert after.best_backend == "litert"
    int8 = load_classifier(mine, "int8").predict(cut.windows)
    assert (int8.label == expected.argmax(axis=1)).mean() > 0.9
    assert "`model.int8.tflite` was made again by `harstream export`" in (mine / "README.md").read_text()


def test_an_earlier_bundle_stays_until_the_new_one_is_complete(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path.name: path.read_bytes() for path in mine.iterdir()}
    beside = set(mine.parent.iterdir())

    def fail(bundle: bundles.Bundle) -> bundles.Bundle:
        raise OSError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "seal_bundle", fail)
        with pytest.raises(OSError, match="full"):
            pipeline.export_again(str(mine))
    assert {path.name: path.read_bytes() for path in mine.iterdir()} == before
    assert set(mine.parent.iterdir()) == beside


def test_the_card_lists_the_missing_files(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (mine / "README.md").unlink()
    real = export.to_int8

    def impossible(*_: object) -> bytes:
        raise export.NotConvertibleError("int8 is out of fashion")

    monkeypatch.setattr(export, "to_int8", impossible)
    assert bundles.INT8 not in pipeline.export_again(str(mine)).files
    assert (mine / "README.md").read_text() == (
        f"# mine 1.0.0\n- There is no `model.int8.tflite`: int8 is out of fashion.\n\n{NOTES}\n"
    )
    monkeypatch.setattr(export, "to_int8", real)
    monkeypatch.setattr(golden, "_disagreement", lambda *_: "it drifts")
    sealed = pipeline.export_again(str(mine))  # int8 is made, but does not hold on the golden streams
    assert (mine / "README.md").read_text() == (
        f"# mine 1.0.0\n- There is no `model.int8.tflite`: {sealed.missing[bundles.INT8]}.\n\n{NOTES}\n"
    )
    assert "it drifts" in sealed.missing[bundles.INT8]


def test_notes_in_the_card_stay_when_the_bundle_is_made_again(mine: Path) -> None:
    card = (mine / "README.md").read_text()
    (mine / "README.md").write_text(card.replace("# mine", "# changed") + "Ask Anna.\n")
    pipeline.export_again(str(mine))
    assert (mine / "README.md").read_text().count(NOTES) == 1
    assert (mine / "README.md").read_text().endswith(f"\n{NOTES}\nAsk Anna.\n")


def test_a_keras_file_that_cannot_be_read_is_named(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (mine / bundles.KERAS).write_bytes(b"no zip")
    content = json.loads((mine / "bundle.json").read_text())
    content["files"][bundles.KERAS] = {"sha256": hashlib.sha256(b"no zip").hexdigest()}
    (mine / "bundle.json").write_text(json.dumps(content))
    with pytest.raises(BundleError, match=r"model\.keras: Keras cannot read it: .*; train the bundle again"):
        pipeline.export_again(str(mine))


def test_a_spec_and_labels_can_be_given(recordings: list[Recording]) -> None:
    spec = SignalSpec(sample_rate_hz=25.0, window_samples=64, stride_samples=32, channels=("total_acc_x",))
    prepared = prepare(recordings, spec, ("STILL", "MOVING"))
    assert prepared.training.windows.shape[1:] == (64, 1)
    assert prepared.scored.labels == ("STILL", "MOVING")


def test_hapt_is_trained_on_the_six_activities_of_uci_har() -> None:
    assert labels_of_kind("hapt:anywhere") == hapt.LABELS
    assert labels_of_kind("nothing:anywhere") is None
    assert "UCI Machine Learning" in about_kind("hapt:anywhere")


def test_data_are_named_without_their_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine/inner").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "mine/inner")
    given = ["hapt:/some/where/hapt.zip", "csv:inner/", "csv:.", "csv:.."]
    assert [data_name(one) for one in given] == ["hapt:hapt.zip", "csv:inner", "csv:inner", "csv:mine"]


def test_a_label_without_a_window_is_left_out(recordings: list[Recording]) -> None:
    brief = Segment(820, 840, "JUMPING")
    odd = [replace(r, segments=(r.segments[0], brief, r.segments[1])) for r in recordings]
    assert prepare(odd).scored.labels == ("MOVING", "STILL")


def test_recordings_that_cannot_be_trained_on_are_refused_first(recordings: list[Recording]) -> None:
    with pytest.raises(DatasetError, match="at least two subjects"):
        prepare(recordings[:1])
    with pytest.raises(DatasetError, match="0 known labels"):
        prepare([replace(r, segments=()) for r in recordings])
    with pytest.raises(DatasetError, match="differ in sample rate"):
        prepare([recordings[0], replace(recordings[1], rate_hz=20.0)])
    with pytest.raises(DatasetError, match="found 0 of MOVING, STILL"):
        prepare([replace(r, segments=(Segment(0, 50, "STILL"), Segment(90, 140, "MOVING"))) for r in recordings])


def test_data_sets_that_are_trained_on_only_are_checked_before_windows_are_cut(
    recordings: list[Recording], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windows, "cut_windows", lambda *_: pytest.fail("windows were cut"))
    several = two_data_sets(recordings)
    with pytest.raises(DatasetError, match="no data set is called 'c': the data sets are a, b"):
        prepare(several, train_only=["c"])
    with pytest.raises(DatasetError, match=r"--train-only: it names every data set \(a, b\)"):
        prepare(several, train_only=["b", "a"])


# --- states between labels ------------------------------------------------------------------------------

POSTURES, TRANSITIONS = ("SITTING", "STANDING"), ("SIT_TO_STAND",)


@pytest.fixture(scope="module")
def getting_up(recordings: list[Recording]) -> list[Recording]:
    """Recordings of sitting, getting up for 2 or 3 s, and standing."""
    made = []
    for recording in recordings:
        still, moving = recording.segments
        turn = still.stop + 50 * (2 + int(recording.subject) % 2)
        segments = (
            Segment(0, still.stop, "SITTING"),
            Segment(still.stop, turn, "SIT_TO_STAND"),
            Segment(moving.start, moving.stop, "STANDING"),
        )
        made.append(replace(recording, segments=segments))
    return made


def test_states_are_learnt_and_become_part_of_the_bundle(getting_up: list[Recording], tmp_path: Path) -> None:
    trained = pipeline.train(
        getting_up,
        tmp_path / "mine",
        data="csv:x",
        table=LabelTable.plain(POSTURES),
        config=TINY,
        states=TRANSITIONS,
        version="2.1.0",
        placement="a phone at the waist",
        orientation="any",
    )
    bundle = bundles.load(tmp_path / "mine")
    assert (bundle.id, bundle.labels, bundle.states) == ("mine@2.1.0", POSTURES, TRANSITIONS)
    assert (bundle.placement, bundle.orientation) == ("a phone at the waist", "any")
    assert bundle.smoothing == smoothing_with_states(bundle.spec, POSTURES, TRANSITIONS, getting_up)
    assert load_classifier(bundle.path, "tensorflow").predict(np.zeros((1, 128, 9), np.float32)).probabilities.size == 3
    scores = trained.validation.scores
    assert scores.labels == POSTURES
    assert scores.unknown is not None
    cut = windows.cut_windows(windows.whole_streams(getting_up), bundle.spec, POSTURES)
    assert scores.windows == len(cut)
    card = (bundle.path / "README.md").read_text()
    assert "{" not in card
    assert "the network recognises `SIT_TO_STAND`" in card
    assert "Placement: a phone at the waist. Orientation of the device: any." in card
    assert "| SITTING | STANDING | UNKNOWN |" in card

    again = pipeline.export_again(str(bundle.path))
    for field in ("labels", "states", "smoothing", "placement", "orientation", "version"):
        assert getattr(again, field) == getattr(bundle, field)


def test_windows_of_states_are_trained_on_and_not_scored(getting_up: list[Recording]) -> None:
    prepared = prepare(getting_up, labels=POSTURES, states=TRANSITIONS)
    assert prepared.training.outputs == (*POSTURES, *TRANSITIONS)
    assert set(prepared.training.label.tolist()) == {0, 1, 2}
    assert set(prepared.scored.label.tolist()) == {0, 1}
    without = prepare(getting_up, labels=POSTURES)
    np.testing.assert_array_equal(prepared.scored.windows, without.scored.windows)
    of_labels = np.flatnonzero(prepared.training.label < 2)
    np.testing.assert_array_equal(prepared.training.windows[of_labels], without.training.windows)


def test_states_that_cannot_be_learnt_are_refused(getting_up: list[Recording]) -> None:
    with pytest.raises(ConfigError, match=r"state 'SIT_TO_LIE': .* the labels are SITTING, STANDING"):
        prepare(getting_up, labels=POSTURES, states=("SIT_TO_LIE",))
    with pytest.raises(DatasetError, match="no window lies with half its length in a segment of STAND_TO_SIT"):
        prepare(getting_up, labels=POSTURES, states=(*TRANSITIONS, "STAND_TO_SIT"))
    with pytest.raises(ConfigError, match="--states: SIT_TO_STAND would be a label and a state between labels"):
        prepare(getting_up, labels=(*POSTURES, *TRANSITIONS), states=TRANSITIONS)


def test_a_state_is_no_label_where_the_labels_are_all_that_occur(getting_up: list[Recording]) -> None:
    prepared = prepare(getting_up, states=TRANSITIONS)
    assert prepared.training.outputs == (*POSTURES, *TRANSITIONS)
    names = {"SIT_TO_STAND": "sit to stand"}
    other = [
        replace(one, segments=tuple(replace(s, label=names.get(s.label, s.label)) for s in one.segments))
        for one in getting_up
    ]
    sets = put_together(["csv:one", "csv:two"], [getting_up, other])
    table = default_table(sets, TRANSITIONS)
    assert table.labels == POSTURES
    for covered in (data_set.cover(table, TRANSITIONS) for data_set in sets):
        assert covered.notes == ()
        assert [segment.label for segment in covered.recordings[0].segments] == ["SITTING", *TRANSITIONS, "STANDING"]
    with pytest.raises(DatasetError, match=r"the recordings have 1 known labels \(STANDING\)"):
        default_table(sets, ("SITTING", *TRANSITIONS))


def test_the_smoothing_has_mean_durations_and_no_order_of_the_recordings(getting_up: list[Recording]) -> None:
    smoothing = smoothing_with_states(SignalSpec(), POSTURES, TRANSITIONS, getting_up)
    assert smoothing.transitions is not None
    transitions = np.array(smoothing.transitions)
    seconds = np.array([16, 16, 2.5])
    np.testing.assert_allclose(np.diag(transitions), np.exp(-1.28 / seconds), atol=2e-5)
    np.testing.assert_allclose(transitions.sum(axis=1), 1, atol=1e-9)
    assert transitions[1, 0] > 0  # nobody sits down in these recordings
    names = {"SITTING": "STANDING", "STANDING": "SITTING"}
    swapped = [
        replace(one, segments=tuple(replace(s, label=names.get(s.label, s.label)) for s in one.segments))
        for one in getting_up
    ]
    assert smoothing_with_states(SignalSpec(), POSTURES, TRANSITIONS, swapped) == smoothing
    assert replace(smoothing, transitions=None, unknown_share=0.9) == smoothing_for(SignalSpec())
    lasting = smoothing_with_states(SignalSpec(), (*POSTURES, "WALKING"), TRANSITIONS, getting_up)
    assert lasting.transitions is not None
    assert lasting.transitions[2][2] == pytest.approx(np.exp(-1.28 / DEFAULT_SMOOTHING.dwell_s), abs=2e-5)


def test_kinds_of_data_without_states_say_so() -> None:
    assert states_of("hapt:anywhere") == hapt.STATES
    assert states_of(["csv:anywhere", "hapt:anywhere"]) == hapt.STATES
    with pytest.raises(ConfigError, match="--states: csv, wisdm-watch names no states"):
        states_of(["csv:anywhere", "wisdm-watch:anywhere"])


def test_smoothing_has_longer_times_for_longer_strides() -> None:
    assert smoothing_for(SignalSpec()) == DEFAULT_SMOOTHING
    rare = smoothing_for(SignalSpec(sample_rate_hz=20, window_samples=400, stride_samples=100))
    assert (rare.dwell_s, rare.unknown_dwell_s, rare.fixed_lag_windows) == (19.5, 3.9, 1)
    assert smoothing_for(SignalSpec(), by_data=True) == replace(DEFAULT_SMOOTHING, dwell_s=10)
    assert smoothing_for(SignalSpec(sample_rate_hz=20, window_samples=400, stride_samples=100), by_data=True) == rare
