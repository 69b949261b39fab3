"""Walking: a personal cycle, replayed at a wandering pace, each stride a little different."""

from __future__ import annotations

import numpy as np

from harstream.simulate.parameters import BASE_RATE_HZ, HARMONICS, HOP, Complex, Float, Gait, Turns
from harstream.simulate.person import Person, envelope

#: Deviations and pace are drawn at knots this far apart (1.28 s, about a stride) and joined by lines.
KNOT = HOP // 2
_RAMP = (np.arange(KNOT) / KNOT)[:, None]
_ORDERS = np.arange(HARMONICS + 1)


class Wander:
    """Values with unit variance at knots: part lasts for the bout, the rest decays (AR(1))."""

    def __init__(self, bout: Float, persistence: Float, rng: np.random.Generator) -> None:
        self._rng = rng
        self._persistence = persistence
        self._lasting = np.sqrt(bout) * rng.standard_normal(len(bout))
        # Lines between knots have less variance than the knots; made up for here.
        self._scale = np.sqrt((1 - bout) / (2 / 3 + persistence / 3))
        self._state = rng.standard_normal(len(bout))

    def next(self) -> Float:
        """The values at the next knot."""
        fresh = self._rng.standard_normal(len(self._state))
        self._state = self._persistence * self._state + np.sqrt(1 - self._persistence**2) * fresh
        return np.asarray(self._lasting + self._scale * self._state, np.float64)


class Landings:
    """The angular velocity about gravity of turning on landings, two turns to a floor."""

    def __init__(self, turns: Turns, start_s: float, rng: np.random.Generator) -> None:
        self._turns = turns
        self._rng = rng
        self._pair = False
        self._held: list[tuple[float, float, float]] = []  # centre, angle, width
        self._next_s = start_s + self._draw(turns.first_s)

    def _draw(self, distribution: Float) -> float:
        return float(distribution[0] * np.exp(distribution[1] * self._rng.standard_normal()))

    def block(self, time_s: Float) -> Float:
        """(n,) s, later at every call -> (n,) rad/s."""
        turns = self._turns
        while self._next_s < time_s[-1] + 4 * turns.width_s[0]:
            angle = float(turns.angle_rad[0] + turns.angle_rad[1] * self._rng.standard_normal())
            self._held.append((self._next_s, angle, self._draw(turns.width_s)))
            self._pair = not self._pair
            # Between pairs lie the end of one floor's stairs and the beginning of the next.
            self._next_s += self._draw(turns.gap_s) if self._pair else 2 * self._draw(turns.first_s)
        self._held = [turn for turn in self._held if turn[0] > time_s[0] - 6 * turn[2]]
        out = np.zeros(len(time_s))
        for centre, angle, width in self._held:
            out += angle / (width * np.sqrt(2 * np.pi)) * np.exp(-0.5 * ((time_s - centre) / width) ** 2)
        return out


class Steps:
    """A stream of blocks of HOP samples at the base rate, in the frame of gravity."""

    def __init__(self, gait: Gait, name: str, person: Person, phase: float, rng: np.random.Generator) -> None:
        """``phase``: where in the stride to begin, rad."""
        self._gait = gait
        self._hz = person.stride_hz[name]
        self._cycle = person.cycle[name]
        self._flat = gait.components.reshape(len(gait.components), -1)
        self._deviation = gait.component_std * person.unsteadiness[name]
        self._strides = Wander(gait.component_bout, gait.component_persistence, rng)
        self._pace = Wander(np.array([gait.pace_bout]), np.array([gait.pace_persistence]), rng)
        self._knots = (self._next_cycle(), self._next_hz())
        self.phase = phase

    def _next_cycle(self) -> Complex:
        return self._cycle + ((self._strides.next() * self._deviation) @ self._flat).reshape(self._cycle.shape)

    def _next_hz(self) -> float:
        return self._hz * float(np.exp(self._gait.pace_std * self._pace.next()[0]))

    def block(self) -> tuple[Float, Float]:
        """The next (HOP, 6): acc in g, gyro in rad/s; and (HOP, 6), the factor on the rough part."""
        motion = np.empty((HOP, 6))
        phases = np.empty(HOP)
        for start in range(0, HOP, KNOT):
            cycle, hz = self._knots
            self._knots = next_cycle, next_hz = self._next_cycle(), self._next_hz()
            speed = (2 * np.pi / BASE_RATE_HZ) * (hz + (next_hz - hz) * _RAMP[:, 0])
            phase = self.phase + np.cumsum(speed)
            self.phase = float(phase[-1] % (2 * np.pi))
            turn = np.exp(1j * phase[:, None] * _ORDERS)
            both = np.hstack([turn.real, -turn.imag]) @ np.vstack(
                [np.hstack([cycle.real.T, next_cycle.real.T]), np.hstack([cycle.imag.T, next_cycle.imag.T])]
            )
            motion[start : start + KNOT] = (1 - _RAMP) * both[:, :6] + _RAMP * both[:, 6:]
            phases[start : start + KNOT] = phase
        return motion, envelope(self._gait.envelope, phases)
