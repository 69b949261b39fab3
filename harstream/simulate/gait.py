"""Gait synthesis: a personal cycle at a varying pace, with a different deviation in each stride."""

from __future__ import annotations

import numpy as np

from harstream.simulate.parameters import BASE_RATE_HZ, HARMONICS, HOP, Complex, Float, Gait, Turns
from harstream.simulate.person import Person, envelope

#: Deviations and pace are drawn at knots KNOT samples apart (1.28 s, about a stride) and interpolated linearly.
KNOT = HOP // 2
_RAMP = (np.arange(KNOT) / KNOT)[:, None]
_ORDERS = np.arange(HARMONICS + 1)


class KnotProcess:
    """Random values of unit variance at successive knots: a constant of the bout plus a first-order autoregression."""

    def __init__(self, bout: Float, persistence: Float, rng: np.random.Generator) -> None:
        """Draw the constant part.

        Args:
            bout: (n,) share of the variance that is constant.
            persistence: (n,) correlation of the other share from one knot to the next.
            rng: Source of random numbers.

        """
        self._rng = rng
        self._persistence = persistence
        self._lasting = np.sqrt(bout) * rng.standard_normal(len(bout))
        # Linear interpolation has less variance between knots than at them; this factor restores the mean variance.
        self._scale = np.sqrt((1 - bout) / (2 / 3 + persistence / 3))
        self._state = rng.standard_normal(len(bout))

    def next(self) -> Float:
        """Return the values (n,) at the next knot."""
        fresh = self._rng.standard_normal(len(self._state))
        self._state = self._persistence * self._state + np.sqrt(1 - self._persistence**2) * fresh
        return np.asarray(self._lasting + self._scale * self._state, np.float64)


class Landings:
    """Angular velocity about gravity of a subject who turns on the landings of a staircase, twice per floor."""

    def __init__(self, turns: Turns, start_s: float, rng: np.random.Generator) -> None:
        self._turns = turns
        self._rng = rng
        self._second_of_pair = False
        self._turning: list[tuple[float, float, float]] = []  # centre in s, angle in rad, width in s
        self._next_s = start_s + self._draw(turns.first_s)

    def _draw(self, distribution: Float) -> float:
        return float(distribution[0] * np.exp(distribution[1] * self._rng.standard_normal()))

    def block(self, time_s: Float) -> Float:
        """Return the angular velocity (n,), in rad/s, at the times (n,), in s; each call continues after the last."""
        turns = self._turns
        while self._next_s < time_s[-1] + 4 * turns.width_s[0]:
            angle = float(turns.angle_rad[0] + turns.angle_rad[1] * self._rng.standard_normal())
            self._turning.append((self._next_s, angle, self._draw(turns.width_s)))
            self._second_of_pair = not self._second_of_pair
            # Two flights of stairs lie between pairs: the end of one floor and the start of the next.
            self._next_s += self._draw(turns.gap_s) if self._second_of_pair else 2 * self._draw(turns.first_s)
        self._turning = [turn for turn in self._turning if turn[0] > time_s[0] - 6 * turn[2]]
        out = np.zeros(len(time_s))
        for centre, angle, width in self._turning:
            out += angle / (width * np.sqrt(2 * np.pi)) * np.exp(-0.5 * ((time_s - centre) / width) ** 2)
        return out


class GaitStream:
    """Endless gait in blocks of HOP samples at the base rate, in the frame whose x axis points against gravity."""

    def __init__(self, gait: Gait, name: str, person: Person, phase: float, rng: np.random.Generator) -> None:
        """Start the gait ``name`` of ``person`` at ``phase`` rad of the stride."""
        self._gait = gait
        self._hz = person.stride_hz[name]
        self._cycle = person.cycle[name]
        self._flat = gait.components.reshape(len(gait.components), -1)
        self._deviation = gait.component_std * person.unsteadiness[name]
        self._strides = KnotProcess(gait.component_bout, gait.component_persistence, rng)
        self._pace = KnotProcess(np.array([gait.pace_bout]), np.array([gait.pace_persistence]), rng)
        self._knots = (self._next_cycle(), self._next_hz())
        self.phase = phase

    def _next_cycle(self) -> Complex:
        return self._cycle + ((self._strides.next() * self._deviation) @ self._flat).reshape(self._cycle.shape)

    def _next_hz(self) -> float:
        return self._hz * float(np.exp(self._gait.pace_std * self._pace.next()[0]))

    def block(self) -> tuple[Float, Float]:
        """Return the next motion (HOP, 6), in g and rad/s, and the factor (HOP, 6) on the residual noise."""
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
