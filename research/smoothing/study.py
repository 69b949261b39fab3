"""Which smoothing? The smoothers compared on whole recordings of subjects the network was not trained on.

    python -m research.smoothing.study --data hapt:hapt.zip --model waist --out docs/results/streaming.json

trains the recipe of a bundle (or of ``--set``) once for each fold of subjects, streams the recordings of those held
out, chooses each smoother's parameters on one half of the subjects and counts it on the other. Interrupted, the same
command goes on. ``python -m research.figures`` makes the table of its results.
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
from harstream import datasets
from harstream.cli.progress import ProgressBar
from harstream.core.labels import UNKNOWN_INDEX
from harstream.core.spec import SignalSpec
from harstream.datasets.base import Recording
from harstream.errors import ConfigError, HarstreamError
from harstream.progress import Progress, silent
from harstream.storage import replace_file
from harstream.train.fitting.prepare import data_name, labels_of_kind, signal_dict, smoothing_for, spec_of
from harstream.train.fitting.recipe import FitConfig
from harstream.train.sweep.settings import setting_of, settle
from research.smoothing import results as stream_results
from research.smoothing import smoothers, streams
from research.smoothing.smoothers import SubjectStreams
from research.smoothing.streams import Run

#: Held back for events, in windows: these are compared.
LAGS = (0, 1, 2, 3, 4)


def study(run: Run, labels: tuple[str, ...], spec: SignalSpec, progress: Progress = silent) -> dict[str, Any]:
    """Everything that is counted of one run, as JSON."""
    subjects = SubjectStreams(run.streams, labels, spec)
    rows = [
        smoothers.compare(subjects, kind, doubting, progress)
        for kind in ("none", "exponential", "hysteresis", "hmm")
        for doubting in (False, True)
    ]
    default = smoothing_for(spec)
    certain = replace(default, unknown_below=0.0)
    sections = [subjects.section(subjects.sessions(smoothing)) for smoothing in (certain, default)]
    for name, section in zip(stream_results.DEFAULTS, sections, strict=True):
        rows.append({"name": name, "figures": stream_results.figures(section)})
    held = []
    for lag in LAGS:
        sessions, late = subjects.held_back(replace(default, fixed_lag_windows=lag))
        known, come = (stream_results.figures(subjects.section(one)) for one in (sessions, late))
        held.append(
            {
                "windows": lag,
                **{name: known[name] for name in stream_results.WHEN_KNOWN},
                **{name: come[name] for name in stream_results.WHEN_IT_COMES},
            }
        )
    shares = {}
    for kind in run.streams[0].strange:
        beliefs, _ = subjects.smooth(default, [stream.strange[kind] for stream in run.streams])
        label = np.concatenate([one.label for one in beliefs])
        unknown = int((label == UNKNOWN_INDEX).sum())
        shares[kind] = {"windows": len(label), "unknown": unknown, "share": unknown / len(label)}
    return {
        "seed": run.seed,
        "temperatures": list(run.temperatures),
        "rows": rows,
        "held_back": held,
        "strangers": shares,
        "stream": sections[-1],
    }


# --- the command --------------------------------------------------------------------------------------


def recipe(
    recordings: Sequence[Recording], data: str, model: str | None, chosen: Sequence[str], seed: int, folds: int | None
) -> tuple[SignalSpec, tuple[str, ...] | None, FitConfig]:
    """Signal, labels and configuration: a bundle's or, without, the shipped recipe, with ``--set`` on top."""
    if model is None:
        spec, labels, config = spec_of(recordings), labels_of_kind(data), FitConfig(seed=seed)
    else:
        bundle = bundles.load(bundles.find(model))
        spec, labels = SignalSpec.from_dict(signal_dict(bundle.spec)), bundle.labels
        try:
            config = replace(FitConfig(**bundle.training["config"]), seed=seed)
        except (KeyError, TypeError) as error:
            raise ConfigError(f"{bundle.path}: training.config is of another harstream: {error}") from error
    spec, config = settle(dict(setting_of(text) for text in chosen), spec, config)
    return spec, labels, config if folds is None else replace(config, folds=folds)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command: 0, or 2 with one line on stderr."""
    parser = argparse.ArgumentParser(prog="python -m research.smoothing.study", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--data", required=True, metavar="KIND:PATH")
    parser.add_argument("--model", metavar="NAME|DIR", help="the bundle whose recipe is trained anew")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="as of harstream train")
    parser.add_argument("--folds", type=int, help="groups of subjects, each held out in turn [default: the recipe's]")
    parser.add_argument("--seeds", type=int, default=2, help="how many [default: 2]")
    parser.add_argument("--seed", type=int, default=0, help="the first one [default: 0]")
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    parser.add_argument("--work", type=Path, help="where finished folds are kept [default: --out with .work]")
    chosen = parser.parse_args(arguments)
    work = chosen.work or chosen.out.with_suffix(".work")
    try:
        if chosen.seeds < 1:
            raise ConfigError(f"seeds: expected at least 1, got {chosen.seeds}")
        recordings = datasets.load(chosen.data)
        spec, labels, config = recipe(recordings, chosen.data, chosen.model, chosen.set, chosen.seed, chosen.folds)
        with ProgressBar() as bar:
            found, runs = streams.held_out(
                recordings, spec, labels, config, work=work, repeats=chosen.seeds, progress=bar.update
            )
            studies = []
            for run in runs:
                bar.print(f"seed {run.seed}")
                studies.append(study(run, found, spec, bar.update))
        results = {
            "format": stream_results.FORMAT,
            "data": data_name(chosen.data),
            "command": _command(chosen),
            "wearers": sorted({stream.recording.subject for stream in runs[0].streams}),
            "labels": list(found),
            "signal": signal_dict(spec),
            "config": config.to_dict(),
            "splits": smoothers.SPLITS,
            "default": smoothing_for(spec).to_dict(),
            "runs": studies,
        }
    except HarstreamError as error:
        print(f"harstream: {error}", file=sys.stderr)
        return 2
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    replace_file(chosen.out, (json.dumps(results, indent=1) + "\n").encode())
    print(f"wrote {chosen.out}; what was trained for it is in {work} and may be removed")
    return 0


def _command(chosen: argparse.Namespace) -> str:
    """What was typed, without this machine's folders."""
    parts = ["python", "-m", "research.smoothing.study", "--data", data_name(chosen.data)]
    if chosen.model is not None:
        parts += ["--model", Path(chosen.model).name]
    for text in chosen.set:
        parts += ["--set", text]
    for name in ("folds", "seeds", "seed"):
        if getattr(chosen, name) is not None:
            parts += [f"--{name}", str(getattr(chosen, name))]
    return shlex.join([*parts, "--out", chosen.out.name])


if __name__ == "__main__":
    sys.exit(main())
