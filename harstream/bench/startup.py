"""How long until it is ready, and how much memory it holds: of whole processes."""

from __future__ import annotations

import time

from harstream.bench import packets
from harstream.bench.board import DONE, SENT
from harstream.bench.ingest import LEAD, Bench, Traffic
from harstream.bench.processes import process, resident_bytes, wait_until

#: What harstream cannot do without.
IMPORTS = "import numpy, scipy.signal, ai_edge_litert.interpreter"
#: By then the last have begun, and had three windows.
_MESSAGES = 20
_SETTLE_S = 1.0
#: By then the daemon has been round with its broom, which it does every five seconds.
_TIDIED_S = 6.0


def imports() -> tuple[float, int]:
    """Seconds until the bare imports are there, and the memory they hold then, in bytes."""
    began = time.monotonic()
    with process("-c", f"{IMPORTS}\nprint('ready', flush=True)\nimport time\ntime.sleep(60)") as bare:
        wait_until(lambda: "ready" in bare.said, "the imports", bare)
        return time.monotonic() - began, resident_bytes(bare.pid)


def start(bench: Bench) -> tuple[float, int]:
    """Seconds from the start of `harstream run` to ready, and the memory it holds then, in bytes."""
    arguments = ["-m", "harstream", "run", "--broker", f"mqtt://127.0.0.1:{bench.broker.port}"]
    arguments += ["--http", "127.0.0.1:0", "--model", bench.model, "--backend", bench.backend]
    if not bench.broker.is_mosquitto:
        arguments += ["--mqtt-version", "3.1.1"]
    began = time.monotonic()
    with process(*arguments) as daemon:
        wait_until(lambda: " ready: " in daemon.said, "the daemon", daemon)
        seconds = time.monotonic() - began
        time.sleep(_SETTLE_S)
        return seconds, resident_bytes(daemon.pid)


def memory(bench: Bench, n_devices: int) -> int:
    """What the daemon holds with ``n_devices`` live, in bytes, nothing on its way."""
    traffic = Traffic(n_devices, "packed")
    with bench.under_load("daemon", traffic, lead=LEAD, rounds=_MESSAGES) as (board, daemon, load):
        whole = sum(max(_MESSAGES - i % packets.STARTS, 0) for i in range(n_devices))
        wait_until(lambda: board[DONE] >= whole, "all devices", daemon, load, timeout_s=600)
        assert board[SENT] == whole
        time.sleep(_TIDIED_S)
        return resident_bytes(daemon.pid)
