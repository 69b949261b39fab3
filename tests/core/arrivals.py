"""Generators of what arrives of a device's stream, in slots, and the clock that stamps it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from ..constants import SECOND, T0_NS
from . import oracle
from .streams import Message, gait


class Arrival(NamedTuple):
    """One message in order of arrival."""

    slot: int  # of the first sample
    samples: np.ndarray
    wrong_s: float = 0.0  # error of its stamp

    def __repr__(self) -> str:
        return f"{self.slot}+{len(self.samples)}" + (f" wrong by {self.wrong_s} s" if self.wrong_s else "")


@dataclass(frozen=True)
class DeviceClock:
    """Clock of a device, which stamps slot ``k`` with ``origin_ns`` + k periods, with a drift and jitter."""

    rate_hz: float
    drift: float = 0.0
    jitter: float = 0.0  # at most, in periods, in both directions
    seed: int = 0
    origin_ns: int = T0_NS
    pauses: bool = True  # long gaps are pauses of the device; False: its clock jumps

    def messages(self, arrivals: Sequence[Any], announced: float | None = None) -> list[Message]:
        """Return stamped messages of arrivals, or of pairs (slot of the first sample, samples)."""
        rng = np.random.default_rng(self.seed)
        period_ns = 1e9 / self.rate_hz * (1 + self.drift)
        stamps: dict[tuple[int, int, float], int] = {}
        out, now_s = [], 0.0
        for k, (slot, samples, *wrong) in enumerate(arrivals):
            wrong_s = wrong[0] if wrong else 0.0
            key = slot, len(samples), wrong_s
            if key not in stamps:  # a repeated message repeats its stamp
                jitter = rng.uniform(-self.jitter, self.jitter)
                stamps[key] = self.origin_ns + round((slot + jitter) * period_ns)
            now_s = max(now_s, stamps[key] / SECOND)  # a repeated or late message arrives no earlier than the last one
            arrival_s = now_s if self.pauses else self.origin_ns / SECOND + k * 0.1
            t_ns = stamps[key] + round(wrong_s * SECOND)
            out.append(Message("a", t_ns, samples, self.rate_hz if announced is None else announced, True, arrival_s))
        return out

    def ns(self, slots: Any) -> np.ndarray:
        return self.origin_ns + np.rint(np.asarray(slots) * 1e9 / self.rate_hz * (1 + self.drift)).astype(np.int64)


MISHAPS = ("short gap", "long gap", "huge gap", "repeat", "swap", "overlap", "again", "wrong stamp")


@st.composite
def arrivals(draw, rate_hz, mishaps=True, most=25, first=2):
    """Messages in order of arrival, at least ``first`` of them before any mishap.

    Messages on time follow each mishap, because one that repeats would look like another rate.
    """
    signal = gait(int(40 * rate_hz), rate_hz, draw(st.integers(0, 9)))
    sizes = st.integers(1, most)
    out: list[Arrival] = []
    at = early = 0

    def send(n, slot=None, wrong_s=0.0):
        nonlocal at
        slot = at if slot is None else slot
        out.append(Arrival(slot, signal[np.arange(slot, slot + n) % len(signal)], wrong_s))
        at = max(at, slot + n)

    for _ in range(draw(st.integers(first, first + 3))):
        send(draw(sizes))
    kinds = ["none", *MISHAPS] if mishaps else ["none"]
    for kind in draw(st.lists(st.sampled_from(kinds), min_size=3, max_size=9)):
        match kind:
            case "short gap":  # ####..####   up to max_gap_s
                at += draw(st.integers(1, int(0.5 * rate_hz)))
            case "long gap":  # ####.......####
                at += draw(st.integers(int(0.5 * rate_hz) + 1, int(5 * rate_hz)))
            case "huge gap":  # the first message waits for the second one, unless the device has paused
                at += draw(st.integers(int(11 * rate_hz), int(1e8 * rate_hz)))
                if draw(st.booleans()):
                    send(draw(sizes))
                    out.append(draw(st.sampled_from([part for part in out[-6:] if not part.wrong_s])))
            case "repeat":  # 0000 1111 2222 | 0000 or 1111 or 2222 again
                out.append(draw(st.sampled_from(out[-6:])))
            case "swap":  # 0000 2222 1111
                one, two = draw(st.integers(1, int(0.4 * rate_hz))), draw(sizes)
                send(two, at + one)
                send(one, at - two - one)
            case "overlap" if early < 3:  # 0000 and from the middle of it 00111
                early += 1  # more of these would be another device, or irregular samples
                n = draw(st.integers(2, most)) if most > 1 else 1
                send(n, at - draw(st.integers(0, min(n - 1, len(out[-1].samples)))))
            case "again" if early < 3:  # 0000 1111 | 00 001 111 2222   the clock is set back by less than a second
                early += 1
                slot, newest = max(at - draw(st.integers(1, int(0.9 * rate_hz))), 0), out[-1].slot
                while slot < at:
                    n = draw(sizes) if slot <= newest else max(draw(sizes), at - slot)
                    send(n, slot)
                    slot += n
            case "wrong stamp":
                send(draw(sizes), wrong_s=draw(st.floats(-1e8, -3.0) | st.floats(3.0, 1e8)))
        for _ in range(3):
            send(draw(sizes))
    return out


def follow(arrived: Sequence[Any], rate_hz: float, max_gap_s: float) -> oracle.Accepted:
    """Return what the oracle accepts. A message with a wrong stamp is late altogether."""
    right = [(slot, samples) for slot, samples, *wrong in arrived if not any(wrong)]
    accepted = oracle.follow(right, rate_hz, max_gap_s)
    accepted.late += sum(len(samples) for _, samples, *wrong in arrived if any(wrong))
    return accepted
