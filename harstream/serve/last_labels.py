"""Last published label of each device of a source."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from harstream.serve.label_history import LabelHistory
from harstream.wire.labels import are_in_a_row

#: Time between two labels from which on the history has a pause: windows of a shipped model are due every 1.3 to 5 s.
PAUSE_NS = 30 * 10**9


class LastLabel(NamedTuple):
    """Last published label of a device."""

    label: str
    confidence: float
    since_ns: int  # event time of the first of the equal labels in a row
    t_ns: int  # event time of the label


class LastLabels:
    """Last published label of each device of a source. The broker retains it until it is cleared.

    It belongs to one thread. Other threads may call `get`, and may copy `counts`.

    Args:
        labels: Labels that may be published.
        history: Is told when a label begins; None: nobody asks for it.

    """

    def __init__(self, labels: Iterable[str], history: LabelHistory | None = None) -> None:
        self.history = history
        self.counts: dict[str, int] = dict.fromkeys(labels, 0)  # label to the number of devices that have it
        self.to_clear: dict[str, None] = {}  # evicted devices whose label the broker still retains, in order
        self._labels: dict[str, LastLabel] = {}  # by device; an entry is replaced, never changed

    @property
    def devices(self) -> list[str]:
        """Devices that have a label."""
        return list(self._labels)

    def get(self, device: str) -> LastLabel | None:
        """Return the last label of a device; None before its first."""
        return self._labels.get(device)

    def add_labels(self, labels: Iterable[str]) -> None:
        """Add the labels of another model."""
        for label in labels:
            self.counts.setdefault(label, 0)

    def update(
        self, devices: Sequence[str], labels: Sequence[str], confidences: Sequence[float], end_ns: Sequence[int]
    ) -> Counter[str]:
        """Set the labels of devices, in order, and count the changes by new label. A first label is no change."""
        changes: Counter[str] = Counter()
        for device, label, confidence, t_ns in zip(devices, labels, confidences, end_ns, strict=True):
            before = self._labels.get(device)
            if before is not None and before.label == label:
                since_ns = before.since_ns if are_in_a_row(before.t_ns / 1e9, t_ns / 1e9) else t_ns
                self._labels[device] = LastLabel(label, confidence, since_ns, t_ns)
                if t_ns - before.t_ns > PAUSE_NS and self.history is not None:
                    self.history.begin(device, label, (t_ns - before.t_ns) / 1e9)
                continue
            self._labels[device] = LastLabel(label, confidence, t_ns, t_ns)
            self.counts[label] += 1
            if self.history is not None:
                apart_ns = 0 if before is None else t_ns - before.t_ns
                self.history.begin(device, label, apart_ns / 1e9 if apart_ns > PAUSE_NS else 0.0)
            if before is None:
                self.to_clear.pop(device, None)  # the device is back, and its new label replaces the old one
            else:
                self.counts[before.label] -= 1
                changes[label] += 1
        return changes

    def remove(self, devices: Iterable[str]) -> None:
        """Remove evicted devices. Their retained labels are then to be cleared."""
        n_before = len(self._labels)
        devices = list(devices)
        if self.history is not None:
            self.history.remove(devices)
        for device in devices:
            last = self._labels.pop(device, None)
            if last is not None:
                self.counts[last.label] -= 1
                self.to_clear[device] = None
        if 2 * len(self._labels) < n_before:  # a dict gives no memory back
            self._labels = dict(self._labels)

    def to_list(self, devices: Iterable[str] | None = None) -> list[Any]:
        """Return the labels of some devices or all as JSON: device, label, confidence, beginning, and time."""
        chosen = self._labels if devices is None else [device for device in devices if device in self._labels]
        return [[device, *self._labels[device]] for device in chosen]

    def restore(self, labels: Iterable[Any], to_clear: Iterable[str]) -> None:
        """Take over what ``to_list`` returned, and the devices whose labels were to be cleared."""
        self.add(labels)
        self.to_clear = dict.fromkeys(to_clear)

    def add(self, labels: Iterable[Any]) -> None:
        """Add what ``to_list`` returned, of devices that have no label here."""
        for device, label, confidence, since_ns, t_ns in labels:
            self._labels[device] = LastLabel(label, confidence, since_ns, t_ns)
            self.counts[label] = self.counts.get(label, 0) + 1
            self.to_clear.pop(device, None)

    def give_up(self, devices: Sequence[str]) -> None:
        """Remove devices whose retained labels are not ours any more."""
        self.remove(devices)
        for device in devices:
            self.to_clear.pop(device, None)

    def mark_cleared(self, number: int) -> None:
        """Note that the broker has cleared the labels of the first ``number`` devices of ``to_clear``."""
        self.to_clear = dict.fromkeys(list(self.to_clear)[number:])
