"""Progress of long work, reported to a caller that may show a bar."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from harstream import interruption

_Item = TypeVar("_Item")

#: Called with the name of the step, the number of units that are done, and the number of all units.
Progress = Callable[[str, int, int], None]


def silent(step: str, done: int, total: int) -> None:
    """Ignore the progress."""


def track_progress(items: Sequence[_Item], step: str, progress: Progress) -> Iterator[_Item]:
    """Yield the items; report before each of them, and at the end, how many are done.

    A stop takes effect between them.
    """
    for done, item in enumerate(items):
        interruption.check()
        progress(step, done, len(items))
        yield item
    progress(step, len(items), len(items))
