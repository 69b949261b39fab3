"""Topic filters that change while a connection lasts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from harstream.mqtt.client import FastClient
from harstream.mqtt.dialling import subscribe

#: Filters in one packet, so that it stays below the packet size that a broker accepts.
_MAX_FILTERS = 500


class Subscriptions:
    """Filters that a connection subscribes to beside its fixed ones, and again after every reconnect.

    Any thread may use it; the connection calls ``open``, ``close`` and the methods that begin with ``take``.

    Args:
        qos: QoS of the subscriptions.
        on_answer: Called in the network thread when the broker has answered a change.

    Attributes:
        accepted: Filters that the broker has accepted on the present connection. It is replaced, never changed.
        delivering: Filters of which messages may still arrive: those asked for, accepted, or not ended yet. All
            messages before the end of a filter have been received when it disappears from here.
        refused: Filters that the broker has refused and not accepted since, and its reason. It is replaced too.

    """

    def __init__(self, qos: int, on_answer: Callable[[], None] = lambda: None) -> None:
        self._qos, self._on_answer = qos, on_answer
        self._lock = threading.Lock()  # guards everything below
        self._client: FastClient | None = None  # None: there is no connection
        self._wanted: set[str] = set()
        self._held: set[str] = set()  # asked for or accepted on this connection, and not ended
        self._asked: dict[int, Sequence[str]] = {}  # by identifier of the SUBSCRIBE, until it is answered
        self._ending: dict[int, Sequence[str]] = {}  # by identifier of the UNSUBSCRIBE, until it is answered
        self.accepted: frozenset[str] = frozenset()
        self.delivering: frozenset[str] = frozenset()
        self.refused: dict[str, str] = {}

    def change(self, add: Iterable[str] = (), remove: Iterable[str] = ()) -> None:
        """Subscribe to some filters and end others. Without arguments, ask again for those that were refused."""
        with self._lock:
            self._wanted |= set(add)
            self._wanted -= set(remove)
            self.refused = {name: reason for name, reason in self.refused.items() if name in self._wanted}
            self._send_difference()

    # --- for the connection -------------------------------------------------------------------

    def open(self, client: FastClient) -> None:
        """Subscribe on a new connection, which is ready."""
        with self._lock:
            self._forget()
            self._client = client
            self._send_difference()

    def close(self) -> None:
        """Note that the connection has ended, and with it all subscriptions."""
        with self._lock:
            self._forget()
        self._on_answer()

    def take_suback(self, mid: int, reason_codes: Sequence[Any]) -> bool:
        """Return True if this is the answer to a subscription of ours."""
        with self._lock:
            asked = self._asked.pop(mid, None)
            if asked is None:
                return False
            for name, reason_code in zip(asked, reason_codes, strict=False):
                if reason_code.is_failure:
                    self._held.discard(name)
                    self.refused = {**self.refused, name: str(reason_code)}
                elif name in self._held:
                    self.accepted |= {name}
                    self.refused = {refused: why for refused, why in self.refused.items() if refused != name}
            self._count()
        self._on_answer()
        return True

    def take_unsuback(self, mid: int) -> bool:
        """Return True if this is the answer to an end of ours."""
        with self._lock:
            if self._ending.pop(mid, None) is None:
                return False
            self._count()
        self._on_answer()
        return True

    # --- with the lock ------------------------------------------------------------------------

    def _send_difference(self) -> None:
        if self._client is None:
            return
        for names in _parts(self._wanted - self._held):
            mid = subscribe(self._client, names, self._qos)
            if mid is not None:  # None: the connection has just ended
                self._asked[mid] = names
                self._held.update(names)
        for names in _parts(self._held - self._wanted):
            mid = self._client.unsubscribe(list(names))[1]
            if mid is not None:
                self._ending[mid] = names
                self._held.difference_update(names)
        self._count()

    def _count(self) -> None:
        self.accepted &= self._held
        self.delivering = frozenset(self._held.union(*self._ending.values()))

    def _forget(self) -> None:
        self._client = None
        self._held, self._asked, self._ending, self.refused = set(), {}, {}, {}
        self._count()


def _parts(filters: Collection[str]) -> list[list[str]]:
    names = sorted(filters)
    return [names[at : at + _MAX_FILTERS] for at in range(0, len(names), _MAX_FILTERS)]
