"""Faults of real devices, as transforms of the messages that a faultless device would send.

Every transform takes an iterator of messages and a random generator, and is as deterministic as these.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import numpy as np

from harstream.sources import OutgoingMessage

Messages = Iterator[OutgoingMessage]

STANDARD_GRAVITY = 9.80665  # m/s2
#: Shortest and longest interval between two samples of a software loop, in s.
LOOP_INTERVAL_S = (0.008, 0.014)
#: Earliest and latest first reboot, and the time between two reboots, in s.
FIRST_REBOOT_S, REBOOT_EVERY_S = (30.0, 60.0), 60.0
#: Time in s that a device is silent at a reboot.
BOOT_S = 3.0
#: Speed of the drifting clock; that of a true one is 1.
DRIFT = 1.04
#: Mean time in s between two stretches of lost messages.
RECEPTION_S = 8.0
#: Shortest and longest stretch of lost messages in s, usually and every fourth time.
OUTAGE_S, LONG_OUTAGE_S = (0.1, 0.4), (1.0, 3.0)


def units(messages: Messages, rng: np.random.Generator) -> Messages:
    """Send accelerations in m/s2 without saying so."""
    for message in messages:
        samples = message.samples.copy()
        samples[:, :3] *= np.float32(STANDARD_GRAVITY)
        yield replace(message, samples=samples)


def loop(messages: Messages, rng: np.random.Generator) -> Messages:
    """Send each sample by itself, at irregular intervals with true stamps, as a loop on a microcontroller does.

    Samples between those of the faultless device are interpolated linearly.
    """
    next_s = -math.inf  # when the next sample leaves
    t_s, rows = np.zeros(0), None  # when the faultless samples around it leave, and these samples
    for message in messages:
        n = len(message.samples)
        t_s = np.concatenate([t_s, message.leaves_s + np.arange(1 - n, 1) / message.rate_hz])
        rows = message.samples if rows is None else np.concatenate([rows, message.samples])
        next_s = max(next_s, float(t_s[0]))
        last_ns = message.t_ns + round((n - 1) / message.rate_hz * 1e9)
        while next_s <= t_s[-1]:
            sample = np.array([[np.interp(next_s, t_s, column) for column in rows.T]], np.float32)
            yield OutgoingMessage(next_s, last_ns + round((next_s - message.leaves_s) * 1e9), 0.0, sample)
            next_s += float(rng.uniform(*LOOP_INTERVAL_S))
        t_s, rows = t_s[-1:], rows[-1:]


def reboot(messages: Messages, rng: np.random.Generator) -> Messages:
    """Reboot every minute: the device is silent for some seconds, and its clock begins again at 0."""
    reboot_s, ready_s = float(rng.uniform(*FIRST_REBOOT_S)), 0.0
    zero_ns = 0  # event time at which the clock showed 0
    for message in messages:
        if message.leaves_s >= reboot_s:
            zero_ns, ready_s = message.t_ns, reboot_s + BOOT_S
            reboot_s += REBOOT_EVERY_S
        if message.leaves_s >= ready_s:
            yield replace(message, t_ns=message.t_ns - zero_ns)


def coarse(messages: Messages, rng: np.random.Generator) -> Messages:
    """Stamp messages in whole seconds, rounded down."""
    for message in messages:
        yield replace(message, t_ns=message.t_ns // 10**9 * 10**9)


def drift(messages: Messages, rng: np.random.Generator) -> Messages:
    """Stamp messages by a clock that runs 4 % fast."""
    first_ns: int | None = None
    for message in messages:
        if first_ns is None:
            first_ns = message.t_ns
        yield replace(message, t_ns=first_ns + round((message.t_ns - first_ns) * DRIFT))


def dropout(messages: Messages, rng: np.random.Generator) -> Messages:
    """Lose the messages that leave during an outage of the radio; every fourth outage is a long one."""
    outages = _outages(rng)
    begin_s, end_s = next(outages)
    for message in messages:
        while message.leaves_s >= end_s:
            begin_s, end_s = next(outages)
        if message.leaves_s < begin_s:
            yield message


def _outages(rng: np.random.Generator) -> Iterator[tuple[float, float]]:
    """Yield begin and end of each outage, in s of stream time."""
    end_s, number = 0.0, 0
    while True:
        number += 1
        begin_s = end_s + float(rng.exponential(RECEPTION_S))
        end_s = begin_s + float(rng.uniform(*(OUTAGE_S if number % 4 else LONG_OUTAGE_S)))
        yield begin_s, end_s


#: Name of each fault to its transform.
FAULTS: Mapping[str, Callable[[Messages, np.random.Generator], Messages]] = {
    "units": units,
    "loop": loop,
    "reboot": reboot,
    "coarse": coarse,
    "drift": drift,
    "dropout": dropout,
}
