"""Share of UNKNOWN for unfamiliar signals: altered recordings, and a phone on a table.

    python -m research.smoothing.unfamiliar --data KIND:PATH --model NAME|DIR

prints, for each kind of signal, the share of windows that a bundle publishes as UNKNOWN. For subjects that the bundle
was trained on, the share is too optimistic: ``research.smoothing.study`` measures it for held-out subjects.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from harstream import datasets
from harstream.classifier import Classifier, load_classifier
from harstream.core.batches import Float32
from harstream.core.labels import UNKNOWN_INDEX
from harstream.core.smoothing_section import Smoothing
from harstream.datasets.base import Recording
from harstream.evaluate import published
from research.command import command

#: Kind of the recording without any change.
UNALTERED = "as it is"
#: Samples that ``shuffled`` permutes among each other: a second at 50 Hz.
_SHUFFLED_SAMPLES = 50


def _unaltered(samples: Float32, rng: np.random.Generator) -> Float32:
    return samples


def _shuffled(samples: Float32, rng: np.random.Generator) -> Float32:
    """Put the samples of each second in random order: the values stay, the rhythm is lost."""
    order = np.arange(len(samples))
    for first in range(0, len(samples), _SHUFFLED_SAMPLES):
        rng.shuffle(order[first : first + _SHUFFLED_SAMPLES])
    return samples[order]


def _inverted(samples: Float32, rng: np.random.Generator) -> Float32:
    """Change the sign of all channels: a device upside down and mirrored."""
    return -samples


def _axes_mixed(samples: Float32, rng: np.random.Generator) -> Float32:
    """Replace the axes x, y, z by z, x, y: a phone in another pocket."""
    return samples[:, [2, 0, 1, 5, 3, 4]]


def _on_a_table(samples: Float32, rng: np.random.Generator) -> Float32:
    """Replace the samples by gravity along z and the noise of a phone's sensor."""
    noise = rng.normal(scale=[0.003] * 3 + [0.002] * 3, size=samples.shape)
    noise[:, 2] += 1.0
    return noise.astype(np.float32)


#: Kind of signal -> function that makes it from the samples (n_samples, 6) of a recording.
ALTERATIONS: dict[str, Callable[[Float32, np.random.Generator], Float32]] = {
    UNALTERED: _unaltered,
    "shuffled": _shuffled,
    "inverted": _inverted,
    "axes mixed": _axes_mixed,
    "on a table": _on_a_table,
}


def alter(recording: Recording, kind: str, seed: int = 0) -> Recording:
    """Return the recording altered to a kind of ALTERATIONS; random numbers follow from its name and the seed."""
    rng = np.random.default_rng([seed, *recording.name.encode()])
    return replace(recording, samples=ALTERATIONS[kind](recording.samples, rng))


def unknown_share(
    recordings: Sequence[Recording],
    classifier: Classifier,
    kind: str,
    smoothing: Smoothing | None = None,
    seed: int = 0,
) -> float:
    """Return the share of windows published as UNKNOWN when the recordings are altered to a kind of ALTERATIONS.

    ``smoothing`` replaces that of the bundle.
    """
    labels = [
        published.label_recording(alter(recording, kind, seed), classifier, smoothing=smoothing).smoothed.label
        for recording in recordings
    ]
    return float((np.concatenate(labels) == UNKNOWN_INDEX).mean())


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m research.smoothing.unfamiliar",
        description="Print the share of windows published as UNKNOWN for each kind of unfamiliar signal: smoothed as "
        "the bundle says and, with the same threshold, for single windows.",
    )
    parser.add_argument("--data", required=True, metavar="KIND:PATH", help="recordings, such as hapt:hapt.zip")
    parser.add_argument("--model", required=True, metavar="NAME|DIR", help="name or folder of a bundle")
    chosen = parser.parse_args(arguments)
    classifier, recordings = load_classifier(chosen.model), datasets.load(chosen.data)
    single = Smoothing("none", classifier.bundle.smoothing.unknown_below)
    print("| signal | UNKNOWN | of single windows |\n| --- | --- | --- |")
    for kind in ALTERATIONS:
        shares = [unknown_share(recordings, classifier, kind, smoothing) for smoothing in (None, single)]
        print(f"| {kind} | {100 * shares[0]:.1f} % | {100 * shares[1]:.1f} % |")


if __name__ == "__main__":
    sys.exit(main())
