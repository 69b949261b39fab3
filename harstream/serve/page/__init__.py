"""Live page: an HTML page that shows a status snapshot and reloads itself."""

from __future__ import annotations

import functools
import html
from importlib import resources
from string import Template

from harstream import __version__
from harstream.core.problems import Problem
from harstream.serve.status import DaemonStatus

_ACTIVITY_ROW = Template(
    '<tr><th>$label</th><td><span class="bar" style="width:$percent%"></span></td><td class="number">$count</td></tr>'
)
_PROBLEM_ROW = Template(
    '<tr><th><a href="/api/devices?problem=$name">$name</a></th><td class="number">$count</td></tr>'
)
_TRAFFIC_ROW = Template("<tr><th>$name</th><td>$value</td></tr>")
_SOURCE_ROW = Template(
    '<tr><th><a href="/api/devices?source=$name">$name</a></th><td>$model</td><td class="number">$devices</td></tr>'
)


def render(status: DaemonStatus) -> str:
    """Return the page as HTML."""
    return _page().substitute(
        state_class="ready" if status.ready else "not-ready",
        state=html.escape(status.state),
        models=html.escape(", ".join(dict.fromkeys(f"{one.model} ({one.backend})" for one in status.sources))),
        version=__version__,
        activities=_activity_rows(status),
        problems=_problem_rows(status),
        sources=_source_rows(status),
        traffic=_traffic_rows(status),
    )


@functools.cache
def _page() -> Template:
    """Return the template of the page, its style sheet already inside."""
    folder = resources.files(__package__)
    text, style = (folder.joinpath(name).read_text(encoding="utf-8") for name in ("page.html", "page.css"))
    return Template(Template(text).safe_substitute(style=style))


def _activity_rows(status: DaemonStatus) -> str:
    labels = dict.fromkeys(label for source in status.sources for label in source.labels)
    counts = {label: sum(source.devices_by_label.get(label, 0) for source in status.sources) for label in labels}
    largest = max(*counts.values(), 1)
    return "".join(
        _ACTIVITY_ROW.substitute(label=html.escape(label), percent=f"{100 * count / largest:.0f}", count=count)
        for label, count in counts.items()
    )


def _problem_rows(status: DaemonStatus) -> str:
    """Return a row for each problem that any device has."""
    names = [problem.public_name for problem in Problem]
    counts = {name: sum(source.devices_by_problem.get(name, 0) for source in status.sources) for name in names}
    rows = [_PROBLEM_ROW.substitute(name=name, count=f"{count:,}") for name, count in counts.items() if count]
    return "".join(rows) or "<tr><td>none</td></tr>"


def _source_rows(status: DaemonStatus) -> str:
    """Return a row for each source; nothing if there is only one, which is all that the page shows anyway."""
    rows = [
        _SOURCE_ROW.substitute(name=one.name, model=html.escape(one.model), devices=f"{one.devices:,}")
        for one in status.sources
    ]
    return f"<h2>Devices by source</h2>\n<table>{''.join(rows)}</table>" if len(rows) > 1 else ""


def _traffic_rows(status: DaemonStatus) -> str:
    latency_s = status.mean_latency_s
    rows = (
        ("Devices", f"{status.devices:,}"),
        ("Messages received", f"{status.messages_received:,}"),
        ("Samples received", f"{status.samples_received:,}"),
        ("Windows classified", f"{status.windows_classified:,}"),
        ("Mean latency, last sample to label", "none yet" if latency_s is None else f"{1000 * latency_s:.1f} ms"),
        ("Messages waiting", f"{status.messages_waiting:,}"),
    )
    return "".join(_TRAFFIC_ROW.substitute(name=name, value=value) for name, value in rows)
