"""The table and the box plot of one sweep, drawn from its results."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from harstream.train.sweep import tables
from harstream.train.sweep.results import RESULTS, Results

_BOX, _POINT, _GRID = "#a9c4e4", "#1f4e8c", "#dddddd"


def write(results: Results, source: Path) -> list[Path]:
    """Write the table and the box plot beside the file ``source`` of the results, and return their paths.

    ``NAME.json`` gets ``NAME.md`` and ``NAME.png``; ``results.json`` in a sweep's own folder gets ``table.md`` and
    ``boxplot.png``.

    Raises:
        DatasetError: No config has a complete seed.

    """
    own_folder = source.name == RESULTS
    text = source.with_name("table.md") if own_folder else source.with_suffix(".md")
    plot = source.with_name("boxplot.png") if own_folder else source.with_suffix(".png")
    text.write_text(tables.table(results), encoding="utf-8")
    box_plot(results, plot)
    return [text, plot]


def box_plot(results: Results, path: Path) -> None:
    """Draw one box for each row over the accuracies of its seeds, and every seed as a point; write a PNG.

    Raises:
        DatasetError: No row has a complete seed.

    """
    rows = tables.complete(results)
    values = [[100 * accuracy for accuracy, _ in scores.values()] for _, _, scores in rows]
    figure = Figure(figsize=(8.0, 1.3 + 0.36 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    at = np.arange(len(rows))[::-1]
    axes.boxplot(
        values,
        positions=at,
        orientation="horizontal",
        widths=0.55,
        patch_artist=True,
        showfliers=False,  # every seed is drawn as a point
        manage_ticks=False,
        boxprops={"facecolor": _BOX, "edgecolor": _POINT, "linewidth": 0.8},
        medianprops={"color": _POINT, "linewidth": 1.6},
        whiskerprops={"color": _POINT, "linewidth": 0.8},
        capprops={"color": _POINT, "linewidth": 0.8},
    )
    for y, accuracies in zip(at, values, strict=True):
        spread = np.linspace(-0.12, 0.12, len(accuracies)) if len(accuracies) > 1 else [0.0]
        axes.plot(accuracies, y + np.array(spread), "o", color=_POINT, markersize=3.5, alpha=0.8)
    axes.set_yticks(at, [name for name, _, _ in rows])
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_xlabel("accuracy on subjects not trained on, %")
    seeds = sorted({len(scores) for _, _, scores in rows})
    counts = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    axes.set_title(
        f"{results.data}, {len(results.subjects)} subjects: one point for each of {counts} seeds", fontsize=10
    )
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
    axes.grid(axis="x", color=_GRID, linewidth=0.6)
    # The file holds no date and no version of the library: the same results give the same file.
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=120, metadata={"Software": None})
