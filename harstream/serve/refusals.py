"""Refusals by the broker of the daemon's labels, events and status: counted, logged now and then, and shown."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from logging import getLogger

from harstream.mqtt.failures import publish_mend, with_mend
from harstream.mqtt.link import Refusal
from harstream.wire.topics import TopicTemplate

log = getLogger("harstream")

#: Kinds of messages that a daemon publishes.
LABELS, EVENTS, STATUS = KINDS = ("labels", "events", "status")
_LOG_EVERY_S = 60.0
#: Reasons that an access rule explains.
_ACCESS_REASONS = frozenset({"Not authorized", "Connection closed"})


class Refusals:
    """Refusals by kind of message.

    The network thread adds refusals; other threads read ``current``.

    Args:
        templates: Topics of each kind.
        status_topic: Topic of the daemon's status.
        user: User name at the broker, for the log.
        observe: Called with a kind and the number of its messages that were refused.

    Attributes:
        current: Kind to topic and reason of its last refusal, as long as no message of the kind was accepted since.

    """

    def __init__(
        self,
        templates: Mapping[str, Sequence[TopicTemplate]],
        status_topic: str,
        user: str | None,
        observe: Callable[[str, int], None],
    ) -> None:
        self.current: dict[str, str] = {}
        self._templates = templates
        self._status_topic = status_topic
        self._user = user
        self._observe = observe
        self._counts: Counter[tuple[str, str]] = Counter()  # by kind and reason, since the last line about them
        self._next_s: dict[tuple[str, str], float] = {}  # time.monotonic() of the next line

    def kind_of(self, topic: str) -> tuple[str, str]:
        """Return the kind of the messages on a topic, and their topic template."""
        for kind, templates in self._templates.items():
            for template in templates:
                if template.device(topic) is not None:
                    return kind, template.text
        return STATUS, self._status_topic

    def template_of(self, topic: str) -> str:
        """Return the template of a topic."""
        return self.kind_of(topic)[1]

    def add(self, accepted: Sequence[str], refused: Sequence[Refusal]) -> None:
        """Note the topics of messages that the broker accepted, and the messages that it refused."""
        if self.current:
            kinds = {self.kind_of(topic)[0] for topic in accepted}
            self.current = {kind: text for kind, text in self.current.items() if kind not in kinds}
        counts: Counter[str] = Counter()
        for refusal in refused:
            kind, template = self.kind_of(refusal.topic)
            counts[kind] += bool(refusal.payload)  # an empty one clears a label; no window is lost
            self._counts[kind, refusal.reason] += 1
            self._log(kind, template, refusal)
            self.current = {**self.current, kind: f"{refusal.topic}: {refusal.reason}"}
        for kind, number in counts.items():
            self._observe(kind, number)

    def _log(self, kind: str, template: str, refusal: Refusal) -> None:
        key, now_s = (kind, refusal.reason), time.monotonic()
        if now_s < self._next_s.get(key, now_s):
            return
        self._next_s[key] = now_s + _LOG_EVERY_S
        mend = f"; {publish_mend(self._user, template)}" if refusal.reason in _ACCESS_REASONS else ""
        log.error(
            "the broker refuses our %s: %s (messages: %d)%s. The last one was for %s",
            kind,
            with_mend(refusal.reason),
            self._counts.pop(key),
            mend,
            refusal.topic,
        )
