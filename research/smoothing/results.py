"""Results of a smoothing study: read from the file, as a Markdown table, and as scores for a model card."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harstream import tables
from harstream.core.smoothing_section import Smoothing
from harstream.errors import ConfigError
from harstream.train.sweep.results import read_format

FORMAT = "harstream streaming 1"
#: Names of the rows of the smoothing that new bundles get: without abstaining, and as it is.
DEFAULTS = ("default, never UNKNOWN", "default")
#: Figures of the labels that events give after a fixed lag: those of the labels, and those of their delay.
LABEL_FIGURES = ("accuracy", "unknown_inside", "flips_per_minute")
DELAY_FIGURES = ("delay_median_s", "delay_p95_s", "missed_changes")

#: Unfamiliar signals that are also examples in training with ``unfamiliar_share`` (see ``train.fitting.augment``).
_TRAINED_ON = ("shuffled", "inverted", "on a table")
#: Column of a table: title, key of the figure, factor, decimals.
_Column = tuple[str, str, float, int]
_STEADINESS: tuple[_Column, ...] = (
    ("accuracy, %", "accuracy", 100, 2),
    ("of labelled, %", "accuracy_of_labelled", 100, 2),
    ("UNKNOWN inside, %", "unknown_inside", 100, 2),
    ("UNKNOWN, other activities, %", "unknown_mostly_other", 100, 1),
    ("UNKNOWN, partly other, %", "unknown_partly_other", 100, 1),
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
# Smoothing study: labels as they are published

    {command}

{sessions} whole recordings of {n_subjects} subjects of `{data}`, {minutes:.0f} minutes, are streamed as live devices
would send them. Each goes through a network that was trained on other subjects ({folds} folds by subject). Figures are
mean ± standard deviation over the seeds ({seeds}). Probabilities are calibrated on the subjects of the other folds.

The parameters of each type of smoothing were chosen on one half of the subjects and scored on the other half, both
ways, for {splits} random splits. The default was chosen with all subjects in view, so its figures are optimistic; those
of hmm show what such a choice is worth on other subjects.

- Accuracy is of windows that lie wholly inside an activity; UNKNOWN counts as wrong. `of labelled` leaves UNKNOWN out.
- `other activities`: windows at least half in a segment whose label the network does not know; `partly other`: less.
- The true activity changes {truth:.2f} times per minute. A flip is a change of the label inside one activity.
- The delay is the time from the start of an activity to its label; `95 %` is the 95th percentile. A missed activity
  ended before its label was published.

{steadiness}

The same as events (Ward, Lukowicz and Gellersen 2011), over all subjects. An event that is both fragmented and merged
counts as both. `undecided` are published events at times whose true activity is not known.

{events}

The default is `{default}`.
Its enter and exit events wait for later windows. The next table shows the labels that events give each window after
waiting for so many windows, and the delay until then.

{held}

The next table shows the share of windows that the default publishes as UNKNOWN for unfamiliar signals: the same
recordings altered, and a phone on a table.

{unfamiliar}

Parameters that were chosen, with the number of times:

{chosen}
"""


def read(path: Path) -> dict[str, Any]:
    """Return the results that ``research.smoothing.study`` wrote.

    Raises:
        DatasetError: The file cannot be read, or is not such a file.

    """
    return read_format(path, FORMAT, "runs", "the results of at least one seed")


def figures(scores: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the figures that are compared, from the section ``stream`` of ``harstream evaluate --stream --json``."""
    published, events = scores["published"], scores["published"]["events"]["all"]
    share = {place: entry["share"] for place, entry in scores["unknown"].items()}
    both = events["fragmented_and_merged"]
    counts = {name: events[name] for name in ("true", "published", "correct", "deleted", "inserted", "undecided")}
    counts |= {"fragmented": events["fragmented"] + both, "merged": events["merged"] + both}
    return {
        "accuracy": published["accuracy"],
        "accuracy_of_labelled": published["accuracy"] / (1 - share["inside"]) if share["inside"] < 1 else None,
        **{f"unknown_{place}": value for place, value in share.items()},
        "changes_per_minute": published["changes_per_minute"],
        "true_changes_per_minute": scores["true_changes_per_minute"],
        "flips_per_minute": published["flips_per_minute"],
        "delay_median_s": published["delay_s"]["median"],
        "delay_p95_s": published["delay_s"]["p95"],
        "missed_changes": published["missed_changes"],
        **{f"events_{name}": count for name, count in counts.items()},
    }


def mean(values: Sequence[Any]) -> Any:
    """Return the mean of JSON values of equal structure, number by number.

    Nulls are left out; the mean of nulls is None. Texts are equal and stay as they are.
    """
    first = values[0]
    if isinstance(first, Mapping):
        return {key: mean([value[key] for value in values]) for key in first}
    if isinstance(first, str):
        return first
    numbers = [value for value in values if value is not None]
    if not numbers:
        return None
    return numbers[0] if all(value == numbers[0] for value in numbers) else statistics.fmean(numbers)


def card_scores(study: Mapping[str, Any], smoothing: Smoothing) -> dict[str, Any]:
    """Return the scores of the default smoothing for a model card (``card.as_published``), mean over the seeds.

    Raises:
        ConfigError: ``smoothing``, that of the bundle, is not the default of the study.

    """
    if study["default"] != smoothing.to_dict():
        raise ConfigError(
            f"smoothing: the study is of {study['default']}, the bundle has {smoothing.to_dict()}; repeat the study"
        )
    runs = study["runs"]
    seeds = f"mean of {len(runs)} seeds" if len(runs) > 1 else "1 seed"
    return {
        **mean([run["stream"] for run in runs]),
        "method": f"each through networks trained on other subjects ({_folds(study)} folds, {seeds})",
        "strangers": {
            _unfamiliar_name(kind, study): mean([run["strangers"][kind]["share"] for run in runs])
            for kind in runs[0]["strangers"]
        },
    }


def table(study: Mapping[str, Any]) -> str:
    """Return the text of the Markdown file."""
    runs = study["runs"]
    scores = mean([run["stream"] for run in runs])
    names = [row["name"] for row in runs[0]["rows"]]
    rows = [(name, [_named(run["rows"], name)["figures"] for run in runs]) for name in names]
    held = [(str(entries[0]["windows"]), entries) for entries in zip(*(run["held_back"] for run in runs), strict=True)]
    unfamiliar = [
        (_unfamiliar_name(kind, study), [run["strangers"][kind] for run in runs]) for kind in runs[0]["strangers"]
    ]
    return _TEXT.format(
        command=study["command"],
        sessions=scores["sessions"],
        n_subjects=len(study["wearers"]),
        data=study["data"],
        minutes=scores["minutes"],
        folds=_folds(study),
        seeds=len(runs),
        splits=study["splits"],
        truth=scores["true_changes_per_minute"],
        steadiness=_table(rows, _STEADINESS),
        events=_table(rows, _EVENTS),
        default=", ".join(
            f"{key} {value}" if key != "transitions" else "transitions of the states between labels"
            for key, value in study["default"].items()
        ).removeprefix("type "),
        held=_table(held, [column for column in _STEADINESS if column[1] in LABEL_FIGURES + DELAY_FIGURES]),
        unfamiliar=_table(unfamiliar, [("UNKNOWN, %", "share", 100, 1)]),
        chosen="\n".join(_chosen(name, runs) for name in names if name not in ("none", *DEFAULTS)),
    )


def _folds(study: Mapping[str, Any]) -> int:
    return len(study["runs"][0]["temperatures"])


def _unfamiliar_name(kind: str, study: Mapping[str, Any]) -> str:
    """Return the name of an unfamiliar signal; "(trained on)" marks what training made from other subjects' windows."""
    return f"{kind} (trained on)" if kind in _TRAINED_ON and study["config"]["unfamiliar_share"] else kind


def _named(rows: Sequence[Mapping[str, Any]], name: str) -> Mapping[str, Any]:
    return next(row for row in rows if row["name"] == name)


def _table(rows: Sequence[tuple[str, Sequence[Mapping[str, Any]]]], columns: Sequence[_Column]) -> str:
    """Return a Markdown table with a line for each row: its name, and its figures under each seed."""
    head = ["", *(title for title, *_ in columns)]
    lines = [
        [
            name,
            *(_cell([figures[key] for figures in by_seed], factor, decimals) for _, key, factor, decimals in columns),
        ]
        for name, by_seed in rows
    ]
    return tables.markdown(head, lines)


def _cell(values: Sequence[float | None], factor: float, decimals: int) -> str:
    numbers = [factor * value for value in values if value is not None]
    return tables.spread(numbers, decimals) if numbers else "-"


def _chosen(name: str, runs: Sequence[Mapping[str, Any]]) -> str:
    """Return a line with the parameters that were chosen for a row, the most frequent first."""
    times: Counter[str] = Counter()
    for run in runs:
        for entry in _named(run["rows"], name)["chosen"]:
            fields = dict(entry["smoothing"])
            omitted = (
                "type",
                "fixed_lag_windows",
                *(() if fields["unknown_below"] else ("unknown_below", "unknown_dwell_s")),
            )
            times[", ".join(f"{key} {value}" for key, value in fields.items() if key not in omitted)] += entry["times"]
    return f"- {name}: " + "; ".join(f"{text} ({n})" for text, n in times.most_common())
