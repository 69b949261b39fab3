"""Announcements of the devices of one source to Home Assistant: which are due, and which are another daemon's.

The messages are retained, so they outlive the daemon. It reads them back: one that this daemon has published, in this
life or an earlier one, about a device that it does not label, is removed after the time after which it forgets devices.
Announcements of other daemons are theirs. A device that comes here from another daemon is announced again, which makes
this one the owner, and the other one leaves it alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from harstream.wire.homeassistant import Discovery

#: Time after which a device that is labelled is announced again if somebody has removed it, seconds. Home Assistant
#: removes one sensor after the other.
_AGAIN_S = 5.0


class Announcements:
    """Announcements of the devices of one source. They belong to one thread.

    Args:
        discovery: Topics and messages of the source.
        labels: Labels that are published.
        model: Id of the model.
        max_devices: Largest number of devices with state.
        idle_s: Seconds without samples after which a device is forgotten. One that was announced here before and has
            no label here is removed after this time.
        monotonic: Clock.

    Attributes:
        due: Keys of the devices to be announced or, if they are not labelled here, removed.

    """

    def __init__(
        self,
        discovery: Discovery,
        labels: Sequence[str],
        model: str,
        *,
        max_devices: int,
        idle_s: float,
        monotonic: Callable[[], float],
    ) -> None:
        self.discovery = discovery
        self._labels, self._model = list(labels), model
        self._max_devices, self._idle_s, self._monotonic = max_devices, idle_s, monotonic
        # By key of the device:
        self.due: dict[str, None] = {}
        self._devices: dict[str, str] = {}  # those that are labelled here, and their ids
        self._own: set[str] = set()  # those that the broker retains as ours
        self._later_s: dict[str, float] = {}  # those to be due later, and when
        self._elsewhere: set[str] = set()  # those labelled here that another daemon has announced since
        self._unheard: dict[str, int] = {}  # announcements of them that were not read back yet

    def note_labelled(self, devices: Sequence[str]) -> None:
        """Announce devices that had no label before."""
        for device in devices:
            key = self.discovery.key(device)
            self._devices[key] = device
            self.due[key] = None
            self._later_s.pop(key, None)
            self._elsewhere.discard(key)

    def note_gone(self, devices: Sequence[str], *, for_good: bool) -> None:
        """Remove devices that were forgotten for good, or leave them to another daemon."""
        for device in devices:
            key = self.discovery.key(device)
            self._devices.pop(key, None)
            for part in (self.due, self._later_s):
                part.pop(key, None)
            self._elsewhere.discard(key)
            if key in self._own and for_good:
                self.due[key] = None
            elif key in self._own:
                self._leave(key)

    def change_model(self, labels: Sequence[str], model: str) -> None:
        """Announce all devices with the labels of another model."""
        self._labels, self._model = list(labels), model
        self.announce_all()

    def change_idle(self, idle_s: float) -> None:
        """Use another time after which devices are forgotten, in what is announced from now on."""
        self._idle_s = idle_s

    def announce_all(self) -> None:
        """Announce all devices that are labelled here and are no other daemon's."""
        self.due |= dict.fromkeys(key for key in self._devices if key not in self._elsewhere)

    def connect(self) -> None:
        """Announce all devices on a new connection, on which the broker first says what it retains."""
        self._unheard.clear()
        self.announce_all()

    def hear(self, topic: str, payload: bytes) -> None:
        """Note what the broker retains now about a device."""
        said = self.discovery.read(topic, payload)
        key, here = said.key, said.key in self._devices
        if said.owner == self.discovery.owner:
            self._note_heard(key)
            if here:
                self._later_s.pop(key, None)
                self._elsewhere.discard(key)
            elif key not in self.due and key not in self._later_s:
                if key not in self._own and len(self._own) >= 2 * self._max_devices:
                    return  # somebody else has published them
                self._leave(key)
            self._own.add(key)
            return
        if key in self._unheard:  # the broker got our last one after this
            return
        self._own.discard(key)
        if not here:
            self.due.pop(key, None)
            self._later_s.pop(key, None)
        elif said.owner is None:
            self._later_s[key] = self._monotonic() + _AGAIN_S
        elif key not in self.due:  # else ours is about to be the last one
            self._elsewhere.add(key)

    def _note_heard(self, key: str) -> None:
        n_left = self._unheard.pop(key, 0) - 1
        if n_left > 0:
            self._unheard[key] = n_left

    def _leave(self, key: str) -> None:
        """Remove a device later, unless it gets a label here or another owner meanwhile."""
        self._later_s[key] = self._monotonic() + self._idle_s

    def take_later(self) -> None:
        """Make due what was left for now."""
        now_s = self._monotonic()
        for key in [key for key, due_s in self._later_s.items() if now_s >= due_s]:
            del self._later_s[key]
            self.due[key] = None

    def messages(self, keys: Sequence[str]) -> list[tuple[str, bytes]]:
        """Return the publications that announce or remove devices, as many for each."""
        return [message for key in keys for message in self._messages_of(key)]

    def _messages_of(self, key: str) -> list[tuple[str, bytes]]:
        device = self._devices.get(key)
        if device is None:
            return self.discovery.remove(key)
        return self.discovery.announce(device, self._labels, self._model, self._idle_s)

    def note_published(self, keys: Sequence[str]) -> None:
        """Note that the messages of devices are on their way to the broker."""
        for key in keys:
            del self.due[key]
            if key in self._devices:
                self._own.add(key)
                self._unheard[key] = self._unheard.get(key, 0) + 1
            else:
                self._own.discard(key)
