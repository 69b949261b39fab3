"""Agreement of a model's labels with the true labels of simulated wearables.

    python -m research.simulator.agreement --model waist

The simulator was fitted without any model, so agreement is evidence for both: the model recognises the activities and
not accidents of one data set, and simulated subjects move like people.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import numpy as np

from harstream.bundle import BACKEND_FILES
from harstream.classifier import Classifier, load_classifier
from harstream.core.batches import Int64, SampleBatch
from harstream.core.engine import Engine
from harstream.errors import ConfigError
from harstream.simulate.motion import Wearable
from harstream.simulate.parameters import ACTIVITIES
from research.command import command


def confusion(classifier: Classifier, seeds: Sequence[int], seconds: float, pace: float = 1.0) -> Int64:
    """Return the number of windows by true activity (rows) and predicted activity (columns), both as in ACTIVITIES.

    Only windows that one activity fills, without any transition, are counted.

    Args:
        classifier: Model, with a label for each activity of the simulator.
        seeds: Seed of each simulated subject.
        seconds: Duration of each subject's stream.
        pace: Divisor of the durations of activities.

    Raises:
        ConfigError: The model has no label for an activity.

    """
    bundle = classifier.bundle
    spec = bundle.spec
    missing = [activity for activity in ACTIVITIES if activity not in bundle.labels]
    if missing:
        raise ConfigError(f"{bundle.id}: the bundle has no label {', '.join(missing)}, which the simulator needs")
    column = [bundle.labels.index(activity) for activity in ACTIVITIES]
    counts = np.zeros((len(ACTIVITIES), len(ACTIVITIES)), np.int64)
    for seed in seeds:
        simulated = Wearable(seed, spec.sample_rate_hz, pace=pace).read(round(seconds * spec.sample_rate_hz))
        due = Engine(spec).feed(SampleBatch.from_message("wearable", simulated.samples, t_ns=0))
        predicted = classifier.predict(due.windows).probabilities[:, column].argmax(axis=1)
        stop = np.rint(due.end_ns / spec.period_ns).astype(np.int64)
        rows = stop[:, None] - np.arange(1, spec.window_samples + 1)
        truth = simulated.label[rows]
        counted = ~simulated.in_transition[rows].any(axis=1) & (truth == truth[:, :1]).all(axis=1)
        np.add.at(counts, (truth[counted, 0], predicted[counted]), 1)
    return counts


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m research.simulator.agreement",
        description="Compare a model's labels with those of simulated wearables.",
    )
    parser.add_argument("--model", default="waist", help="name or folder of a bundle [default: waist]")
    parser.add_argument("--backend", default="auto", choices=["auto", *BACKEND_FILES], help="[default: auto]")
    parser.add_argument(
        "--subjects", "--wearers", type=int, default=60, metavar="N", help="simulated subjects [default: 60]"
    )
    parser.add_argument(
        "--seconds", type=float, default=1200.0, metavar="S", help="of each subject's day [default: 1200]"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the first subject [default: 0]")
    chosen = parser.parse_args(arguments)
    classifier = load_classifier(chosen.model, chosen.backend)
    counts = confusion(classifier, range(chosen.seed, chosen.seed + chosen.subjects), chosen.seconds)
    print(f"{classifier.bundle.id} ({classifier.backend}): {chosen.subjects} subjects, {counts.sum()} windows")
    print(f"agreement {np.trace(counts) / counts.sum():.4f}")
    for activity, row in zip(ACTIVITIES, counts, strict=True):
        share = row[ACTIVITIES.index(activity)] / max(row.sum(), 1)
        print(f"{activity:<20} {share:.4f}  {' '.join(f'{count:6d}' for count in row)}")


if __name__ == "__main__":
    sys.exit(main())
