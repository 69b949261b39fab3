"""Smoothing study: smoothers compared on whole recordings of held-out subjects.

    python -m research.smoothing.study --data hapt:hapt.zip --model waist --out docs/results/streaming.json

trains the recipe of a bundle (or of ``--set``) once for each fold of subjects, streams the recordings of the held-out
subjects, chooses the parameters of each smoother on one half of the subjects and scores them on the other half. The
same command continues an interrupted study. ``python -m research.figures`` makes the table from the results.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from harstream import bundle as bundles
from harstream import datasets, shipped
from harstream.cli.progress import ProgressBar
from harstream.core.labels import UNKNOWN_INDEX
from harstream.core.spec import SignalSpec
from harstream.datasets.base import Recording
from harstream.errors import ConfigError
from harstream.progress import Progress, silent
from harstream.storage import replace_file
from harstream.train.fitting.prepare import (
    data_name,
    labels_of_kind,
    signal_dict,
    smoothing_for,
    smoothing_with_states,
    spec_of,
    states_of,
)
from harstream.train.fitting.recipe import FitConfig
from harstream.train.sweep.settings import apply_settings, parse_setting
from research.command import command
from research.smoothing import results, smoothers, streams
from research.smoothing.smoothers import SubjectStreams
from research.smoothing.streams import StudyRun

#: Fixed lags of events that are compared, in windows.
LAGS = (0, 1, 2, 3, 4)


def study(run: StudyRun, labels: tuple[str, ...], spec: SignalSpec, progress: Progress = silent) -> dict[str, Any]:
    """Return the results of one run as JSON values."""
    subjects = SubjectStreams(run.streams, labels, spec)
    rows = [
        smoothers.compare(subjects, kind, abstains, progress)
        for kind in ("none", "exponential", "hysteresis", "hmm")
        for abstains in (False, True)
    ]
    default = [stream.smoothing for stream in run.streams]
    never_unknown = [replace(one, unknown_below=0.0) for one in default]
    default_scores = [subjects.scores(subjects.sessions(smoothing)) for smoothing in (never_unknown, default)]
    for name, scores in zip(results.DEFAULTS, default_scores, strict=True):
        rows.append({"name": name, "figures": results.figures(scores)})
    held = []
    for lag in LAGS:
        sessions = subjects.held_back([replace(one, fixed_lag_windows=lag) for one in default])
        at_window_end, when_known = (results.figures(subjects.scores(one)) for one in sessions)
        held.append(
            {
                "windows": lag,
                **{name: at_window_end[name] for name in results.LABEL_FIGURES},
                **{name: when_known[name] for name in results.DELAY_FIGURES},
            }
        )
    shares = {}
    for kind in run.streams[0].unfamiliar:
        smoothed, _ = subjects.smooth(default, [stream.unfamiliar[kind] for stream in run.streams])
        label = np.concatenate([one.label for one in smoothed])
        unknown = int((label == UNKNOWN_INDEX).sum())
        shares[kind] = {"windows": len(label), "unknown": unknown, "share": unknown / len(label)}
    return {
        "seed": run.seed,
        "temperatures": list(run.temperatures),
        "rows": rows,
        "held_back": held,
        "strangers": shares,
        "stream": default_scores[-1],
    }


# --- the command --------------------------------------------------------------------------------------


def recipe(
    recordings: Sequence[Recording],
    data: str,
    model: str | None,
    chosen: Sequence[str],
    seed: int,
    folds: int | None,
    with_states: bool = False,
) -> tuple[SignalSpec, tuple[str, ...] | None, tuple[str, ...], FitConfig]:
    """Return the signal, the labels, the states between them and the configuration of the networks.

    Args:
        recordings: Recordings of the study.
        data: KIND:PATH of the recordings.
        model: Name or folder of the bundle whose recipe is used; None for the recipe of ``harstream train``.
        chosen: Settings (NAME=VALUE) that replace those of the recipe.
        seed: First seed.
        folds: Number of folds; None for the recipe's.
        with_states: Learn the states that the data names, if no ``model`` is given, which decides otherwise.

    Raises:
        BundleError: The bundle cannot be loaded.
        ConfigError: A setting is invalid, or the bundle was trained by an incompatible version.

    """
    if model is None:
        spec, labels, config = spec_of(recordings), labels_of_kind(data), FitConfig(seed=seed)
        states = states_of(data) if with_states else ()
    else:
        bundle = bundles.load(shipped.find(model))
        spec, labels, states = SignalSpec.from_dict(signal_dict(bundle.spec)), bundle.labels, bundle.states
        try:
            config = replace(FitConfig(**bundle.training["config"]), seed=seed)
        except (KeyError, TypeError) as error:
            raise ConfigError(
                f"{bundle.path}: training.config is of an incompatible version of harstream: {error}"
            ) from error
    spec, config = apply_settings(dict(parse_setting(text) for text in chosen), spec, config)
    return spec, labels, states, config if folds is None else replace(config, folds=folds)


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m research.smoothing.study", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--data", required=True, metavar="KIND:PATH", help="recordings, such as hapt:hapt.zip")
    parser.add_argument("--model", metavar="NAME|DIR", help="bundle whose recipe the networks are trained by")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="as in harstream train")
    parser.add_argument("--states", action="store_true", help="as in harstream train; with --model, it decides")
    parser.add_argument("--folds", type=int, help="number of groups of subjects [default: the recipe's]")
    parser.add_argument("--seeds", type=int, default=2, help="number of seeds [default: 2]")
    parser.add_argument("--seed", type=int, default=0, help="first seed [default: 0]")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--work", type=Path, help="folder of finished folds [default: --out with .work]")
    chosen = parser.parse_args(arguments)
    work = chosen.work or chosen.out.with_suffix(".work")
    if chosen.seeds < 1:
        raise ConfigError(f"--seeds: expected at least 1, got {chosen.seeds}")
    recordings = datasets.load(chosen.data)
    spec, labels, states, config = recipe(
        recordings, chosen.data, chosen.model, chosen.set, chosen.seed, chosen.folds, chosen.states
    )
    with ProgressBar() as bar:
        labels_found, runs = streams.held_out(
            recordings, spec, labels, config, work=work, repeats=chosen.seeds, states=states, progress=bar.update
        )
        studies = []
        for run in runs:
            bar.print(f"seed {run.seed}")
            studies.append(study(run, labels_found, spec, bar.update))
    default = smoothing_with_states(spec, labels_found, states, recordings) if states else smoothing_for(spec)
    content = {
        "format": results.FORMAT,
        "data": data_name(chosen.data),
        "command": _command(chosen),
        "wearers": sorted({stream.recording.subject for stream in runs[0].streams}),
        "labels": list(labels_found),
        **({"states": list(states)} if states else {}),
        "signal": signal_dict(spec),
        "config": config.to_dict(),
        "splits": smoothers.SPLITS,
        "default": default.to_dict(),
        "runs": studies,
    }
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    replace_file(chosen.out, (json.dumps(content, indent=1) + "\n").encode())
    print(f"wrote {chosen.out}; the trained folds in {work} are no longer needed")


def _command(chosen: argparse.Namespace) -> str:
    """Return the command line without the folders of this machine."""
    parts = ["python", "-m", "research.smoothing.study", "--data", data_name(chosen.data)]
    if chosen.model is not None:
        parts += ["--model", Path(chosen.model).name]
    for text in chosen.set:
        parts += ["--set", text]
    if chosen.states:
        parts.append("--states")
    for name in ("folds", "seeds", "seed"):
        if getattr(chosen, name) is not None:
            parts += [f"--{name}", str(getattr(chosen, name))]
    return shlex.join([*parts, "--out", chosen.out.name])


if __name__ == "__main__":
    sys.exit(main())
