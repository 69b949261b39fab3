"""Simulated wearable: an endless stream of six-channel samples with their true labels.

The stream is synthesised in blocks of 2.56 s at 50 Hz and returned in slices, so the number of samples in each read
cannot change it. Every bout of the script has its own random generator.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harstream.simulate import parameters as fitted
from harstream.simulate import person as persons
from harstream.simulate.day import ActivityBout, script
from harstream.simulate.gait import GaitStream, KnotProcess, Landings
from harstream.simulate.noise import NoiseStream
from harstream.simulate.parameters import ACTIVITIES, BASE_RATE_HZ, GAITS, HOP, WANDER_S, Float, Parameters
from harstream.simulate.person import Person
from harstream.simulate.posture import angular_velocity, between, from_chart, tilt
from harstream.simulate.resample import SincResampler

#: Peak acceleration along gravity during a change of posture, in g per rad of rotation.
BUMP_G = 0.12
#: Number of blocks between the knots of gravity's slow drift (10 s).
DRIFT_BLOCKS = 4
#: (HOP + 1,) times of the edges of a block's samples, in s from the start of the block.
_EDGES = np.arange(HOP + 1) / BASE_RATE_HZ


@dataclass(frozen=True, slots=True)
class SimulatedSamples:
    """Successive samples of a wearable with their true labels."""

    samples: npt.NDArray[np.float32]  # (n_samples, 6) acc in g, gyro in rad/s
    label: npt.NDArray[np.int8]  # (n_samples,) index into ACTIVITIES; changes in the middle of a transition
    in_transition: npt.NDArray[np.bool_]  # (n_samples,) True between two activities

    @property
    def labels(self) -> list[str]:
        """Name of each sample's activity."""
        return [ACTIVITIES[index] for index in self.label.tolist()]


class _Motion:
    """Signal of one bout, block by block, without end: the wearable stops reading when the bout is over."""

    def __init__(
        self, parameters: Parameters, person: Person, bout: ActivityBout, phase: float, rng: np.random.Generator
    ) -> None:
        self.bout = bout
        self._pole = person.gravity[bout.stance]
        # A gait is described in the frame whose x axis points against gravity, a posture in the wearable's axes.
        self._turn = tilt(self._pole) if bout.activity in GAITS else np.eye(3)
        self._gyro_offset = person.gyro_offset
        self._noise = NoiseStream(parameters.noises[bout.activity], person.levels[bout.activity], rng)
        self.steps: GaitStream | None = None
        self._landings: Landings | None = None
        if bout.activity in GAITS:
            self.steps = GaitStream(parameters.gaits[bout.activity], bout.activity, person, phase, rng)
            if bout.activity in parameters.turns:
                self._landings = Landings(parameters.turns[bout.activity], bout.steady_s, rng)
        self._spread = person.wander.get(bout.activity, 0.0)
        persistence = float(np.exp(-DRIFT_BLOCKS * HOP / BASE_RATE_HZ / WANDER_S))
        self._wander = KnotProcess(np.zeros(2), np.full(2, persistence), rng)
        self._knots = self._wander.next(), self._wander.next()
        self._blocks = 0

    def block(self, edges_s: Float) -> tuple[Float, Float]:
        """Return the next motion (HOP, 6) without gravity and the directions of gravity (HOP + 1, 3).

        Both are in the axes of the wearable; ``edges_s`` (HOP + 1,) are the edges of the block's samples, in s.
        """
        moving = self._noise.block()
        if self.steps is not None:
            cycle, factor = self.steps.block()
            moving = cycle + factor * moving
        if self._landings is not None:
            moving[:, 3] += self._landings.block(edges_s[:-1])
        out = np.hstack([moving[:, :3] @ self._turn.T, moving[:, 3:] @ self._turn.T])
        if self.steps is None:
            out[:, 3:] += self._gyro_offset  # the mean of a gait's cycle includes it
        return out, from_chart(self._drift() * self._spread, self._pole)

    def _drift(self) -> Float:
        """Return the slow drift of gravity (HOP + 1, 2) at unit standard deviation, smooth from knot to knot."""
        begin = self._blocks % DRIFT_BLOCKS
        share = (begin + np.arange(HOP + 1) / HOP) / DRIFT_BLOCKS
        here, there = self._knots
        self._blocks += 1
        if self._blocks % DRIFT_BLOCKS == 0:
            self._knots = there, self._wander.next()
        return here + (there - here) * _smooth(share)[:, None]


def _smooth(share: Float) -> Float:
    """Map 0..1 to 0..1 along the minimum-jerk path from rest to rest (Flash and Hogan 1985)."""
    return share**3 * (10 - 15 * share + 6 * share**2)


class Wearable:
    """Wearable of a simulated subject who follows the script of a day (``day.script``)."""

    def __init__(
        self,
        seed: int,
        sample_rate_hz: float = BASE_RATE_HZ,
        *,
        pace: float = 1.0,
        first: str | None = None,
        parameters: Parameters | None = None,
    ) -> None:
        """Draw the subject and start the stream.

        Args:
            seed: Decides the subject, the script and every sample.
            sample_rate_hz: 10 to 1000 Hz. Rates other than 50 Hz are resampled (``resample.py``).
            pace: Divisor of the durations of activities.
            first: First activity; by default drawn.
            parameters: By default those shipped in the package.

        Raises:
            ValueError: The rate or the pace is out of range, or the activity is unknown.

        """
        if not 10.0 <= sample_rate_hz <= 1000.0:
            raise ValueError(f"sample_rate_hz: expected 10 to 1000, got {sample_rate_hz!r}")
        self.sample_rate_hz = sample_rate_hz
        self._parameters = parameters or fitted.default()
        person_seed, script_seed, self._bout_seeds, start_seed = np.random.SeedSequence(seed).spawn(4)
        self.person: Person = persons.draw(self._parameters, np.random.default_rng(person_seed))
        self._script: Iterator[ActivityBout] = script(
            np.random.default_rng(script_seed), self._parameters.transition_s, pace=pace, first=first
        )
        self._next = next(self._script)
        self._live: list[_Motion] = []  # the current bout, and those that the signal is passing into
        self._blocks = 0
        self._resampler = None if sample_rate_hz == BASE_RATE_HZ else SincResampler(sample_rate_hz)
        self._truth: npt.NDArray[np.int8] = np.zeros((0, 2), np.int8)  # (n, 2) label and in_transition of base rows
        self._truth_begin = 0  # index of the first base row in _truth
        self._ready = _empty()  # synthesised but not yet read
        # Start at a random place in a block, so that wearables read in step do not synthesise in the same read.
        self.read(int(np.random.default_rng(start_seed).integers(round(HOP * sample_rate_hz / BASE_RATE_HZ))))

    def read(self, n: int) -> SimulatedSamples:
        """Return the next ``n`` samples.

        Raises:
            ValueError: ``n`` is negative.

        """
        if n < 0:
            raise ValueError(f"n: expected at least 0, got {n}")
        parts = [self._ready]
        n_ready = len(self._ready.label)
        while n_ready < n:
            parts.append(self._next_samples())
            n_ready += len(parts[-1].label)
        joined = parts[0] if len(parts) == 1 else _join(parts)
        self._ready = SimulatedSamples(joined.samples[n:], joined.label[n:], joined.in_transition[n:])
        return SimulatedSamples(joined.samples[:n], joined.label[:n], joined.in_transition[:n])

    def _next_samples(self) -> SimulatedSamples:
        """Return the samples of the next block, resampled: about 2.56 s."""
        samples, truth = self._block()
        if self._resampler is None:
            return SimulatedSamples(samples.astype(np.float32), truth[:, 0], truth[:, 1].astype(np.bool_))
        self._truth = np.concatenate([self._truth, truth])
        out, near = self._resampler.feed(samples)
        chosen = self._truth[near - self._truth_begin]
        if len(near):
            self._truth = self._truth[near[-1] - self._truth_begin :]
            self._truth_begin = int(near[-1])
        return SimulatedSamples(out.astype(np.float32), chosen[:, 0], chosen[:, 1].astype(np.bool_))

    def _enter(self, bout: ActivityBout) -> None:
        """Start the signal of a bout; a gait continues the phase of the gait before it."""
        (seed,) = self._bout_seeds.spawn(1)
        rng = np.random.default_rng(seed)
        phase = float(rng.random()) * 2 * np.pi
        before = self._live[-1].steps if self._live else None
        motion = _Motion(self._parameters, self.person, bout, before.phase if before else phase, rng)
        self._live.append(motion)

    def _block(self) -> tuple[Float, npt.NDArray[np.int8]]:
        """Return the next HOP rows at the base rate: samples (HOP, 6), and (HOP, 2) label and in_transition."""
        edges = self._blocks * (HOP / BASE_RATE_HZ) + _EDGES  # (HOP + 1,) s
        self._blocks += 1
        while self._next.start_s <= edges[-1]:
            self._enter(self._next)
            self._next = next(self._script)

        first = self._live[0]
        moving, gravity = first.block(edges)
        label = np.full(HOP, ACTIVITIES.index(first.bout.activity), np.int8)
        in_transition = np.zeros(HOP, np.bool_)
        bump = np.zeros(HOP)
        for motion in self._live[1:]:
            bout = motion.bout
            next_moving, next_gravity = motion.block(edges)
            share = np.clip((edges - bout.start_s) / max(bout.steady_s - bout.start_s, 1e-9), 0.0, 1.0)
            smooth = _smooth(share)
            angle = np.arccos(np.clip((gravity * next_gravity).sum(1), -1.0, 1.0))
            bump += BUMP_G * angle[:-1] * np.sin(2 * np.pi * share[:-1]) * np.sin(np.pi * share[:-1])
            moving = moving * (1 - smooth[:-1, None]) + next_moving * smooth[:-1, None]
            gravity = between(gravity, next_gravity, smooth)
            label[share[:-1] >= 0.5] = ACTIVITIES.index(bout.activity)
            in_transition |= (share[:-1] > 0.0) & (share[:-1] < 1.0)
        while len(self._live) > 1 and self._live[1].bout.steady_s <= edges[-1]:
            del self._live[0]

        true = gravity[:-1] * (1.0 + bump)[:, None]
        moving[:, :3] += true * self._parameters.gain + self._parameters.offset
        moving[:, 3:] += angular_velocity(gravity)
        return moving, np.stack([label, in_transition.astype(np.int8)], axis=1)


def _empty() -> SimulatedSamples:
    return SimulatedSamples(np.zeros((0, 6), np.float32), np.zeros(0, np.int8), np.zeros(0, np.bool_))


def _join(parts: list[SimulatedSamples]) -> SimulatedSamples:
    return SimulatedSamples(
        np.concatenate([p.samples for p in parts]),
        np.concatenate([p.label for p in parts]),
        np.concatenate([p.in_transition for p in parts]),
    )
