"""Golden streams: synthetic signals with the windows and probabilities expected of them.

They are a bundle's self-test, its warm-up, and the alarm for any difference between training and
serving: another filter, another rounding, another build of a backend.
"""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from zipfile import BadZipFile

import numpy as np

from harstream import bundle as bundles
from harstream.bundle import Bundle
from harstream.core.batches import Float32, Predictions, SampleBatch
from harstream.core.engine import Engine
from harstream.core.spec import SignalSpec
from harstream.errors import BundleError

WINDOW_TOLERANCE = 1e-5  # g, rad/s
PROBABILITY_TOLERANCE = 1e-4
#: int8 must give the same class wherever the expected probabilities differ by more than this.
INT8_MARGIN = 0.1
N_STREAMS = 4
_CANDIDATES = 24
_WINDOWS_EACH = 3


class Predictor(Protocol):
    """The part of ``classifier.Classifier`` that golden streams are tested with."""

    bundle: Bundle
    backend: str

    def predict(self, windows: Float32) -> Predictions:
        """Return the label probabilities of windows in g and rad/s."""
        ...


@dataclass(frozen=True, slots=True)
class Golden:
    rate_hz: tuple[float, ...]  # of each stream
    streams: tuple[Float32, ...]  # (n_samples, 6) each
    windows: Float32  # (n_windows, window_samples, n_channels) of all streams, one after another
    probabilities: Float32  # (n_windows, n_labels)
    labels: tuple[str, ...]
    signal: dict[str, Any]  # the bundle's signal section

    def to_bytes(self) -> bytes:
        buffer = io.BytesIO()
        arrays = {f"stream_{i}": stream for i, stream in enumerate(self.streams)}
        arrays |= {"windows": self.windows, "probabilities": self.probabilities}
        arrays |= {"labels": np.array(self.labels), "signal": np.array(json.dumps(self.signal))}
        np.savez_compressed(buffer, allow_pickle=False, rate_hz=np.array(self.rate_hz), **arrays)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> Golden:
        """Raises ValueError where it is no archive of such arrays."""
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                rate_hz = tuple(float(rate) for rate in arrays["rate_hz"])
                streams = tuple(arrays[f"stream_{i}"] for i in range(len(rate_hz)))
                labels = tuple(str(label) for label in arrays["labels"])
                signal = json.loads(str(arrays["signal"]))
                golden = cls(rate_hz, streams, arrays["windows"], arrays["probabilities"], labels, signal)
        except (KeyError, TypeError, OSError, EOFError, BadZipFile, zlib.error) as error:
            raise ValueError(str(error)) from error
        if not all(rate > 0 for rate in rate_hz):
            raise ValueError(f"rate_hz is {rate_hz}")
        if not streams or not len(golden.windows):
            raise ValueError("it has no window")
        for name, array, n_axes in (
            *((f"stream_{i}", stream, 2) for i, stream in enumerate(streams)),
            ("windows", golden.windows, 3),
            ("probabilities", golden.probabilities, 2),
        ):
            if array.dtype != np.float32 or array.ndim != n_axes or (name.startswith("stream") and array.shape[1] != 6):
                raise ValueError(f"{name} is {array.dtype} {array.shape}")
        return golden


def synthetic_stream(spec: SignalSpec, seed: int) -> tuple[float, Float32]:
    """A rate, and (n_samples, 6) of a made-up subject: some direction of gravity, at rest or in periodic motion.

    Every third stream comes at twice the spec's rate, so that the resampler is tested too.
    """
    rng = np.random.default_rng(seed)
    rate_hz = spec.sample_rate_hz * (2 if seed % 3 == 2 else 1)
    seconds = (spec.window_samples + (_WINDOWS_EACH - 0.5) * spec.stride_samples) / spec.sample_rate_hz
    t = np.arange(int(seconds * rate_hz)) / rate_hz
    gravity = rng.normal(size=3)
    samples = np.zeros((len(t), 6))
    samples[:, :3] = gravity / np.linalg.norm(gravity)
    samples += rng.normal(scale=0.005, size=samples.shape)
    if seed % 2:
        cadence = rng.uniform(1.4, 2.4)
        for k in range(1, 5):
            scale = np.repeat([0.25, 0.4], 3) / k
            samples += scale * rng.normal(size=6) * np.sin(2 * np.pi * (k * cadence * t[:, None] + rng.random(6)))
    return rate_hz, samples.astype(np.float32)


def cut_windows(spec: SignalSpec, rate_hz: float, stream: Float32) -> Float32:
    """The windows the engine cuts from one stream."""
    return Engine(spec).feed(SampleBatch.from_message("golden", stream, t_ns=0, rate_hz=rate_hz)).windows


def seal(bundle: Bundle, reference: Predictor, int8: Predictor | None = None) -> Bundle:
    """Add golden.npz to a bundle that ``bundle.save`` has just written, which makes it loadable.

    Streams on which int8 disagrees with the reference are skipped. If too few of the candidates remain, quantisation
    has damaged the network: the int8 file is removed, and ``Bundle.missing`` holds the reason.

    Args:
        bundle: The bundle to add the file to.
        reference: The bundle's own classifier; its probabilities become the expected ones.
        int8: The classifier of its int8 file, or None if it has none.

    """
    kept: list[tuple[float, Float32, Float32, Float32]] = []
    complaint = ""
    for seed in range(_CANDIDATES):
        rate_hz, stream = synthetic_stream(bundle.spec, seed)
        windows = cut_windows(bundle.spec, rate_hz, stream)
        probabilities = reference.predict(windows).probabilities
        found = _difference(int8, windows, probabilities) if int8 else ""
        if not found:
            kept.append((rate_hz, stream, windows, probabilities))
        complaint = found or complaint
        if len(kept) == N_STREAMS:
            break
    else:
        damage = f"int8 holds on only {len(kept)} of {_CANDIDATES} golden streams: {complaint}"
        return seal(bundles.drop_file(bundle, bundles.INT8, damage), reference)
    rates, streams, windows_each, probabilities_each = zip(*kept, strict=True)
    golden = Golden(
        rates,
        streams,
        np.concatenate(windows_each),
        np.concatenate(probabilities_each),
        bundle.labels,
        bundle.spec.to_dict(),
    )
    (bundle.path / bundles.GOLDEN).write_bytes(golden.to_bytes())
    return bundles.add_file(bundle, bundles.GOLDEN)


def verify(classifier: Predictor, batch_sizes: Sequence[int]) -> None:
    """Run the golden streams through this engine and this backend: the bundle's self-test.

    Every one of ``batch_sizes`` is predicted once, which also warms the backend up.

    Raises:
        BundleError: Windows, probabilities, labels or signal section are not the sealed ones.

    """
    bundle = classifier.bundle
    where = bundle.path / bundles.GOLDEN
    try:
        golden = Golden.from_bytes(bundle.read(bundles.GOLDEN))
    except ValueError as error:
        raise BundleError(f"{where}: not a golden file: {error}") from error
    parts = [
        cut_windows(bundle.spec, rate, stream) for rate, stream in zip(golden.rate_hz, golden.streams, strict=True)
    ]
    windows = np.concatenate(parts)
    if windows.shape != golden.windows.shape:
        raise BundleError(f"{where}: windows are {windows.shape}, expected {golden.windows.shape}")
    difference = float(np.abs(windows - golden.windows).max())
    if not difference <= WINDOW_TOLERANCE:
        raise BundleError(f"{where}: windows differ by {difference:.2g}, allowed are {WINDOW_TOLERANCE:.0e}")
    for size in batch_sizes:
        repeated = np.resize(np.arange(len(windows)), size)
        complaint = _difference(classifier, windows[repeated], golden.probabilities[repeated])
        if complaint:
            raise BundleError(f"{where}: {complaint}")
    # What no stream shows: what the outputs are called, and what happens in a gap.
    signal = bundle.spec.to_dict()
    for name, here, sealed in (
        ("labels", list(bundle.labels), list(golden.labels)),
        *((f"signal: {name}", value, golden.signal.get(name)) for name, value in signal.items()),
    ):
        if here != sealed:
            raise BundleError(f"{bundle.path / 'bundle.json'}: {name}: {here} now, {sealed} when it was sealed")


def _difference(classifier: Predictor, windows: Float32, expected: Float32) -> str:
    """What is wrong with a backend's probabilities, or nothing."""
    probabilities = classifier.predict(windows).probabilities
    if probabilities.shape != expected.shape:
        return f"probabilities are {probabilities.shape}, expected {expected.shape}"
    if classifier.backend != "int8":
        difference = float(np.abs(probabilities - expected).max())
        allowed = PROBABILITY_TOLERANCE
        return "" if difference <= allowed else f"probabilities differ by {difference:.2g}, allowed are {allowed:.0e}"
    ranked = np.sort(expected, axis=1)
    clear = ranked[:, -1] - ranked[:, -2] > INT8_MARGIN
    wrong = int((probabilities.argmax(axis=1) != expected.argmax(axis=1))[clear].sum())
    return f"int8 gives another class in {wrong} of {int(clear.sum())} clear windows" if wrong else ""
