"""Publishing wearables that are not there: the loop under `simulate` and `replay`."""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from harstream.core.batches import Float32
from harstream.mqtt.connection import Connection
from harstream.wire import payloads
from harstream.wire.topics import TopicTemplate

#: Half a second at 50 Hz: what wearables send to spare their radio.
SAMPLES_PER_MESSAGE = 25
ENCODERS: dict[str, Callable[[int, float, Float32], bytes]] = {
    "json": payloads.encode_json,
    "packed": payloads.encode_packed,
}
FLUSH_S = 30.0
#: With more than this unacknowledged the publisher waits: a broker that is slow slows us down.
_MAX_OUTGOING = 2_000


class Source(Protocol):
    """A wearable to be published."""

    @property
    def device(self) -> str: ...

    @property
    def rate_hz(self) -> float: ...

    def take(self, n: int) -> Float32:
        """The next ``n`` samples, (n, 6) in g and rad/s, or (n, 3) without gyroscope; fewer at the end, then none."""
        ...


@dataclass(frozen=True, slots=True)
class Published:
    messages: int
    samples: int
    seconds: float


def publish(
    connection: Connection,
    template: TopicTemplate,
    sources: Sequence[Source],
    *,
    payload: str = "json",
    speed: float = 1.0,
    duration_s: float | None = None,
    start_ns: int | None = None,
    qos: int = 1,
    samples_per_message: int = SAMPLES_PER_MESSAGE,
    stop: threading.Event | None = None,
    progress: Callable[[float], None] = lambda seconds: None,
) -> Published:
    """Publish every source from its beginning until it ends, ``duration_s`` of stream time is over, or ``stop`` is set.

    Event times run from ``start_ns`` (default: now) at the sources' rates whatever the ``speed``; a message
    leaves when its last sample has been taken, ``speed`` times faster than life, or at once with 0. The
    devices' messages are spread over the first interval, as those of real ones would be.
    """
    encode = ENCODERS[payload]
    stop = stop or threading.Event()
    start_ns = time.time_ns() if start_ns is None else start_ns
    began = time.monotonic()
    messages = samples = 0
    waiting: list[tuple[float, int, int, float]] = []  # stream time, source, its next sample, its offset
    for i, source in enumerate(sources):
        interval = samples_per_message / source.rate_hz
        offset = interval * i / len(sources)
        heapq.heappush(waiting, (offset + interval, i, 0, offset))
    while waiting and not stop.is_set():
        stream_s, i, position, offset = heapq.heappop(waiting)
        if duration_s is not None and stream_s > duration_s:
            break
        if speed:
            ahead = stream_s / speed - (time.monotonic() - began)
            if ahead > 0 and stop.wait(ahead):
                break
        source = sources[i]
        chunk = source.take(samples_per_message)
        if not len(chunk):
            continue
        t_ns = start_ns + round((offset + position / source.rate_hz) * 1e9)
        while connection.outgoing > _MAX_OUTGOING and not stop.is_set():
            time.sleep(0.001)
        if connection.publish(template.topic(source.device), encode(t_ns, source.rate_hz, chunk), qos=qos):
            messages, samples = messages + 1, samples + len(chunk)
        progress(stream_s)
        position += len(chunk)
        heapq.heappush(waiting, (offset + (position + samples_per_message) / source.rate_hz, i, position, offset))
    connection.flush(FLUSH_S if connection.ready else 0)
    return Published(messages, samples, time.monotonic() - began)
