"""The live page in a real browser."""

from __future__ import annotations

import json
import signal
from importlib.util import find_spec
from pathlib import Path

import pytest

from .chromium import Page
from .fleet import Fleet

pytestmark = pytest.mark.slow  # a daemon, a simulator and a browser for each

ROWS = "#rows [role=row]:not(.waiting)"
NAMES = f"[...document.querySelectorAll('{ROWS} a')].map((a) => a.innerText)"
LABELS = f"[...document.querySelectorAll('{ROWS} .activity b')].map((b) => b.innerText)"
DEVICE = "#/device/source1/"


def open_overview(page: Page, fleet: Fleet, hash_: str = "") -> None:
    """Open the overview, and wait until every device has a row and a label."""
    page.open(fleet.url + hash_)
    page.wait(f"{NAMES}.length === {fleet.devices + 1} && {LABELS}.every((l) => l !== 'no label yet')", "all devices")


def axe() -> str:
    """Return the source of axe-core, which the package axe-playwright-python holds."""
    spec = find_spec("axe_playwright_python")
    if spec is None or spec.origin is None:
        pytest.skip("axe-playwright-python is not installed")
    return (Path(spec.origin).parent / "axe.min.js").read_text(encoding="utf-8")


def violations(page: Page) -> list[str]:
    """Return what axe finds: the rule, and the elements that break it."""
    page.evaluate(axe() + "; true")
    found = page.evaluate(
        "axe.run(document, {resultTypes: ['violations']}).then((r) => r.violations.map((v) => "
        "`${v.id}: ${v.nodes.map((n) => `${n.target} ${n.failureSummary}`).slice(0, 3)}`))"
    )
    return [str(one) for one in found]


def test_devices_appear_with_label_strip_and_problem(page, fleet):
    open_overview(page, fleet)
    assert sorted(page.evaluate(NAMES))[:2] == ["belt-7", "sim-0001"]
    page.wait("document.querySelector('#rows').innerText.includes('gravity')", "the problem of belt-7")
    belt = f"[...document.querySelectorAll('{ROWS}')].find((r) => r.innerText.includes('belt-7'))"
    assert page.evaluate(f"{belt}.querySelector('.problem').innerText") == "gravity"
    assert page.evaluate(f"{belt}.querySelector('canvas.strip').getAttribute('aria-label')") == "UNKNOWN 100 %"
    page.wait("document.querySelector('#tiles').innerText.includes('Latency')")
    assert page.text("#state") == "ready"
    assert page.text("#model").startswith("waist@")


def test_labels_change_with_the_simulator(page, fleet):
    open_overview(page, fleet)
    before = page.evaluate(LABELS)
    page.wait(f"JSON.stringify({LABELS}) !== {json.dumps(json.dumps(before, separators=(',', ':')))}", "other labels")
    said = "[...document.querySelectorAll('canvas.strip')].map((c) => c.getAttribute('aria-label'))"
    page.wait(f"{said}.some((text) => text.includes(', '))", "a strip with two activities")


def test_filters_search_and_sort_show_what_they_say_and_stay_in_the_address(page, fleet):
    open_overview(page, fleet)
    page.evaluate("document.querySelector('#search').focus()")
    page.type("0003")
    page.wait(f"String({NAMES}) === 'sim-0003'", "one device")
    assert page.text("#matching") == f"1 of {fleet.devices + 1} devices"
    assert page.evaluate("location.hash") == "#/?search=0003"
    page.click("#clear")
    page.wait(f"{NAMES}.length === {fleet.devices + 1}", "all devices")
    page.evaluate(
        "(s => { s.value = 'gravity'; s.dispatchEvent(new Event('change')) })(document.querySelector('#problem'))"
    )
    page.wait(f"String({NAMES}) === 'belt-7'", "the device with the problem")
    page.open(fleet.url + "#/?activity=UNKNOWN")
    page.wait(f"{LABELS}.length && {LABELS}.every((l) => l === 'UNKNOWN')", "devices with UNKNOWN")
    page.open(fleet.url + "#/?sort=device&descending=1")
    page.wait(f"{NAMES}[0] === 'sim-0006'", "the last device first")
    head = "[...document.querySelectorAll('[role=columnheader]')].find((h) => h.innerText === 'Device')"
    assert page.evaluate(f"{head}.getAttribute('aria-sort')") == "descending"
    page.evaluate(f"{head}.querySelector('button').click()")
    page.wait(f"{NAMES}[0] === 'belt-7'", "the first device first")
    page.open(fleet.url + "#/?search=nothing")
    page.wait("document.querySelector('#empty').innerText === 'No device matches.'")


def test_the_page_of_a_device_shows_signal_probabilities_strip_events_health_and_settings(page, fleet):
    open_overview(page, fleet)
    page.evaluate(f"[...document.querySelectorAll('{ROWS} a')].find((a) => a.innerText === 'sim-0001').click()")
    page.wait("document.querySelector('#device-now strong')", "the activity")
    assert page.text("#device-name") == "sim-0001"
    page.wait("document.querySelector('#signals canvas').getAttribute('aria-label')?.includes('newest sample: x')")
    drawn = (
        "document.querySelector('#signals canvas').getContext('2d').getImageData(0, 0, 400, 100).data.some((v) => v)"
    )
    page.wait(drawn, "a drawn signal")
    page.wait("document.querySelectorAll('.probability').length === 12", "labels and states")
    page.wait("[...document.querySelectorAll('.probability .number')].some((e) => e.innerText)", "probabilities")
    page.wait("document.querySelectorAll('#events tbody tr').length > 2", "events")
    assert "enter" in page.text("#events")
    page.wait("document.querySelector('#hour').getAttribute('aria-label').includes('%')", "the strip")
    assert "It sends 50 samples a second." in page.texts("#health li")
    settings = page.text("#settings")
    for part in ("source1", "wearables/{device}/imu", "g, found in the signal", "x y z", "a phone at the waist"):
        assert part in settings
    page.click("#back")
    page.wait(f"{NAMES}.length === {fleet.devices + 1}", "the overview")


def test_the_page_of_a_device_with_a_problem_says_what_it_means_and_what_to_do(page, fleet):
    page.open(f"{fleet.url}{DEVICE}belt-7")
    page.wait("document.querySelector('.fault')", "the problem")
    text = page.text(".fault")
    assert text.startswith("Problem: gravity")
    assert "its mean acceleration is" in text
    assert "--acc-unit" in text


def test_the_page_connects_again_after_a_restart_of_the_daemon(page, fleet):
    open_overview(page, fleet)
    errors = len(page.errors)
    fleet.daemon.send(signal.SIGTERM)
    assert fleet.daemon.exit_code() == 0
    page.wait("document.querySelector('#state').innerText.startsWith('no connection')", "the loss to be shown")
    fleet.start_daemon()
    page.wait("document.querySelector('#state').innerText === 'ready'", "the connection")
    page.wait(f"{NAMES}.length === {fleet.devices + 1} && {LABELS}.some((l) => l !== 'no label yet')", "new labels")
    # The browser itself reports each failed attempt to connect; nothing else may be there.
    assert all("ERR_" in error for error in page.errors[errors:])
    del page.errors[errors:]


def test_a_device_is_reached_by_the_keyboard_alone(page, fleet):
    open_overview(page, fleet)
    for _ in range(60):
        page.key("Tab", number=9)
        if page.evaluate("document.activeElement.matches('#rows a')"):
            break
    assert page.evaluate("document.activeElement.innerText") == "belt-7"
    page.key("Enter", number=13, text="\r")
    page.wait("!document.querySelector('#device').hidden", "the page of the device")
    assert page.evaluate("document.activeElement.id") == "device-name"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_on_both_pages(page, fleet, theme):
    page.set_theme(theme)
    open_overview(page, fleet)
    page.wait("document.querySelector('#rows').innerText.includes('gravity')", "a problem")
    assert violations(page) == []
    page.resize(390, 844, phone=True)
    assert violations(page) == []
    page.open(f"{fleet.url}{DEVICE}belt-7")
    page.wait("document.querySelector('.fault') && document.querySelectorAll('#health li').length", "the problem")
    assert violations(page) == []
    page.open(f"{fleet.url}{DEVICE}sim-0001")
    page.wait("document.querySelectorAll('#events tbody tr').length > 2", "events")
    assert violations(page) == []


@pytest.mark.parametrize("width", [320, 390, 768, 940, 1280])
def test_nothing_is_wider_than_the_screen(page, fleet, width):
    page.resize(width, 800, phone=width < 700)
    page.open(fleet.url)
    page.wait(f"{NAMES}.length && {LABELS}.every((l) => l !== 'no label yet')", "the rows in view")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.open(f"{fleet.url}{DEVICE}sim-0001")
    page.wait("document.querySelectorAll('#events tbody tr').length > 2", "events")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
