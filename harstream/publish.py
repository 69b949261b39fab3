"""Publishing of simulated or recorded devices, as `harstream simulate` and `harstream replay` do it."""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from harstream.core.batches import Float32
from harstream.mqtt.connection import Connection
from harstream.wire.canonical import encode_json
from harstream.wire.packed import encode_packed
from harstream.wire.topics import TopicTemplate

#: Default number of samples in a message: half a second at 50 Hz, as wearables send to save energy.
SAMPLES_PER_MESSAGE = 25
#: Encoder of each payload format: (time of the first sample in ns, rate in Hz, samples) to bytes.
ENCODERS: dict[str, Callable[[int, float, Float32], bytes]] = {
    "json": encode_json,
    "packed": encode_packed,
}
FLUSH_S = 30.0
#: Limit of the messages that the broker has not acknowledged. Beyond it a slow broker slows the publisher down.
_MAX_OUTGOING = 2_000


class SampleSource(Protocol):
    """Samples of one device to be published, in order."""

    @property
    def device(self) -> str:
        """Name of the device."""
        ...

    @property
    def rate_hz(self) -> float:
        """Sample rate."""
        ...

    def read(self, n: int) -> Float32:
        """Return the next ``n`` samples, (n, 6) in g and rad/s, or (n, 3) without a gyroscope.

        At the end fewer than ``n`` samples are returned, and after it none.
        """
        ...


@dataclass(frozen=True, slots=True)
class PublishCounts:
    """Number of messages and samples published, and the seconds that it took."""

    messages: int
    samples: int
    seconds: float


def publish(
    connection: Connection,
    template: TopicTemplate,
    sources: Sequence[SampleSource],
    *,
    payload: str = "json",
    speed: float = 1.0,
    duration_s: float | None = None,
    start_ns: int | None = None,
    qos: int = 1,
    samples_per_message: int = SAMPLES_PER_MESSAGE,
    stop: threading.Event | None = None,
    progress: Callable[[float], None] = lambda stream_s: None,
) -> PublishCounts:
    """Publish every source from its beginning.

    Event times follow the sources' rates, whatever the speed. A message leaves at the event time of its last sample.
    The first messages of the devices are spread over one message interval, as those of independent devices are.

    Args:
        connection: Open connection.
        template: Topics of the samples.
        sources: One source for each device.
        payload: Key of ``ENCODERS``.
        speed: Stream time per real time; 0 publishes as fast as the broker accepts.
        duration_s: Stream time after which publishing ends; None: when every source has ended.
        start_ns: Event time of the first sample, nanoseconds since the epoch; None: now.
        qos: QoS of the messages.
        samples_per_message: Number of samples in a message.
        stop: Ends publishing when it is set.
        progress: Called after each message with the stream time in seconds.

    """
    encode = ENCODERS[payload]
    stop = stop or threading.Event()
    start_ns = time.time_ns() if start_ns is None else start_ns
    started_s = time.monotonic()
    messages = samples = 0
    # Next message of each source: stream time at which it leaves, source, index of its first sample, source's offset.
    due: list[tuple[float, int, int, float]] = []
    for i, source in enumerate(sources):
        interval_s = samples_per_message / source.rate_hz
        offset_s = interval_s * i / len(sources)
        heapq.heappush(due, (offset_s + interval_s, i, 0, offset_s))
    while due and not stop.is_set():
        stream_s, i, position, offset_s = heapq.heappop(due)
        if duration_s is not None and stream_s > duration_s:
            break
        if speed:
            wait_s = stream_s / speed - (time.monotonic() - started_s)
            if wait_s > 0 and stop.wait(wait_s):
                break
        source = sources[i]
        chunk = source.read(samples_per_message)
        if not len(chunk):
            continue
        t_ns = start_ns + round((offset_s + position / source.rate_hz) * 1e9)
        while connection.outgoing > _MAX_OUTGOING and not stop.is_set():
            time.sleep(0.001)
        if connection.publish(template.topic(source.device), encode(t_ns, source.rate_hz, chunk), qos=qos):
            messages, samples = messages + 1, samples + len(chunk)
        progress(stream_s)
        position += len(chunk)
        heapq.heappush(due, (offset_s + (position + samples_per_message) / source.rate_hz, i, position, offset_s))
    connection.flush(FLUSH_S if connection.ready else 0)
    return PublishCounts(messages, samples, time.monotonic() - started_s)
