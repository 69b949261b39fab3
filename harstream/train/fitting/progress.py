"""Progress of a long step, reported to whoever draws the progress bar."""

from __future__ import annotations

from collections.abc import Callable

#: Called with the name of the step, the number of units done, and the total of units.
Progress = Callable[[str, int, int], None]


def silent(step: str, done: int, total: int) -> None:
    """Ignore the progress."""
