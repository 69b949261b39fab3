"""The report: complete, without requests, escaped, and readable with many sessions or none."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from harstream.core.spec import SignalSpec
from harstream.errors import ConfigError
from harstream.evaluate import charts, report
from harstream.evaluate.evaluation import Evaluation, together
from harstream.evaluate.events import NO_LABEL, Track, score_events
from harstream.evaluate.metrics import measure_reliability, score, score_by
from harstream.evaluate.sessions import PLACES, Abstained, Session, SessionScores, TrackScores, measure_delays

LABELS = ("WALKING", "<b>SITTING</b>", "LYING & RESTING")
VOID = {"meta"}


class Checked(HTMLParser):
    """Parser that asserts that elements are closed in order, and collects text and attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.text = ""
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def session(name: str = "s1", minutes: int = 4, *, wrong: bool = False) -> Session:
    """Return a session: WALKING, an unknown activity, SITTING; labels come late, with UNKNOWN between them."""
    second = 10**9
    end = minutes * 60
    truth = Track(
        *(
            np.array(part)
            for part in ([0, 60 * second, 70 * second], [60 * second, 70 * second, end * second], [0, NO_LABEL, 1])
        )
    )
    times = np.arange(3, end, 1) * second
    label = np.where(times < 65 * second, 0, np.where(times < 73 * second, NO_LABEL, 0 if wrong else 1))
    published = Track(times, times + second, label)
    inside = np.array([0] * 20 + [1] * 30)
    published_label = np.array([0] * 20 + [NO_LABEL] + [0 if wrong else 1] * 29)
    return Session(
        name,
        "<script>alert(1)</script>",
        end * second,
        truth,
        ("WALKING", "WALK_TO_SIT", "<b>SITTING</b>"),
        published,
        published,
        inside,
        published_label,
        np.full(50, 0.9),
        np.maximum(published_label, 0),
        np.full(50, 0.9),
        dict.fromkeys(PLACES, Abstained(10, 2)),
    )


def evaluation(sessions: list[Session] | None = None) -> Evaluation:
    sessions = [session()] if sessions is None else sessions
    truth = np.concatenate([one.true_label for one in sessions])
    guess = np.concatenate([one.published_label for one in sessions])
    scores = score(truth, guess, LABELS, abstains=True)
    bins = measure_reliability(np.full(len(truth), 0.9), guess == truth)
    total = [
        sum(each, start=type(each[0])())
        for each in zip(*(score_events(s.truth, s.published, 3) for s in sessions), strict=True)
    ]
    outcome = TrackScores(
        scores, bins, tuple(total), 5, 1, tuple(c for s in sessions for c in measure_delays(s.truth, s.published))
    )
    return Evaluation(
        "waist@1.0.0",
        "litert",
        "csv:<folder>",
        "1 recordings",
        ("mind <this>",),
        scores,
        bins,
        score_by(np.full(len(truth), "<i>subject</i>"), truth, guess, LABELS, abstains=True),
        SessionScores(LABELS, 2.56, tuple(sessions), outcome, outcome),
    )


def test_the_page_is_whole_and_names_are_escaped() -> None:
    page = report.render(evaluation())
    checked = Checked(page)
    assert not {"script", "b>", "i>", "img", "link", "iframe", "object"} & set(checked.seen)
    for name in (*LABELS, "<script>alert(1)</script>", "<i>subject</i>", "csv:<folder>", "mind <this>"):
        assert name in checked.text


def test_the_page_asks_for_nothing_from_elsewhere() -> None:
    page = report.render(evaluation())
    assert "default-src 'none'" in page
    assert not re.search(r"https?://|@import|src=", page)
    assert set(re.findall(r"url\((.*?)\)", page)) == {"#hatch"}
    assert not [value for name, value in Checked(page).attributes if name in ("href", "src") or name.startswith("on")]


def test_every_section_that_was_asked_for_is_there() -> None:
    text = Checked(report.render(evaluation())).text
    for heading in (
        "Confusion",
        "Reliability",
        "Subjects",
        "Whole sessions",
        "Abstention",
        "Delay",
        "Events",
        "Timelines",
    ):
        assert heading in text
    for words in ("accuracy", "macro-F1", "precision", "recall", "expected calibration error", "fragmented", "UNKNOWN"):
        assert words in text


def test_a_label_without_windows_has_no_figures() -> None:
    page = report.render(replace(evaluation(), scores=score([0, 1], [0, 2], LABELS)))
    row = re.search(r"<tr><t[hd][^>]*>LYING &amp; RESTING.*?</tr>", page, re.DOTALL)
    assert row is not None
    assert re.findall(r">(-)<", row[0]) == ["-"] * 3


def test_without_sessions_or_subjects_the_page_has_a_note_and_draws_the_rest() -> None:
    bare = replace(evaluation(), by_subject={}, stream=None)
    text = Checked(report.render(bare)).text
    assert "does not name the subjects" in text
    assert "Timelines" not in text


def test_of_many_sessions_those_with_the_lowest_accuracy_are_drawn() -> None:
    many = [session(f"good-{i:03d}") for i in range(report.MAX_SESSIONS + 4)] + [session("bad", wrong=True)]
    text = Checked(report.render(evaluation(many))).text
    assert "5 others are left out" in text
    assert "bad" in text
    assert text.count("good-") == report.MAX_SESSIONS - 1


def test_a_timeline_shows_truth_above_what_was_published() -> None:
    drawn = charts.timeline(session(), LABELS, 150)
    Checked(drawn)
    assert drawn.count(">truth<") == drawn.count(">published<") == 2  # 240 s in rows of 150
    assert 'class="unknown"' in drawn
    assert 'class="other"' in drawn
    assert "WALK_TO_SIT, 1:00 to 1:10" in drawn
    # The first three seconds of SITTING are wrong. Labels in time of an unknown activity are not.
    assert drawn.count('class="wrong"') == 1


def test_no_drawing_leaves_its_frame() -> None:
    wild = {"w" * 80: score([0], [1], LABELS), "x": score([0, 1], [0, 1], LABELS)}
    drawings = [
        charts.timeline(session(minutes=90), LABELS, 1350),
        charts.subject_chart(wild),
        charts.delay_histogram([0.0, 0.4, 3.2, 250.0], 2.56),
        charts.delay_histogram([0.0], 60.0),
        charts.reliability_diagram(measure_reliability([0.0, 0.5, 1.0], [True, False, True])),
        charts.event_diagram(LABELS, score_events(session().truth, session().published, 3)),
    ]
    for drawing in drawings:
        Checked(drawing)
        width, height = map(float, re.findall(r'viewBox="0 0 (\d+) (\d+)"', drawing)[0])
        for x, y, w, h in re.findall(r'x="([-\d.]+)" y="([-\d.]+)" width="([-\d.]+)" height="([-\d.]+)"', drawing):
            assert -0.1 <= float(x) <= float(x) + float(w) <= width + 0.5
            assert -0.1 <= float(y) <= float(y) + float(h) <= height + 0.5


def test_every_label_has_a_colour_of_its_own_and_ink_that_shows_on_it() -> None:
    colours = [charts.label_colour(i) for i in range(40)]
    assert len(set(colours)) == 40
    assert all(re.fullmatch("#[0-9a-f]{6}", colour) for colour in colours)
    assert (charts.text_colour("#000000"), charts.text_colour("#ffffff")) == ("#fff", "#000")


def test_the_page_is_written_into_a_new_folder(tmp_path) -> None:
    path = report.write(evaluation(), tmp_path / "a" / "b")
    assert path == tmp_path / "a" / "b" / "report.html"
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="report: "):
        report.write(evaluation(), tmp_path / "file")


def test_data_sets_and_placements_have_a_section_where_there_are_several() -> None:
    assert "Data sets and placements" not in report.render(evaluation())
    one = replace(evaluation(), name="csv", by_placement=dict.fromkeys(("<u>pocket</u>", ""), evaluation().scores))
    several = together([one, replace(evaluation(), name="<i>hapt</i>")], SignalSpec())
    for page, names in (
        (report.render(one), ("csv, <u>pocket</u>", "csv, not named")),
        (report.render(several), ("csv", "csv, <u>pocket</u>", "<i>hapt</i>", "mean of the data sets")),
    ):
        checked = Checked(page)
        assert "Data sets and placements" in checked.text
        assert not {"u>", "i>", "u", "script"} & set(checked.seen)
        for name in names:
            assert name in checked.text
