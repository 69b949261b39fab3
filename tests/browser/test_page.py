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
#: Function that returns the pixels of a canvas. It reads a copy: a canvas that is read twice warns on the console.
PIXELS = """((canvas) => {
  const copy = Object.assign(document.createElement('canvas'), { width: canvas.width, height: canvas.height });
  const pen = copy.getContext('2d', { willReadFrequently: true });
  pen.drawImage(canvas, 0, 0);
  return pen.getImageData(0, 0, copy.width, copy.height).data;
})"""


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
    page.wait("document.querySelector('#rows').innerText.includes('no gravity')", "the problem of belt-7")
    belt = f"[...document.querySelectorAll('{ROWS}')].find((r) => r.innerText.includes('belt-7'))"
    assert page.evaluate(f"{belt}.querySelector('.problem').innerText") == "no gravity found"
    assert page.evaluate(f"{belt}.querySelector('.problem').title").startswith(
        "No gravity is found in its acceleration"
    )
    assert page.evaluate(f"{belt}.querySelector('.confidence').innerText") == "\u2013"
    assert page.evaluate(f"{belt}.querySelector('canvas.strip').getAttribute('aria-label')") == "UNKNOWN 100 %"
    page.wait("document.querySelector('#tiles').innerText.includes('Latency')")
    assert page.text("#state") == "ready"
    assert page.text("#model").startswith("model waist@")
    assert page.text("#model").endswith("(8-bit weights, int8)")


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
    drawn = f"{PIXELS}(document.querySelector('#signals canvas')).some((v) => v)"
    page.wait(drawn, "a drawn signal")
    page.wait("document.querySelectorAll('.probability').length === 12", "labels and states")
    page.wait("[...document.querySelectorAll('.probability .number')].some((e) => e.innerText)", "probabilities")
    page.wait("document.querySelectorAll('#events tbody tr').length > 2", "events")
    events = page.evaluate("[...document.querySelectorAll('#events tbody tr')].map((r) => r.cells[1].innerText)")
    assert set(events) == {"begins", "ends"}
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
    lines = text.split("\n")
    assert lines[0].startswith("No gravity is found in its acceleration: the unit is not known")
    assert lines[2].startswith("What to do: Send acceleration with gravity")
    assert "--acc-unit" in lines[2]
    assert "its mean acceleration is" in text
    assert lines[-1].endswith("documents: gravity")
    page.wait("document.querySelector('#device-now').innerText.includes('see the problem below')")
    assert "confidence" not in page.text("#device-now")


def test_a_window_that_cannot_be_trusted_says_so_in_place_of_numbers(page, fleet):
    page.open(f"{fleet.url}{DEVICE}belt-7")
    values = "[...document.querySelectorAll('.probability .number')].map((e) => e.innerText)"
    page.wait(f"{values}.length === 12 && {values}.every((text) => text === 'cannot tell')", "no numbers")
    # The lowest line of each is the axis.
    drawn = f"""[...document.querySelectorAll('.probability canvas')].map((canvas) =>
      {PIXELS}(canvas).slice(0, 4 * canvas.width * (canvas.height - 2 * Math.ceil(devicePixelRatio))).some((v) => v))"""
    assert page.evaluate(drawn) == [False] * 12
    page.open(f"{fleet.url}{DEVICE}sim-0001")
    page.wait(f"{values}.some((text) => text.endsWith(' %'))", "numbers")
    page.wait(f"{drawn}.some((one) => one)", "bars")


def test_unknown_no_data_and_movements_between_postures_are_explained(page, fleet):
    open_overview(page, fleet)
    unknown, no_data = page.texts("#legend li")
    assert unknown.startswith("UNKNOWN: no activity can be told")
    assert no_data.startswith("no data: nothing usable came from the device")
    assert page.evaluate("[...document.querySelectorAll('#activities button')].at(-1).title").startswith(
        "no activity can"
    )
    page.open(f"{fleet.url}{DEVICE}sim-0001")
    legend = "[...document.querySelectorAll('#hour-legend li')].map((e) => e.innerText)"
    page.wait(f"{legend}.some((text) => text.startsWith('no data'))", "no data in the legend")
    names = "[...document.querySelectorAll('#events tbody tr')].map((r) => r.cells[2].innerText)"
    moved = f"{names}.find((name) => name.includes('_TO_'))"
    page.wait(moved, "a movement between postures")
    name = page.evaluate(moved)
    page.wait(f"{legend}.some((text) => text.startsWith('UNKNOWN ') && text.includes('{name}'))", "it in the legend")
    assert "UNKNOWN meanwhile" in page.text("#probabilities h4")


#: Labels whose pattern has lines that rise to the right, and none that fall.
HATCHED = f"""import('/page/colours.js').then(({{ swatch, setLabels, UNKNOWN }}) => {{
  const names = Array.from({{ length: 28 }}, (_, i) => `L${{i}}`), places = [...Array(12).keys()];
  setLabels(names);
  const isHatched = (label) => {{
    const canvas = swatch(label), data = {PIXELS}(canvas);
    const at = (x, y) => data[4 * (y * canvas.width + x)];
    // Numbers of colours of those diagonals that have one colour each.
    const colours = (diagonal) => new Set(places.map(diagonal)
      .filter((line) => Math.max(...line) - Math.min(...line) < 30).map((line) => Math.round(line[0] / 60))).size;
    const rising = colours((c) => places.map((x) => at(x, 12 + c - x)));
    return rising > 1 && rising > colours((c) => places.map((x) => at(x + 12 - c, x)));
  }};
  return [UNKNOWN, ...names].filter(isHatched);
}})"""


def test_hatching_is_only_for_unknown(page, fleet):
    open_overview(page, fleet)
    assert page.evaluate(HATCHED) == ["UNKNOWN"]


#: For each activity but UNKNOWN the number in the list, and the height of its colour in the newest bar of the chart.
NEWEST_BAR = """import('/page/colours.js').then(async ({ colourOf }) => {
  const frame = () => new Promise((done) => requestAnimationFrame(done));
  await frame();
  await frame();
  const canvas = document.querySelector('#trend'), data = PIXELS(canvas);
  const column = (y, i) => data[4 * (y * canvas.width + canvas.width - 6) + i];
  const isOf = (colour, y) => [0, 1, 2].every((i) =>
    Math.abs(parseInt(colour.slice(1 + 2 * i, 3 + 2 * i), 16) - column(y, i)) < 3);
  const rows = Array.from({ length: canvas.height }, (_, y) => y);
  return [...document.querySelectorAll('#activities button')]
    .map((button) => [...button.children].slice(1).map((e) => e.innerText))
    .filter(([name]) => name !== 'UNKNOWN')
    .map(([name, count]) => [+count, rows.filter((y) => isOf(colourOf(name), y)).length]);
})"""


def test_the_newest_bar_of_the_chart_is_the_list(page, fleet):
    open_overview(page, fleet)
    seen: set[str] = set()
    while len(seen) < 5:  # also between two points of the chart
        found = page.evaluate(NEWEST_BAR.replace("PIXELS", PIXELS))
        seen.add(str([count for count, _ in found]))
        per_device = max((height / count for count, height in found if count), default=1)
        assert all(abs(height - count * per_device) <= 2 + 0.1 * count * per_device for count, height in found), found


@pytest.mark.parametrize("devices", [13, 2000, 9999, 24000])
def test_numbers_at_the_axis_of_the_chart_are_not_cut(page, fleet, devices):
    open_overview(page, fleet)
    cut = f"""import('/page/charts.js').then(({{ paintTrend }}) => {{
      const canvas = document.querySelector('#trend').cloneNode();
      canvas.removeAttribute('id');
      document.querySelector('figure').append(canvas);
      paintTrend(canvas, {{ counts: {{}} }}, {{ WALKING: {devices} }}, ['WALKING'], 30);
      const data = {PIXELS}(canvas);
      const column = (x) => Array.from({{ length: canvas.height }}, (_, y) => data[4 * (y * canvas.width + x) + 3]);
      canvas.remove();
      const hasInk = (x) => column(x).some((v) => v);
      return [hasInk(0), Array.from({{ length: 40 }}, (_, x) => x).some(hasInk)];
    }})"""
    assert page.evaluate(cut) == [False, True]  # nothing at the edge, something beside it


def test_the_page_says_what_it_shows_where_it_comes_from_and_how_old_it_is(page, fleet):
    open_overview(page, fleet)
    page.wait("document.querySelector('#age').innerText === 'Up to date.'")
    assert fleet.broker.address.removeprefix("mqtt://") in page.text(".subtitle")
    assert "wearables/{device}/imu" in page.text(".subtitle")
    page.open(f"{fleet.url}{DEVICE}sim-0001")
    page.wait(
        "document.querySelector('#input').innerText.includes('wearables/{device}/imu')", "it on the page of a device"
    )
    errors = len(page.errors)
    fleet.daemon.send(signal.SIGSTOP)
    try:
        page.wait("document.querySelector('#age').innerText.startsWith('As of ')", "the age of what is shown")
    finally:
        fleet.daemon.send(signal.SIGCONT)
    page.wait("document.querySelector('#age').innerText === 'Up to date.'")
    del page.errors[errors:]


def test_a_phone_shows_the_span_of_the_bars_the_last_message_and_the_order(page, fleet):
    page.resize(390, 844, phone=True)
    page.open(f"{fleet.url}#/?sort=problem")
    page.wait(f"{LABELS}.length && {LABELS}.every((l) => l !== 'no label yet')", "the rows in view")
    page.wait(
        "document.querySelector('#bars').innerText === 'Each bar shows the last 2 minutes, up to now at its right end.'"
    )
    assert (
        page.evaluate("getComputedStyle(document.querySelector('.rows .seen'), '::before').content")
        == '"last message "'
    )
    orders = page.evaluate("[...document.querySelectorAll('#direction option')].map((o) => o.text)")
    assert orders == ["worst first", "none first"]
    page.wait(f"{NAMES}[0] === 'belt-7'", "the worst first")
    label = f"document.querySelector('{ROWS} .activity b')"
    assert page.evaluate(f"{label}.scrollWidth <= {label}.clientWidth")  # UNKNOWN is not cut
    page.evaluate(
        "(s => { s.value = '1'; s.dispatchEvent(new Event('change')) })(document.querySelector('#direction'))"
    )
    page.wait(f"{NAMES}[0] !== 'belt-7'", "those without a problem first")
    assert page.evaluate("location.hash") == "#/?sort=problem&descending=1"
    page.evaluate("(s => { s.value = 'rate'; s.dispatchEvent(new Event('change')) })(document.querySelector('#sort'))")
    page.wait("document.querySelector('#direction').selectedOptions[0].text === 'slowest first'")


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
    page.wait("document.querySelector('#rows').innerText.includes('no gravity')", "a problem")
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
