"""How often a model says what the simulator's script says.

The simulator was fitted without any model, so this is evidence for both: for the model, that it knows
the activities and not one data set's accidents; for the simulator, that its subjects move like people.

    python -m research.simulator.agreement --model waist
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np

from harstream.classifier import Classifier, load_classifier
from harstream.core.batches import Int64, SampleBatch
from harstream.core.engine import Engine
from harstream.simulate.motion import Wearable
from harstream.simulate.parameters import ACTIVITIES


def confusion(classifier: Classifier, seeds: Sequence[int], seconds: float, pace: float = 1.0) -> Int64:
    """(n_activities, n_labels) windows of the subjects ``seeds`` away from transitions: script by prediction.

    A window counts if one activity, and no transition, fills it. Raises ValueError where the model has
    no label for an activity of the script.
    """
    bundle = classifier.bundle
    spec = bundle.spec
    column = [bundle.labels.index(activity) for activity in ACTIVITIES]
    counts = np.zeros((len(ACTIVITIES), len(ACTIVITIES)), np.int64)
    for seed in seeds:
        taken = Wearable(seed, spec.sample_rate_hz, pace=pace).take(round(seconds * spec.sample_rate_hz))
        due = Engine(spec).feed(SampleBatch.from_message("wearable", taken.samples, t_ns=0))
        said = classifier.predict(due.windows).probabilities[:, column].argmax(axis=1)
        stop = np.rint(due.end_ns / spec.period_ns).astype(np.int64)
        rows = stop[:, None] - np.arange(1, spec.window_samples + 1)
        truth = taken.label[rows]
        counted = ~taken.in_transition[rows].any(axis=1) & (truth == truth[:, :1]).all(axis=1)
        np.add.at(counts, (truth[counted, 0], said[counted]), 1)
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description="How often a model says what the simulator's script says.")
    parser.add_argument("--model", default="waist", help="name or folder of a bundle")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--wearers", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=1200.0, help="of each subject's day")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    classifier = load_classifier(chosen.model, chosen.backend)
    counts = confusion(classifier, range(chosen.seed, chosen.seed + chosen.subjects), chosen.seconds)
    print(f"{classifier.bundle.id} ({classifier.backend}): {chosen.subjects} subjects, {counts.sum()} windows")
    print(f"agreement {np.trace(counts) / counts.sum():.4f}")
    for activity, row in zip(ACTIVITIES, counts, strict=True):
        share = row[ACTIVITIES.index(activity)] / max(row.sum(), 1)
        print(f"{activity:<20} {share:.4f}  {' '.join(f'{count:6d}' for count in row)}")


if __name__ == "__main__":
    main()
