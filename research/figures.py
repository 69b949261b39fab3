"""Tables and plots of committed results.

    python -m research.figures docs/results

writes ``NAME.md`` and ``NAME.png`` beside each results file ``NAME.json`` in the folder or below. A smoothing study
gets only the table, counts of channels only the plot; the studies of labs never seen in a folder share ``labs.md``.
The ``results.json`` in a sweep's own folder gets ``table.md`` and ``boxplot.png``. Other files stay as they are.
Nothing is trained or measured.

    python -m research.figures --channels hapt:hapt.zip docs/results/channels

first counts the values of each channel of the recordings into ``channels.json``, then draws them.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from harstream import datasets
from harstream.core.spec import GYRO
from harstream.errors import DatasetError
from harstream.train.sweep import figures as sweep_figures
from harstream.train.sweep import results
from research import channels
from research.command import command
from research.labs import results as labs_results
from research.smoothing import results as stream_results

#: Colours that colour-blind readers can distinguish (Okabe and Ito 2008), then more for many labels.
_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#000000", "#b8a800", "#7f7f7f")


def channel_plot(counts_by_channel: dict[str, Any], path: Path) -> None:
    """Draw the density of each channel's values by label, one panel per channel; write a PNG."""
    names = list(counts_by_channel["channels"])
    n_columns = min(3, len(names))
    n_rows = math.ceil(len(names) / n_columns)
    figure = Figure(figsize=(3.7 * n_columns, 2.3 * n_rows + 0.7), layout="constrained")
    panels = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    for axes, name in zip(panels, names, strict=False):
        entry = counts_by_channel["channels"][name]
        edges = np.linspace(entry["low"], entry["high"], len(next(iter(entry["counts"].values()))) + 1)
        for number, (label, counts) in enumerate(entry["counts"].items()):
            n_values = max(sum(counts) + entry["beyond"][label], 1)
            density = np.array(counts) / n_values / (edges[1] - edges[0])
            axes.stairs(density, edges, color=_COLOURS[number % len(_COLOURS)], label=label, linewidth=1.1)
        axes.set_title(f"{name}, {'rad/s' if name in GYRO else 'g'}", fontsize=9)
        # On a linear scale, the narrow peak of rest would press motion to the bottom.
        axes.set_yscale("symlog", linthresh=1.0)
        axes.set_ylim(bottom=0)
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_axisbelow(True)
    for axes in panels[len(names) :]:
        axes.set_axis_off()
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(6, len(labels)), fontsize=8, frameon=False)
    n_subjects, data = len(counts_by_channel["wearers"]), counts_by_channel["data"]
    figure.suptitle(f"{data}, {n_subjects} subjects: density of each channel's values", fontsize=10)
    # The file holds no date and no version of the library: the same counts give the same file.
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=120, metadata={"Software": None})


def regenerate(folder: Path) -> list[Path]:
    """Write the tables and plots of all results files in ``folder``; return the paths written.

    Raises:
        DatasetError: There is no such folder, or a results file is damaged.

    """
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder")
    written: list[Path] = []
    labs: dict[Path, dict[str, Any]] = {}
    for path in sorted(folder.rglob("*.json")):
        kind = results.format_of(path)
        if kind == results.FORMAT:
            written += sweep_figures.write(results.read(path), path)
        elif kind == channels.FORMAT:
            channel_plot(channels.read(path), path.with_suffix(".png"))
            written.append(path.with_suffix(".png"))
        elif kind == stream_results.FORMAT:
            path.with_suffix(".md").write_text(stream_results.table(stream_results.read(path)), encoding="utf-8")
            written.append(path.with_suffix(".md"))
        elif kind == labs_results.FORMAT:
            labs.setdefault(path.parent / labs_results.TABLE, {})[path.stem] = labs_results.read(path)
    for path, studies in labs.items():
        path.write_text(labs_results.table(studies), encoding="utf-8")
        written.append(path)
    return written


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m research.figures", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("folder", type=Path, help="folder of results files")
    parser.add_argument("--channels", metavar="KIND:PATH", help="first count the values of these recordings' channels")
    chosen = parser.parse_args(arguments)
    if chosen.channels:
        counted = channels.to_text(channels.count(datasets.load(chosen.channels), chosen.channels))
        chosen.folder.mkdir(parents=True, exist_ok=True)
        (chosen.folder / "channels.json").write_text(counted, encoding="utf-8")
    written = regenerate(chosen.folder)
    for path in written:
        print(path)


if __name__ == "__main__":
    sys.exit(main())
