"""Messages on their way through the timeline: those of one round, and the outcome of each message of a batch."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from harstream.core.accepted import AcceptedSamples
from harstream.core.batches import Bool, Float32, Float64, Int64, SampleBatch
from harstream.core.rows import all_true
from harstream.core.stamps import fingerprints


@dataclass(frozen=True, slots=True)
class RoundMessages:
    """Messages of different rows. All arrays are (n_messages,)."""

    index: Int64  # into the batch
    row: Int64
    t: Int64  # stamp; for messages without a usable stamp, the time of the first sample by the arrival
    stamped: Bool  # whether ``t`` is a stamp
    resolution_ns: Float64  # of coarse stamps; 0 for others
    count: Int64
    announced: Bool  # whether the message announces a rate
    starting: Bool  # the row starts with the message, or restarts
    ahead_ns: Float64  # ``t`` minus the predicted time; 0 where starting
    dt_ns: Float64  # stamp minus the newest stamp before; not where starting

    def __len__(self) -> int:
        return len(self.row)

    @property
    def exact(self) -> Bool:
        """True if the stamp is one that places the samples."""
        return np.asarray(self.stamped & (self.resolution_ns == 0))

    def select(self, keep: Bool) -> RoundMessages:
        """Return the messages where ``keep`` is true."""
        return self if all_true(keep) else RoundMessages(*(getattr(self, f.name)[keep] for f in fields(self)))

    def restart(self, where: Bool | Int64) -> RoundMessages:
        """Return the messages, of which those at ``where`` restart their rows."""
        starting, ahead_ns = self.starting.copy(), self.ahead_ns.copy()
        starting[where], ahead_ns[where] = True, 0.0
        return replace(self, starting=starting, ahead_ns=ahead_ns)


class BatchOutcome:
    """Outcome of each message of a batch, filled in while its messages are handled.

    Args:
        batch: Messages of raw samples.
        rows: (n_messages,) row of each message.
        n_held: Number of messages, the first ones, that waited for one of the others.

    """

    def __init__(self, batch: SampleBatch, rows: Int64, n_held: int = 0) -> None:
        n = len(batch)
        self.batch = batch
        self.rows = rows
        self.first = np.cumsum(batch.counts) - batch.counts  # index into the samples
        self.count = np.zeros(n, np.int64)  # accepted samples
        self.late, self.missing, self.t_ns, self.up, self.down = (np.zeros(n, np.int64) for _ in range(5))
        self.restart, self.overlapping = np.zeros(n, np.bool_), np.zeros(n, np.bool_)
        self.bridge_from = np.zeros((n, 6), np.float32)
        self.period_ns = np.zeros(n)
        self.fingerprint, self.begin = fingerprints(batch, self.first)
        self.order = np.arange(-n_held, n - n_held)
        self.waiting: dict[int, int] = {}  # row to the index of its message that waits for the next one
        self._interpolated: list[Float32] = []
        self.n_samples = len(batch.samples)  # and interpolated ones

    def add_interpolated(self, samples: Float32) -> None:
        """Add samples behind those of the batch."""
        self._interpolated.append(samples)
        self.n_samples += len(samples)

    def drop(self, index: Int64) -> None:
        """Count all samples of the messages at ``index`` as late."""
        self.late[index] = self.batch.counts[index]

    def accepted(self) -> AcceptedSamples:
        """Return the accepted samples."""
        message = np.flatnonzero(self.count)
        samples = self.batch.samples
        return AcceptedSamples(
            np.concatenate([samples, *self._interpolated]) if self._interpolated else samples,
            self.rows[message],
            self.restart[message],
            self.first[message],
            self.count[message],
            self.missing[message],
            np.zeros(len(message), np.int64),
            self.missing[message] + self.count[message],
            self.bridge_from[message],
            self.t_ns[message],
            self.period_ns[message],
            self.up[message],
            self.down[message],
            self.batch.arrival_s[message],
            self.batch.acc_unit_auto[message],
            self.overlapping[message],
            self.order[message],
            np.zeros(len(message), np.bool_),
        )
