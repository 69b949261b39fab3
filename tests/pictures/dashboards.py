"""Drawings of the Grafana dashboards from the results of their queries. Grafana itself does not run for them."""

from __future__ import annotations

import json
import re
import time
import urllib.parse
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

from ..browser.fleet import Fleet
from ..deploy.test_prometheus import DASHBOARDS, Prometheus
from ..servers import http_get

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

#: Time for which the daemon is watched, and the step and the interval of rates of the queries.
_SPAN_S, _STEP_S, _RATE_INTERVAL = 240.0, 5, "30s"
_COLUMN_INCHES, _ROW_INCHES = 0.55, 0.33  # of Grafana's grid
_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#56b4e9", "#d55e00", "#cc79a7", "#7a8794", "#8c564b")
_NOTE = "Drawn by matplotlib from this dashboard's queries, answered by Prometheus. Grafana itself did not run."


def draw(out: Path, folder: Path) -> list[Path]:
    """Let Prometheus watch a daemon for some minutes, and draw all dashboards."""
    with Fleet(folder, devices=40, pace=10.0) as fleet:
        prometheus = Prometheus(folder, fleet.http)
        try:
            time.sleep(_SPAN_S)
            return [draw_dashboard(prometheus, path, out / f"dashboard-{path.stem}.png") for path in DASHBOARDS]
        finally:
            prometheus.close()


def draw_dashboard(prometheus: Prometheus, path: Path, picture: Path, span_s: float = _SPAN_S) -> Path:
    """Draw the panels of a dashboard at their places, each from the real results of its queries."""
    dashboard = json.loads(path.read_text())
    panels = dashboard["panels"]
    n_rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels) + 2
    figure = plt.figure(figsize=(24 * _COLUMN_INCHES, n_rows * _ROW_INCHES), dpi=90)
    figure.text(0.01, 1 - 0.9 / n_rows, f"{dashboard['title']}", fontsize=14, weight="bold", va="center")
    figure.text(0.99, 1 - 0.9 / n_rows, _NOTE, fontsize=8, va="center", ha="right", color="#52606d")
    for panel in panels:
        place = panel["gridPos"]
        left, top = place["x"] / 24, 1 - (place["y"] + 2) / n_rows
        if panel["type"] == "row":
            figure.text(left + 0.01, top - 0.5 / n_rows, panel["title"], fontsize=10, weight="bold", va="center")
            continue
        width, height = place["w"] / 24, place["h"] / n_rows
        axes = figure.add_axes(
            (left + 0.045, top - height + 0.9 / n_rows, width - 0.06, max(height - 2.3 / n_rows, 1 / n_rows))
        )
        axes.set_title(panel["title"], fontsize=8.5, loc="left")
        series = _series(prometheus, panel, span_s)
        {"timeseries": _draw_lines, "stat": _draw_value, "bargauge": _draw_bars}[panel["type"]](axes, panel, series)
    figure.savefig(picture)
    plt.close(figure)
    return picture


def _series(prometheus: Prometheus, panel: dict[str, Any], span_s: float) -> dict[str, np.ndarray]:
    """Return the results of a panel's queries by legend: times before now in minutes, and values, shape (2, n)."""
    end_s = time.time()
    found: dict[str, np.ndarray] = {}
    for target in panel["targets"]:
        expression = target["expr"].replace("$__rate_interval", _RATE_INTERVAL)
        query = {"query": expression, "start": end_s - span_s, "end": end_s, "step": _STEP_S}
        status, body = http_get(f"{prometheus.url}/api/v1/query_range?{urllib.parse.urlencode(query)}")
        assert status == 200, f"{panel['title']}: {expression}: {body}"
        for result in json.loads(body)["data"]["result"]:
            labels = result["metric"]
            legend = target["legendFormat"]
            for name in re.findall(r"\{\{\s*(\w+)\s*\}\}", legend):
                legend = re.sub(rf"\{{\{{\s*{name}\s*\}}\}}", labels.get(name, ""), legend)
            points = np.array(result["values"], np.float64).T
            found[legend] = np.stack([(points[0] - end_s) / 60, points[1]])
    return found


def _draw_lines(axes: Axes, panel: dict[str, Any], series: dict[str, np.ndarray]) -> None:
    for number, (legend, (minutes, values)) in enumerate(sorted(series.items())):
        dash = ("-", "--", ":")[number // len(_COLOURS) % 3]
        axes.plot(minutes, values, dash, color=_COLOURS[number % len(_COLOURS)], linewidth=1.2, label=legend)
    axes.tick_params(labelsize=7)
    axes.grid(color="#e4e9ee")
    top = max((float(np.nanmax(values)) for _, values in series.values()), default=0.0)
    axes.set_ylim(0, 1.35 * top or 1)  # with room for the legend
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _text(value, _unit(panel))))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} min"))
    if series:
        axes.legend(fontsize=6, loc="upper left", ncols=2 if len(series) > 4 else 1, framealpha=0.7)
    else:
        axes.text(0.5, 0.5, "no data", ha="center", va="center", fontsize=8, transform=axes.transAxes)


def _draw_value(axes: Axes, panel: dict[str, Any], series: dict[str, np.ndarray]) -> None:
    axes.set_axis_off()
    shows_name = panel["options"].get("textMode") == "name"
    texts = [legend if shows_name else _mapped(panel, values[1][-1]) for legend, values in series.items()]
    text = "\n".join(texts) or "no data"
    axes.text(0.5, 0.5, text, ha="center", va="center", fontsize=18 if len(text) < 12 else 10, weight="bold")


def _draw_bars(axes: Axes, panel: dict[str, Any], series: dict[str, np.ndarray]) -> None:
    names = sorted(series, key=lambda name: float(series[name][1][-1]))
    values = [series[name][1][-1] for name in names]
    bars = axes.barh(names, values, color=_COLOURS[0])
    axes.bar_label(bars, [_text(value, _unit(panel)) for value in values], fontsize=7, padding=2)
    axes.tick_params(labelsize=7)


def _mapped(panel: dict[str, Any], value: float) -> str:
    """Return the text that the panel gives to a value."""
    for mapping in panel["fieldConfig"]["defaults"].get("mappings", []):
        if mapping["type"] == "value" and (chosen := mapping["options"].get(f"{value:g}")):
            return str(chosen["text"])
    return _text(value, _unit(panel))


def _unit(panel: dict[str, Any]) -> str:
    return str(panel["fieldConfig"]["defaults"].get("unit", "none"))


def _text(value: float, unit: str) -> str:
    """Return a value in one of Grafana's units that the dashboards use."""
    if unit == "s":
        return f"{1000 * value:.3g} ms" if abs(value) < 1 else f"{value:.3g} s"
    if unit == "percentunit":
        return f"{100 * value:.3g} %"
    if unit == "bytes":
        return f"{value / 2**20:.4g} MiB"
    return f"{value:,.4g}{ {'cps': '/s', 'cpm': '/min'}.get(unit, '') }"
