"""Pictures of the live page and of `harstream watch`, with a few simulated wearables and with many."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from harstream.mqtt.urls import BrokerSettings, BrokerUrl
from harstream.watch.devices import STRIP_S, Watch
from harstream.watch.table import render
from harstream.watch.view import KEYS, View
from harstream.wire.topics import TopicTemplate

from ..browser.chromium import Chromium, Page
from ..browser.fleet import Fleet

#: Twelve subjects whose activities are ten times as short as in life.
_DEVICES, _PACE = 12, 10.0
#: Time until the strips are nearly full (later they are longer), and until the page of a device has a signal.
_FILL_S, _SIGNAL_S = STRIP_S - 15.0, 36.0
_DEVICE = "#/device/source1/"
#: Wearables of the picture with many, and the time until their strips show something.
_CROWD, _CROWD_S = 2000, 60.0


def draw(out: Path, folder: Path) -> list[Path]:
    """Draw the overview, two devices, a phone, and the table of the terminal."""
    with Fleet(folder, devices=_DEVICES, pace=_PACE) as fleet, Chromium() as browser:
        watch = Watch(
            BrokerSettings(BrokerUrl.parse(fleet.broker.address)),
            "pictures",
            TopicTemplate("wearables/{device}/imu"),
            TopicTemplate("wearables/{device}/activity", "labels-topic"),
        )
        watch.open()
        console = Console(record=True, width=118, file=io.StringIO(), force_terminal=True)
        view = View(sort="problem")
        deadline_s = time.monotonic() + _FILL_S
        while time.monotonic() < deadline_s:
            overview = watch.overview(view, 15)
            time.sleep(0.25)
        console.print(render(overview, view, console.width, KEYS))
        watch.close()
        svg = out / "watch.svg"
        # Without the addresses of fonts: a picture asks for nothing elsewhere.
        text = re.sub(r"@font-face \{.*?\}\s*", "", console.export_svg(title="harstream watch"), flags=re.DOTALL)
        svg.write_text(text.replace("Fira Code", "ui-monospace, Menlo, Consolas, DejaVu Sans Mono"))
        return [
            svg,
            _shoot(browser, out / "page-overview.png", fleet.url, 1280, 1200),
            _shoot(browser, out / "page-dark.png", fleet.url + "#/?sort=problem", 1280, 900, dark=True),
            _shoot(browser, out / "page-phone.png", fleet.url + "#/?sort=problem", 390, 844, phone=True, at=_to_rows),
            _shoot(browser, out / "page-device.png", f"{fleet.url}{_DEVICE}sim-0003", 1280, 1760, wait_s=_SIGNAL_S),
            _shoot(browser, out / "page-problem.png", f"{fleet.url}{_DEVICE}belt-7", 1280, 628, wait_s=12.0),
        ]


def draw_crowd(out: Path, folder: Path) -> list[Path]:
    """Draw the overview of many wearables. It takes two cores for a minute."""
    with Fleet(folder, devices=_CROWD, pace=_PACE, payload="packed") as fleet, Chromium() as browser:
        time.sleep(_CROWD_S)
        return [_shoot(browser, out / f"page-{_CROWD}.png", fleet.url, 1280, 1000, wait_s=10.0)]


def _to_rows(page: Page) -> None:
    page.evaluate("document.querySelector('#devices-heading').scrollIntoView()")


def _shoot(
    browser: Chromium,
    path: Path,
    url: str,
    width: int,
    height: int,
    *,
    wait_s: float = 3.0,
    dark: bool = False,
    phone: bool = False,
    at: Callable[[Page], None] = lambda page: None,
) -> Path:
    """Open a page, wait, and write what is in view to ``path``."""
    page = browser.page(width, height, dark=dark, phone=phone)
    page.open(url)
    page.wait("document.querySelector('#state').innerText === 'ready'")
    at(page)
    time.sleep(wait_s)
    assert not page.errors, page.errors
    page.screenshot(path)
    page.close()
    return path
