"""A bundle loads completely or is refused with the field and both values; nothing in it is ever executed."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harstream import bundle as bundles
from harstream import shipped
from harstream.bundle import GOLDEN, INT8, KERAS, LITERT
from harstream.classifier import load_classifier, open_classifier, seal_bundle
from harstream.core.familiar import Familiar, Limits
from harstream.core.label_table import LabelTable
from harstream.core.smoothing_section import Smoothing
from harstream.core.spec import ORIENTATION_FREE, NoiseFilter
from harstream.errors import BundleError, HarstreamError

from .constants import LABELS, SPEC, STATE_LABELS, STATES


def edit(folder: Path, change) -> None:
    path = folder / "bundle.json"
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def replace_file(folder: Path, name: str, content: bytes) -> None:
    """Replace a file and enter its hash, as somebody who builds a bundle would."""
    (folder / name).write_bytes(content)
    edit(folder, lambda data: data["files"].update({name: {"sha256": hashlib.sha256(content).hexdigest()}}))


def test_a_bundle_comes_back_as_it_was_saved(random_bundle):
    loaded = bundles.load(random_bundle)
    assert (loaded.name, loaded.version, loaded.id) == ("random", "0.0.1", "random@0.0.1")
    assert loaded.labels == LABELS
    assert loaded.spec == SPEC
    assert loaded.temperature == 0.5
    assert loaded.training == {"seed": 1}
    assert set(loaded.files) == {KERAS, LITERT, INT8, GOLDEN}
    assert (random_bundle / "README.md").read_text() == "Random weights.\n"
    for name in loaded.files:
        assert loaded.read(name) == (random_bundle / name).read_bytes()


def save(folder, tflite, **fields):
    """Save a bundle that has only a LiteRT model; without ``tflite``, none at all."""
    return bundles.save(
        folder,
        name="new",
        version="1.0.0",
        temperature=1.0,
        training={},
        keras_path=None,
        tflite=tflite,
        int8=None,
        card="",
        **{"labels": LABELS, "spec": SPEC, **fields},
    )


def test_what_the_labels_cover_comes_back_and_without_the_field_they_cover_their_own_names(random_bundle, own_bundle):
    plain = bundles.load(random_bundle)
    assert plain.covers is None
    assert plain.table == LabelTable.plain(LABELS)
    covers = LabelTable({"LAYING": ("LYING",), "WALKING": ()})
    seal_bundle(save(own_bundle, tflite=(random_bundle / LITERT).read_bytes(), covers=covers))
    loaded = bundles.load(own_bundle)
    assert loaded.covers == covers
    assert loaded.table.labels == LABELS  # in the order of the outputs, with those that the field leaves out
    assert loaded.table.label_of("csv", "lying") == "LAYING"


def test_smoothing_comes_back_and_a_bundle_without_the_field_has_none(random_bundle, own_bundle):
    assert bundles.load(random_bundle).smoothing == Smoothing()
    edit(own_bundle, lambda data: data.pop("smoothing"))
    assert bundles.load(own_bundle).smoothing == Smoothing()
    smoothing = Smoothing("hmm", 0.6, fixed_lag_windows=2)
    saved = save(own_bundle, tflite=(random_bundle / LITERT).read_bytes(), smoothing=smoothing)
    seal_bundle(saved)
    loaded = bundles.load(own_bundle)
    assert loaded.smoothing == smoothing
    assert loaded.smoother().smoothing == smoothing
    assert loaded.smoother(Smoothing()).smoothing == Smoothing()


ABOUT = {
    "states": STATES,
    "placement": "a phone at the waist, x axis up",
    "orientation": "any",
}
FAMILIAR = {
    "means": [[0.5, 1.0], [2.0, -1.0]],
    "whitening": [[1.0, 0.25], [0.0, 1.0]],
    "max_distance": 9.5,
    "max_energy": -1.5,
}


def test_what_a_bundle_says_about_the_device_comes_back(random_bundle, tmp_path):
    transitions = ((0.5, 0.1, 0.1, 0.1, 0.1, 0.1), *[(1 / 6,) * 6] * 5)
    smoothing = Smoothing("hmm", 0.5, transitions=transitions, unknown_share=0.05)
    tflite = (random_bundle / LITERT).read_bytes()
    seal_bundle(save(tmp_path, tflite, smoothing=smoothing, labels=STATE_LABELS, **ABOUT))
    loaded = bundles.load(tmp_path)
    assert {name: getattr(loaded, name) for name in ABOUT} == ABOUT
    assert loaded.outputs == (*STATE_LABELS, *STATES)
    assert loaded.published_labels == (*STATE_LABELS, "UNKNOWN")
    assert loaded.smoothing == smoothing
    assert loaded.sensors == ("acc", "gyro")
    data = json.loads((tmp_path / "bundle.json").read_text())
    assert (data["schema"], data["sensors"]) == (2, ["acc", "gyro"])
    smoother = loaded.smoother()
    assert (smoother.n_labels, smoother.n_states) == (4, 2)


@pytest.mark.parametrize(
    ("files", "metrics", "backend"),
    [
        ({LITERT, INT8, KERAS}, {"float32": 0.98, "int8": 0.978}, "int8"),
        ({LITERT, INT8, KERAS}, {"float32": 0.98, "int8": 0.981}, "int8"),
        ({LITERT, INT8, KERAS}, {"float32": 0.98, "int8": 0.9779}, "litert"),
        ({LITERT, INT8, KERAS}, {"float32": 0.98, "int8": None}, "litert"),
        ({LITERT, INT8, KERAS}, {}, "litert"),
        ({LITERT, KERAS}, {"float32": 0.98, "int8": 0.98}, "litert"),
        ({INT8, KERAS}, {"float32": 0.98, "int8": 0.98}, "int8"),
        ({INT8, KERAS}, {"float32": 0.98, "int8": 0.9}, "tensorflow"),
        ({KERAS}, {}, "tensorflow"),
    ],
)
def test_auto_takes_int8_if_the_cross_validation_shows_hardly_a_loss(bundle, files, metrics, backend):
    scores = {name: value and {"accuracy": {"mean": value, "sd": None}} for name, value in metrics.items()}
    one = replace(
        bundle,
        files={name: digest for name, digest in bundle.files.items() if name in files},
        training={"metrics": scores},
    )
    assert one.best_backend == backend
    if None not in metrics.values() and metrics:
        assert one.int8.loss == pytest.approx(metrics["float32"] - metrics["int8"])
    else:
        assert one.int8.loss is None


def test_auto_does_not_take_int8_if_it_misses_what_is_unfamiliar(bundle):
    metrics = {name: {"accuracy": {"mean": 0.98, "sd": None}} for name in ("float32", "int8")}
    test = Familiar(np.zeros((6, 2)), np.eye(2), Limits(9.0, 0.0))
    for missed, added, backend in (
        (0.05, 0.0, "int8"),
        (0.06, 0.0, "litert"),
        (0.0, 0.002, "int8"),
        (0.0, 0.003, "litert"),
        (None, 0.0, "litert"),
        (0.0, None, "litert"),
        ("all", 0.0, "litert"),
        (0.0, 10**400, "litert"),
    ):
        one = replace(bundle, familiar=test, training={"metrics": metrics, "int8_missed": missed, "int8_added": added})
        assert one.best_backend == backend
        assert replace(one, familiar=None).best_backend == "int8"


def test_auto_takes_the_only_file_that_there_is(bundle):
    files = {INT8: bundle.files[INT8]}
    assert replace(bundle, files=files, training={}).best_backend == "int8"


def test_figures_that_are_no_numbers_are_no_figures(bundle):
    for training in ({"metrics": 3}, {"metrics": {"float32": {"accuracy": {"mean": 10**400}}}}):
        assert replace(bundle, training=training).int8.loss is None


def test_the_chosen_backend_is_that_which_is_opened(own_bundle):
    assert load_classifier(own_bundle).backend == "litert"  # without a cross-validation nobody knows what int8 loses
    accuracy = {name: {"accuracy": {"mean": 0.98, "sd": None}} for name in ("float32", "int8")}
    edit(own_bundle, lambda data: data.update(training={"metrics": accuracy}))
    assert load_classifier(own_bundle).backend == "int8"
    assert load_classifier(own_bundle, "litert").backend == "litert"


def test_rows_of_numbers_are_lines_of_bundle_json(random_bundle, tmp_path):
    smoothing = Smoothing("hmm", transitions=((0.75, 0.05, 0.05, 0.05, 0.05, 0.05), *[(1 / 6,) * 6] * 5))
    loaded = save(
        tmp_path, (random_bundle / LITERT).read_bytes(), smoothing=smoothing, familiar=Familiar.from_dict(FAMILIAR)
    )
    text = (tmp_path / "bundle.json").read_text()
    assert "\n      [0.75, 0.05, 0.05, 0.05, 0.05, 0.05],\n" in text
    assert "\n      [1.0, 0.25],\n" in text
    assert json.loads(text)["familiar"] == FAMILIAR
    assert loaded.familiar is not None
    assert loaded.familiar.to_dict() == FAMILIAR


def test_a_bundle_of_schema_1_loads_with_what_its_signal_says(own_bundle):
    def before(data):
        data["schema"] = 1
        for name in ("sensors", "placement", "orientation"):
            del data[name]

    edit(own_bundle, before)
    loaded = bundles.load(own_bundle)
    assert loaded.sensors == ("acc", "gyro")
    assert (loaded.states, loaded.placement, loaded.orientation, loaded.familiar) == ((), "", "fixed", None)
    bundles.add_file(loaded, LITERT)
    assert json.loads((own_bundle / "bundle.json").read_text())["schema"] == 2


def test_only_channels_that_are_the_same_however_a_device_lies_make_any_orientation(random_bundle, tmp_path):
    noise = NoiseFilter("none")
    free = replace(SPEC, channels=ORIENTATION_FREE, noise_filter=noise, normalisation=None)
    median = replace(free, noise_filter=SPEC.noise_filter)  # a median of each axis is not that of the turned axes
    mixed = replace(free, channels=(*ORIENTATION_FREE, "total_acc_x"), normalisation=None)
    assert [bundles.orientation_of(one) for one in (SPEC, free, median, mixed)] == ["fixed", "any", "fixed", "fixed"]
    tflite = (random_bundle / LITERT).read_bytes()
    assert save(tmp_path / "free", tflite, spec=free).orientation == "any"
    assert save(tmp_path / "fixed", tflite, spec=free, orientation="fixed").orientation == "fixed"
    edit(tmp_path / "free", lambda data: data.pop("orientation"))
    with pytest.raises(BundleError, match="'up' is not one of fixed, any"):
        save(tmp_path / "up", tflite, orientation="up")


def test_without_a_channel_of_the_gyroscope_the_sensors_are_the_accelerometer(own_bundle):
    acc = [name for name in SPEC.channels if "gyro" not in name]
    edit(own_bundle, lambda d: d["signal"].update(channels=acc, normalisation={"mean": [0] * 6, "std": [1] * 6}))
    with pytest.raises(BundleError, match=r"sensors: got \['acc', 'gyro'\], but the channels .* need \['acc'\]"):
        bundles.load(own_bundle)
    edit(own_bundle, lambda d: d.pop("sensors"))
    assert bundles.load(own_bundle).sensors == ("acc",)


def test_a_saved_bundle_does_not_load_until_its_golden_streams_are_there(random_bundle, tmp_path):
    saved = save(tmp_path / "new", tflite=(random_bundle / LITERT).read_bytes())
    with pytest.raises(BundleError, match=r"golden\.npz is missing"):
        bundles.load(saved.path)
    seal_bundle(saved)
    assert set(bundles.load(saved.path).files) == {LITERT, GOLDEN}


def test_saving_over_a_bundle_leaves_nothing_of_the_old_one(own_bundle):
    old = (own_bundle / LITERT).read_bytes()
    save(own_bundle, tflite=old)
    assert {path.name for path in own_bundle.iterdir()} == {LITERT, "bundle.json", "README.md"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"labels": STATE_LABELS, "states": (*STATES, STATE_LABELS[0])}, "labels and states: .* all different"),
        ({"labels": ("ONE",)}, "labels: expected at least two"),
        ({"placement": "waist\nwrist"}, "placement: expected one line"),
        ({"covers": LabelTable({"JUMPING": ()})}, "covers: label: 'JUMPING'"),
        ({"tflite": None}, "needs a model"),
    ],
)
def test_a_bundle_that_could_not_be_loaded_does_not_replace_the_one_that_can(own_bundle, tmp_path, fields, message):
    before = {path.name: path.read_bytes() for path in own_bundle.iterdir()}
    for folder in (own_bundle, tmp_path / "new"):
        with pytest.raises(BundleError, match=message):
            save(folder, **{"tflite": before[LITERT], **fields})
    assert {path.name: path.read_bytes() for path in own_bundle.iterdir()} == before
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", [*bundles.MODEL_FILES, GOLDEN])
def test_what_is_no_regular_file_is_refused_in_one_line(own_bundle, name):
    (own_bundle / name).unlink()
    os.mkfifo(own_bundle / name)
    with pytest.raises(BundleError, match=f"{name}: it is a FIFO, expected a regular file"):
        bundles.load(own_bundle)
    (own_bundle / name).unlink()
    (own_bundle / name).symlink_to("/dev/zero")
    with pytest.raises(BundleError, match=f"{name}: it is a device, expected a regular file"):
        bundles.load(own_bundle)


@pytest.mark.parametrize(("name", "limit"), [("bundle.json", 2**25), (GOLDEN, 2**24), (LITERT, 2**28)])
def test_a_file_of_any_size_is_refused_before_it_is_read(own_bundle, name, limit):
    with (own_bundle / name).open("r+b") as file:
        file.truncate(2**40)
    with pytest.raises(BundleError, match=f"{name}: it has {2**40} bytes, expected at most {limit}"):
        bundles.load(own_bundle)


@pytest.mark.parametrize("field", ["labels", "placement", "signal", "smoothing", "files", "familiar", "covers"])
def test_lists_of_any_depth_are_refused_in_one_line(own_bundle, field):
    path = own_bundle / "bundle.json"
    edit(own_bundle, lambda data: data.update({field: "DEEP"}))
    text = path.read_text()
    for depth in [*range(20, 1000, 35), 10_000]:  # the deepest are too deep for the parser, others to be shown
        path.write_text(text.replace('"DEEP"', "[" * depth + "]" * depth))
        with pytest.raises(BundleError) as caught:
            bundles.load(own_bundle)
        assert len(str(caught.value)) < 1000
        assert "\n" not in str(caught.value)


def test_an_error_shows_only_the_begin_of_what_is_very_long(own_bundle):
    text = (own_bundle / "bundle.json").read_text()
    for field, value in {"labels": ["A"] * 100_000, "version": 7 * 10**4000, "orientation": "up" * 10**6}.items():
        (own_bundle / "bundle.json").write_text(json.dumps({**json.loads(text), field: value}))
        with pytest.raises(BundleError, match=field) as caught:
            bundles.load(own_bundle)
        assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda d: d.update(schema=3), ["schema", "3", "1 and 2"]),
        (lambda d: d.update(schema=True), ["schema", "True", "1 and 2"]),
        (lambda d: d.update(schema=2.0), ["schema", "2.0", "1 and 2"]),
        (lambda d: d.pop("schema"), ["schema", "None", "1"]),
        (lambda d: d.pop("labels"), ["'labels' is missing"]),
        (lambda d: d.pop("signal"), ["'signal' is missing"]),
        (lambda d: d.update(name=7), ["name", "7"]),
        (lambda d: d.update(name="\ud800"), ["name", r"\ud800", "surrogate"]),
        (lambda d: d.update(version="1\n2"), ["version", r"1\n2", "control character"]),
        (lambda d: d["labels"].__setitem__(0, "\x1b[0m"), ["labels", r"\x1b", "control character"]),
        (lambda d: d.update(covers={"\udfff": []}), ["covers", "labels", r"\udfff"]),
        (lambda d: d.update(version=""), ["version", "''"]),
        (lambda d: d.update(labels="WALKING"), ["labels"]),
        (lambda d: d.update(labels=["A"]), ["labels", "two"]),
        (lambda d: d.update(labels=["A", "A"]), ["labels", "different"]),
        (lambda d: d.update(labels=["A", 1]), ["labels", "texts"]),
        (lambda d: d.update(labels=["A", "UNKNOWN"]), ["labels", "UNKNOWN"]),
        (lambda d: d.update(labels=["A", ""]), ["labels", "not empty"]),
        (lambda d: d.update(states="SIT_TO_STAND"), ["states", "'SIT_TO_STAND'"]),
        (lambda d: d.update(states=["A", "A"]), ["states", "different"]),
        (lambda d: d.update(states=["UNKNOWN"]), ["states", "UNKNOWN"]),
        (lambda d: d.update(states=["SITTING"]), ["labels and states", "different", "SITTING"]),
        (lambda d: d.update(sensors=["acc"]), ["sensors", "['acc']", "['acc', 'gyro']"]),
        (lambda d: d.update(sensors="acc"), ["sensors", "'acc'", "['acc', 'gyro']"]),
        (lambda d: d.update(placement=None), ["placement", "one line", "None"]),
        (lambda d: d.update(placement="waist\nwrist"), ["placement", "one line", "wrist"]),
        (lambda d: d.update(placement="waist\n"), ["placement", "one line", "waist"]),
        (lambda d: d.update(placement="\x1b[31mwaist"), ["placement", "printable", "waist"]),
        (lambda d: d.update(orientation="upright"), ["orientation", "'upright'", "fixed, any"]),
        (lambda d: d.update(familiar=[1]), ["familiar", "[1]"]),
        (lambda d: d.update(familiar={}), ["familiar", "means"]),
        (lambda d: d.update(familiar={**FAMILIAR, "means": [[1.0], [1.0, 2.0]]}), ["familiar.means", "[1, 2]"]),
        (lambda d: d.update(familiar={**FAMILIAR, "whitening": [[1.0, 2.0]]}), ["familiar.whitening", "(1, 2)"]),
        (lambda d: d.update(familiar={**FAMILIAR, "max_energy": "low"}), ["familiar.max_energy", "low"]),
        (lambda d: d.update(familiar={**FAMILIAR, "max_energy": 10**400}), ["familiar.max_energy", "finite", "401"]),
        (lambda d: d.update(familiar={**FAMILIAR, "means": [[0.0, 0.0]] * 9}), ["familiar.means", "rows", "6"]),
        (lambda d: d.update(temperature=0), ["temperature", "0", "0.01", "100"]),
        (lambda d: d.update(temperature=float("nan")), ["temperature", "nan"]),
        (lambda d: d.update(temperature="1"), ["temperature", "'1'"]),
        (lambda d: d.update(temperature=True), ["temperature", "True"]),
        (lambda d: d.update(training=[]), ["training", "[]"]),
        (lambda d: d.update(smoothing="hmm"), ["smoothing", "'hmm'"]),
        (lambda d: d.update(smoothing={"type": "hmm", "trust": 2}), ["smoothing.trust", "2", "1.0"]),
        (
            lambda d: d.update(smoothing={"type": "hmm", "transitions": [[0.5, 0.5], [0.5, 0.5]]}),
            ["smoothing.transitions", "2", "6"],
        ),
        (lambda d: d.update(covers=["WALKING"]), ["covers", "['WALKING']"]),
        (lambda d: d.update(covers={"WALKING": "HIKING"}), ["covers", "WALKING", "'HIKING'"]),
        (lambda d: d.update(covers={"HIKING": []}), ["covers", "'HIKING'", "WALKING, "]),
        (lambda d: d.update(covers={"WALKING": ["SITTING"]}), ["covers", "'WALKING'", "'SITTING'"]),
        (
            lambda d: d.update(
                states=["STAND_TO_SIT"], smoothing={"type": "hmm", "transitions": [[1 / 6] * 6] * 6}
            ),
            ["smoothing.transitions", "6 rows for 6 labels and 1 states"],
        ),
        (lambda d: d.update(files=[]), ["files", "[]"]),
        (lambda d: d["files"].clear(), ["files", "model.tflite"]),
        (lambda d: d["files"].pop(GOLDEN), ["files", "golden.npz is missing"]),
        (lambda d: d["files"].update({"model.py": {"sha256": "0"}}), ["files", "'model.py'"]),
        (lambda d: d["files"].update({"../model.tflite": {"sha256": "0"}}), ["files", "'../model.tflite'"]),
        (lambda d: d["files"].update({"/etc/passwd": {"sha256": "0"}}), ["files", "'/etc/passwd'"]),
        (lambda d: d["files"].update({LITERT: {}}), ["files", LITERT, "sha256"]),
        (lambda d: d["files"].update({LITERT: "abc"}), ["files", LITERT, "an object", "'abc'"]),
        (lambda d: d["files"].update({LITERT: {"sha256": "abc"}}), [LITERT, "sha256 is ", "has abc"]),
        (lambda d: d["signal"].update(stride_samples=129), ["signal", "stride_samples", "129", "128"]),
        (lambda d: d["signal"].update(sample_rate_hz=0), ["signal", "sample_rate_hz", "0", "1.0"]),
        (lambda d: d["signal"].update(sample_rate_hz="50"), ["signal", "sample_rate_hz", "'50'"]),
        (lambda d: d["signal"].update(channels=["acc_x"]), ["signal", "channels", "'acc_x'"]),
        (lambda d: d["signal"].update(units={"acc": "m/s2"}), ["signal", "units", "m/s2", "'g'"]),
        (lambda d: d["signal"].update(overlap=0.5), ["signal", "'overlap'"]),
        (lambda d: d["signal"].update(normalisation={"mean": [0], "std": [1]}), ["normalisation.mean", "1", "9"]),
        (lambda d: d.update(signal=None), ["signal", "None"]),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_bundle_is_named_with_its_value(own_bundle, change, expected):
    edit(own_bundle, change)
    with pytest.raises(BundleError) as caught:
        bundles.load(own_bundle)
    message = str(caught.value)
    assert str(own_bundle) in message
    assert "\n" not in message
    for text in expected:
        assert text in message


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000])
def test_a_bundle_json_that_is_no_object_is_refused(own_bundle, text):
    (own_bundle / "bundle.json").write_bytes(text)
    with pytest.raises(BundleError, match=r"bundle\.json"):
        bundles.load(own_bundle)


@pytest.mark.parametrize("name", ["bundle.json", KERAS, LITERT, INT8, GOLDEN])
def test_a_missing_file_is_named(own_bundle, name):
    (own_bundle / name).unlink()
    with pytest.raises(BundleError, match=f"{name}: No such file"):
        bundles.load(own_bundle)


@pytest.mark.parametrize("name", [KERAS, LITERT, INT8, GOLDEN])
def test_a_changed_file_is_refused_with_both_hashes(own_bundle, name):
    before = hashlib.sha256((own_bundle / name).read_bytes()).hexdigest()
    content = (own_bundle / name).read_bytes()[:-1] + b"?"
    (own_bundle / name).write_bytes(content)
    with pytest.raises(BundleError) as caught:
        bundles.load(own_bundle)
    assert f"sha256 is {hashlib.sha256(content).hexdigest()}, but bundle.json has {before}" in str(caught.value)


def test_a_file_changed_after_loading_is_not_served(own_bundle):
    loaded = bundles.load(own_bundle)
    (own_bundle / LITERT).write_bytes(b"something else")
    with pytest.raises(BundleError, match="sha256"):
        open_classifier(loaded)


def test_the_input_of_the_network_must_fit_the_signal_section(own_bundle):
    edit(own_bundle, lambda d: d["signal"].update(window_samples=64, stride_samples=32))
    for backend in ("litert", "int8", "tensorflow"):
        with pytest.raises(BundleError, match=r"input is \(128, 9\), but windows of bundle.json are \(64, 9\)"):
            open_classifier(bundles.load(own_bundle), backend)


def test_the_network_must_have_an_output_for_each_label(own_bundle):
    edit(own_bundle, lambda d: d["labels"].pop())
    for backend in ("litert", "int8", "tensorflow"):
        with pytest.raises(BundleError, match=r"6 outputs, but bundle\.json has 5 labels"):
            open_classifier(bundles.load(own_bundle), backend)
    edit(own_bundle, lambda d: d.update(states=["STAND_TO_SIT", "SIT_TO_STAND"]))
    with pytest.raises(BundleError, match=r"6 outputs, but bundle\.json has 5 labels, 2 states, no features"):
        open_classifier(bundles.load(own_bundle))


@pytest.mark.parametrize(("name", "backend"), [(LITERT, "litert"), (INT8, "int8"), (KERAS, "tensorflow")])
@pytest.mark.parametrize(
    "content",
    [b"", b"not a model", b"PK\x03\x04" + bytes(100), pickle.dumps(print)],
    ids=["empty", "text", "zip", "pickle"],
)
def test_a_file_that_is_no_model_is_refused(own_bundle, name, backend, content):
    replace_file(own_bundle, name, content)
    with pytest.raises(BundleError, match=f"{name}: the {backend} backend cannot load it"):
        open_classifier(bundles.load(own_bundle), backend)


def test_a_keras_file_that_would_run_code_is_refused(own_bundle, tmp_path):
    keras = pytest.importorskip("keras")
    witness = tmp_path / "witness"
    inputs = keras.Input((SPEC.window_samples, SPEC.n_channels))
    code = f"lambda x: (open({str(witness)!r}, 'w'), x)[1]"
    x = keras.layers.Lambda(eval(code))(inputs)
    model = keras.Model(inputs, keras.layers.Dense(6)(keras.layers.Flatten()(x)))
    model.save(tmp_path / "evil.keras")
    witness.unlink(missing_ok=True)
    replace_file(own_bundle, KERAS, (tmp_path / "evil.keras").read_bytes())
    with pytest.raises(BundleError, match=f"{KERAS}: the tensorflow backend cannot load it"):
        open_classifier(bundles.load(own_bundle), "tensorflow")
    assert not witness.exists()


class Witness:
    """An object that creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_a_golden_file_with_a_pickle_is_refused(own_bundle, tmp_path):
    buffer = io.BytesIO()
    evil = np.array([Witness(tmp_path / "witness")], object)
    np.savez(buffer, rate_hz=np.array([50.0]), stream_0=evil, windows=evil, probabilities=evil)
    replace_file(own_bundle, GOLDEN, buffer.getvalue())
    with pytest.raises(BundleError, match=r"golden\.npz: not a golden file"):
        load_classifier(own_bundle)
    assert not (tmp_path / "witness").exists()


def test_a_model_is_found_by_folder_or_else_the_shipped_ones_are_named(own_bundle, monkeypatch):
    assert shipped.find(str(own_bundle)) == own_bundle
    monkeypatch.setattr(shipped, "folders", lambda: [Path("/x/waist"), Path("/x/wrist")])
    assert shipped.find("wrist") == Path("/x/wrist")
    with pytest.raises(BundleError, match=r"'ankle'.*waist, wrist"):
        shipped.find("ankle")
    monkeypatch.setattr(shipped, "folders", list)
    with pytest.raises(BundleError, match="none is installed"):
        shipped.find("ankle")


SHIPPED = shipped.folders()


def test_the_default_bundle_is_shipped():
    assert SHIPPED[0].name == shipped.DEFAULT_MODEL


@pytest.mark.parametrize("backend", ["litert", "int8", "tensorflow"])
@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_a_shipped_bundle_loads_and_its_golden_streams_agree(path, backend):
    classifier = load_classifier(path, backend)
    assert classifier.backend == backend
    assert classifier.bundle.name == path.name
    assert (path / "README.md").stat().st_size > 200


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_a_shipped_bundle_holds_its_provenance_and_nothing_else(path):
    loaded = bundles.load(path)
    assert {file.name for file in path.iterdir()} == {*loaded.files, "bundle.json", "README.md"}
    assert set(loaded.files) == {*bundles.MODEL_FILES, GOLDEN}
    assert {"data", "subjects", "seed"} <= set(loaded.training)


def test_a_bundle_error_is_a_harstream_error():
    assert issubclass(BundleError, HarstreamError)
