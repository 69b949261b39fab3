"""Choices of the reader of the table by keys: order, filters, and the rows in view."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

#: Columns by which rows are sorted, in the order of the key.
SORTS = ("device", "activity", "confidence", "since", "rate", "latency", "problem")
KEYS = "q quit  s sort  r reverse  a activity  p problems  / search  c clear  arrows scroll"
#: Names of keys that are no characters.
UP, DOWN, PAGE_UP, PAGE_DOWN, HOME, END = "up", "down", "page up", "page down", "home", "end"
ENTER, ESCAPE, BACKSPACE = "enter", "escape", "backspace"


@dataclass(slots=True)
class View:
    """Order, filters and place in the table. The defaults show all devices by name."""

    sort: str = "device"
    descending: bool = False
    activity: str = ""  # "": all
    only_problems: bool = False
    search: str = ""  # part of the name, in any case
    typing: bool = False  # keys are added to ``search``
    offset: int = 0  # rows above those in view

    def press(self, key: str, activities: Sequence[str], page: int, n_rows: int) -> bool:
        """Do what a key asks for, and return False if that is to quit.

        Args:
            key: A character, or a name above.
            activities: Those that some device has, for the next filter.
            page: Rows in view.
            n_rows: Rows that match.

        """
        if self.typing:
            self._type(key)
        elif key == "q":
            return False
        elif key == "s":
            self.sort, self.descending = SORTS[(SORTS.index(self.sort) + 1) % len(SORTS)], False
        elif key == "r":
            self.descending = not self.descending
        elif key == "a":
            choices = ["", *activities]
            place = choices.index(self.activity) + 1 if self.activity in choices else 0
            self.activity = choices[place % len(choices)]
            self.offset = 0
        elif key == "p":
            self.only_problems, self.offset = not self.only_problems, 0
        elif key == "/":
            self.typing, self.search, self.offset = True, "", 0
        elif key in ("c", ESCAPE):
            self.activity, self.only_problems, self.search, self.offset = "", False, "", 0
        else:
            steps = {UP: -1, "k": -1, DOWN: 1, "j": 1, PAGE_UP: -page, PAGE_DOWN: page, HOME: -n_rows, END: n_rows}
            self.offset += steps.get(key, 0)
        self.offset = max(0, min(self.offset, n_rows - page))
        return True

    def _type(self, key: str) -> None:
        if key == ENTER:
            self.typing = False
        elif key == ESCAPE:
            self.typing, self.search = False, ""
        elif key == BACKSPACE:
            self.search = self.search[:-1]
        elif len(key) == 1 and key.isprintable():
            self.search += key
        self.offset = 0

    @property
    def text(self) -> str:
        """Filters and order for people; "" for the defaults."""
        parts = []
        if self.search or self.typing:
            parts.append(f"name has {self.search}{'_' if self.typing else ''}")
        if self.activity:
            parts.append(self.activity)
        if self.only_problems:
            parts.append("with a problem")
        if self.sort != "device" or self.descending:
            parts.append(f"by {self.sort}{', descending' if self.descending else ''}")
        return "; ".join(parts)
