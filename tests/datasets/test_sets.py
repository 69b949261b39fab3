"""Data sets used together: subjects are told apart, and what is left out is named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harstream.core.label_table import LabelTable
from harstream.core.spec import BODY_ACC, SignalSpec
from harstream.datasets import sets
from harstream.datasets.base import PrecutWindows, Recording, Segment
from harstream.datasets.sets import DataSet
from harstream.errors import DatasetError
from harstream.wire.topics import is_device_name


def recording(name: str, subject: str = "1", label: str = "SITTING", **fields: Any) -> Recording:
    samples = np.zeros((100, 6), np.float32)
    made = Recording(name, subject, 50.0, samples, (Segment(0, 50, label), Segment(60, 100, "JUMPING")))
    return replace(made, **fields)


def two(**fields: Any) -> list[DataSet]:
    """Return two data sets, the first with ``fields``."""
    return sets.put_together(
        ["hapt:a.zip", "csv:b"], [[recording("x", **fields), recording("y", "2")], [recording("x")]]
    )


def test_a_set_is_named_by_its_kind_and_by_its_path_where_two_have_one_kind(tmp_path: Path) -> None:
    assert sets.names_of(["hapt:/some/where/hapt.zip"]) == ("hapt",)
    assert sets.names_of(["csv:/some/where/mine", "hapt:h.zip", "csv:others/"]) == ("csv:mine", "hapt", "csv:others")
    with pytest.raises(DatasetError, match="csv:mine is given more than once"):
        sets.names_of(["csv:/here/mine", "csv:/there/mine"])


def test_a_subject_of_one_set_is_not_the_same_as_one_of_another() -> None:
    recordings = sets.recordings_of(two())
    assert [one.subject for one in recordings] == ["hapt/1", "hapt/2", "csv/1"]
    assert [one.name for one in recordings] == ["hapt.x", "hapt.y", "csv.x"]
    assert [one.data_set for one in recordings] == ["hapt", "hapt", "csv"]
    odd = sets.put_together(["csv:a+b", "csv:c#"], [[recording("x")], [recording("x")]])
    assert all(is_device_name(one.name) for one in sets.recordings_of(odd))


def test_the_names_of_a_single_set_stay() -> None:
    [only] = sets.put_together(["hapt:a.zip"], [[recording("x")]])
    assert [(one.name, one.subject, one.data_set) for one in only.recordings] == [("x", "1", "hapt")]


def test_subjects_of_windows_are_told_apart_too() -> None:
    windows = PrecutWindows(np.zeros((2, 128, 9), np.float32), np.zeros(2, np.int64), ("A",), np.array(["1", "2"]))
    together = sets.put_together(["uci-har:u", "csv:b"], [windows, [recording("x")]])
    assert together[0].windows is not None
    assert together[0].windows.subject is not None
    assert together[0].windows.subject.tolist() == ["uci-har/1", "uci-har/2"]
    assert sets.put_together(["uci-har:u"], [windows])[0].windows is windows


def test_segments_get_the_labels_that_cover_them_and_the_others_are_named() -> None:
    first, second = (data_set.cover(LabelTable({"STILL": ("hapt:SITTING",)})) for data_set in two())
    assert [segment.label for segment in first.recordings[0].segments] == ["STILL", "JUMPING"]
    assert [segment.label for segment in second.recordings[0].segments] == ["SITTING", "JUMPING"]
    assert sets.notes_of([first, second]) == (
        "hapt: no label covers JUMPING (2 s)",
        "csv: no label covers JUMPING (1 s), SITTING (1 s)",
    )
    assert first.cover(LabelTable.plain(["STILL", "JUMPING"])).recordings == first.recordings


def test_touching_segments_that_one_label_covers_are_joined() -> None:
    """A walk with a turn in it is one walk; two stretches of sitting with a pause between them stay two."""
    names = [
        (0, 20, "SITTING"),
        (20, 40, "LAYING"),
        (40, 60, "WALKING"),
        (60, 70, "X"),
        (70, 80, "X"),
        (85, 99, "SITTING"),
    ]
    one = recording("x", segments=tuple(Segment(*part) for part in names))
    table = LabelTable({"STILL": ("SITTING", "LAYING"), "WALKING": ()})
    [covered] = DataSet("csv:mine", "csv", (one,)).cover(table).recordings
    assert [(part.start, part.stop, part.label) for part in covered.segments] == [
        (0, 40, "STILL"),
        (40, 60, "WALKING"),
        (60, 70, "X"),
        (70, 80, "X"),
        (85, 99, "STILL"),
    ]


def test_states_that_a_model_knows_need_no_label() -> None:
    first, _ = two()
    covered = first.cover(LabelTable({"STILL": ("hapt:SITTING",)}), ["JUMPING"])
    assert [segment.label for segment in covered.recordings[0].segments] == ["STILL", "JUMPING"]
    assert covered.notes == ()


def test_subjects_are_chosen_over_all_sets() -> None:
    chosen, empty = sets.select_subjects(two(), ["hapt/2"])
    assert [one.name for one in chosen.recordings] == ["hapt.y"]
    assert (chosen.is_empty, empty.is_empty) == (False, True)
    assert sets.notes_of([chosen, empty]) == (
        "hapt: 1 recordings of 1 subjects who were not chosen: left out",
        "csv: 1 recordings of 1 subjects who were not chosen: left out",
    )
    assert sets.notes_of(sets.select_subjects(two(), ["hapt/1", "hapt/2", "csv/1"])) == ()
    with pytest.raises(DatasetError, match="subject '2' has no recording: the subjects are csv/1, hapt/1, hapt/2"):
        sets.select_subjects(two(), ["2"])


def test_placements_are_chosen_of_the_sets_that_name_them() -> None:
    first, second = sets.select_placements(two(placement="waist"), ["waist"])
    assert [one.name for one in first.recordings] == ["hapt.x"]
    assert [one.name for one in second.recordings] == ["csv.x"]  # this set names none
    assert sets.notes_of([first, second]) == (
        "hapt: 1 recordings of 1 subjects were worn at a place that is not named, not at waist: left out",
    )
    with pytest.raises(DatasetError, match="no recording has the placement 'wrist': the placements are waist"):
        sets.select_placements(two(placement="waist"), ["waist", "wrist"])
    with pytest.raises(DatasetError, match="'waist': no data with a placement is given; leave --placement waist out"):
        sets.select_placements(two(), ["waist"])
    named = [*two(placement="waist")[:1], DataSet("csv:b", "csv", (recording("x", placement="wrist"),))]
    with pytest.raises(DatasetError, match="csv:b: no recording has the placement waist, only wrist"):
        sets.select_placements(named, ["waist"])


def test_placements_may_be_chosen_of_one_kind_of_data_only() -> None:
    mixed = [
        DataSet("hapt:h", "hapt", (recording("x", placement="waist"), recording("y", placement="pocket"))),
        DataSet("csv:b", "csv", (recording("x", placement="wrist"), recording("y", placement="pocket"))),
    ]

    def chosen(*placements: str) -> list[list[str]]:
        return [[one.placement for one in part.recordings] for part in sets.select_placements(mixed, placements)]

    assert sets.notes_of(sets.select_placements(mixed, ["pocket", "csv:wrist"])) == (
        "hapt: 1 recordings of 1 subjects were worn at waist, not at pocket: left out",
        "csv: 1 recordings of 1 subjects were worn at pocket, not at wrist: left out",
    )
    assert chosen("hapt:waist") == [["waist"], ["wrist", "pocket"]]
    assert chosen("hapt:waist", "csv:wrist") == [["waist"], ["wrist"]]
    assert chosen("pocket", "csv:wrist") == [["pocket"], ["wrist"]]
    with pytest.raises(
        DatasetError, match="no recording has the placement 'csv:waist': the placements of csv are pocket, wri"
    ):
        chosen("csv:waist")


def test_recordings_without_a_needed_gyroscope_are_left_out_if_there_are_others() -> None:
    mixed = two(has_gyro=False)
    first, second = sets.leave_out_without_gyro(mixed, SignalSpec())
    assert [one.name for one in first.recordings] == ["hapt.y"]
    assert second == mixed[1]
    [note] = sets.notes_of([first, second])
    assert note.startswith("hapt: 1 recordings of 1 subjects were made without the gyroscope that the channels gyro_x,")
    assert sets.leave_out_without_gyro(mixed, SignalSpec(channels=BODY_ACC)) == mixed
    without = sets.put_together(["csv:b"], [[recording("x", has_gyro=False)]])
    assert sets.leave_out_without_gyro(without, SignalSpec()) == without  # cutting them names the first one
    windows = PrecutWindows(np.zeros((2, 128, 9), np.float32), np.zeros(2, np.int64), ("A",), None)
    left, whole = sets.leave_out_without_gyro([*without, DataSet("uci-har:u", "uci-har", (), windows)], SignalSpec())
    assert (left.is_empty, whole.windows) == (True, windows)
    assert len(left.notes) == 1
