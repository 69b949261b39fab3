"""One network gives the same predictions on three backends."""

from __future__ import annotations

import dataclasses
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from harstream import bundle as bundles
from harstream import golden
from harstream.bundle import BACKEND_FILES, INT8, KERAS, LITERT
from harstream.classifier import Classifier, load_classifier, open_classifier, to_predictions
from harstream.core.familiar import Familiar, Limits, energy
from harstream.core.labels import UNKNOWN_INDEX
from harstream.errors import BundleError, ConfigError

from .constants import LABELS, SPEC, STATE_LABELS, STATES
from .fakes import FunctionNetwork
from .test_bundle import edit


@pytest.fixture(scope="module")
def windows():
    """Return 600 windows, all different."""
    rng = np.random.default_rng(5)
    streams = np.concatenate([golden.cut_windows(SPEC, *golden.synthetic_stream(SPEC, seed)) for seed in range(20)])
    return np.concatenate([streams * rng.uniform(0.5, 1.5) for _ in range(10)]).astype(np.float32)[:600]


@pytest.fixture(scope="module", params=BACKEND_FILES)
def opened(request, bundle):
    return open_classifier(bundle, request.param)


def test_float_backends_agree(bundle, windows):
    litert, tensorflow = (open_classifier(bundle, name).predict(windows) for name in ("litert", "tensorflow"))
    np.testing.assert_allclose(litert.probabilities, tensorflow.probabilities, atol=1e-4)


def test_int8_agrees_wherever_the_choice_is_clear(bundle, windows):
    litert, int8 = (open_classifier(bundle, name).predict(windows) for name in ("litert", "int8"))
    ranked = np.sort(litert.probabilities, axis=1)
    clear = ranked[:, -1] - ranked[:, -2] > 0.1
    assert clear.sum() > 100
    assert (litert.label == int8.label)[clear].mean() > 0.99
    assert np.abs(litert.probabilities - int8.probabilities).mean() < 0.05


def test_how_many_windows_come_at_once_does_not_matter(opened, windows):
    single = np.concatenate([opened.predict(windows[i : i + 1]).probabilities for i in range(len(windows))])
    for n in (0, 1, 2, 3, 4, 5, 15, 16, 17, 63, 64, 65, 255, 256, 257, 300, 511, 512, 513, 600):
        made = opened.predict(windows[:n])
        assert made.probabilities.shape == (n, len(LABELS))
        assert made.label.shape == made.confidence.shape == (n,)
        np.testing.assert_allclose(made.probabilities, single[:n], atol=1e-5)


def test_predictions_are_probabilities_and_the_label_is_the_likeliest(opened, windows):
    made = opened.predict(windows)
    assert made.probabilities.dtype == np.float32
    np.testing.assert_allclose(made.probabilities.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(made.label, made.probabilities.argmax(axis=1))
    np.testing.assert_array_equal(made.confidence, made.probabilities.max(axis=1))
    assert len(set(made.label.tolist())) > 1


def test_predicting_leaves_the_windows_alone(opened, windows):
    before = windows.copy()
    opened.predict(windows)
    np.testing.assert_array_equal(windows, before)


def test_several_threads_may_use_one_classifier(opened, windows):
    """Without the lock of each interpreter, LiteRT mixed up the windows of two threads, or raised RuntimeError."""
    batches = [windows[start : start + size] for start in range(0, 60, 3) for size in (1, 7, 40)]
    single = [opened.predict(batch).probabilities for batch in batches]
    with ThreadPoolExecutor(6) as pool:
        for _ in range(30):
            for made, expected in zip(pool.map(opened.predict, batches), single, strict=True):
                np.testing.assert_array_equal(made.probabilities, expected)


def test_windows_are_normalised_on_the_way_in(bundle, windows):
    inputs = ((windows[:8] - np.array(SPEC.norm.mean, np.float32)) / np.array(SPEC.norm.std, np.float32)).astype(
        np.float32
    )
    litert = open_classifier(bundle, "litert")
    expected = to_predictions(litert._network(inputs), bundle.temperature).probabilities
    np.testing.assert_allclose(litert.predict(windows[:8]).probabilities, expected, atol=1e-6)


def test_temperature_softens_without_changing_the_choice():
    logits = np.array([[3, 1, 0], [0, 0, 2]], np.float32)
    sharp, soft = to_predictions(logits, 0.5), to_predictions(logits, 4.0)
    np.testing.assert_array_equal(sharp.label, soft.label)
    assert (sharp.confidence > soft.confidence).all()
    odds = np.exp(logits.astype(float) / 4)
    np.testing.assert_allclose(soft.probabilities, odds / odds.sum(axis=1, keepdims=True), rtol=1e-6)


def test_a_window_in_a_state_has_no_label_and_the_confidence_of_the_likeliest():
    logits = np.array([[3, 1, 0, 0], [1, 2, 4, 3]], np.float32)
    made, all_labels = to_predictions(logits, 1.0, 2), to_predictions(logits, 1.0)
    assert made.label.tolist() == [0, UNKNOWN_INDEX]
    assert all_labels.label.tolist() == [0, 2]
    np.testing.assert_array_equal(made.probabilities, all_labels.probabilities)
    np.testing.assert_array_equal(made.confidence, made.probabilities[[0, 1], [0, 1]])


def test_a_bundle_with_states_predicts_all_outputs_and_labels_only_labels(states_bundle, classifier, windows):
    made = load_classifier(states_bundle).predict(windows)
    output = classifier.predict(windows).label  # of the same network
    assert made.probabilities.shape == (len(windows), len(STATE_LABELS) + len(STATES))
    np.testing.assert_array_equal(made.label, np.where(output < len(STATE_LABELS), output, UNKNOWN_INDEX))
    assert UNKNOWN_INDEX in made.label


def test_logits_of_any_size_are_no_overflow():
    with np.errstate(all="raise", under="ignore"):
        made = to_predictions(np.array([[3e38, -3e38, 0]], np.float32), 0.01)
    np.testing.assert_array_equal(made.probabilities, [[1, 0, 0]])


def test_auto_is_litert_where_the_bundle_has_it_and_else_tensorflow(own_bundle):
    assert open_classifier(bundles.load(own_bundle)).backend == "litert"
    edit(own_bundle, lambda data: data["files"].pop(LITERT))
    assert open_classifier(bundles.load(own_bundle)).backend == "tensorflow"


@pytest.mark.parametrize(
    ("backend", "file", "others"),
    [
        ("litert", LITERT, "int8, tensorflow"),
        ("int8", INT8, "litert, tensorflow"),
        ("tensorflow", KERAS, "litert, int8"),
    ],
)
def test_a_backend_without_its_file_is_refused_with_those_that_have_one(own_bundle, backend, file, others):
    edit(own_bundle, lambda data: data["files"].pop(file))
    message = f"{file} is missing; choose another --backend: {others}$"
    with pytest.raises(BundleError, match=message):
        open_classifier(bundles.load(own_bundle), backend)


def test_an_unknown_backend_is_refused_with_the_known_ones(bundle):
    with pytest.raises(ConfigError, match="'onnx' is not one of auto, litert, int8, tensorflow"):
        open_classifier(bundle, "onnx")


def test_without_tensorflow_the_error_of_its_backend_names_what_to_install(bundle, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(ConfigError, match=r"pip install '\.\[train\]' in a checkout, or choose --backend litert$"):
        open_classifier(bundle, "tensorflow")


def test_without_tensorflow_litert_is_not_proposed_for_a_bundle_that_lacks_it(own_bundle, monkeypatch):
    edit(own_bundle, lambda data: data["files"].pop(LITERT))
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(ConfigError, match=r"pip install '\.\[train\]' in a checkout$"):
        open_classifier(bundles.load(own_bundle))


def test_unfamiliar_windows_are_told_by_logits_and_features_and_labels_stay(bundle, windows):
    network = open_classifier(bundle, "litert")._network

    def with_features(inputs):
        return np.concatenate([network(inputs), inputs[:, 0, :2]], axis=1)

    familiar = Familiar(np.zeros((1, 2)), np.eye(2), Limits(4.0, -2.5))
    knowing = Classifier(dataclasses.replace(bundle, familiar=familiar), "litert", FunctionNetwork(with_features))
    made, plain = knowing.predict(windows), open_classifier(bundle, "litert").predict(windows)
    np.testing.assert_allclose(made.probabilities, plain.probabilities, atol=1e-6)
    np.testing.assert_array_equal(made.label, plain.label)
    assert not plain.unfamiliar.any()
    inputs = bundle.spec.norm.apply(windows)
    far = np.square(inputs[:, 0, :2], dtype=np.float64).sum(axis=1) > 4
    uncertain = energy(network(inputs)) > -2.5
    assert 0 < far.sum() < len(far)
    assert 0 < uncertain.sum() < len(uncertain)
    np.testing.assert_array_equal(made.unfamiliar, far | uncertain)
    assert knowing.predict(windows[:0]).unfamiliar.shape == (0,)


def test_a_bundle_that_tells_unfamiliar_windows_by_features_that_its_network_lacks_is_refused(own_bundle):
    familiar = Familiar(np.zeros((1, 2)), np.eye(2), Limits(4.0, -2.5))
    edit(own_bundle, lambda data: data.update(familiar=familiar.to_dict()))
    with pytest.raises(BundleError, match=r"it has 6 outputs, but bundle.json has 6 labels, 2 features .*restore"):
        open_classifier(bundles.load(own_bundle), "litert")
