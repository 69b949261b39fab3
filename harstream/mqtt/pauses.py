"""Pauses between reads of a connection, in which messages gather."""

from __future__ import annotations

import math

#: Shortest pause after a read with messages, and the longest with few and with much traffic, seconds. Every read wakes
#: two threads, which costs more than its messages do. But the time of a read is the arrival of its messages, the only
#: clock of devices that send no time.
MIN_PAUSE_S, MAX_FEW_PAUSE_S, MAX_PAUSE_S = 0.004, 0.008, 0.010
#: Messages that are to gather, as long as that takes no longer than MAX_FEW_PAUSE_S.
_GATHERED = 8
#: With much traffic the pause grows with the bytes, from MIN_PAUSE_S (at 4 MB/s) to MAX_PAUSE_S (at 10 MB/s).
_PAUSE_S_PER_BYTE_S = 1e-9
#: Time over which the messages a second are a mean, seconds.
_MEAN_S = 1.0


class ReadPauses:
    """Choice of the next pause, by what the last reads of a connection brought.

    Attributes:
        until_s: Time by ``time.monotonic()`` before which nothing is to be read.

    """

    def __init__(self) -> None:
        self.until_s = 0.0
        self._messages_s = 0.0  # messages a second, as a mean over time
        self._received_s = self._read_s = 0.0  # time of the last read with messages, and of the last one

    def note_read(self, now_s: float, n_bytes: int, n_messages: int, *, more: bool = False) -> None:
        """Choose the pause after a read at ``now_s``; there is none if ``more`` is waiting already."""
        if n_messages:
            since_s, self._received_s = max(now_s - self._received_s, MIN_PAUSE_S), now_s
            newest_s, kept = n_messages / since_s, math.exp(-since_s / _MEAN_S)
            self._messages_s = kept * self._messages_s + (1 - kept) * newest_s
            # A burst must not wait for the mean: the broker sends few messages before they are acknowledged.
            self.until_s = 0.0 if more else now_s + pause_s(max(self._messages_s, newest_s), n_bytes / since_s)
        elif more:
            self.until_s = 0.0
        elif now_s - self._read_s < MIN_PAUSE_S:  # answers to many messages of ours
            self.until_s = now_s + MIN_PAUSE_S
        self._read_s = now_s


def pause_s(messages_s: float, bytes_s: float) -> float:
    """Return the pause before the next read, in seconds, for messages and bytes that come in each second."""
    if messages_s * MAX_FEW_PAUSE_S < 1:  # hardly another would come meanwhile
        return 0.0
    by_bytes_s = min(max(_PAUSE_S_PER_BYTE_S * bytes_s, MIN_PAUSE_S), MAX_PAUSE_S)
    return max(by_bytes_s, min(_GATHERED / messages_s, MAX_FEW_PAUSE_S))
