"""Devices to be published: their samples, and the messages that carry them."""

from __future__ import annotations

import abc
from collections.abc import Iterator
from dataclasses import dataclass

from harstream.core.batches import Float32


@dataclass(frozen=True, slots=True)
class OutgoingMessage:
    """Content of one message of a device, and the moment at which it leaves."""

    leaves_s: float  # stream time: seconds since publishing began, at speed 1
    t_ns: int  # stamp: event time of the first sample by the device's clock, nanoseconds since 1970
    rate_hz: float  # announced rate; 0: none
    samples: Float32  # (n_samples, 6) in g and rad/s, or (n_samples, 3) without a gyroscope


class SampleSource(abc.ABC):
    """Samples of one device, in order, and the messages that it sends."""

    device: str  # name
    rate_hz: float  # sample rate

    @abc.abstractmethod
    def read(self, n: int) -> Float32:
        """Return the next ``n`` samples, (n, 6) in g and rad/s, or (n, 3) without a gyroscope.

        At the end fewer than ``n`` samples are returned, and after it none.
        """

    def messages(self, n: int, offset_s: float, start_ns: int) -> Iterator[OutgoingMessage]:
        """Yield the messages of the device, of ``n`` samples each, in the order in which they leave.

        A message leaves one sample period after its last sample was measured, and its stamp is right. Subclasses may
        differ.

        Args:
            n: Number of samples in a message; the last one may have fewer.
            offset_s: Stream time of the first sample.
            start_ns: Event time at which the stream began, nanoseconds since 1970.

        """
        position = 0
        while len(samples := self.read(n)):
            t_ns = start_ns + round((offset_s + position / self.rate_hz) * 1e9)
            position += len(samples)
            yield OutgoingMessage(offset_s + position / self.rate_hz, t_ns, self.rate_hz, samples)
