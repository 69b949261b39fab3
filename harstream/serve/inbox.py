"""Queue from the network thread to the main loop: bounded in bytes, with a fair share for each device."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from harstream.core.shares import equal_share
from harstream.wire.decoder import Message

#: About one minute of JSON from 2,000 wearables at 50 Hz: enough to survive a stall, and small enough for the memory
#: of a small machine.
MAX_BYTES = 64 * 2**20
#: Fraction of MAX_BYTES above which the daemon does not keep up with its messages, and is not ready.
HIGH_WATER = 0.8
#: Fraction of MAX_BYTES to which a full inbox is emptied, so that it is not full again at the next arrival.
_ROOM_WATER = 15 / 16
#: Longest message that leaves at each turn of its topic, in bytes. A longer one waits for as many turns as it has times
#: these bytes.
_TURN_BYTES = 4 * 1024
#: Messages from which on the main loop is woken, patient or not.
MAX_PATIENT = 64
#: Messages that are not patient from which on a batch waits for no others. More would save little, and with a thousand
#: devices their wait would be most of the latency.
MAX_GATHERED = 6
#: Topics that are remembered as patient; beyond these all are forgotten.
MAX_PATIENT_TOPICS = 10_000
#: Characters of the longest topic that is remembered as patient.
_MAX_PATIENT_TOPIC = 512
#: Bytes of the Python objects that hold a message, beside its topic and payload.
_OVERHEAD_BYTES = 250


class Inbox:
    """Queue of messages. Those of one topic leave in the order in which they came.

    As long as all of them fit one batch, the messages of all topics leave in order. Otherwise the topics take turns, of
    one message or equal bytes (as in the deficit round robin of Shreedhar and Varghese 1995), so that a device with
    many or long messages does not hold up the others. When the inbox is full, it drops and counts the oldest messages
    of the topics that have the most bytes waiting, because the newest are of most use.

    Messages that arrived together are stored together, and sorted by topic only where that makes a difference, so that
    the cost of an arrival does not grow with its number of messages.

    *Patient* messages do not wake the main loop: they complete no window, so nobody waits for what they lead to. They
    are taken with the next message that is not, or when the main loop looks by itself. With few devices, where a batch
    would mostly be a single message, that saves most of its cost. The other messages wait for one another too, at
    most for ``gather_s``, until MAX_GATHERED are there.

    Args:
        max_bytes: Bytes above which messages are dropped.
        gather_s: Longest time for which a message that is not patient waits for others, seconds.
        holds_qos_1: Drop messages at QoS 0 only, and only new ones, because the broker sends no others before those
            here are acknowledged.
    """

    def __init__(self, max_bytes: int = MAX_BYTES, *, gather_s: float = 0.0, holds_qos_1: bool = False) -> None:
        self.max_bytes = max_bytes
        self.gather_s = gather_s
        self._holds_qos_1 = holds_qos_1
        self.dropped = 0  # messages, since the start
        self._arrivals: deque[Sequence[Message]] = deque()  # messages that arrived together, after all those below
        self._queues: dict[str, _TopicQueue] = {}  # by topic; none is empty
        self._turns: deque[_TopicQueue] = deque()  # the same queues; the first one is next
        self._n_messages = self._n_bytes = 0
        self._n_urgent = 0  # messages since the last batch that are not patient, until `_at_once`
        self._urgent_since_s = math.inf  # monotonic time of arrival of the first of them
        self._at_once = False  # the next batch waits for no further message
        self._at_once_since_s = math.inf  # monotonic time of arrival of the message because of which it does not
        # Topic to the number of its next messages that are patient, and their greatest length in bytes.
        self._patient: dict[str, tuple[int, int]] = {}
        # Monotonic time up to which the messages of the last batch waited for others; 0.0: they came during the batch
        # before, and waited for the main loop only; inf: the wait ended by `wake` or by the timeout.
        self.wanted_since_s = 0.0
        self._changed = threading.Condition()

    def __len__(self) -> int:
        return self._n_messages

    @property
    def n_bytes(self) -> int:
        """Bytes that the messages occupy."""
        return self._n_bytes

    @property
    def below_high_water(self) -> bool:
        """True while the queue holds less than the fraction HIGH_WATER of its limit."""
        return self._n_bytes < HIGH_WATER * self.max_bytes

    def put(self, messages: Sequence[Message]) -> None:
        """Append messages that arrived together."""
        if self._holds_qos_1 and self._n_bytes > self.max_bytes:
            held = [message for message in messages if message.delivery]
            self.dropped += len(messages) - len(held)
            messages = held
            if not messages:
                return
        n_bytes = sum([len(message[1]) + len(message[0]) for message in messages]) + _OVERHEAD_BYTES * len(messages)
        with self._changed:
            n_urgent = self._count_urgent(messages) if self._patient else len(messages)
            self._arrivals.append(messages)
            self._n_messages += len(messages)
            self._n_bytes += n_bytes
            if not self._at_once:
                self._note_urgent(n_urgent, messages)
            if self._n_bytes > self.max_bytes and not self._holds_qos_1:
                self._make_room()

    def get(
        self,
        max_messages: int,
        timeout_s: float,
        max_bytes: int = MAX_BYTES,
        waits: Callable[[Message], bool] | None = None,
    ) -> list[Message]:
        """Remove and return the next messages. If there are none, wait until some have gathered, or for `wake`.

        Args:
            max_messages: Largest number of messages.
            timeout_s: Longest time to wait; the result may then be empty, or have patient messages only.
            max_bytes: Bytes from which on no further message is added. A last one may exceed them.
            waits: Called with the oldest message of a topic. If it returns True, the messages of the topic stay.

        """
        with self._changed:
            self.wanted_since_s = 0.0
            if not self._n_messages:  # what came during the last batch has waited for it
                if not self._at_once:
                    self._wait(timeout_s)
                self.wanted_since_s = self._at_once_since_s if self._at_once else self._urgent_since_s + self.gather_s
            self._n_urgent, self._urgent_since_s = 0, math.inf
            self._at_once, self._at_once_since_s = False, math.inf
            if self._queues or waits or self._n_messages > max_messages or self._n_bytes > max_bytes:
                return self._take_turns(max_messages, max_bytes, waits)
            batch: list[Message] = []
            for messages in self._arrivals:
                batch.extend(messages)
            self._arrivals.clear()
            self._n_messages = self._n_bytes = 0
            return batch

    def wake(self) -> None:
        """Let a waiting `get` return at once."""
        with self._changed:
            self._at_once = True
            self._changed.notify()

    def set_patient(self, patient: Mapping[str, tuple[int, int]]) -> None:
        """Let further messages of these topics be patient: a number of each, if none is longer than so many bytes."""
        with self._changed:
            if len(self._patient) > MAX_PATIENT_TOPICS:
                self._patient.clear()
            for topic, (number, n_bytes) in patient.items():
                if number > 0 and len(topic) <= _MAX_PATIENT_TOPIC:
                    self._patient[topic] = number, n_bytes
                else:
                    self._patient.pop(topic, None)

    @property
    def patient(self) -> dict[str, int]:
        """Number of further messages of each topic that are patient."""
        with self._changed:
            return {topic: number for topic, (number, _) in self._patient.items()}

    def forget_patient(self) -> None:
        """Let no message be patient."""
        with self._changed:
            self._patient.clear()

    # --- waiting; the lock is held ------------------------------------------------------------

    def _wait(self, timeout_s: float) -> None:
        """Wait for a message that is not patient, and then for others."""
        until_s = time.monotonic() + timeout_s
        self._changed.wait(timeout_s)
        if self._n_urgent and not self._at_once:
            left_s = min(self._urgent_since_s + self.gather_s, until_s) - time.monotonic()
            if left_s > 0:
                self._changed.wait(left_s)

    def _note_urgent(self, number: int, messages: Sequence[Message]) -> None:
        """Wake the main loop for the first message that is not patient, and once enough messages are there."""
        is_first = number > 0 and not self._n_urgent
        self._n_urgent += number
        if is_first:
            self._urgent_since_s = messages[-1].received_s
        if self._n_messages >= MAX_PATIENT or self._n_urgent >= (MAX_GATHERED if self.gather_s else 1):
            self._at_once, self._at_once_since_s = True, messages[-1].received_s
            self._changed.notify()
        elif is_first:
            self._changed.notify()

    def _count_urgent(self, messages: Sequence[Message]) -> int:
        """Return how many messages are not patient, and count down those that are."""
        patient, n_urgent = self._patient, 0
        for message in messages:
            number, n_bytes = patient.get(message[0], (0, 0))
            if number and len(message[1]) <= n_bytes:
                if number > 1:
                    patient[message[0]] = number - 1, n_bytes
                else:
                    del patient[message[0]]
            else:
                n_urgent += 1
        return n_urgent

    # --- by topic; the lock is held -----------------------------------------------------------

    def _sort(self) -> None:
        """Move all arrivals into the queues of their topics."""
        queues = self._queues
        while self._arrivals:
            for message in self._arrivals.popleft():
                topic = message[0]
                queue = queues.get(topic)
                if queue is None:
                    queue = queues[topic] = _TopicQueue()
                    self._turns.append(queue)
                queue.messages.append(message)
                queue.n_bytes += len(topic) + len(message[1]) + _OVERHEAD_BYTES

    def _take_turns(self, max_messages: int, max_bytes: int, waits: Callable[[Message], bool] | None) -> list[Message]:
        """Remove and return messages of one topic after another."""
        self._sort()
        turns, batch, n_bytes = self._turns, list[Message](), 0
        n_waiting = 0  # topics in a row whose messages stay
        while n_waiting < len(turns) and len(batch) < max_messages and n_bytes < max_bytes:
            queue = turns.popleft()
            messages = queue.messages
            message = messages[0]
            if waits is not None and waits(message):
                n_waiting += 1
                turns.append(queue)
                continue
            n_waiting = 0
            size = len(message[0]) + len(message[1]) + _OVERHEAD_BYTES
            if size > queue.credit + _TURN_BYTES:
                queue.credit += _TURN_BYTES
                turns.append(queue)
                continue
            queue.credit = 0
            queue.n_bytes -= size
            n_bytes += size
            batch.append(messages.popleft())
            if messages:
                turns.append(queue)
            else:
                del self._queues[message[0]]
        self._n_messages -= len(batch)
        self._n_bytes -= n_bytes
        return batch

    def _make_room(self) -> None:
        """Drop the oldest messages of the topics with the most bytes, but never the newest message of all."""
        self._sort()
        allowed = _ROOM_WATER * self.max_bytes
        share = equal_share([queue.n_bytes for queue in self._turns], allowed)
        for queue in self._turns:
            while queue.n_bytes > share and len(queue.messages) > 1:
                self._drop_oldest(queue)
        if self._n_bytes > allowed:  # there are so many topics that hardly any has a second message
            for queue in sorted(self._turns, key=lambda queue: queue.messages[0].received_s):
                if self._n_bytes <= allowed or self._n_messages == 1:
                    break
                topic = queue.messages[0].topic
                self._drop_oldest(queue)
                if not queue.messages:
                    del self._queues[topic]
            self._turns = deque(queue for queue in self._turns if queue.messages)

    def _drop_oldest(self, queue: _TopicQueue) -> None:
        topic, payload, *_ = queue.messages.popleft()
        size = len(topic) + len(payload) + _OVERHEAD_BYTES
        queue.n_bytes -= size
        self._n_bytes -= size
        self._n_messages -= 1
        self.dropped += 1


class _TopicQueue:
    """Messages of one topic, the oldest first."""

    __slots__ = ("credit", "messages", "n_bytes")

    def __init__(self) -> None:
        self.messages: deque[Message] = deque()
        self.n_bytes = 0
        self.credit = 0  # bytes of the turns that it has had since its last message left
