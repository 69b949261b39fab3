"""Progress bar, on a terminal and elsewhere."""

from __future__ import annotations

from io import StringIO

import pytest

from harstream.cli.progress import ProgressBar

from ..fakes import Clock


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")


def test_elsewhere_a_step_writes_a_line_when_it_begins_and_ends_and_every_ten_seconds() -> None:
    file, clock = StringIO(), Clock()
    with ProgressBar(file=file, clock=clock) as bar:
        for done in range(5):
            bar.update("fitting", done, 4)
            clock.now_s += 6
        bar.update("fitting", 4, 4)
    assert [" ".join(line.split()) for line in file.getvalue().splitlines()] == [
        "fitting 0/4",
        "fitting 2/4 0:00:12 left",
        "fitting 4/4 in 0:00:24",
    ]


def test_a_terminal_shows_one_line_for_each_step() -> None:
    file, clock = Terminal(), Clock()
    with ProgressBar(file=file, clock=clock) as bar:
        bar.update("fitting", 0, 2)
        clock.now_s += 90
        bar.update("fitting", 1, 2, "fold 2")
        bar.update("measuring", 1, 1)
    lines = file.getvalue().split("\n")
    assert len(lines) == 3
    assert lines[0].rpartition("\r\x1b[K")[2].split() == [
        "fitting",
        "[############",
        "]",
        "1/2",
        "0:01:30",
        "left",
        "fold",
        "2",
    ]
    assert lines[1].rpartition("\r\x1b[K")[2].split() == ["measuring", f"[{'#' * 24}]", "1/1", "in", "0:00:00"]
    assert lines[2] == ""


def test_a_line_longer_than_the_terminal_is_cut_so_that_it_can_be_overwritten(monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    file = Terminal()
    ProgressBar(file=file, clock=Clock()).update("bench", 1, 9, "a detail that does not fit on the line")
    assert len(file.getvalue()) == len("\r\x1b[K") + 59


def test_the_time_left_does_not_count_what_an_earlier_process_did() -> None:
    file, clock = StringIO(), Clock()
    bar = ProgressBar(file=file, clock=clock)
    bar.update("fitting", 80, 100)
    clock.now_s += 10
    bar.update("fitting", 90, 100)
    assert file.getvalue().splitlines()[-1].endswith("0:00:10 left")


def test_counts_are_shown_in_the_unit() -> None:
    file = StringIO()
    ProgressBar(" MB", scale=1e6, file=file, clock=Clock()).update("fetching", 2_000_000, 61_000_000)
    assert file.getvalue().split() == ["fetching", "2/61", "MB"]


@pytest.mark.parametrize(("kind", "shown"), [(StringIO, "a line\n"), (Terminal, "\r\x1b[Ka line\n")])
def test_text_is_written_above_the_bar(kind: type[StringIO], shown: str) -> None:
    file = kind()
    ProgressBar(file=file).print("a line")
    assert file.getvalue() == shown
