"""Streams of one device to which something happens."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from harstream.core.spec import ORIENTATION_FREE, GravityFilter, NoiseFilter, SignalSpec

from ..constants import SECOND, T0_NS
from .streams import Message, cut, gait, gait_at, restamped, still, walk

HOUR = 3600 * SECOND
G = 9.80665
SPEC = SignalSpec(window_samples=32, stride_samples=16)
AIDED = replace(SPEC, gravity_filter=GravityFilter("complementary"))
FREE = replace(SPEC, channels=ORIENTATION_FREE, noise_filter=NoiseFilter("none"), normalisation=None)
BOTH = pytest.mark.parametrize(
    "spec",
    # Mishaps are of the timeline, before the filters: the second one is for the slow tests.
    [pytest.param(SPEC, id="butterworth"), pytest.param(AIDED, id="complementary", marks=pytest.mark.slow)],
)


def stream(mishap: str) -> list[Message]:
    """Return the messages of device ``a``, in order of arrival."""
    messages = walk("a", 50.0)
    match mishap:
        case "gap":
            del messages[10:12], messages[25]
        case "restart":
            del messages[10:20]
        case "late":
            messages = [*messages[:10], *messages[8:20], *messages[12:]]
        case "rate":
            messages += walk("a", 100.0, t_ns=T0_NS + 8 * SECOND) + walk("a", 31.25, t_ns=T0_NS + 16 * SECOND)
        case "drift":
            messages = [replace(m, rate_hz=50.0) for m in cut(gait(400), 10, rate_hz=49.0)]
        case "learning":
            messages = cut(gait(400, 20.0), 10, rate_hz=20.0, announced=50.0)
        case "unstamped":
            messages = [
                replace(m, stamped=False, arrival_s=m.t_ns / 1e9 + i % 7 * 0.03) for i, m in enumerate(messages)
            ]
        case "reset":  # into the past, then outside of all times
            stamps = [m.t_ns - (k >= 15) * 2 * SECOND - (k >= 27) * HOUR for k, m in enumerate(messages)]
            messages = restamped(messages, stamps)
            messages.insert(33, messages[25])  # repeated
        case "held":  # a wrong stamp, then a jump, whose first message waits
            stamps = [m.t_ns + (k == 10) * 9 * HOUR + (k >= 20) * HOUR for k, m in enumerate(messages)]
            messages = restamped(messages, stamps)
            messages[21:21] = [messages[20], messages[17]]  # repeated, while it waits
        case "irregular":
            rng = np.random.default_rng(1)
            t_s = np.cumsum(np.maximum(0.001, rng.normal(0.02, 0.004, 400)))
            t_s[300:] += 2.0  # after a silence
            samples = gait_at(t_s).astype(np.float32)
            messages = [Message("a", T0_NS + round(t * 1e9), samples[k : k + 1]) for k, t in enumerate(t_s.tolist())]
            messages[250], messages[251] = messages[251], messages[250]
        case "coarse":
            messages = restamped(messages, [m.t_ns // SECOND * SECOND for m in messages])
        case "milliseconds":
            messages = restamped(messages, [k * 200 * SECOND for k in range(len(messages))])
        case "unit":  # none at first, then m/s2, then one that is stated
            acc = gait(400)
            acc[:70, :3] -= acc[:70, :3].mean(axis=0)
            acc[70:300, :3] *= G
            messages = [replace(m, acc_unit_auto=k < 30) for k, m in enumerate(cut(acc, 10))]
        case "overlap":  # another device for 4 s
            other = cut(still(200), 10, t_ns=T0_NS + SECOND // 10, announced=50.0)
            messages = sorted(messages + other, key=lambda m: m.t_ns + len(m) * 20_000_000)
        case _:
            raise ValueError(mishap)
    return messages


MISHAPS = (
    "gap",
    "restart",
    "late",
    "rate",
    "drift",
    "learning",
    "unstamped",
    "reset",
    "held",
    "irregular",
    "coarse",
    "milliseconds",
    "unit",
    "overlap",
)
