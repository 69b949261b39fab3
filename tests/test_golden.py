"""Golden streams reveal every difference between training and serving."""

from __future__ import annotations

import io
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest

from harstream import bundle as bundles
from harstream import golden, shipped
from harstream.bundle import GOLDEN, INT8
from harstream.classifier import BATCH_SIZES, Classifier, load_classifier, open_classifier
from harstream.core.familiar import Familiar, Limits
from harstream.errors import BundleError

from .constants import SPEC, STATES
from .fakes import FunctionNetwork
from .test_bundle import edit, replace_file


def rewrite(folder, **changes):
    """Change arrays of golden.npz, or remove those whose change is None, and enter the new hash."""
    with np.load(folder / GOLDEN) as file:
        arrays = dict(file)
    for name, change in changes.items():
        if change is None:
            del arrays[name]
        else:
            arrays[name] = change(arrays[name])
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    replace_file(folder, GOLDEN, buffer.getvalue())


def nudged(by):
    def change(array):
        array = array.copy()
        array.flat[array.size // 2] += by
        return array

    return change


@pytest.mark.parametrize("backend", ["litert", "int8", "tensorflow"])
def test_a_sound_bundle_passes_on_every_backend(random_bundle, backend):
    assert load_classifier(random_bundle, backend).backend == backend


@pytest.mark.parametrize("path", shipped.folders(), ids=lambda path: path.name)
def test_streams_and_expectations_survive_the_file(path):
    read = golden.Golden.from_bytes((path / GOLDEN).read_bytes())
    assert len(read.streams) == len(read.rate_hz) == golden.N_STREAMS
    again = golden.Golden.from_bytes(read.to_bytes())
    assert (again.rate_hz, again.labels, again.signal) == (read.rate_hz, read.labels, read.signal)
    np.testing.assert_array_equal(again.windows, read.windows)
    np.testing.assert_array_equal(again.probabilities, read.probabilities)
    for one, other in zip(again.streams, read.streams, strict=True):
        np.testing.assert_array_equal(one, other)


def test_some_streams_have_twice_the_rate_to_test_the_resampler(random_bundle):
    read = golden.Golden.from_bytes((random_bundle / GOLDEN).read_bytes())
    assert set(read.rate_hz) == {50.0, 100.0}


def test_a_seed_always_gives_the_same_stream():
    for seed in range(4):
        rate, stream = golden.synthetic_stream(SPEC, seed)
        assert (rate, stream.tobytes()) == (
            golden.synthetic_stream(SPEC, seed)[0],
            golden.synthetic_stream(SPEC, seed)[1].tobytes(),
        )
        assert len(golden.cut_windows(SPEC, rate, stream)) == 3


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"windows": nudged(1e-3)}, r"windows differ by 0\.001 from the sealed ones, allowed are 1e-05"),
        ({"windows": nudged(np.nan)}, "windows differ by nan"),
        (
            {name: lambda array: array[1:] for name in ("windows", "probabilities")},
            r"windows are \(12, 128, 9\), sealed were \(11, 128, 9\)",
        ),
        (
            {"windows": lambda array: array[1:]},
            r"probabilities is float32 \(12, 6\), expected float32 \(11, n_outputs\)",
        ),
        ({"stream_1": nudged(1.0)}, "windows differ by"),
        (
            {"stream_1": lambda array: array[:, :5]},
            r"stream_1 is float32 \(\d+, 5\), expected float32 \(n_samples, 6\)",
        ),
        ({"stream_1": lambda array: array[0]}, "not a golden file"),
        ({"stream_1": lambda array: array.astype("U8")}, "not a golden file"),
        ({"stream_1": None}, "not a golden file: array 'stream_1' is missing"),
        ({"rate_hz": lambda array: array[:0]}, "not a golden file"),
        ({"rate_hz": lambda array: array * np.nan}, "not a golden file"),
        ({"rate_hz": lambda array: array + np.inf}, r"not a golden file: rate_hz is \(inf, .*, expected positive"),
        ({"rate_hz": lambda array: array[:, None]}, "not a golden file"),
        ({"rate_hz": lambda array: array.astype(complex)}, "not a golden file"),
        ({"rate_hz": lambda array: array * 1e-300}, r"its streams make .*e\+30\d windows, sealed were 12"),
        ({"rate_hz": lambda array: np.full_like(array, 6.3)}, r"its streams make \d+(.\d)? windows, sealed were 12"),
        ({"windows": lambda array: array.astype(object)}, "not a golden file: windows is no array of"),
        ({"windows": lambda array: array.astype(">f4")}, "not a golden file: windows is >f4"),
        ({"windows": lambda array: array[:, :5]}, r"windows are \(128, 9\), sealed were \(5, 9\)"),
        ({"windows": lambda array: array.astype("U8")}, "not a golden file"),
        ({"windows": None}, "not a golden file"),
        (
            {name: lambda array: array[:0] for name in ("rate_hz", "windows", "probabilities")},
            "not a golden file: it has 0 streams and 0 windows, expected at least one",
        ),
        ({"probabilities": nudged(1e-2)}, r"probabilities differ by 0\.01 from the sealed ones, allowed are 1e-04"),
        ({"probabilities": nudged(np.nan)}, "probabilities differ by nan"),
        ({"probabilities": lambda array: array[:, 1:]}, r"probabilities are \(32, 6\), sealed were \(32, 5\)"),
    ],
)
def test_a_tampered_golden_file_is_refused(own_bundle, changes, expected):
    rewrite(own_bundle, **changes)
    with pytest.raises(BundleError, match=expected):
        load_classifier(own_bundle)


def test_a_golden_file_that_unpacks_to_very_much_is_refused(own_bundle):
    rewrite(own_bundle, windows=lambda array: np.zeros((10_000, 128, 9), array.dtype))
    assert (own_bundle / GOLDEN).stat().st_size < 2**17
    with pytest.raises(
        BundleError, match=r"golden\.npz: not a golden file: its arrays have 46\d+ bytes, expected at most"
    ):
        load_classifier(own_bundle)


def test_whatever_a_backend_raises_the_bundle_is_refused(random_bundle):
    def fail(inputs):
        raise RuntimeError("Node number 2 (CONV_2D)\nfailed to invoke.")

    classifier = Classifier(bundles.load(random_bundle), "litert", FunctionNetwork(fail))
    with pytest.raises(BundleError) as caught:
        golden.verify(classifier, BATCH_SIZES)
    assert str(caught.value) == (
        f"{random_bundle / GOLDEN}: the litert backend fails on the golden streams: RuntimeError: Node number 2 "
        "(CONV_2D) failed to invoke.; restore the bundle's files, or train it again"
    )


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04" + bytes(60)], ids=["empty", "text", "zip"])
def test_a_golden_file_that_is_no_archive_is_refused(own_bundle, content):
    replace_file(own_bundle, GOLDEN, content)
    with pytest.raises(BundleError, match="not a golden file"):
        load_classifier(own_bundle)


def test_a_golden_file_that_is_a_bare_array_or_cut_off_is_refused(own_bundle):
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3))
    for content in (buffer.getvalue(), (own_bundle / GOLDEN).read_bytes()[:-200]):
        replace_file(own_bundle, GOLDEN, content)
        with pytest.raises(BundleError, match="not a golden file"):
            load_classifier(own_bundle)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda d: d["signal"]["noise_filter"].update(size=5), "windows differ by"),
        (lambda d: d["signal"]["gravity_filter"].update(cutoff_hz=0.5), "windows differ by"),
        (lambda d: d["signal"]["channels"].reverse(), "windows differ by"),
        (lambda d: d["signal"].update(sample_rate_hz=40), "windows"),
        (lambda d: d["signal"].update(stride_samples=32), "windows are"),
        (lambda d: d["signal"]["normalisation"]["std"].__setitem__(0, 5.0), "probabilities differ by"),
        (lambda d: d.update(temperature=2), "probabilities differ by"),
        (lambda d: d["signal"].update(max_gap_s=5), r"signal: max_gap_s is 5\.?0?, but it was sealed with 0\.5"),
        (lambda d: d["labels"].__setitem__(5, "FLYING"), "labels is .*FLYING.*, but it was sealed with .*LAYING"),
        (lambda d: d["labels"].reverse(), "labels is .*, but it was sealed with .*"),
    ],
)
def test_any_change_of_the_signal_after_training_is_noticed(own_bundle, change, expected):
    edit(own_bundle, change)
    with pytest.raises(BundleError, match=expected):
        load_classifier(own_bundle)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["states"].reverse(),
        lambda d: d["labels"].append(d["states"].pop(0)),  # the same outputs
        lambda d: d.update(labels=[*d["labels"], *d.pop("states")]),
    ],
)
def test_a_change_of_the_states_is_noticed(states_bundle, tmp_path, change):
    folder = shutil.copytree(states_bundle, tmp_path / "own")
    assert load_classifier(folder).bundle.states == STATES
    edit(folder, change)
    with pytest.raises(BundleError, match=r"(labels|states) is .*, but it was sealed with .*"):
        load_classifier(folder)


def test_labels_in_another_order_of_the_network_are_noticed(own_bundle, classifier):
    swapped = FunctionNetwork(lambda inputs: classifier._network(inputs)[:, ::-1])

    for backend in ("litert", "int8"):
        with pytest.raises(BundleError, match=r"probabilities differ by|int8 gives another label in \d+ of \d+ clear"):
            golden.verify(Classifier(bundles.load(own_bundle), backend, swapped), BATCH_SIZES)


@pytest.fixture
def knowing(own_bundle, classifier):
    """Return a function that makes a classifier with three features, those of ``function`` of normalised windows."""

    def make(function, backend="litert"):
        familiar = Familiar(np.zeros((6, 3)), np.eye(3), Limits(9.0, 0.0))
        changed = replace(classifier.bundle, path=own_bundle, familiar=familiar)

        def outputs(inputs):
            return np.concatenate([classifier._network(inputs), function(inputs).astype(np.float32)], axis=1)

        return Classifier(changed, backend, FunctionNetwork(outputs))

    return make


def features(inputs):
    return inputs.mean(axis=1)[:, :3] + 1


def test_features_that_are_not_those_that_were_sealed_are_noticed(own_bundle, knowing):
    sound = knowing(features)
    sealed = golden.seal(sound.bundle, sound)
    for backend in ("litert", "int8"):
        golden.verify(Classifier(sealed, backend, sound._network), [32])
        for other in (lambda x: 1e6 * features(x), lambda x: np.nan * features(x), lambda x: 0 * features(x)):
            with pytest.raises(BundleError, match=r"features differ by .* from the sealed ones, allowed are"):
                golden.verify(Classifier(sealed, backend, knowing(other)._network), [32])


def test_int8_with_useless_features_is_left_out_of_the_bundle(own_bundle, knowing):
    useless = knowing(lambda x: 0 * features(x), "int8")
    assert INT8 in useless.bundle.files
    sealed = golden.seal(useless.bundle, knowing(features), useless)
    assert INT8 not in sealed.files
    assert "features differ by 1 of their size" in sealed.missing[INT8]


def test_a_change_of_what_is_familiar_is_noticed_but_limits_may_be_set(own_bundle, knowing):
    sound = knowing(features)
    golden.seal(sound.bundle, sound)
    sealed = bundles.load(own_bundle)
    assert sealed.familiar is not None
    golden.verify(Classifier(sealed, "litert", sound._network), [32])
    wider = replace(sealed, familiar=replace(sealed.familiar, limits=Limits(1e9, 0.0)))
    golden.verify(Classifier(wider, "litert", sound._network), [32])
    moved = replace(sealed, familiar=replace(sealed.familiar, means=np.ones((6, 3))))
    with pytest.raises(BundleError, match=r"digest of familiar.means and familiar.whitening is .*, but it was sealed"):
        golden.verify(Classifier(moved, "litert", sound._network), [32])


def test_verifying_runs_every_batch_size_once_as_warm_up(bundle, classifier):
    sizes: list[int] = []

    def counted(inputs):
        sizes.append(len(inputs))
        return classifier._network(inputs)

    golden.verify(Classifier(bundle, "litert", FunctionNetwork(counted)), BATCH_SIZES)
    assert sizes == list(BATCH_SIZES)


def test_a_bundle_whose_int8_file_disagrees_is_sealed_without_it_and_has_the_reason(own_bundle, monkeypatch):
    def disagreeing(inputs):
        return np.roll(np.eye(6, dtype=np.float32)[np.arange(len(inputs)) % 6] * 50, 1, axis=1)

    bundle = bundles.load(own_bundle)
    monkeypatch.setattr(golden, "INT8_MARGIN", 0.0)
    sealed = golden.seal(bundle, open_classifier(bundle), Classifier(bundle, "int8", FunctionNetwork(disagreeing)))
    reason = r"int8 agrees on only \d of 24 golden streams: int8 gives another label in \d of 3 clear windows"
    assert re.fullmatch(reason, sealed.missing[INT8])
    assert not (own_bundle / INT8).exists()
    monkeypatch.undo()
    assert load_classifier(own_bundle).backend == "litert"
    with pytest.raises(
        BundleError, match=rf"{INT8} is missing \(int8 agrees on only .*; choose another --backend: litert, tensorflow"
    ):
        load_classifier(own_bundle, "int8")
