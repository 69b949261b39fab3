"""Test of windows that are unlike all training data: the network was not made for them, whatever it says.

Two measures of a window, and their sum:

- ``distance``: the squared Mahalanobis distance of the network's features (the inputs of its last layer) from the
  nearest class mean, with one covariance for all classes (Lee et al. 2018, "A simple unified framework for detecting
  out-of-distribution samples").
- ``energy``: minus the logarithm of the sum of the exponentials of the logits (Liu et al. 2020, "Energy-based
  out-of-distribution detection"). It is high where no output stands out.
- ``total``: their sum, with the distance divided by DISTANCE_PER_ENERGY.

Each can have a limit, and a window above any of them is unfamiliar. Training sets a limit of the total, and a wide one
of distance; bundles of earlier versions have limits of distance and of energy.

Distance and energy miss different signals. Distance finds shaking and noise, which the network takes for an activity
with confidence. Energy finds what training showed the network as unfamiliar, such as a device that lies still the wrong
way up. Good windows of people and phones that the network does not know may be far away, or uncertain, but seldom both:
where these were held out, the total finds more for a lower price than a limit of each.
docs/explanation/recognition.md has the comparison with other measures.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from harstream import checks
from harstream.core.batches import Bool, Float32, Float64, Int64
from harstream.core.rows import RowArrays, any_true
from harstream.errors import ConfigError

#: Windows over which the share of unfamiliar ones is averaged, and after which a device is judged for the first time.
#: While a subject puts the device on, most windows are unfamiliar. On 11 subjects of HAPT whom a briefly trained
#: network did not know, this judgement costs 0.4 % of the good windows. After 4 windows, and at half of them, it cost
#: 5 %, and as many wrong labels of phones in pockets (DiFronzo) were published.
MEMORY = 16
#: Share at which a device begins to have a problem, and that at which it ends.
BEGIN_SHARE, END_SHARE = 0.7, 0.2
#: Share that is as good as none.
FORGOTTEN = 1e-3
#: Squared distance that counts as much as 1 of energy in the total. On five data sets, each held out, with the limit
#: that 1 % of the windows of the worst of the others exceed, 250 to 500 find most noise and shaking and cost 0.5 % of
#: the good windows; a limit of each found none of it and cost 1.3 %.
DISTANCE_PER_ENERGY = 300.0


class Limits(NamedTuple):
    """The highest values of the measures of a window that is familiar."""

    distance: float = math.inf
    energy: float = math.inf
    total: float = math.inf

    def exceeded_by(self, distance: Float64, energy: Float64) -> Bool:
        """Return which windows are unfamiliar (n_windows,). One that is not finite is."""
        near = (distance <= self.distance) & (energy <= self.energy) & (total(distance, energy) <= self.total)
        return np.asarray(~near, np.bool_)


@dataclass(frozen=True, eq=False)
class Familiar:
    """Knowledge of the training data in a bundle: class means, their common covariance, and the limits.

    Raises:
        ConfigError: The shapes do not fit each other.

    """

    means: Float64  # (n_classes, n_features) of the training windows of each output
    whitening: Float64  # (n_features, n_features) maps features to a space in which distances are Mahalanobis's
    limits: Limits

    def __post_init__(self) -> None:
        if self.whitening.shape != (self.n_features, self.n_features):
            raise ConfigError(
                f"familiar.whitening: expected {self.n_features} rows of as many numbers, one per feature as in "
                f"familiar.means, got the shape {self.whitening.shape}"
            )

    def __eq__(self, other: object) -> bool:
        """Return whether both say the same of every window."""
        return isinstance(other, Familiar) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash(self.limits)

    @property
    def digest(self) -> str:
        """The sha256 of means and whitening, in hexadecimal. The limits may be changed by hand."""
        return hashlib.sha256(self.means.tobytes() + self.whitening.tobytes()).hexdigest()

    @property
    def n_features(self) -> int:
        """Number of features of the network."""
        return int(self.means.shape[1])

    @cached_property
    def _centres(self) -> Float64:
        """Class means (n_classes, n_features) in the space in which distances are Mahalanobis's."""
        return np.asarray(np.einsum("cf,fg->cg", self.means, self.whitening))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Familiar:
        """Read the ``familiar`` section of a bundle. Raise ConfigError if it is not valid."""
        limits = {f"max_{measure}": measure for measure in Limits._fields}
        fields = checks.fields(data, "familiar", ["means", "whitening"], [*limits])
        if limits.keys().isdisjoint(fields):
            raise ConfigError(f"familiar: expected one of {', '.join(limits)}, got none; train the bundle again")
        return cls(
            _matrix(fields["means"], "familiar.means"),
            _matrix(fields["whitening"], "familiar.whitening"),
            Limits(
                **{
                    measure: checks.number(
                        fields[name], f"familiar.{name}", 0.0 if measure == "distance" else -math.inf
                    )
                    for name, measure in limits.items()
                    if name in fields
                }
            ),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object that ``from_dict`` reads."""
        return {
            "means": self.means.tolist(),
            "whitening": self.whitening.tolist(),
            **{f"max_{name}": value for name, value in self.limits._asdict().items() if math.isfinite(value)},
        }

    def distance(self, features: Float32) -> Float64:
        """Return the squared distance (n_windows,) of features (n_windows, n_features) from the nearest class mean."""
        # np.einsum adds in one order for any number of windows; a matrix product of BLAS does not.
        at = np.einsum("nf,fg->ng", features.astype(np.float64), self.whitening)
        difference = at[:, None] - self._centres
        return np.asarray(np.einsum("ncf,ncf->nc", difference, difference).min(axis=1))

    def unfamiliar(self, logits: Float32, features: Float32) -> Bool:
        """Return which windows are unlike all training data (n_windows,). A window that is not finite is unlike it.

        Args:
            logits: (n_windows, n_classes) of the network, not calibrated.
            features: (n_windows, n_features).

        """
        return self.limits.exceeded_by(self.distance(features), energy(logits))


class UnfamiliarDevices(RowArrays):
    """Devices of which most windows are unfamiliar, by row.

    A device in the wrong place is familiar now and then: a phone upside down in a pocket lies like one at the waist
    when its owner lies down. So a device has a problem while the share of unfamiliar windows among its last ones is
    high, and loses it only when that share is low. The share is the mean of the first MEMORY windows, and then an
    exponential mean over about as many.
    """

    ROW_ARRAYS = ("n_windows", "share", "problem")

    def __init__(self, capacity: int) -> None:
        self.n_windows = np.zeros(capacity, np.int64)  # that were counted
        self.share = np.zeros(capacity)  # 0: there is no problem
        self.problem = np.zeros(capacity, np.bool_)

    def feed(self, rows: Int64, rounds: Sequence[Int64], unfamiliar: Bool, counted: Bool) -> Bool:
        """Count the next windows, and return of which windows (n_windows,) the device has the problem.

        Args:
            rows: (n_windows,) the windows of each row are in order of time.
            rounds: ``split_into_rounds`` of the rows.
            unfamiliar: (n_windows,) Whether the window is unlike all training data.
            counted: (n_windows,) False: the window says nothing about the device, since it cannot be trusted anyway.

        """
        persists = np.zeros(len(rows), np.bool_)
        if not any_true(unfamiliar) and not any_true(self.share[rows]):  # the usual case
            np.add.at(self.n_windows, rows, counted)
            return persists
        for index in rounds:
            counts = index[counted[index]]
            self._count(rows[counts], unfamiliar[counts])
            persists[index] = self.problem[rows[index]]
        return persists

    def _count(self, rows: Int64, unfamiliar: Bool) -> None:
        """Count the next window of each of ``rows``, which have each row once."""
        self.n_windows[rows] += 1
        n = self.n_windows[rows]
        share = self.share[rows] + (unfamiliar - self.share[rows]) / np.minimum(n, MEMORY)
        share[share < FORGOTTEN] = 0.0
        begins = (share >= BEGIN_SHARE) & (n >= MEMORY)
        self.share[rows] = share
        self.problem[rows] = np.where(self.problem[rows], share > END_SHARE, begins)


def energy(logits: Float32) -> Float64:
    """Return the energy (n_windows,) of logits (n_windows, n_classes)."""
    values = logits.astype(np.float64)
    top = values.max(axis=1)
    return np.asarray(-(top + np.log(np.exp(values - top[:, None]).sum(axis=1))))


def total(distance: Float64, energy: Float64) -> Float64:
    """Return the sum of both measures (n_windows,)."""
    return np.asarray(distance / DISTANCE_PER_ENERGY + energy)


def _matrix(value: Any, where: str) -> Float64:
    rows = [checks.sequence(row, f"{where}: row {i}") for i, row in enumerate(checks.sequence(value, where))]
    if not rows or not rows[0] or any(len(row) != len(rows[0]) for row in rows):
        raise ConfigError(f"{where}: expected rows of one length, got lengths {[len(row) for row in rows]}")
    return np.array([[checks.number(item, where) for item in row] for row in rows])
