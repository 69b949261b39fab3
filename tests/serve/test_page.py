"""The live page shows a status snapshot."""

from __future__ import annotations

import dataclasses
import html.parser
import re

from harstream import __version__
from harstream.serve import page
from harstream.serve.status import DaemonStatus, SourceStatus

SOURCE = SourceStatus(
    "source1",
    "waist@1.0.0",
    "litert",
    ("WALKING", "A<B", "UNKNOWN"),
    devices=3,
    devices_by_problem={"gravity": 0, "clock": 1_200},
    devices_by_label={"WALKING": 2, "A<B": 1, "UNKNOWN": 0, "OF_AN_EARLIER_MODEL": 5},
    messages_received=1_234_567,
)
STATUS = DaemonStatus((SOURCE,), ready=True, windows_classified=40, latency_sum_s=0.5)


class Reader(html.parser.HTMLParser):
    """Parser that keeps the texts of a page and its unclosed tags."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def rows(text: str) -> dict[str, str]:
    """Name to value of every row of the tables."""
    found = re.findall(r"<tr><th>(.*?)</th>(?:<td><span.*?</td>)?<td.*?>(.*?)</td></tr>", text)
    return dict(found)


def test_the_page_shows_state_model_activities_and_traffic():
    text = page.render(STATUS)
    shown = rows(text)
    assert {name: shown[name] for name in ("WALKING", "A&lt;B", "UNKNOWN")} == {
        "WALKING": "2",
        "A&lt;B": "1",
        "UNKNOWN": "0",
    }
    assert "OF_AN_EARLIER_MODEL" not in shown
    assert shown["Devices"] == "3"
    assert '<th><a href="/api/devices?problem=clock">clock</a></th><td class="number">1,200</td>' in text
    assert "gravity" not in text
    assert shown["Messages received"] == "1,234,567"
    assert shown["Mean latency, last sample to label"] == "12.5 ms"
    assert 'class="state ready">ready<' in text
    assert f"waist@1.0.0 (litert) &middot; version {__version__}" in text
    assert "width:100%" in text
    assert "width:50%" in text


def test_the_page_is_whole_html_with_its_style_sheet():
    reader = Reader()
    reader.feed(page.render(STATUS))
    assert not reader.open
    assert any(".state.ready" in part for part in reader.texts)
    assert not any("$" in part for part in reader.texts)


def test_the_page_of_a_daemon_that_has_nothing_yet():
    source = dataclasses.replace(SOURCE, devices_by_label={}, devices_by_problem={})
    text = page.render(dataclasses.replace(STATUS, sources=(source,), ready=False, windows_classified=0))
    assert rows(text)["Mean latency, last sample to label"] == "none yet"
    assert "<td>none</td>" in text
    assert 'class="state not-ready">not ready<' in text


def test_the_page_adds_up_several_sources_and_lists_them():
    phone = dataclasses.replace(
        SOURCE, name="phones", model="phone@2.0.0", labels=("WALKING", "STILL", "UNKNOWN"), devices_by_problem={}
    )
    text = page.render(dataclasses.replace(STATUS, sources=(SOURCE, phone)))
    shown = rows(text)
    assert {name: shown[name] for name in ("WALKING", "A&lt;B", "STILL", "Devices")} == {
        "WALKING": "4",
        "A&lt;B": "2",
        "STILL": "0",
        "Devices": "6",
    }
    assert shown["Messages received"] == "2,469,134"
    assert "waist@1.0.0 (litert), phone@2.0.0 (litert) &middot;" in text
    assert (
        '<th><a href="/api/devices?source=phones">phones</a></th><td>phone@2.0.0</td><td class="number">3</td>' in text
    )
    assert "by source" not in page.render(STATUS)
