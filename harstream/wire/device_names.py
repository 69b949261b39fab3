"""Names of devices in payloads, where the topic has no level ``{device}``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harstream.wire.documents import found
from harstream.wire.reject import RejectError
from harstream.wire.topics import MAX_DEVICE_LENGTH, escape_unprintable, is_device_name

#: Names of the field that are understood without configuration; the first that a message has counts. ``id`` is none: it
#: often numbers the messages, each of which would then be a device of its own.
DEVICE_NAMES = (
    "device",
    "deviceId",
    "device_id",
    "deviceID",
    "deviceid",
    "DeviceId",
    "clientId",
    "client_id",
    "mac",
)
#: Devices in one message. Each costs about as much as a message.
MAX_DEVICES = 64


def check_number(n_devices: int) -> None:
    """Raise RejectError if there are too many devices in one message."""
    if n_devices > MAX_DEVICES:
        raise RejectError("device", f"{n_devices} devices in one message, expected at most {MAX_DEVICES}")


def device_name(value: Any) -> str:
    """Return the device that a text or a whole number names. Raise RejectError if it cannot be a level of a topic."""
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() <= 64:
        value = str(value)
    if not isinstance(value, str):
        raise RejectError("device", f"the device is {found(value)}, expected a text or a whole number")
    if not is_device_name(value):
        raise RejectError(
            "device",
            f"the device is called {escape_unprintable(value[:40])!r}, expected 1 to {MAX_DEVICE_LENGTH} characters "
            "without /, + and #",
        )
    return value


def device_of(members: Mapping[Any, Any]) -> str:
    """Return the device that an object names under one of DEVICE_NAMES. Raise RejectError if it names none."""
    for name in DEVICE_NAMES:
        if members.get(name) is not None:
            return device_name(members[name])
    raise RejectError(
        "device",
        f"neither topic nor payload names the device, but {found(members)}; expected a field such as "
        f'{DEVICE_NAMES[1]}, or payload = "fields" with the path of the device',
    )
