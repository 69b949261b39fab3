"""Reasons why a message is rejected: the values of ``reason`` in ``harstream_messages_rejected_total``."""

from __future__ import annotations

from dataclasses import dataclass

#: Reason to its meaning. docs/reference/payloads.md has the same table.
REASONS = {
    "empty": "no payload, or no sample in it",
    "too_large": "payload larger than the limit",
    "device": "neither topic nor payload names a device, or the name has characters that no topic may have",
    "json": "not JSON, or not UTF-8",
    "cbor": "not CBOR, or with a tag that is not supported",
    "msgpack": "not MessagePack",
    "csv": "not lines of text with the configured columns",
    "packed": "a packed payload with another version, an unknown flag or the wrong length",
    "compressed": "gzip or zstd that is damaged, or unpacks to more than the limit",
    "shape": "not samples: a field is missing, of another type, or acc and gyro differ in length",
    "not_finite": "a sample, or a scale, is not a finite number",
    "range": "a sample beyond 1,000 g or 1,000 rad/s: a corrupt message (a wrong unit is rarely so large)",
    "time": "event time is not finite, not between the years 1970 and 2200, or not where the configuration says",
    "rate": "rate_hz is negative or not finite",
    "units": "a unit other than g, m/s2, mg, auto, rad/s, deg/s",
    "gyroscope": "no gyroscope in the message, but the model needs one, or the topic is for it",
    "retained": "a retained message: its samples were published before harstream subscribed",
    "internal": "the decoder failed, which is a bug of harstream; please report the line of the log",
}


class RejectError(Exception):
    """Raised by the decoders of this package for a message to reject. ``Decoder`` turns it into a Rejection.

    Args:
        reason: A key of REASONS.
        detail: What is wrong with this message, with the value found.

    """

    def __init__(self, reason: str, detail: str) -> None:
        assert reason in REASONS, reason
        super().__init__(detail)
        self.reason = reason
        self.detail = detail

    def kept(self) -> Rejected:
        """Return what it says."""
        return Rejected(self.reason, self.detail)


@dataclass(frozen=True, slots=True)
class Rejected:
    """Reason and detail of a RejectError, to be kept.

    An exception that is kept refers to the frames that it has passed, and they to it. So a whole batch would stay in
    memory until the garbage collector runs, which is rare.
    """

    reason: str  # a key of REASONS
    detail: str

    def error(self) -> RejectError:
        """Return an exception that says so."""
        return RejectError(self.reason, self.detail)


@dataclass(frozen=True, slots=True)
class Rejection:
    """A rejected message, for the counter and the log."""

    topic: str
    reason: str  # a key of REASONS
    detail: str  # what is wrong with this message
    device: str = ""  # "": the topic names none
