"""Publishing of simulated or recorded devices, as `harstream simulate` and `harstream replay` do it."""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from harstream.core.batches import Float32
from harstream.mqtt.connection import Connection
from harstream.sources import OutgoingMessage, SampleSource
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

    A source decides what its messages hold and when they leave in stream time, whatever the speed. The first messages
    of the devices are spread over one message interval, as those of independent devices are.

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
    due: list[tuple[float, int, OutgoingMessage]] = []  # next message of each source: when it leaves, source, message
    streams: list[Iterator[OutgoingMessage]] = []

    def schedule(i: int) -> None:
        message = next(streams[i], None)
        if message is not None:
            heapq.heappush(due, (message.leaves_s, i, message))

    for i, source in enumerate(sources):
        offset_s = samples_per_message / source.rate_hz * i / len(sources)
        streams.append(source.messages(samples_per_message, offset_s, start_ns))
        schedule(i)
    while due and not stop.is_set():
        stream_s, i, message = heapq.heappop(due)
        if duration_s is not None and stream_s > duration_s:
            break
        if speed:
            wait_s = stream_s / speed - (time.monotonic() - started_s)
            if wait_s > 0 and stop.wait(wait_s):
                break
        while connection.outgoing > _MAX_OUTGOING and not stop.is_set() and connection.failure is None:
            time.sleep(0.001)
        if connection.failure is not None:
            raise connection.failure
        payload_bytes = encode(message.t_ns, message.rate_hz, message.samples)
        if connection.publish(template.topic(sources[i].device), payload_bytes, qos=qos):
            messages, samples = messages + 1, samples + len(message.samples)
        progress(stream_s)
        schedule(i)
    connection.flush(FLUSH_S if connection.ready else 0)
    return PublishCounts(messages, samples, time.monotonic() - started_s)
