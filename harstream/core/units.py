"""Unit of the accelerations of each device that does not state it."""

from __future__ import annotations

import numpy as np

from harstream.core.batches import Bool, Float32, Int64
from harstream.core.plausibility import ACC_UNIT_FACTORS, ACC_UNIT_NAMES, acc_unit
from harstream.core.rows import RowArrays, any_true

_FACTORS = np.array(ACC_UNIT_FACTORS)


class AccUnits(RowArrays):
    """Unit by row, decided from the first window after a restart, so that the cut into messages cannot matter."""

    ROW_ARRAYS = ("auto", "unit", "tried")

    def __init__(self, capacity: int) -> None:
        self.auto = np.zeros(capacity, np.bool_)  # whether the unit is unknown; False: it is stated, and g here
        self.unit = np.zeros(capacity, np.int8)  # 1 + index into ACC_UNIT_NAMES; 0: not decided, or stated
        self.tried = np.zeros(capacity, np.bool_)  # whether a window since the restart was looked at

    def restart(self, rows: Int64, auto: Bool) -> None:
        """Forget the units of ``rows``. They are decided from the next window where ``auto`` (n_rows,), else stated."""
        self.auto[rows], self.unit[rows], self.tried[rows] = auto, 0, False

    def decide(self, rows: Int64, total_acc: Float32) -> Bool:
        """Decide the units of ``rows`` from their first windows (n_rows, window, 3). Return which are decided."""
        unit = acc_unit(total_acc)
        self.unit[rows], self.tried[rows] = unit + 1, True
        return np.asarray(unit >= 0)

    def any_scaled(self, rows: Int64) -> bool:
        """Return whether any of ``rows`` has another unit than g."""
        return any_true(self.unit[rows] > 1)

    def scale(self, rows: Int64, counts: Int64, acc: Float32) -> Float32:
        """Return the acceleration (n_samples, 3) in g. Row ``rows[i]`` owns the next ``counts[i]`` samples."""
        factors = np.repeat(_FACTORS[np.maximum(self.unit[rows] - 1, 0)], counts)
        return np.asarray(acc * factors[:, None], np.float32)

    def names(self, rows: Int64) -> list[str | None]:
        """Return the unit of each row that was decided; None: stated, or not decided yet."""
        names = [None, *ACC_UNIT_NAMES]
        return [names[index] for index in self.unit[rows].tolist()]
