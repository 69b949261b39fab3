"""How often does a model abstain from what it was never taught? Recordings made strange, and a phone on a table.

    python -m research.smoothing.unfamiliar --data KIND:PATH [--model NAME|DIR]

prints, by kind of signal, the part of windows that a bundle publishes as UNKNOWN. Of subjects it was trained on that
is too good: ``smoothing_study`` counts it on subjects held out.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from harstream import datasets
from harstream.bundle import DEFAULT_MODEL
from harstream.classifier import Classifier, load_classifier
from harstream.core.batches import Float32
from harstream.core.labels import UNKNOWN_INDEX
from harstream.core.smoothing import Smoothing
from harstream.datasets.base import Recording
from harstream.evaluate import published


def _as_it_is(samples: Float32, rng: np.random.Generator) -> Float32:
    return samples


def _shuffled(samples: Float32, rng: np.random.Generator) -> Float32:
    """Every second's samples (50 of them) in random order: the same values, no rhythm."""
    order = np.arange(len(samples))
    for first in range(0, len(samples), 50):
        rng.shuffle(order[first : first + 50])
    return samples[order]


def _inverted(samples: Float32, rng: np.random.Generator) -> Float32:
    """Every sign the other way: worn upside down and mirrored."""
    return -samples


def _axes_mixed(samples: Float32, rng: np.random.Generator) -> Float32:
    """x, y and z as z, x and y: a phone in another pocket."""
    return samples[:, [2, 0, 1, 5, 3, 4]]


def _on_a_table(samples: Float32, rng: np.random.Generator) -> Float32:
    """Face up and still, but for a phone sensor's noise."""
    noise = rng.normal(scale=[0.003] * 3 + [0.002] * 3, size=samples.shape)
    noise[:, 2] += 1.0
    return noise.astype(np.float32)


STRANGERS: dict[str, Callable[[Float32, np.random.Generator], Float32]] = {
    "as it is": _as_it_is,
    "shuffled": _shuffled,
    "inverted": _inverted,
    "axes mixed": _axes_mixed,
    "on a table": _on_a_table,
}


def strange(recording: Recording, kind: str, seed: int = 0) -> Recording:
    """The recording made strange in a way of STRANGERS; what is random follows from its name and the seed."""
    rng = np.random.default_rng([seed, *recording.name.encode()])
    return replace(recording, samples=STRANGERS[kind](recording.samples, rng))


def unknown_share(
    recordings: Sequence[Recording],
    classifier: Classifier,
    kind: str,
    smoothing: Smoothing | None = None,
    seed: int = 0,
) -> float:
    """The part of windows published as UNKNOWN where the recordings are made strange in a way of STRANGERS."""
    said = [
        published.label_recording(strange(recording, kind, seed), classifier, smoothing=smoothing).smoothed.label
        for recording in recordings
    ]
    return float((np.concatenate(said) == UNKNOWN_INDEX).mean())


def main() -> None:
    """Print the shares, smoothed as the bundle says and, with the same threshold, unsmoothed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", required=True)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    arguments = parser.parse_args()
    classifier, recordings = load_classifier(arguments.model), datasets.load(arguments.data)
    single = Smoothing("none", classifier.bundle.smoothing.unknown_below)
    print("| signal | UNKNOWN | of single windows |\n| --- | --- | --- |")
    for kind in STRANGERS:
        shares = [unknown_share(recordings, classifier, kind, smoothing) for smoothing in (None, single)]
        print(f"| {kind} | {100 * shares[0]:.1f} % | {100 * shares[1]:.1f} % |")


if __name__ == "__main__":
    main()
