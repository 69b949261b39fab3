"""Tables are aligned, and a spread is written as mean and sample standard deviation."""

from __future__ import annotations

import pytest

from harstream.tables import markdown, mean_and_deviation, plain, spread

HEAD = ("label", "windows")
ROWS = (("WALKING", "12"), ("SITTING", "1,034"))


def test_a_markdown_table_has_a_rule_with_the_alignment():
    assert markdown(HEAD, ROWS, right=[1]).splitlines() == [
        "| label | windows |",
        "| --- | ---: |",
        "| WALKING | 12 |",
        "| SITTING | 1,034 |",
    ]


def test_a_plain_table_pads_its_columns_and_leaves_no_space_at_line_ends():
    assert plain(HEAD, ROWS, right=[1]).splitlines() == [
        "label    windows",
        "-" * 16,
        "WALKING       12",
        "SITTING    1,034",
    ]
    assert plain(HEAD, ROWS).splitlines()[2:] == ["WALKING  12", "SITTING  1,034"]


@pytest.mark.parametrize("table", [markdown, plain])
def test_a_table_without_rows_is_its_head_and_rule(table):
    assert len(table(HEAD, []).splitlines()) == 2


def test_the_deviation_is_the_sample_standard_deviation():
    mean, deviation = mean_and_deviation([1.0, 2.0, 3.0])
    assert (mean, deviation) == (2.0, 1.0)
    assert mean_and_deviation([5.0]) == (5.0, None)


def test_a_spread_has_as_many_decimals_as_asked_and_a_single_value_has_no_deviation():
    assert spread([97.0, 97.2, 97.4]) == "97.20 ± 0.20"
    assert spread([97.0, 97.2, 97.4], decimals=1) == "97.2 ± 0.2"
    assert spread([97.0]) == "97.00"


def test_a_bar_in_a_cell_does_not_end_the_cell():
    assert markdown(["a", "b"], [["up|down", r"NAME\|DIR"]]).splitlines()[2] == r"| up\|down | NAME\|DIR |"
