"""Table of the results of a sweep in Markdown."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from harstream.errors import DatasetError
from harstream.tables import markdown, spread
from harstream.train.sweep.results import Results, Row

_HEAD = (
    "",
    "accuracy, %",
    "macro F1, %",
    "parameters",
    "float32, kB",
    "int8, kB",
    "float32, windows/s",
    "int8, windows/s",
    "epochs",
    "seeds",
    "folds",
    "s per fit",
)
_METHOD = """\
{n_subjects} subjects of `{data}`; mean ± standard deviation over the seeds. A seed decides the folds of subjects and
the initial weights. Each subject is held out once per seed, and scored by a network trained on the subjects of the
other folds. The folds are the same for every row, and nothing was chosen on the fold that is scored:
{epochs}.

Accuracy is the share of single windows, each inside one activity. Sizes are those of the LiteRT files. windows/s is the
speed of LiteRT on the machine that made this table: compare ratios, not absolute figures, with other machines.
"""
_BY_DATA = """\
Where a data set was held out as a whole, the second table has its macro recall: the mean over the labels that it has.
"""
_FIXED = "the number of epochs was fixed before the training"
_STOPPED = """\
early stopping, if any, looked at some of the subjects trained on, and otherwise the number of epochs was fixed before
the training"""


def complete(results: Results) -> list[tuple[str, Row, dict[int, tuple[float, float]]]]:
    """Return each row that has a complete seed: a unique name, the row, and accuracy and macro F1 by seed.

    Raises:
        DatasetError: There is no such row.

    """
    scored = [(row, row.scores_by_seed(results.subjects)) for row in results.rows]
    rows = [(row, by_seed) for row, by_seed in scored if by_seed]
    if not rows:
        raise DatasetError(f"results of {results.data}: no row has a seed under which every subject was held out")
    names = _unique_names([row for row, _ in rows])
    return [
        (name, row, {seed: (scores.accuracy, scores.macro_f1) for seed, scores in by_seed.items()})
        for name, (row, by_seed) in zip(names, rows, strict=True)
    ]


def table(results: Results) -> str:
    """Return the text of a Markdown file: the commands, the method, and one line per row.

    Raises:
        DatasetError: No row has a complete seed.

    """
    rows = complete(results)
    stopped = any(row.config.get("patience") for _, row, _ in rows)
    method = _METHOD.format(n_subjects=len(results.subjects), data=results.data, epochs=_STOPPED if stopped else _FIXED)
    by_data = _by_data(rows)
    if by_data:
        method = f"{method.rstrip()}\n\n{_BY_DATA}"
    reasons = [
        f"- {name}: no {network} network: {measured['reason']}"
        for name, row, _ in rows
        for network, measured in (("float32 LiteRT", row.litert), ("int8", row.int8))
        if "reason" in measured
    ]
    missing = len(results.rows) - len(rows)
    parts = [
        "\n".join(f"    {command}" for command in results.commands),
        method.rstrip(),
        markdown(_HEAD, [_cells(name, row, scores) for name, row, scores in rows], right=range(1, len(_HEAD))),
        by_data,
        "\n".join(reasons),
        f"{missing} more rows have no complete seed." if missing else "",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _cells(name: str, row: Row, scores: Mapping[int, tuple[float, float]]) -> list[str]:
    fits = [fit for fit in row.fits if fit.seed in scores]
    folds = {len([fit for fit in fits if fit.seed == seed]) for seed in scores}
    return [
        name,
        spread([100 * accuracy for accuracy, _ in scores.values()]),
        spread([100 * macro_f1 for _, macro_f1 in scores.values()]),
        f"{row.parameters:,}",
        *(_figure(network, "bytes", 1000) for network in (row.litert, row.int8)),
        *(_figure(network, "windows_per_s", 1) for network in (row.litert, row.int8)),
        _range([fit.epochs for fit in fits]),
        _seeds(list(scores)),
        _range(list(folds)),
        f"{statistics.fmean(fit.seconds for fit in fits):.0f}",
    ]


def _by_data(rows: Sequence[tuple[str, Row, Mapping[int, Any]]]) -> str:
    """Return the table of macro recall on data sets that were held out as a whole; nothing if none was."""
    recalls = [(name, row.macro_recall_by_data(scores)) for name, row, scores in rows]
    names = sorted(set().union(*(by_data for _, by_data in recalls)))
    if not names:
        return ""
    return markdown(
        ("macro recall, %", "mean", *names),
        [
            (
                name,
                spread([100 * statistics.fmean(seed) for seed in zip(*by_data.values(), strict=True)]),
                *(spread([100 * recall for recall in by_data[each]]) if each in by_data else "-" for each in names),
            )
            for name, by_data in recalls
            if by_data
        ],
        right=range(1, len(names) + 2),
    )


def _figure(measured: Mapping[str, Any], key: str, unit: int) -> str:
    """Return a measured figure, ``?`` if it was not measured, ``-`` if there is no such network."""
    if not measured:
        return "?"
    return f"{measured[key] / unit:,.0f}" if key in measured else "-"


def _range(values: list[int]) -> str:
    """Return ``5``, or ``3-5`` if the values differ."""
    return str(values[0]) if min(values) == max(values) else f"{min(values)}-{max(values)}"


def _seeds(seeds: list[int]) -> str:
    """Return ``0-4`` for consecutive seeds, else ``0, 2, 5``."""
    if len(seeds) > 2 and seeds == list(range(seeds[0], seeds[-1] + 1)):
        return f"{seeds[0]}-{seeds[-1]}"
    return ", ".join(map(str, seeds))


def _unique_names(rows: Sequence[Row]) -> list[str]:
    """Return the names of the rows; rows of the same name get the settings in which they differ."""
    names = []
    for row in rows:
        settings = _settings(row)
        others = [_settings(other) for other in rows if other.name == row.name and other is not row]
        differing = [key for key in settings if any(other.get(key) != settings[key] for other in others)]
        extra = ", ".join(f"{key}={json.dumps(settings[key])}" for key in differing)
        names.append(f"{row.name} ({extra})" if extra else row.name)
    return names


def _settings(row: Row) -> dict[str, Any]:
    """Return all settings of a row, of signal, architecture and recipe."""
    config = dict(row.config)
    return {**dict(row.signal), **dict(config.pop("arch_settings", {})), **config}
