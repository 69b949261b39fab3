"""Snapshot of the daemon, read by the live page, the health checks and the metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from harstream.core.pairing import PairingStats


@dataclass(slots=True)
class DurabilityStats:
    """Totals of the state folder since the start of the process, and present sizes. All are 0 without one."""

    repeated: int = 0  # messages that the broker sent again
    devices_restored: int = 0  # devices whose state came from another worker
    restored: int = 0  # messages that were fed again from the journals
    checkpoints: int = 0
    failures: int = 0  # failed writes
    checkpoint_s: float = 0.0  # time that the last checkpoint took
    journal_bytes: int = 0  # of the present journal
    delivered: int = 0  # messages taken that must be acknowledged
    acknowledged: int = 0

    @property
    def unacknowledged(self) -> int:
        """Messages that wait for their acknowledgement, also while a write to the disk takes long."""
        return self.delivered - self.acknowledged


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """State and totals of one source at one moment. Totals count from the start of the process."""

    name: str
    model: str  # id of the bundle, such as waist@1.0.0
    backend: str
    labels: tuple[str, ...]  # labels that the model may publish, UNKNOWN last
    devices: int = 0  # devices with state
    devices_by_label: Mapping[str, int] = field(default_factory=dict)  # label to devices whose last label it is
    devices_by_problem: Mapping[str, int] = field(default_factory=dict)  # problem to devices that have it
    messages_received: int = 0  # messages taken from the inbox
    samples_received: int = 0  # samples in well-formed messages
    samples_late: int = 0  # samples not newer than the newest accepted one of their device
    samples_rate: int = 0  # samples of a rate that cannot be resampled
    samples_devices: int = 0  # samples of devices beyond max_devices
    pairing: PairingStats = field(default_factory=PairingStats)  # samples that did not find the other sensor's
    gaps: int = 0  # gaps in the samples of a device
    rates_measured: int = 0  # times a measured rate replaced the announced one


@dataclass(frozen=True, slots=True)
class DaemonStatus:
    """State and totals of a daemon at one moment. Totals count from the start of the process."""

    sources: tuple[SourceStatus, ...]

    alive: bool = False  # the main loop moves
    ready: bool = False  # connected, not stopping, labels not refused, and the inbox is below its high-water mark
    connected: bool = False  # connected to the broker and subscribed
    refused: Mapping[str, str] = field(default_factory=dict)  # what the broker refuses: labels, events or status to
    # the topic and the reason

    partitions: int = 0  # served now; 0 if the topic has none
    partitions_gained: int = 0  # by a worker, since the start
    partitions_lost: int = 0
    messages_waiting: int = 0  # messages in the inbox
    messages_dropped: int = 0  # messages removed from a full inbox
    messages_foreign: int = 0  # messages of partitions that another worker serves, or may serve
    windows_classified: int = 0
    durability: DurabilityStats = field(default_factory=DurabilityStats)
    log_lines_dropped: int = 0  # log lines that were not written to standard error

    @property
    def devices(self) -> int:
        """Devices with state, of all sources."""
        return sum(source.devices for source in self.sources)

    @property
    def messages_received(self) -> int:
        """Messages taken from the inbox."""
        return sum(source.messages_received for source in self.sources)

    @property
    def samples_received(self) -> int:
        """Samples in well-formed messages."""
        return sum(source.samples_received for source in self.sources)

    @property
    def state(self) -> str:
        """State in words: ready or not ready, and what the broker refuses."""
        refused = "".join(f"; the broker refuses {kind}: {text}" for kind, text in self.refused.items())
        return ("ready" if self.ready else "not ready") + refused
