"""Golden streams: synthetic signals, kept in a bundle with the windows, probabilities and features they gave.

They are the bundle's self-test and warm-up. A difference between the program that sealed the bundle and the one that
serves it shows in them: another filter, another rounding, another build of a backend.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from harstream import bundle as bundles
from harstream import storage
from harstream.bundle import Bundle
from harstream.core.batches import Float32, Predictions, SampleBatch
from harstream.core.engine import Engine
from harstream.core.spec import SignalSpec
from harstream.errors import BundleError, one_line

WINDOW_TOLERANCE = 1e-5  # g, rad/s
PROBABILITY_TOLERANCE = 1e-4
#: Root mean square of the difference of features, relative to that of the expected ones. Features of int8 are rounded,
#: and those beyond its range are cut off there; this finds ones that have nothing to do with the network.
FEATURE_TOLERANCE, INT8_FEATURE_TOLERANCE = 1e-3, 0.5
#: int8 must give the same label wherever the two largest expected probabilities differ by more than this.
INT8_MARGIN = 0.1
N_STREAMS = 4
_MAX_CANDIDATES = 24  # streams tried until N_STREAMS are found on which int8 agrees
_WINDOWS_PER_STREAM = 3
#: Limit of the size of its arrays together; a signal with the longest window and all channels needs 5 MB.
_MAX_ARRAY_BYTES = 2**24
_RESTORE = "restore the bundle's files, or train it again"


class Predictor(Protocol):
    """The part of ``classifier.Classifier`` that golden streams test."""

    bundle: Bundle
    backend: str

    def predict_with_features(self, windows: Float32) -> tuple[Predictions, Float32]:
        """Return predictions and features (n_windows, n_features) of windows in g and rad/s."""
        ...


@dataclass(frozen=True, slots=True)
class Golden:
    """The content of golden.npz."""

    rate_hz: tuple[float, ...]  # (n_streams,) sampling rate of each stream
    streams: tuple[Float32, ...]  # (n_samples, 6) each, acc in g and gyro in rad/s
    windows: Float32  # (n_windows, window_samples, n_channels) of all streams, in their order
    probabilities: Float32  # (n_windows, n_outputs) expected of the network
    features: Float32  # (n_windows, n_features) expected of the network
    # Of the bundle, when it was sealed:
    labels: tuple[str, ...]
    states: tuple[str, ...]
    signal: dict[str, Any]
    familiar: str  # ``Familiar.digest``, or empty

    @property
    def parts(self) -> list[tuple[float, Float32]]:
        """The sampling rate and the samples of each stream."""
        return list(zip(self.rate_hz, self.streams, strict=True))

    def to_bytes(self) -> bytes:
        """Return the content of golden.npz."""
        arrays: dict[str, npt.NDArray[Any]] = {"rate_hz": np.array(self.rate_hz)}
        arrays |= {f"stream_{i}": stream for i, stream in enumerate(self.streams)}
        arrays |= {"windows": self.windows, "probabilities": self.probabilities, "labels": np.array(self.labels)}
        if self.states:
            arrays["states"] = np.array(self.states)
        if self.familiar:
            arrays["features"] = self.features
        return storage.to_npz(arrays, {"signal": self.signal, "familiar": self.familiar})

    @classmethod
    def from_bytes(cls, data: bytes) -> Golden:
        """Read the content of golden.npz.

        Raises:
            ValueError: The data is no npz archive, or an array is missing, empty, or of another type or shape.

        """
        content = storage.from_npz(data, _MAX_ARRAY_BYTES)
        try:
            rate_hz = tuple(float(rate) for rate in np.asarray(content["rate_hz"]).tolist())
            streams = tuple(content[f"stream_{i}"] for i in range(len(rate_hz)))
            labels = tuple(str(label) for label in content["labels"])
            states = tuple(str(state) for state in content.get("states", ()))
            windows = content["windows"]
            golden = cls(
                rate_hz,
                streams,
                windows,
                content["probabilities"],
                content.get("features", np.zeros((len(windows), 0), np.float32)),
                labels,
                states,
                dict(content["signal"]),
                str(content.get("familiar", "")),
            )
        except KeyError as error:
            raise ValueError(f"array {error} is missing") from error
        except TypeError as error:  # a number where an array is expected
            raise ValueError(str(error)) from error
        if not all(0 < rate < math.inf for rate in rate_hz):
            raise ValueError(f"rate_hz is {rate_hz[:N_STREAMS]}, expected positive numbers")
        for i, stream in enumerate(streams):
            _check_array(f"stream_{i}", stream, ("n_samples", 6))
        _check_array("windows", golden.windows, ("n_windows", "window_samples", "n_channels"))
        _check_array("probabilities", golden.probabilities, (len(windows), "n_outputs"))
        _check_array("features", golden.features, (len(windows), "n_features"))
        if not streams or not len(golden.windows):
            raise ValueError(f"it has {len(streams)} streams and {len(golden.windows)} windows, expected at least one")
        return golden


def _check_array(name: str, array: Any, shape: tuple[int | str, ...]) -> None:
    """Raise ValueError unless the array is float32 and has the axes of ``shape``; a text there means any length."""
    got = getattr(array, "dtype", type(array).__name__), getattr(array, "shape", ())
    fits = len(got[1]) == len(shape) and all(
        isinstance(want, str) or want == length for want, length in zip(shape, got[1], strict=True)
    )
    if got[0] != np.float32 or not fits:
        raise ValueError(f"{name} is {got[0]} {got[1]}, expected float32 ({', '.join(map(str, shape))})")


def synthetic_stream(spec: SignalSpec, seed: int) -> tuple[float, Float32]:
    """Return the sampling rate and the samples (n_samples, 6) of a synthetic subject, always the same for one seed.

    Gravity has a random direction. With an odd seed the subject moves periodically, with an even one it is at rest.
    Every third stream has twice the rate of the spec, to test the resampler.
    """
    rng = np.random.default_rng(seed)
    rate_hz = spec.sample_rate_hz * (2 if seed % 3 == 2 else 1)
    seconds = (spec.window_samples + (_WINDOWS_PER_STREAM - 0.5) * spec.stride_samples) / spec.sample_rate_hz
    t = np.arange(int(seconds * rate_hz)) / rate_hz
    gravity = rng.normal(size=3)
    samples = np.zeros((len(t), 6))
    samples[:, :3] = gravity / np.linalg.norm(gravity)
    samples += rng.normal(scale=0.005, size=samples.shape)
    if seed % 2:
        cadence_hz = rng.uniform(1.4, 2.4)
        for harmonic in range(1, 5):
            scale = np.repeat([0.25, 0.4], 3) / harmonic
            phase = harmonic * cadence_hz * t[:, None] + rng.random(6)
            samples += scale * rng.normal(size=6) * np.sin(2 * np.pi * phase)
    return rate_hz, samples.astype(np.float32)


def cut_windows(spec: SignalSpec, rate_hz: float, stream: Float32) -> Float32:
    """Return the windows (n_windows, window_samples, n_channels) that the engine cuts from a stream (n_samples, 6)."""
    return Engine(spec).feed(SampleBatch.from_message("golden", stream, t_ns=0, rate_hz=rate_hz)).windows


def seal(bundle: Bundle, reference: Predictor, int8: Predictor | None = None) -> Bundle:
    """Add golden.npz to a bundle that ``bundle.save`` has just written, and return the bundle, which now can be loaded.

    Streams on which int8 disagrees with the reference are skipped. If too few of the candidates remain, quantisation
    has damaged the network: the int8 file is then removed, and ``Bundle.missing`` gives the reason.

    Args:
        bundle: The bundle to seal.
        reference: Its classifier; the probabilities it predicts become the expected ones.
        int8: The classifier of its int8 file, or None if it has no such file.

    """
    sealed: list[tuple[float, Float32, Float32, Float32, Float32]] = []  # rate, stream, windows, outputs, features
    last_disagreement = ""
    for seed in range(_MAX_CANDIDATES):
        rate_hz, stream = synthetic_stream(bundle.spec, seed)
        windows = cut_windows(bundle.spec, rate_hz, stream)
        predictions, features = reference.predict_with_features(windows)
        probabilities = predictions.probabilities
        disagreement = _disagreement(int8, windows, probabilities, features) if int8 else ""
        if disagreement:
            last_disagreement = disagreement
            continue
        sealed.append((rate_hz, stream, windows, probabilities, features))
        if len(sealed) == N_STREAMS:
            break
    else:
        reason = f"int8 agrees on only {len(sealed)} of {_MAX_CANDIDATES} golden streams: {last_disagreement}"
        return seal(bundles.drop_file(bundle, bundles.INT8, reason), reference)
    rates, streams, windows_each, probabilities_each, features_each = zip(*sealed, strict=True)
    golden = Golden(
        rates,
        streams,
        np.concatenate(windows_each),
        np.concatenate(probabilities_each),
        np.concatenate(features_each),
        bundle.labels,
        bundle.states,
        bundle.spec.to_dict(),
        _digest(bundle),
    )
    (bundle.path / bundles.GOLDEN).write_bytes(golden.to_bytes())
    return bundles.add_file(bundle, bundles.GOLDEN)


def verify(predictor: Predictor, batch_sizes: Sequence[int]) -> None:
    """Run the golden streams through this engine and this backend, and compare: the bundle's self-test.

    One batch of each of ``batch_sizes`` is predicted, which also warms the backend up.

    Raises:
        BundleError: Windows, probabilities, features, or fields of bundle.json are not those that were sealed.

    """
    bundle = predictor.bundle
    path = bundle.path / bundles.GOLDEN
    try:
        golden = Golden.from_bytes(bundle.read(bundles.GOLDEN))
    except ValueError as error:
        raise BundleError(f"{path}: not a golden file: {one_line(error)}; {_RESTORE}") from error
    try:
        with np.errstate(all="ignore"):  # numbers that are not finite are a difference like any other
            difference = _difference(predictor, golden, batch_sizes)
    except Exception as error:  # of a backend's native code, whatever it is
        raise BundleError(
            f"{path}: the {predictor.backend} backend fails on the golden streams: {type(error).__name__}: "
            f"{one_line(error)}; {_RESTORE}"
        ) from error
    if difference:
        raise BundleError(f"{path}: {difference}")
    _check_sealed_fields(bundle, golden)


def _difference(predictor: Predictor, golden: Golden, batch_sizes: Sequence[int]) -> str:
    """Describe how windows or outputs differ from the sealed ones, and the mend; an empty text means not at all."""
    spec, sealed = predictor.bundle.spec, golden.windows
    # What would take more memory than the file is not even made.
    expected = (spec.window_samples, spec.n_channels)
    if sealed.shape[1:] != expected:
        return f"windows are {expected}, sealed were {sealed.shape[1:]}; {_RESTORE}"
    n_windows = sum(_n_windows(spec, rate_hz, stream) for rate_hz, stream in golden.parts)
    if n_windows > 2 * len(sealed) + _MAX_CANDIDATES:
        return f"its streams make {n_windows:.4g} windows, sealed were {len(sealed)}; {_RESTORE}"
    windows = np.concatenate([cut_windows(spec, rate_hz, stream) for rate_hz, stream in golden.parts])
    if windows.shape != sealed.shape:
        return f"windows are {windows.shape}, sealed were {sealed.shape}; {_RESTORE}"
    difference = float(np.abs(windows - sealed).max())
    if not difference <= WINDOW_TOLERANCE:  # also if it is NaN
        return (
            f"windows differ by {difference:.2g} from the sealed ones, allowed are {WINDOW_TOLERANCE:.0e}; {_RESTORE}"
        )
    for size in batch_sizes:
        chosen = np.resize(np.arange(len(windows)), size)
        disagreement = _disagreement(predictor, windows[chosen], golden.probabilities[chosen], golden.features[chosen])
        if disagreement:
            return f"{disagreement}; choose another --backend, {_RESTORE}"
    return ""


def _n_windows(spec: SignalSpec, rate_hz: float, stream: Float32) -> float:
    """Return how many windows a stream makes, to within one or two."""
    n_samples = len(stream) * spec.sample_rate_hz / rate_hz
    return max(0.0, 1 + (n_samples - spec.window_samples) / spec.stride_samples)


def _check_sealed_fields(bundle: Bundle, golden: Golden) -> None:
    """Raise BundleError if a field differs from the sealed one, which may not show in any stream."""
    fields: list[tuple[str, Any, Any]] = [
        ("labels", list(bundle.labels), list(golden.labels)),
        ("states", list(bundle.states), list(golden.states)),
        ("the digest of familiar.means and familiar.whitening", _digest(bundle), golden.familiar),
    ]
    fields += [(f"signal: {key}", value, golden.signal.get(key)) for key, value in bundle.spec.to_dict().items()]
    for name, current, sealed in fields:
        if current != sealed:
            raise BundleError(
                f"{bundle.path / 'bundle.json'}: {name} is {current}, but it was sealed with {sealed}; {_RESTORE}"
            )


def _digest(bundle: Bundle) -> str:
    return "" if bundle.familiar is None else bundle.familiar.digest


def _disagreement(predictor: Predictor, windows: Float32, probabilities: Float32, features: Float32) -> str:
    """Describe how outputs differ from the expected ones; an empty text means that they agree."""
    predictions, got = predictor.predict_with_features(windows)
    is_int8 = predictor.backend == "int8"
    compare = _disagreement_in_labels if is_int8 else _disagreement_in_probabilities
    return compare(predictions.probabilities, probabilities) or _disagreement_in_features(
        got, features, INT8_FEATURE_TOLERANCE if is_int8 else FEATURE_TOLERANCE
    )


def _disagreement_in_probabilities(got: Float32, expected: Float32) -> str:
    if got.shape != expected.shape:
        return f"probabilities are {got.shape}, sealed were {expected.shape}"
    difference = float(np.abs(got - expected).max())
    if difference <= PROBABILITY_TOLERANCE:  # not if it is NaN
        return ""
    return f"probabilities differ by {difference:.2g} from the sealed ones, allowed are {PROBABILITY_TOLERANCE:.0e}"


def _disagreement_in_labels(got: Float32, expected: Float32) -> str:
    if got.shape != expected.shape:
        return f"probabilities are {got.shape}, sealed were {expected.shape}"
    ranked = np.sort(expected, axis=1)
    clear = ranked[:, -1] - ranked[:, -2] > INT8_MARGIN
    wrong = int((got.argmax(axis=1) != expected.argmax(axis=1))[clear].sum())
    return f"int8 gives another label in {wrong} of {int(clear.sum())} clear windows" if wrong else ""


def _disagreement_in_features(got: Float32, expected: Float32, tolerance: float) -> str:
    if got.shape != expected.shape:
        return f"features are {got.shape}, sealed were {expected.shape}"
    if not expected.size:
        return ""
    difference = float(np.linalg.norm(got - expected) / np.linalg.norm(expected))
    if difference <= tolerance:  # not if it is NaN
        return ""
    return f"features differ by {difference:.2g} of their size from the sealed ones, allowed are {tolerance:g}"
