"""Equal shares of something scarce."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from harstream.core.batches import Float64


def equal_share(wanted: Float64 | Sequence[float], total: float) -> float:
    """Return the share of each, so that all together get ``total``: who wants less than the share gets all of it.

    This is max-min fairness: Bertsekas and Gallager, "Data Networks", section 6.5.2.

    >>> equal_share([1, 10, 10], 9)
    4.0
    >>> equal_share([1, 2], 9)  # enough for all
    inf

    """
    ascending = np.sort(np.asarray(wanted, np.float64))
    others = np.cumsum(ascending) - ascending  # what those get who want less
    shares = (total - others) / np.arange(len(ascending), 0, -1)
    short = np.flatnonzero(ascending > shares)
    return float(shares[short[0]]) if len(short) else math.inf
