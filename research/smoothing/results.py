"""The results of ``smoothing_study`` in a file: read, as a Markdown table, and as a section of a model card."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harstream.core.smoothing import Smoothing
from harstream.errors import ConfigError, DatasetError
from harstream.train.sweep.results import read_json, spread

FORMAT = "harstream streaming 1"
#: The rows of the smoothing that new bundles get: as it would be if it never abstained, and as it is.
DEFAULTS = ("default, never UNKNOWN", "default")
#: The figures of labels that are held back for a fixed lag: of what they say, and of when they come.
WHEN_KNOWN = ("accuracy", "unknown_inside", "flips_per_minute")
WHEN_IT_COMES = ("delay_median_s", "delay_p95_s", "missed_changes")

#: The strangers that training with ``strangers_share`` teaches to be in doubt of (see ``augment.strangers``).
_TAUGHT = ("shuffled", "inverted", "on a table")
#: Columns: a title, the figure, what it is multiplied by, decimals.
_Column = tuple[str, str, float, int]
_STEADINESS: tuple[_Column, ...] = (
    ("accuracy, %", "accuracy", 100, 2),
    ("of labelled, %", "accuracy_of_labelled", 100, 2),
    ("UNKNOWN inside, %", "unknown_inside", 100, 2),
    ("UNKNOWN, untaught, %", "unknown_mostly_other", 100, 1),
    ("UNKNOWN, partly untaught, %", "unknown_partly_other", 100, 1),
    ("changes/min", "changes_per_minute", 1, 2),
    ("flips/min", "flips_per_minute", 1, 2),
    ("delay, s", "delay_median_s", 1, 2),
    ("95 %, s", "delay_p95_s", 1, 2),
    ("missed", "missed_changes", 1, 1),
)
_EVENTS: tuple[_Column, ...] = tuple(
    (name, f"events_{name}", 1, 1)
    for name in ("true", "correct", "deleted", "fragmented", "merged", "published", "inserted", "undecided")
)
_TEXT = """\
# Labels as they are published

    {command}

{sessions} whole recordings of {n_subjects} subjects of `{data}`, {minutes:.0f} minutes, streamed as they would be worn,
each through a network trained on other subjects ({folds} folds by subject): mean ± standard deviation over {seeds}
seeds. Probabilities are calibrated on the subjects of the other folds. Of a type of smoothing the parameters were
chosen on one half of the subjects and counted on the other, both ways, for {splits} ways of halving. The default was
chosen with all of these subjects in view: look at hmm for what such a choice is worth on others.

Accuracy is of windows wholly inside an activity, UNKNOWN being wrong; untaught are windows at least half of which is
labelled as something that the network was not taught. The truth changes {truth:.2f} times a minute. A flip is a change
inside one activity, a delay runs from an activity's begin to its label, missed is one that ended before.

{steadiness}

As events (Ward, Lukowicz and Gellersen 2011), counted on all subjects; one that is fragmented and merged counts
as both, undecided are published events in time of which the truth is not known:

{events}

The default is `{default}`.
Its enter and exit events wait for more windows. This is what they say of each window where they wait for so many,
and how long after its begin an activity is told of:

{held}

The same recordings made strange, and a phone on a table: the share of windows that the default publishes as UNKNOWN.

{strangers}

Parameters that were chosen, and how often:

{chosen}
"""


def read(path: Path) -> dict[str, Any]:
    """What ``smoothing_study`` wrote. Raises DatasetError."""
    found = read_json(path)
    if found.get("format") != FORMAT or not found.get("runs"):
        raise DatasetError(f"{path}: format is {found.get('format')!r}, this harstream reads {FORMAT!r}")
    return found


def figures(section: Mapping[str, Any]) -> dict[str, float | None]:
    """What is compared, of a ``stream`` section (``Streaming.to_dict``)."""
    said, events = section["published"], section["published"]["events"]["all"]
    share = {place: entry["share"] for place, entry in section["unknown"].items()}
    both = events["fragmented_and_merged"]
    counts = {name: events[name] for name in ("true", "published", "correct", "deleted", "inserted", "undecided")}
    counts |= {"fragmented": events["fragmented"] + both, "merged": events["merged"] + both}
    return {
        "accuracy": said["accuracy"],
        "accuracy_of_labelled": said["accuracy"] / (1 - share["inside"]) if share["inside"] < 1 else None,
        **{f"unknown_{place}": value for place, value in share.items()},
        "changes_per_minute": said["changes_per_minute"],
        "true_changes_per_minute": section["true_changes_per_minute"],
        "flips_per_minute": said["flips_per_minute"],
        "delay_median_s": said["delay_s"]["median"],
        "delay_p95_s": said["delay_s"]["p95"],
        "missed_changes": said["missed_changes"],
        **{f"events_{name}": count for name, count in counts.items()},
    }


def mean(values: Sequence[Any]) -> Any:
    """Number by number of what is alike but for its numbers; None where there is none, texts as they are."""
    first = values[0]
    if isinstance(first, Mapping):
        return {key: mean([value[key] for value in values]) for key in first}
    if isinstance(first, str):
        return first
    known = [value for value in values if value is not None]
    if not known:
        return None
    return known[0] if all(value == known[0] for value in known) else statistics.fmean(known)


def section(found: Mapping[str, Any], smoothing: Smoothing) -> dict[str, Any]:
    """What a model card says of labels as published: ``stream`` of ``pipeline.train``, mean over the seeds.

    ``smoothing`` is the bundle's. Raises ConfigError where the results are of another.
    """
    if found["default"] != smoothing.to_dict():
        raise ConfigError(f"smoothing: the results are of {found['default']}, the bundle has {smoothing.to_dict()}")
    runs = found["runs"]
    return {
        **mean([run["stream"] for run in runs]),
        "method": f"each through networks trained on other subjects ({_folds(found)} folds, mean of {len(runs)} seeds)",
        "strangers": {
            _stranger(kind, found): mean([run["strangers"][kind]["share"] for run in runs])
            for kind in runs[0]["strangers"]
        },
    }


def table(found: Mapping[str, Any]) -> str:
    """The text of a Markdown file."""
    runs = found["runs"]
    stream = mean([run["stream"] for run in runs])
    names = [row["name"] for row in runs[0]["rows"]]
    rows = [(name, [_named(run["rows"], name)["figures"] for run in runs]) for name in names]
    held = [(str(entries[0]["windows"]), entries) for entries in zip(*(run["held_back"] for run in runs), strict=True)]
    strangers = [(_stranger(kind, found), [run["strangers"][kind] for run in runs]) for kind in runs[0]["strangers"]]
    return _TEXT.format(
        command=found["command"],
        sessions=stream["sessions"],
        n_subjects=len(found["wearers"]),
        data=found["data"],
        minutes=stream["minutes"],
        folds=_folds(found),
        seeds=len(runs),
        splits=found["splits"],
        truth=stream["true_changes_per_minute"],
        steadiness=_table(rows, _STEADINESS),
        events=_table(rows, _EVENTS),
        default=", ".join(f"{key} {value}" for key, value in found["default"].items()).removeprefix("type "),
        held=_table(held, [column for column in _STEADINESS if column[1] in WHEN_KNOWN + WHEN_IT_COMES]),
        strangers=_table(strangers, [("UNKNOWN, %", "share", 100, 1)]),
        chosen="\n".join(_chosen(name, runs) for name in names if name not in ("none", *DEFAULTS)),
    )


def _folds(found: Mapping[str, Any]) -> int:
    return len(found["runs"][0]["temperatures"])


def _stranger(kind: str, found: Mapping[str, Any]) -> str:
    """Its name, and whether the network was trained on such, made of other subjects' windows."""
    return f"{kind} (trained on)" if kind in _TAUGHT and found["config"]["strangers_share"] else kind


def _named(rows: Sequence[Mapping[str, Any]], name: str) -> Mapping[str, Any]:
    return next(row for row in rows if row["name"] == name)


def _table(rows: Sequence[tuple[str, Sequence[Mapping[str, Any]]]], columns: Sequence[_Column]) -> str:
    """One line for each row, of the figures of each seed."""
    lines = [["", *(title for title, *_ in columns)], ["---"] * (len(columns) + 1)]
    for name, by_seed in rows:
        lines.append([name, *(_cell([one[key] for one in by_seed], by, n) for _, key, by, n in columns)])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _cell(values: Sequence[float | None], by: float, decimals: int) -> str:
    """``97.12 ± 0.10``; one seed has no deviation."""
    known = [by * value for value in values if value is not None]
    if not known:
        return "-"
    centre, sd = spread(known)
    return f"{centre:.{decimals}f}" + ("" if sd is None else f" ± {sd:.{decimals}f}")


def _chosen(name: str, runs: Sequence[Mapping[str, Any]]) -> str:
    times: Counter[str] = Counter()
    for run in runs:
        for entry in _named(run["rows"], name)["chosen"]:
            fields = dict(entry["smoothing"])
            unused = (
                "type",
                "fixed_lag_windows",
                *(() if fields["unknown_below"] else ("unknown_below", "unknown_dwell_s")),
            )
            times[", ".join(f"{key} {value}" for key, value in fields.items() if key not in unused)] += entry["times"]
    return f"- {name}: " + "; ".join(f"{text} ({n})" for text, n in times.most_common())
