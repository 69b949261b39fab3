"""Label tables: each activity of a data set has at most one label, found exactly or by a similar spelling."""

from __future__ import annotations

import pytest

from harstream.core.label_table import TABLES, LabelTable
from harstream.datasets import wisdm
from harstream.errors import ConfigError

TABLE = LabelTable(
    {
        "STILL": ("SITTING", "STANDING"),
        "WALKING": ("sp-sw:STEPPING",),
        "WALKING_UPSTAIRS": ("umafall:WALKING",),
    }
)


@pytest.mark.parametrize(
    ("kind", "name", "label"),
    [
        ("hapt", "SITTING", "STILL"),
        ("hapt", "STILL", "STILL"),  # a label covers itself
        ("csv", "Sitting", "STILL"),
        ("csv", "walking upstairs", "WALKING_UPSTAIRS"),
        ("csv", "Walking-Upstairs", "WALKING_UPSTAIRS"),
        ("sp-sw", "STEPPING", "WALKING"),
        ("sp-sw", "Stepping", "WALKING"),
        ("hapt", "STEPPING", None),  # limited to another kind
        ("hapt", "WALKING", "WALKING"),
        ("umafall", "WALKING", "WALKING_UPSTAIRS"),  # a name for one kind takes precedence
        ("hapt", "SIT", None),
        ("hapt", "SIT_TO_STAND", None),
    ],
)
def test_an_activity_has_the_label_that_covers_it(kind: str, name: str, label: str | None) -> None:
    assert TABLE.label_of(kind, name) == label


def test_an_exact_name_is_found_before_a_similar_one() -> None:
    table = LabelTable.plain(["Walking", "WALKING"])
    assert [table.label_of("csv", name) for name in ("Walking", "WALKING")] == ["Walking", "WALKING"]
    assert table.label_of("csv", "walking") is None  # it is similar to both


def test_the_json_form_is_read_back() -> None:
    data = {"STILL": ["SITTING", "STANDING"], "WALKING": []}
    table = LabelTable.from_dict(data)
    assert table.to_dict() == data
    assert list(table.to_dict()) == list(table.labels) == ["STILL", "WALKING"]
    assert table == LabelTable({"STILL": ("SITTING", "STANDING"), "WALKING": ()})
    assert (table.is_plain, LabelTable.plain(["A", "B"]).is_plain, LabelTable({"A": ("A",)}).is_plain) == (
        False,
        True,
        True,
    )


def test_a_table_may_be_narrowed_to_some_labels() -> None:
    narrowed = TABLE.only(["SWIMMING", "STILL"])
    assert narrowed.to_dict() == {"SWIMMING": [], "STILL": ["SITTING", "STANDING"]}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"STILL": ["SITTING"], "CALM": ["SITTING"]}, "both 'STILL' and 'CALM' cover 'SITTING'"),
        ({"STILL": ["SITTING"], "SITTING": []}, "both 'STILL' and 'SITTING' cover 'SITTING'"),
        ({"STILL": ["UNKNOWN"]}, "label 'STILL': expected names other than the empty one and UNKNOWN"),
        ({"UNKNOWN": []}, "label 'UNKNOWN': expected names other"),
        ({"": []}, "label '': expected names other"),
        ({"STILL": ["hapt:"]}, "label 'STILL': expected names other"),
        ({"STILL": "SITTING"}, "STILL: expected a list, got 'SITTING'"),
        ({"STILL": [3]}, "STILL: expected a text that is not empty, got 3"),
        (["STILL"], "labels: expected an object"),
    ],
)
def test_a_table_that_is_not_clear_is_refused(data: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LabelTable.from_dict(data)


def test_the_table_for_phones_covers_what_data_sets_call_the_five_labels() -> None:
    table = TABLES["phone"]
    assert table.labels == ("STILL", "WALKING", "WALKING_UPSTAIRS", "WALKING_DOWNSTAIRS", "RUNNING")
    for label, names in {
        "STILL": ("SITTING", "STANDING", "LAYING", "LYING", "SEATED"),
        "WALKING": ("Walking",),
        "WALKING_UPSTAIRS": ("Upstairs", "GoUpstairs", "STAIRS_UP"),
        "WALKING_DOWNSTAIRS": ("Downstairs", "GoDownstairs", "STAIRS_DOWN"),
        "RUNNING": ("JOGGING", "Running"),
    }.items():
        assert {table.label_of("any", name) for name in names} == {label}
    for name in ("STAIRS", "SIT_TO_STAND", "STANDING_UP", "SITTING_DOWN", "TURNING"):
        assert table.label_of("any", name) is None


def test_the_table_for_watches_counts_both_directions_on_stairs_as_one() -> None:
    table = TABLES["wrist"]
    assert table.labels == wisdm.LABELS
    for name in ("STAIRS", "WALKING_UPSTAIRS", "WALKING_DOWNSTAIRS", "Upstairs"):
        assert table.label_of("umafall", name) == "STAIRS"
    assert table.label_of("umafall", "RUNNING") == "JOGGING"
    assert table.label_of("umafall", "HOPPING") is None
