"""Results of experiments as a Markdown table."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from harstream.errors import DatasetError
from harstream.train.sweep.results import Results, Row, spread

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
Of {n_subjects} subjects of `{data}`: mean ± standard deviation over the seeds. A seed deals the subjects into folds and
starts the networks; each subject is held out once, and counted by a network trained on the subjects of the other
folds alone. Folds are by subject, the same for every row, and nothing was picked on the fold reported:
{epochs}.
An accuracy is the share of single windows, each inside one activity. Sizes are of the LiteRT files; windows/s is
LiteRT on the machine that made this table: ratios travel, absolute figures do not.
"""
_FIXED = "every network is the one after its last epoch, a number fixed before"
_STOPPED = (
    "early stopping, where there is any, looked at some of the subjects trained on; elsewhere the number of\n"
    "epochs was fixed before"
)


def complete(results: Results) -> list[tuple[str, Row, dict[int, tuple[float, float]]]]:
    """Rows with at least one whole seed: a name unlike any other, the row, accuracy and macro F1 by seed.

    Raises DatasetError where there is none.
    """
    scored = [(row, row.by_seed(results.subjects)) for row in results.rows]
    whole = [(row, by_seed) for row, by_seed in scored if by_seed]
    if not whole:
        raise DatasetError(f"results of {results.data}: no row has a seed under which every subject was held out")
    names = _names([row for row, _ in whole])
    return [
        (name, row, {seed: (metrics.accuracy, metrics.macro_f1) for seed, metrics in by_seed.items()})
        for name, (row, by_seed) in zip(names, whole, strict=True)
    ]


def table(results: Results) -> str:
    """The text of a Markdown file: the commands, the method, one line for each row. Raises as ``complete`` does."""
    rows = complete(results)
    stopped = any(row.config.get("patience") for _, row, _ in rows)
    lines = [_line(_HEAD), _line(["---"] + ["---:"] * (len(_HEAD) - 1))]
    lines += [_line(_cells(name, row, scores)) for name, row, scores in rows]
    method = _METHOD.format(n_subjects=len(results.subjects), data=results.data, epochs=_STOPPED if stopped else _FIXED)
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
        "\n".join(lines),
        "\n".join(reasons),
        f"Not all folds of any seed are done in {missing} further rows." if missing else "",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _cells(name: str, row: Row, scores: Mapping[int, tuple[float, float]]) -> list[str]:
    units = [unit for unit in row.units if unit.seed in scores]
    folds = {len([unit for unit in units if unit.seed == seed]) for seed in scores}
    return [
        name,
        _percent([accuracy for accuracy, _ in scores.values()]),
        _percent([macro_f1 for _, macro_f1 in scores.values()]),
        f"{row.parameters:,}",
        *(_figure(network, "bytes", 1000) for network in (row.litert, row.int8)),
        *(_figure(network, "windows_per_s", 1) for network in (row.litert, row.int8)),
        _range([unit.epochs for unit in units]),
        _seeds(list(scores)),
        _range(list(folds)),
        f"{statistics.fmean(unit.seconds for unit in units):.0f}",
    ]


def _percent(values: list[float]) -> str:
    mean, deviation = spread([100 * value for value in values])
    return f"{mean:.2f}" + (f" ± {deviation:.2f}" if deviation is not None else "")


def _figure(measured: Mapping[str, Any], key: str, unit: int) -> str:
    if not measured:
        return "?"
    return f"{measured[key] / unit:,.0f}" if key in measured else "-"


def _range(values: list[int]) -> str:
    return str(values[0]) if min(values) == max(values) else f"{min(values)}-{max(values)}"


def _seeds(seeds: list[int]) -> str:
    """``0-4`` where none is missing between them, else one by one."""
    if len(seeds) > 2 and seeds == list(range(seeds[0], seeds[-1] + 1)):
        return f"{seeds[0]}-{seeds[-1]}"
    return ", ".join(map(str, seeds))


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _names(rows: Sequence[Row]) -> list[str]:
    """The rows' names; of rows of one name, with the settings in which they differ."""
    names = []
    for row in rows:
        settings = _settings(row)
        others = [_settings(other) for other in rows if other.name == row.name and other is not row]
        differing = [key for key in settings if any(other.get(key) != settings[key] for other in others)]
        extra = ", ".join(f"{key}={json.dumps(settings[key])}" for key in differing)
        names.append(f"{row.name} ({extra})" if extra else row.name)
    return names


def _settings(row: Row) -> dict[str, Any]:
    """Everything that a row of the same name may differ in, flat."""
    config = dict(row.config)
    return {**dict(row.signal), **dict(config.pop("arch_settings", {})), **config}
