"""Measure the live page in the browser: ``python -m tests.browser.figures DEVICES...``.

Prints, for each number of devices, the time between two frames while the page is scrolled, the share of time that the
page works while nobody touches it, and the bytes a second that it receives.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from harstream.bench import load as loads
from harstream.bench.counters import READY, SENT, STOP, SharedCounters
from harstream.bench.processes import process
from harstream.source_config import DEFAULT_TOPIC

from ..servers import Mosquitto, Process, free_port, wait_until
from .chromium import Chromium, Page

_SECONDS = 10
#: Scroll by a row and a half in each frame, and return the times between the frames in ms.
_SCROLL = f"""new Promise((done) => {{
  const times = [], end = performance.now() + {1000 * _SECONDS};
  let last = performance.now(), step = 60;
  const frame = (now) => {{
    times.push(now - last);
    last = now;
    const {{ scrollTop, scrollHeight, clientHeight }} = document.scrollingElement;
    if (scrollTop + clientHeight >= scrollHeight - 1) step = -60;
    if (scrollTop <= 0) step = 60;
    scrollBy(0, step);
    now < end ? requestAnimationFrame(frame) : done(times.slice(1));
  }};
  requestAnimationFrame(frame);
}})"""


def _busy_s(page: Page) -> float:
    """Return the time that the page has worked so far."""
    metrics = page.call("Performance.getMetrics")["metrics"]
    return float(next(one["value"] for one in metrics if one["name"] == "TaskDuration"))


def measure(browser: Chromium, url: str, devices: int) -> dict[str, Any]:
    """Return the figures of the overview."""
    page = browser.page()
    page.call("Performance.enable")
    page.open(url)
    page.wait(f"document.querySelector('#matching').innerText === '{devices:,} devices'", f"{devices} devices")
    time.sleep(3)
    busy_s, received, since_s = _busy_s(page), page.received, time.monotonic()
    time.sleep(_SECONDS)
    span_s = time.monotonic() - since_s
    figures = {
        "devices": devices,
        "busy %": round(100 * (_busy_s(page) - busy_s) / span_s, 1),
        "bytes/s": round((page.received - received) / span_s),
        "rows": page.evaluate("document.querySelectorAll('#rows [role=row]').length"),
    }
    times = np.array(page.evaluate(_SCROLL))
    p50, p95, p99 = np.percentile(times, [50, 95, 99]).round(1).tolist()
    figures |= {"frames": len(times), "frame p50 ms": p50, "frame p95 ms": p95, "frame p99 ms": p99}
    figures["bytes/s while scrolled"] = round((page.received - received) / (time.monotonic() - since_s))
    assert not page.errors, page.errors
    page.close()
    return figures


def run(devices: int) -> dict[str, Any]:
    """Start broker, daemon, load and browser, and return the figures."""
    http = f"127.0.0.1:{free_port()}"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        counters = SharedCounters(folder / "counters")
        with (
            Mosquitto(folder) as broker,
            Process("run", "--broker", broker.address, "--http", http, "--model", "waist", folder=folder) as daemon,
            Chromium() as browser,
        ):
            daemon.wait_for(" ready: ")
            settings = {
                **{
                    "counters": str(folder / "counters"),
                    "host": "127.0.0.1",
                    "port": broker.port,
                    "qos": 0,
                    "topics": [DEFAULT_TOPIC],
                },
                **{"n_devices": devices, "payload": "packed", "n_samples": 25, "lead": 0, "rounds": 0, "log": None},
            }
            with process("-m", loads.__name__, settings) as load:
                wait_until(lambda: "ready" in load.output, "the load")
                counters[READY] = 1
                wait_until(lambda: bool(counters[SENT]), "the first message")
                figures = measure(browser, f"http://{http}/", devices)
                counters[STOP] = 1
                return figures


if __name__ == "__main__":
    for number in map(int, sys.argv[1:]):
        print(run(number), flush=True)
