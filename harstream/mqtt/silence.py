"""Topics that fall silent although the connection is well: a broker may lose a subscription without a word."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from harstream.mqtt.client import InboundMessage

#: Checks within the time after which a topic filter counts as silent.
_CHECKS = 8


@dataclass(frozen=True, slots=True)
class Silence:
    """Topic filters to subscribe to again, and whether even that has not helped."""

    filters: tuple[str, ...] = ()
    lasts: bool = False


class SilenceWatch:
    """Tells which topic filters had messages, and then none for some time.

    Most calls of ``hear`` return at once: each filter is looked for only until its first message after a check.
    All methods are called in the network thread.

    Args:
        filters: Topic filters that are subscribed to.
        silence_s: Time without a message, seconds, after which a filter is silent.

    Attributes:
        every_s: Time between two checks, seconds.

    """

    def __init__(self, filters: Sequence[str], silence_s: float) -> None:
        self.every_s = silence_s / _CHECKS
        self._filters, self._silence_s = tuple(filters), silence_s
        self._unheard = set(self._filters)  # no message came since the last check
        self._heard_s: dict[str, float] = {}  # filters that had messages: time.monotonic() of the last check with one
        self._renewed: set[str] = set()  # silent, and subscribed to again
        # A topic is found by its levels at the places where a filter has no wildcard.
        self._shapes: dict[tuple[int, bool, tuple[int, ...]], dict[tuple[str, ...], str]] = {}
        for each in self._filters:
            levels = each.split("/")
            deeper = levels[-1] == "#"
            places = tuple(place for place, level in enumerate(levels) if level not in ("+", "#"))
            shape = len(levels) - deeper, deeper, places
            self._shapes.setdefault(shape, {})[tuple(levels[place] for place in places)] = each

    def restart(self) -> None:
        """Begin anew with a new connection; filters that had messages are expected to have some again."""
        self._heard_s = dict.fromkeys(self._heard_s, time.monotonic())
        self._unheard = set(self._filters)
        self._renewed.clear()

    def wait(self) -> None:
        """Let the time of silence begin later, since it is our own doing."""
        self.check()
        self._heard_s = dict.fromkeys(self._heard_s, time.monotonic())
        self._renewed.clear()

    def hear(self, messages: Sequence[InboundMessage]) -> None:
        """Note messages. Retained ones are no sign of life: a new subscription brings them."""
        if not self._unheard:
            return
        if len(self._filters) == 1:
            if not messages[-1][2]:
                self._unheard.clear()
            return
        for topic, _, retained, _ in messages:
            if not retained:
                self._unheard.difference_update(self._matching(topic))
                if not self._unheard:
                    return

    def _matching(self, topic: str) -> list[str]:
        """Return the topic filters that match a topic."""
        levels = topic.split("/")
        found = []
        for (n_levels, deeper, places), filters in self._shapes.items():
            if len(levels) == n_levels or (deeper and len(levels) > n_levels):
                matching = filters.get(tuple([levels[place] for place in places]))
                if matching is not None:
                    found.append(matching)
        return found

    def check(self) -> Silence:
        """Return what is silent now. A filter is returned once, until it has messages again."""
        now_s = time.monotonic()
        for each in self._filters:
            if each not in self._unheard:
                self._heard_s[each] = now_s
                self._renewed.discard(each)
        self._unheard = set(self._filters)
        silent = [each for each, heard_s in self._heard_s.items() if now_s - heard_s >= self._silence_s]
        again = tuple(each for each in silent if each not in self._renewed)
        self._renewed.update(again)
        # A new connection would cost messages of the filters that have some.
        lasts = bool(silent) and now_s - max(self._heard_s.values()) >= 2 * self._silence_s
        if lasts:
            self._heard_s.clear()
        return Silence(again, lasts)
