"""Why a message was rejected: the values of ``harstream_messages_rejected_total{reason}``."""

from __future__ import annotations

from dataclasses import dataclass

#: Reason to what it means, as the README's table has it.
REASONS = {
    "empty": "no payload, or no sample in it",
    "too_large": "payload larger than the limit",
    "device": "the topic names no device, or one with characters that no topic may have",
    "json": "not JSON, or not UTF-8",
    "packed": "a packed payload with another version, an unknown flag or the wrong length",
    "shape": "JSON, but not samples: a field is missing, of another type, or acc and gyro differ in length",
    "not_finite": "a sample, or a scale, is not a finite number",
    "range": "a sample beyond 1,000 g or 1,000 rad/s: a corrupt message, or a unit mistaken",
    "time": "event time is not finite, negative or beyond the year 2200",
    "rate": "rate_hz is not finite or negative",
    "units": "a unit other than g, m/s2, rad/s, deg/s",
    "gyroscope": "no gyroscope in the message, and the model needs one",
    "retained": "a retained message: old samples, published before we subscribed",
}


class Reject(Exception):  # noqa: N818 (not an error of ours)
    """Raised inside wire for a malformed payload; decode turns it into a Rejection."""

    def __init__(self, reason: str, detail: str) -> None:
        assert reason in REASONS, reason
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Rejection:
    """A rejected message, for the counter and the log."""

    topic: str
    reason: str
    detail: str
