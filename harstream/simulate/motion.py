"""One synthetic wearable: a stream of six-channel samples with the truth beside them.

Made in blocks of 2.56 s at 50 Hz, whatever is asked for, and handed out in slices: how the stream
is taken cannot change it. Every bout of the script draws from a generator of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harstream.simulate import parameters as fitted
from harstream.simulate import person as persons
from harstream.simulate.day import Bout, day
from harstream.simulate.gait import Landings, Steps, Wander
from harstream.simulate.noise import Rough
from harstream.simulate.parameters import ACTIVITIES, BASE_RATE_HZ, GAITS, HOP, WANDER_S, Float, Parameters
from harstream.simulate.person import Person
from harstream.simulate.posture import angular_velocity, between, from_chart, tilt
from harstream.simulate.resample import Resampler

#: Peak of the acceleration along gravity while a posture changes, g for each rad turned.
BUMP_G = 0.12
#: Gravity drifts from knot to knot, this many blocks apart (10 s).
DRIFT_BLOCKS = 4
_EDGES = np.arange(HOP + 1) / BASE_RATE_HZ


@dataclass(frozen=True, slots=True)
class Taken:
    """A slice of a stream."""

    samples: npt.NDArray[np.float32]  # (n_samples, 6) acc in g, gyro in rad/s
    label: npt.NDArray[np.int8]  # (n_samples,) index into ACTIVITIES; from mid-transition the new one
    in_transition: npt.NDArray[np.bool_]  # (n_samples,) between two activities

    @property
    def labels(self) -> list[str]:
        """The name of each sample's activity."""
        return [ACTIVITIES[index] for index in self.label.tolist()]


class _Motion:
    """The signal of one bout, block by block, as if it went on for ever."""

    def __init__(
        self, parameters: Parameters, person: Person, bout: Bout, phase: float, rng: np.random.Generator
    ) -> None:
        self.bout = bout
        self._pole = person.gravity[bout.stance]
        # Gaits are described in the frame of gravity, what moves at rest in the wearable's own.
        self._turn = tilt(self._pole) if bout.activity in GAITS else np.eye(3)
        self._gyro_offset = person.gyro_offset
        self._rough = Rough(parameters.noises[bout.activity], person.levels[bout.activity], rng)
        self.steps: Steps | None = None
        self._landings: Landings | None = None
        if bout.activity in GAITS:
            self.steps = Steps(parameters.gaits[bout.activity], bout.activity, person, phase, rng)
            if bout.activity in parameters.turns:
                self._landings = Landings(parameters.turns[bout.activity], bout.steady_s, rng)
        self._spread = person.wander.get(bout.activity, 0.0)
        persistence = float(np.exp(-DRIFT_BLOCKS * HOP / BASE_RATE_HZ / WANDER_S))
        self._wander = Wander(np.zeros(2), np.full(2, persistence), rng)
        self._knots = self._wander.next(), self._wander.next()
        self._blocks = 0

    def block(self, edges_s: Float) -> tuple[Float, Float]:
        """(HOP + 1,) s -> (HOP, 6) in the wearable's axes without gravity, and (HOP + 1, 3) gravity's direction."""
        moving = self._rough.block()
        if self.steps is not None:
            cycle, factor = self.steps.block()
            moving = cycle + factor * moving
        if self._landings is not None:
            moving[:, 3] += self._landings.block(edges_s[:-1])
        out = np.hstack([moving[:, :3] @ self._turn.T, moving[:, 3:] @ self._turn.T])
        if self.steps is None:
            out[:, 3:] += self._gyro_offset  # a gait's mean cycle has it
        return out, from_chart(self._drift() * self._spread, self._pole)

    def _drift(self) -> Float:
        """(HOP + 1, 2): gravity's slow wander at unit spread, smooth from knot to knot."""
        begin = self._blocks % DRIFT_BLOCKS
        share = (begin + np.arange(HOP + 1) / HOP) / DRIFT_BLOCKS
        here, there = self._knots
        self._blocks += 1
        if self._blocks % DRIFT_BLOCKS == 0:
            self._knots = there, self._wander.next()
        return here + (there - here) * _smooth(share)[:, None]


def _smooth(share: Float) -> Float:
    """0 to 1 -> 0 to 1, from rest to rest with the least jerk (Flash and Hogan 1985)."""
    return share**3 * (10 - 15 * share + 6 * share**2)


class Wearable:
    """A subject with a device, living a day of ``day.day``.

    ``seed`` decides the person, the script and every sample. Other rates than 50 Hz are resampled
    from it (``resample.py``). ``pace`` shortens the stay in each activity; ``first`` names the
    activity it begins in. Raises ValueError for a rate outside 10 to 1000 Hz, a pace that is not
    positive, or an unknown activity.
    """

    def __init__(
        self,
        seed: int,
        sample_rate_hz: float = BASE_RATE_HZ,
        *,
        pace: float = 1.0,
        first: str | None = None,
        parameters: Parameters | None = None,
    ) -> None:
        if not 10.0 <= sample_rate_hz <= 1000.0:
            raise ValueError(f"sample_rate_hz: {sample_rate_hz!r} is not between 10 and 1000")
        self.sample_rate_hz = sample_rate_hz
        self._parameters = parameters or fitted.default()
        person, script, self._seeds, begin = np.random.SeedSequence(seed).spawn(4)
        self.person: Person = persons.draw(self._parameters, np.random.default_rng(person))
        self._script: Iterator[Bout] = day(
            np.random.default_rng(script), self._parameters.transition_s, pace=pace, first=first
        )
        self._next = next(self._script)
        self._live: list[_Motion] = []
        self._blocks = 0
        self._resampler = None if sample_rate_hz == BASE_RATE_HZ else Resampler(sample_rate_hz)
        self._truth: npt.NDArray[np.int8] = np.zeros((0, 2), np.int8)  # base rows: label, in transition
        self._truth_begin = 0
        self._ready = _empty()
        # Begun anywhere in a block, so that many wearables taken in step do not all make one at once.
        self.take(int(np.random.default_rng(begin).integers(round(HOP * sample_rate_hz / BASE_RATE_HZ))))

    def take(self, n: int) -> Taken:
        """The next ``n`` samples. Raises ValueError for a negative number."""
        if n < 0:
            raise ValueError(f"n: {n} is negative")
        parts = [self._ready]
        held = len(self._ready.label)
        while held < n:
            parts.append(self._more())
            held += len(parts[-1].label)
        whole = parts[0] if len(parts) == 1 else _join(parts)
        self._ready = Taken(whole.samples[n:], whole.label[n:], whole.in_transition[n:])
        return Taken(whole.samples[:n], whole.label[:n], whole.in_transition[:n])

    def _more(self) -> Taken:
        samples, truth = self._block()
        if self._resampler is None:
            return Taken(samples.astype(np.float32), truth[:, 0], truth[:, 1].astype(np.bool_))
        self._truth = np.concatenate([self._truth, truth])
        out, near = self._resampler.feed(samples)
        chosen = self._truth[near - self._truth_begin]
        if len(near):
            self._truth = self._truth[near[-1] - self._truth_begin :]
            self._truth_begin = int(near[-1])
        return Taken(out.astype(np.float32), chosen[:, 0], chosen[:, 1].astype(np.bool_))

    def _enter(self, bout: Bout) -> None:
        (seed,) = self._seeds.spawn(1)
        rng = np.random.default_rng(seed)
        phase = float(rng.random()) * 2 * np.pi
        before = self._live[-1].steps if self._live else None
        motion = _Motion(self._parameters, self.person, bout, before.phase if before else phase, rng)
        self._live.append(motion)

    def _block(self) -> tuple[Float, npt.NDArray[np.int8]]:
        """The next HOP rows at the base rate: (HOP, 6), and (HOP, 2) label and whether in transition."""
        edges = self._blocks * (HOP / BASE_RATE_HZ) + _EDGES  # (HOP + 1,) s
        self._blocks += 1
        while self._next.start_s <= edges[-1]:
            self._enter(self._next)
            self._next = next(self._script)

        first = self._live[0]
        moving, down = first.block(edges)
        label = np.full(HOP, ACTIVITIES.index(first.bout.activity), np.int8)
        changing = np.zeros(HOP, np.bool_)
        bump = np.zeros(HOP)
        for motion in self._live[1:]:
            bout = motion.bout
            more, toward = motion.block(edges)
            share = np.clip((edges - bout.start_s) / max(bout.steady_s - bout.start_s, 1e-9), 0.0, 1.0)
            smooth = _smooth(share)
            turned = np.arccos(np.clip((down * toward).sum(1), -1.0, 1.0))
            bump += BUMP_G * turned[:-1] * np.sin(2 * np.pi * share[:-1]) * np.sin(np.pi * share[:-1])
            moving = moving * (1 - smooth[:-1, None]) + more * smooth[:-1, None]
            down = between(down, toward, smooth)
            label[share[:-1] >= 0.5] = ACTIVITIES.index(bout.activity)
            changing |= (share[:-1] > 0.0) & (share[:-1] < 1.0)
        while len(self._live) > 1 and self._live[1].bout.steady_s <= edges[-1]:
            del self._live[0]

        true = down[:-1] * (1.0 + bump)[:, None]
        moving[:, :3] += true * self._parameters.gain + self._parameters.offset
        moving[:, 3:] += angular_velocity(down)
        return moving, np.stack([label, changing.astype(np.int8)], axis=1)


def _empty() -> Taken:
    return Taken(np.zeros((0, 6), np.float32), np.zeros(0, np.int8), np.zeros(0, np.bool_))


def _join(parts: list[Taken]) -> Taken:
    return Taken(
        np.concatenate([p.samples for p in parts]),
        np.concatenate([p.label for p in parts]),
        np.concatenate([p.in_transition for p in parts]),
    )
