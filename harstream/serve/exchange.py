"""Exchange of the daemon with the broker: samples come in, labels, events and its status go out."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from harstream.config import RunConfig
from harstream.mqtt.client import InboundMessage
from harstream.mqtt.connection import Connection
from harstream.mqtt.link import Refusal
from harstream.mqtt.presence import Presence
from harstream.mqtt.subscriptions import Subscriptions
from harstream.mqtt.urls import BrokerSettings
from harstream.serve.durable.durability import Durability
from harstream.serve.metrics import DaemonMetrics
from harstream.serve.pipeline import Publication
from harstream.serve.refusals import EVENTS, LABELS, Refusals

log = logging.getLogger("harstream")

#: Time after a stop in which the broker may still take what is to be published.
DRAIN_TIMEOUT_S = 10.0
#: Pause before another attempt to publish when the queue to the broker is full, in durable mode.
_ROOM_WAIT_S = 0.01


class Exchange:
    """Connection of the daemon, with what the broker refuses.

    Args:
        config: Settings. Those of it that a reload changes are not used here.
        metrics: Observes reconnects, silences and refusals.
        durability: Makes the session durable; None: it is not.
        stopping: Set when the daemon stops.
        receive: Called in the network thread with messages.
        on_death: Called when an error has ended the network thread.

    Attributes:
        connection: The connection; None before ``open``.

    """

    def __init__(
        self,
        config: RunConfig,
        metrics: DaemonMetrics,
        durability: Durability | None,
        stopping: threading.Event,
        *,
        receive: Callable[[Sequence[InboundMessage]], None],
        on_death: Callable[[], None],
    ) -> None:
        self._config, self._metrics, self._durability, self._stopping = config, metrics, durability, stopping
        self._receive, self._on_death = receive, on_death
        self.connection: Connection | None = None
        self._refusals: Refusals | None = None

    def open(
        self, settings: BrokerSettings, client_id: str, subscriptions: Sequence[str], changing: Subscriptions | None
    ) -> None:
        """Connect and subscribe. If the broker is unreachable, wait for it until the daemon stops.

        Args:
            settings: How to reach the broker.
            client_id: Client identifier.
            subscriptions: Topic filters of the samples.
            changing: Further topic filters, which may change.

        Raises:
            BrokerError: The broker refused the connection, a subscription or the daemon's status.

        """
        config, durability = self._config, self._durability
        events = [source.events_template for source in config.sources if source.events_template is not None]
        templates = {LABELS: [source.labels_template for source in config.sources], EVENTS: events}
        refusals = Refusals(templates, config.status_topic, settings.url.user, self._metrics.observe_refused)
        self._refusals = refusals
        self.connection = Connection(
            settings,
            client_id,
            subscriptions=subscriptions,
            changing=changing,
            qos=config.qos,
            session=durability is not None,
            earlier=None if durability is None else durability.subscriptions,
            presence=Presence(config.status_topic, qos=config.qos, retain=config.retain, will=config.will),
            kind_of=refusals.template_of,
            on_messages=self._receive,
            on_change=self._connection_changed,
            on_answers=self._publishes_answered,
            on_settled=None if durability is None else durability.note_answers,
            on_death=self._on_death,
            max_payload_bytes=config.max_payload_bytes,
            silence_s=config.silence_s,
            on_silence=self._metrics.observe_silence,
        )
        self.connection.open(self._stopping)

    @property
    def refused(self) -> Mapping[str, str]:
        """Kinds of messages that the broker refuses now, each with the topic and the reason."""
        return {} if self._refusals is None else self._refusals.current

    def leave(self, status: bytes) -> None:
        """Publish the last status, and wait until the broker has acknowledged everything, or has taken too long."""
        connection = self.connection
        if connection is None:
            return
        connection.leave(status)
        # Without a connection no acknowledgement can arrive, so there is nothing to wait for.
        if not connection.flush(DRAIN_TIMEOUT_S if connection.ready else 0):
            log.warning("stopped before the broker acknowledged %d messages", connection.outgoing)

    # --- labelling thread ---------------------------------------------------------------------

    def publish(self, messages: Sequence[Publication], *, retain: bool) -> int:
        """Publish messages, and return how many were accepted, always the first ones.

        In durable mode, wait until all are accepted, or the daemon stops and the broker is away or takes no more.
        """
        connection = self.connection
        if connection is None:
            return 0
        if retain and not self._config.retain:
            if messages and not messages[0][1]:  # they clear retained labels, and there are none
                return len(messages)
            retain = False
        n = connection.publish_all(messages, qos=self._config.qos, retain=retain)
        if self._durability is not None and n < len(messages):
            n += self._publish_rest(self._durability, connection, messages[n:], retain=retain)
        return n

    def _publish_rest(
        self, durability: Durability, connection: Connection, messages: Sequence[Publication], *, retain: bool
    ) -> int:
        """Publish messages as soon as there is room. Return how many were published before a stop gave up the rest."""
        n, give_up_s = 0, math.inf
        while n < len(messages):
            if self._stopping.is_set():
                give_up_s = min(give_up_s, time.monotonic() + DRAIN_TIMEOUT_S)
                if durability.is_cut_short or not connection.ready or time.monotonic() >= give_up_s:
                    durability.cut_short()
                    break
            time.sleep(_ROOM_WAIT_S)
            n += connection.publish_all(messages[n:], qos=self._config.qos, retain=retain)
        return n

    # --- network thread -----------------------------------------------------------------------

    def _connection_changed(self, connected: bool) -> None:
        """Count a reconnect."""
        if connected and self.connection is not None and self.connection.connects > 1:
            self._metrics.observe_reconnect()

    def _publishes_answered(self, accepted: Sequence[str], refused: Sequence[Refusal]) -> None:
        """Note what the broker refused, and what it accepts again."""
        assert self._refusals is not None
        assert self.connection is not None
        self._refusals.add(accepted, refused)
        self.connection.report_accepted(bool(self._refusals.current))
