"""What HTTP answers: /metrics, /healthz, /readyz, and the live page at /."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4

from harstream import __version__

if TYPE_CHECKING:
    from harstream.serve.daemon import Daemon
    from harstream.serve.http import Routes

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="2">
<meta name="viewport" content="width=device-width"><title>harstream</title><style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem;
       color: #1d2733; background: #fafbfc }}
table {{ border-collapse: collapse; width: 100%; margin: 1rem 0 2rem }}
td, th {{ text-align: left; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid #dde3ea; font-weight: normal }}
th {{ color: #5c6b7a; width: 45% }}
td.number {{ text-align: right; width: 6rem; font-variant-numeric: tabular-nums }}
.bar {{ background: #3b7dd8; height: .7rem; border-radius: 2px; display: inline-block }}
.state {{ font-weight: bold; color: {color} }}
</style></head><body>
<h1>harstream</h1><p><span class="state">{state}</span> &middot; {model} ({backend}) &middot; version {version}</p>
<h2>Devices by activity</h2><table>{activities}</table>
<h2>Traffic</h2><table>{traffic}</table>
<p><a href="/metrics">metrics</a> &middot; <a href="/healthz">healthz</a> &middot; <a href="/readyz">readyz</a></p>
</body></html>
"""


def routes(daemon: Daemon) -> Routes:
    """The paths of ``HttpServer``, answered from a daemon."""
    return {
        "/": lambda: (200, "text/html; charset=utf-8", _render(daemon).encode()),
        "/metrics": lambda: (200, CONTENT_TYPE_PLAIN_0_0_4, daemon.metrics.expose()),
        "/healthz": lambda: _answer(daemon.alive, "the loop does not move"),
        "/readyz": lambda: _answer(daemon.ready, "not ready"),
    }


def _answer(good: bool, otherwise: str) -> tuple[int, str, bytes]:
    return (200, "text/plain", b"ok\n") if good else (503, "text/plain", f"{otherwise}\n".encode())


def _render(daemon: Daemon) -> str:
    bundle, read = daemon.classifier.bundle, daemon.metrics.registry.get_sample_value
    labels = bundle.published_labels
    counts = [int(read("harstream_devices_by_activity", {"label": label}) or 0) for label in labels]
    most = max(*counts, 1)
    activities = "".join(
        f'<tr><th>{html.escape(label)}</th><td><span class="bar" style="width:{100 * count / most:.0f}%"></span></td>'
        f'<td class="number">{count}</td></tr>'
        for label, count in zip(labels, counts, strict=True)
    )
    windows = sum(read("harstream_windows_classified_total", {"label": label}) or 0 for label in labels)
    seconds, labelled = read("harstream_latency_seconds_sum") or 0, read("harstream_latency_seconds_count") or 0
    latency = f"{1000 * seconds / labelled:.1f} ms" if labelled else "none yet"
    rows = (
        ("Devices", f"{daemon.engine.n_devices:,}"),
        ("Messages received", f"{read('harstream_messages_received_total') or 0:,.0f}"),
        ("Samples received", f"{read('harstream_samples_received_total') or 0:,.0f}"),
        ("Windows classified", f"{windows:,.0f}"),
        ("Mean latency, last sample to label", latency),
        ("Messages waiting", f"{len(daemon.inbox):,}"),
    )
    traffic = "".join(f"<tr><th>{name}</th><td>{value}</td></tr>" for name, value in rows)
    return _PAGE.format(
        color="#1c7c3c" if daemon.ready else "#b3261e",
        state="ready" if daemon.ready else "not ready",
        model=html.escape(bundle.id),
        backend=daemon.classifier.backend,
        version=__version__,
        activities=activities,
        traffic=traffic,
    )
