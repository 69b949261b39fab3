"""Windows without samples: what smoothing needs of them once the network has predicted them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harstream.core.batches import Float32, Int64, WindowBatch
from harstream.core.spec import SignalSpec


def without_samples(
    devices: Sequence[str], start_ns: Int64, end_ns: Int64, spec: SignalSpec, problems: Int64 | None = None
) -> WindowBatch:
    """Return windows of ``devices`` (n_windows,) with these times and problems; None: without problems."""
    n = len(devices)
    samples: Float32 = np.zeros((n, 0, spec.n_channels), np.float32)
    masks = np.zeros(n, np.int64) if problems is None else problems
    return WindowBatch(list(devices), samples, start_ns, end_ns, np.zeros(n), masks)
