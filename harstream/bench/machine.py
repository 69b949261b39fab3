"""Description of the machine and the versions that a benchmark ran with."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path

from harstream import __version__

LIBRARIES = ("numpy", "scipy", "ai-edge-litert", "paho-mqtt", "pysimdjson")


def describe(broker: str) -> dict[str, str]:
    """Return processor, cores, memory, system and versions; ``broker`` is the name of the broker."""
    return {
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "harstream": __version__,
        "broker": broker,
        **{name: version(name) for name in LIBRARIES},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
