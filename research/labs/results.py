"""Results of studies of labs never seen: read from their files, and as one table for all studies of a folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harstream import tables
from harstream.train.sweep.results import read_format

FORMAT = "harstream labs 1"
#: Name of the table of all studies in a folder.
TABLE = "labs.md"
_KINDS = {
    "single": "Single windows",
    "published": "As published",
    "without_bias": "Single windows, without the bias of the logits",
}
_TEXT = """\
# Labs never seen

Macro recall in percent (the mean of the recalls of the labels that a data set has) of networks trained without the data
set. Figures are mean ± standard deviation over the seeds. Bias and temperature of the logits and limits of the test of
unfamiliar windows come from the other held-out data sets.

{sections}

## Recall of each label

Of the study `{first}`, single windows and as published, mean over the seeds.

{recall}

## Orientation

The windows of one seed with the device turned by each of the 24 rotations that map axes to axes, and with all axes
negated: lowest and highest macro recall of single windows.

{turned}

## Commands

{commands}
"""


def read(path: Path) -> dict[str, Any]:
    """Return the results that ``research.labs.study`` wrote.

    Raises:
        DatasetError: The file cannot be read, or is not such a file.

    """
    return read_format(path, FORMAT, "runs", "the results of at least one seed")


def table(studies: Mapping[str, dict[str, Any]]) -> str:
    """Return the page about studies, by name, as Markdown; the first is described in detail."""
    names = sorted({row["data_set"] for study in studies.values() for row in study["runs"][0]})
    sections = []
    for kind, title in _KINDS.items():
        rows = [_row(name, study, kind, names) for name, study in studies.items()]
        head = ["study", *names, "mean", "seeds"]
        sections.append(f"## {title}\n\n{tables.markdown(head, rows, range(1, len(head)))}")
    first = next(iter(studies))
    return _TEXT.format(
        sections="\n\n".join(sections),
        first=first,
        recall=_recall(studies[first]),
        turned=_turned(studies),
        commands="\n\n".join(f"`{name}`:\n\n    {study['command']}" for name, study in studies.items()),
    )


def _row(name: str, study: dict[str, Any], kind: str, names: list[str]) -> list[str]:
    by_data: dict[str, list[float]] = {}
    for run in study["runs"]:
        for row in run:
            by_data.setdefault(row["data_set"], []).append(100 * row[kind]["macro_recall"])
    cells = [tables.spread(by_data[one], 1) if one in by_data else "" for one in names]
    means = [sum(values) / len(by_data) for values in zip(*by_data.values(), strict=True)]
    return [name, *cells, tables.spread(means, 1), ", ".join(map(str, study["seeds"]))]


def _recall(study: dict[str, Any]) -> str:
    rows = []
    for index, row in enumerate(study["runs"][0]):
        cells = []
        for label in study["labels"]:
            values = [
                [run[index][kind]["recall"].get(label) for run in study["runs"]] for kind in ("single", "published")
            ]
            known = None not in values[0]
            cells.append(" / ".join(f"{100 * sum(each) / len(each):.1f}" for each in values) if known else "")
        rows.append([row["data_set"], f"{row['single']['windows']:,}", *cells])
    head = ["data set", "windows", *study["labels"]]
    return tables.markdown(head, rows, range(1, len(head)))


def _turned(studies: Mapping[str, dict[str, Any]]) -> str:
    rows = [
        [name, row["data_set"], f"{100 * row['turned']['lowest']:.2f}", f"{100 * row['turned']['highest']:.2f}"]
        for name, study in studies.items()
        for run in study["runs"]
        for row in run
        if row["turned"] is not None
    ]
    return tables.markdown(["study", "data set", "lowest", "highest"], rows, (2, 3))
