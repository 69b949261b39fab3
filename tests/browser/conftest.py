"""A browser for all tests of a file, and a daemon with a fleet of wearables for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .chromium import Chromium, Page
from .fleet import Fleet


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    with Chromium() as browser:
        yield browser


@pytest.fixture
def page(chromium: Chromium, fleet: Fleet) -> Iterator[Page]:
    """Return an empty page that in the end has no error on its console, and has asked for nothing elsewhere.

    It is closed before the fleet ends, so that it never misses the daemon.
    """
    page = chromium.page()
    yield page
    page.close()
    assert not page.errors
    hosts = {url.split("/")[2].partition(":")[0] for url in page.requests if url.startswith("http")}
    assert hosts <= {"127.0.0.1"}


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with Fleet(tmp_path) as fleet:
        yield fleet
