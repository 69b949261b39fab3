"""From recordings to a bundle that loads, verifies and classifies."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorflow")

from harstream import bundle as bundles
from harstream.core.spec import SignalSpec
from harstream.datasets import hapt
from harstream.datasets.base import Recording, Segment
from harstream.errors import DatasetError
from harstream.golden import load_classifier
from harstream.train import pipeline, windows
from harstream.train.fit import FitConfig

TINY = FitConfig(epochs=4, learning_rate=1e-2, arch_settings={"widths": (8, 16), "kernels": (5, 3)})


@pytest.mark.parametrize("arch", ["rescnn", "cnn"])
def test_a_trained_bundle_serves_on_every_backend(recordings: list[Recording], tmp_path: Path, arch: str) -> None:
    config = TINY if arch == "rescnn" else replace(TINY, arch="cnn", arch_settings={"filters": 8, "dense": 16})
    trained = pipeline.train(recordings, tmp_path / "mine", data="csv:somewhere/recordings", config=config)
    bundle = bundles.load(tmp_path / "mine")
    assert (bundle.id, bundle.labels) == ("mine@1.0.0", ("MOVING", "STILL"))
    assert bundle.spec.sample_rate_hz == 50.0
    assert bundle.temperature == trained.bundle.temperature
    cut = windows.cut(windows.whole(recordings), bundle.spec, bundle.labels)
    for backend in ("litert", "int8", "tensorflow"):
        predictions = load_classifier(tmp_path / "mine", backend).predict(cut.windows)
        assert (predictions.label == cut.label).mean() > 0.9

    assert bundle.training["subjects"] == ["01", "02", "03", "04"]
    assert bundle.training["data"] == "csv:recordings"
    assert bundle.training["config"]["epochs"] == 4
    assert 0.5 < bundle.training["metrics"]["float32"]["accuracy"]["mean"] <= 1.0
    card = (tmp_path / "mine/README.md").read_text()
    assert "MOVING" in card
    assert "{" not in card


def test_exporting_again_leaves_a_bundle_that_says_the_same(recordings: list[Recording], tmp_path: Path) -> None:
    before = pipeline.train(recordings, tmp_path / "mine", data="csv:recordings", config=TINY).bundle
    cut = windows.cut(windows.whole(recordings), before.spec, before.labels)
    expected = load_classifier(tmp_path / "mine").predict(cut.windows).probabilities
    for name in (bundles.LITERT, bundles.INT8):
        assert name in before.files
    after = pipeline.export_again(str(tmp_path / "mine"))
    assert (after.id, after.labels, after.spec, after.temperature) == (
        before.id,
        before.labels,
        before.spec,
        before.temperature,
    )
    assert after.files[bundles.KERAS] == before.files[bundles.KERAS]
    again = load_classifier(tmp_path / "mine").predict(cut.windows).probabilities
    np.testing.assert_allclose(again, expected, atol=1e-5)
    int8 = load_classifier(tmp_path / "mine", "int8").predict(cut.windows)
    assert (int8.label == expected.argmax(axis=1)).mean() > 0.9


def test_a_spec_and_labels_can_be_given(recordings: list[Recording]) -> None:
    spec = SignalSpec(sample_rate_hz=25.0, window_samples=64, stride_samples=32, channels=("total_acc_x",))
    prepared = pipeline.prepare(recordings, spec, ("STILL", "MOVING"))
    assert prepared.training.windows.shape[1:] == (64, 1)
    assert prepared.counted.labels == ("STILL", "MOVING")


def test_hapt_is_trained_on_the_six_activities_of_uci_har() -> None:
    assert pipeline.labels_of_kind("hapt:anywhere") == hapt.LABELS
    assert pipeline.labels_of_kind("nothing:anywhere") is None
    assert "UCI Machine Learning" in pipeline.about_kind("hapt:anywhere")


def test_a_label_without_a_window_is_left_out(recordings: list[Recording]) -> None:
    brief = Segment(820, 840, "JUMPING")
    odd = [replace(r, segments=(r.segments[0], brief, r.segments[1])) for r in recordings]
    assert pipeline.prepare(odd).counted.labels == ("MOVING", "STILL")


def test_what_cannot_be_trained_on_is_refused_before_the_work_starts(recordings: list[Recording]) -> None:
    with pytest.raises(DatasetError, match="at least two wearers"):
        pipeline.prepare(recordings[:1])
    with pytest.raises(DatasetError, match="0 known labels"):
        pipeline.prepare([replace(r, segments=()) for r in recordings])
    with pytest.raises(DatasetError, match="differ in sample rate"):
        pipeline.prepare([recordings[0], replace(recordings[1], rate_hz=20.0)])
    with pytest.raises(DatasetError, match="found 0 of MOVING, STILL"):
        pipeline.prepare(
            [replace(r, segments=(Segment(0, 50, "STILL"), Segment(90, 140, "MOVING"))) for r in recordings]
        )
