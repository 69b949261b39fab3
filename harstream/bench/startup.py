"""Start and memory of whole processes: time until the daemon is ready, and resident memory at rest and with devices.

The ceiling is a bare Python process that only imports the libraries that a plain script for the same work needs.
"""

from __future__ import annotations

import time

from harstream.bench import packets
from harstream.bench.counters import DONE, SENT
from harstream.bench.processes import process, resident_bytes, wait_until
from harstream.bench.testbed import Testbed, Traffic

#: Imports of a plain script. harstream itself does without ``scipy.signal`` (see ``core.butterworth``).
IMPORTS = "import numpy, scipy.signal, ai_edge_litert.interpreter"
#: Messages of each device before memory is measured: by then the last device has had three windows.
_MESSAGES = 20
#: Time from ready to the measurement of memory at rest.
_SETTLE_S = 1.0
#: Time from the last message to the measurement of memory: the daemon tidies up every five seconds.
_TIDIED_S = 6.0


def imports() -> tuple[float, int]:
    """Return the seconds that a bare Python needs for the imports, and its resident memory afterwards in bytes."""
    began = time.monotonic()
    with process("-c", f"{IMPORTS}\nprint('ready', flush=True)\nimport time\ntime.sleep(60)") as bare:
        wait_until(lambda: "ready" in bare.output, "the imports", bare)
        return time.monotonic() - began, resident_bytes(bare.pid)


def start(testbed: Testbed) -> tuple[float, int]:
    """Return the seconds that ``harstream run`` needs to be ready, and its resident memory afterwards in bytes."""
    arguments = ["-m", "harstream", "run", "--broker", f"mqtt://127.0.0.1:{testbed.broker.port}"]
    arguments += ["--http", "127.0.0.1:0", "--model", testbed.model, "--backend", testbed.backend]
    if not testbed.broker.is_mosquitto:
        arguments += ["--mqtt-version", "3.1.1"]
    began = time.monotonic()
    with process(*arguments) as daemon:
        wait_until(lambda: " ready: " in daemon.output, "the daemon to be ready", daemon)
        seconds = time.monotonic() - began
        time.sleep(_SETTLE_S)
        return seconds, resident_bytes(daemon.pid)


def memory(testbed: Testbed, n_devices: int) -> int:
    """Return the resident memory of the daemon in bytes after the last message of ``n_devices`` devices."""
    traffic = Traffic(n_devices, "packed")
    with testbed.under_load("daemon", traffic, rounds=_MESSAGES) as running:
        counters = running.counters
        expected = sum(max(_MESSAGES - i % packets.STARTS, 0) for i in range(n_devices))
        what = f"all {expected} messages"
        wait_until(lambda: counters[DONE] >= expected, what, running.receiver, running.load, timeout_s=600)
        assert counters[SENT] == expected
        time.sleep(_TIDIED_S)
        return resident_bytes(running.receiver.pid)
