"""Labs never seen: a recipe scored on data sets that its networks were not trained on.

    python -m research.labs.study --data hapt:hapt.zip --data difronzo:difronzo.zip ... --labels phone \
        --set channels=orientation_free --set noise_filter=none --out docs/results/labs/phone.json

holds out each data set once per seed, trains on the others, and streams the recordings of the held-out set as devices
would send them. Bias and temperature of the logits and limits of the test of unfamiliar windows are those of the other
folds, so nothing is chosen on the set that is scored. The same command continues an interrupted study; ``--seed`` and
``--seeds`` let several processes share the work.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from harstream.bundle import Bundle
from harstream.classifier import to_predictions
from harstream.cli import options
from harstream.cli.progress import ProgressBar
from harstream.core.batches import Float32, Float64, Int64
from harstream.core.familiar import energy
from harstream.core.label_table import LabelTable
from harstream.core.spec import SignalSpec
from harstream.datasets.base import Recording
from harstream.datasets.sets import recordings_of
from harstream.errors import ConfigError
from harstream.evaluate.events import NO_LABEL
from harstream.evaluate.metrics import Scores, score
from harstream.evaluate.sessions import SessionScores, build_session, locate_windows, summarise, truth_track
from harstream.storage import replace_file
from harstream.tables import mean_and_deviation
from harstream.train.fitting.prepare import data_name, prepare, signal_dict, smoothing_for, spec_of
from harstream.train.fitting.recipe import FitConfig
from harstream.train.sweep.settings import apply_settings, parse_setting
from harstream.train.validation.calibration import Calibration, calibrate
from harstream.train.validation.task import tasks_of
from research.command import command
from research.labs import folds
from research.labs.folds import ORIENTATIONS, HeldOutSet
from research.labs.results import FORMAT
from research.windows import without_samples


@dataclass(frozen=True, slots=True)
class _Inside:
    """The windows of a held-out set that lie inside an activity, as ``calibrate`` takes them."""

    learnt: tuple[int, ...]
    logits: Float32
    distance: Float64
    label: Int64
    data_set: npt.NDArray[np.str_]

    @classmethod
    def of(cls, one: HeldOutSet, label: Int64) -> _Inside:
        known = label != NO_LABEL
        names = np.full(known.sum(), one.data_set)
        return cls(one.learnt, one.logits[known], one.distance[known], label[known], names)


def study(
    sets: Sequence[HeldOutSet], recordings: Sequence[Recording], labels: tuple[str, ...], spec: SignalSpec
) -> list[dict[str, Any]]:
    """Return the figures of each held-out set under one seed, as JSON values."""
    truth = [_true_labels(one, recordings, labels) for one in sets]
    inside = [_Inside.of(one, label) for one, label in zip(sets, truth, strict=True)]
    rows = []
    for number, one in enumerate(sets):
        calibration = calibrate([other for other in inside if other is not inside[number]], by_data=True)
        bias = calibration.bias
        one = replace(one, logits=one.logits + bias, turned=one.turned + bias)
        stream, unfamiliar = _publish(one, recordings, labels, spec, calibration)
        known, raw = truth[number] != NO_LABEL, sets[number].logits
        alone = score(truth[number][known], one.logits[known].argmax(axis=1), labels)
        rows.append(
            {
                "data_set": one.data_set,
                "single": _figures(alone),
                "without_bias": _figures(score(truth[number][known], raw[known].argmax(axis=1), labels)),
                "published": {**_figures(stream.published.scores), "delay_s": stream.published.delay_s(50)},
                "unfamiliar": float(unfamiliar[known].mean()),
                "turned": _turned(one, truth[number], labels),
                "parameters": one.parameters,
            }
        )
    return rows


def _true_labels(one: HeldOutSet, recordings: Sequence[Recording], labels: tuple[str, ...]) -> Int64:
    """Return the label that each window lies inside, (n_windows,), or NO_LABEL."""
    parts = []
    for recording, where in _by_recording(one, recordings):
        track = truth_track(recording, labels)
        parts.append(locate_windows(track, one.start_ns[where], one.end_ns[where], recording.rate_hz)[0])
    return np.concatenate(parts)


def _by_recording(one: HeldOutSet, recordings: Sequence[Recording]) -> list[tuple[Recording, slice]]:
    own = [recording for recording in recordings if recording.data_set == one.data_set]
    ends = np.cumsum(one.counts)
    return [
        (recording, slice(int(end - count), int(end)))
        for recording, count, end in zip(own, one.counts, ends, strict=True)
    ]


def _publish(
    one: HeldOutSet,
    recordings: Sequence[Recording],
    labels: tuple[str, ...],
    spec: SignalSpec,
    calibration: Calibration,
) -> tuple[SessionScores, Any]:
    """Return the scores of what a daemon would publish, and which windows are unfamiliar, (n_windows,)."""
    unfamiliar = calibration.limits.exceeded_by(one.distance, energy(one.logits))
    temperature = calibration.temperature
    smoothing = smoothing_for(spec, by_data=True)
    bundle = Bundle(Path(), "fold", "0", labels, spec, temperature, {}, smoothing=smoothing)
    sessions = []
    for recording, where in _by_recording(one, recordings):
        if not one.counts.size or where.start == where.stop:
            continue
        predictions = to_predictions(one.logits[where], temperature, len(labels))
        predictions = replace(predictions, unfamiliar=unfamiliar[where])
        windows = without_samples(
            [recording.name] * (where.stop - where.start),
            one.start_ns[where],
            one.end_ns[where],
            spec,
            one.problems[where],
        )
        labelled = bundle.smoother().label(windows, predictions)
        sessions.append(
            build_session(
                recording, labels, spec, windows.start_ns, windows.end_ns, labelled.predictions, labelled.smoothed
            )
        )
    return summarise(sessions, labels, spec), unfamiliar


def _figures(scores: Scores) -> dict[str, Any]:
    present = scores.windows_by_label > 0
    recall = {label: float(scores.recall[i]) for i, label in enumerate(scores.labels) if present[i]}
    return {"windows": scores.windows, "macro_recall": scores.macro_recall, "recall": recall}


def _turned(one: HeldOutSet, truth: Int64, labels: tuple[str, ...]) -> dict[str, float] | None:
    """Return lowest and highest macro recall of single windows over ORIENTATIONS; None if they were not predicted."""
    if not len(one.turned):
        return None
    known = truth != NO_LABEL
    values = [score(truth[known], logits[known].argmax(axis=1), labels).macro_recall for logits in one.turned]
    return {"orientations": len(ORIENTATIONS), "lowest": min(values), "highest": max(values)}


def summary(runs: Sequence[Sequence[dict[str, Any]]]) -> dict[str, Any]:
    """Return mean and sample standard deviation over the seeds: of each set, and of the mean over all sets."""

    def spread(values: Sequence[float]) -> dict[str, float | None]:
        mean, deviation = mean_and_deviation(values)
        return {"mean": mean, "sd": deviation}

    out: dict[str, Any] = {"by_data": {}}
    for index, row in enumerate(runs[0]):
        out["by_data"][row["data_set"]] = {
            kind: spread([run[index][kind]["macro_recall"] for run in runs]) for kind in ("single", "published")
        }
    for kind in ("single", "published"):
        out[kind] = spread([float(np.mean([row[kind]["macro_recall"] for row in run])) for run in runs])
    return out


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m research.labs.study", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--data", action="append", required=True, metavar="KIND:PATH", help="recordings; again for each"
    )
    parser.add_argument("--labels", default="phone", metavar="NAME|FILE", help="label table [default: phone]")
    parser.add_argument("--placement", action="append", default=[], metavar="NAME", help="as in harstream train")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="as in harstream train")
    parser.add_argument("--train-only", action="append", default=[], metavar="NAME", help="as in harstream train")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds [default: 3]")
    parser.add_argument("--seed", type=int, default=0, help="first seed [default: 0]")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--work", type=Path, help="folder of finished folds [default: --out with .work]")
    chosen = parser.parse_args(arguments)
    table: LabelTable = options.load_table(chosen.labels)
    sets = [one.cover(table) for one in options.load_sets(chosen.data, None, chosen.placement)]
    recordings = recordings_of(sets)
    settings = dict(parse_setting(text) for text in chosen.set)
    fields = {name: value for name, value in settings.items() if name == "sample_rate_hz"}
    spec, config = apply_settings(settings, spec_of(recordings, fields), FitConfig(seed=0))
    if chosen.seeds < 1:
        raise ConfigError(f"--seeds: expected at least 1, got {chosen.seeds}")
    with ProgressBar() as bar:
        prepared = prepare(recordings, spec, table.labels, train_only=chosen.train_only, seed=0, progress=bar.update)
        data_sets = {recording.subject: recording.data_set for recording in recordings}
        subjects = prepared.scored.subject.tolist()
        work = chosen.work or chosen.out.with_suffix(".work")
        runs = []
        for seed in range(chosen.seed, chosen.seed + chosen.seeds):
            tasks = tasks_of(subjects, spec, replace(config, seed=seed), 1, data_sets=data_sets)
            held = folds.hold_out(recordings, prepared, tasks, work, bar.update, turn_first_seed=seed == 0)
            runs.append(study(held, recordings, prepared.scored.labels, spec))
    figures = summary(runs)
    content = {
        "format": FORMAT,
        "data": [data_name(one) for one in chosen.data],
        "command": _command(chosen),
        "labels": list(prepared.scored.labels),
        "signal": signal_dict(spec),
        "config": config.to_dict(),
        "seeds": list(range(chosen.seed, chosen.seed + chosen.seeds)),
        "summary": figures,
        "runs": runs,
    }
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    replace_file(chosen.out, (json.dumps(content, indent=1) + "\n").encode())
    for kind in ("single", "published"):
        by_data = {name: round(one[kind]["mean"], 3) for name, one in figures["by_data"].items()}
        print(f"{kind}: {figures[kind]['mean']:.4f} {by_data}")


def _command(chosen: argparse.Namespace) -> str:
    """Return the command line without the folders of this machine."""
    parts = ["python", "-m", "research.labs.study"]
    for one in chosen.data:
        parts += ["--data", data_name(one)]
    parts += ["--labels", Path(chosen.labels).name]
    for name, values in (("--placement", chosen.placement), ("--set", chosen.set), ("--train-only", chosen.train_only)):
        for value in values:
            parts += [name, value]
    parts += ["--seed", str(chosen.seed), "--seeds", str(chosen.seeds)]
    return shlex.join([*parts, "--out", chosen.out.name])


if __name__ == "__main__":
    sys.exit(main())
