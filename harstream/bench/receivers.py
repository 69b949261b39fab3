"""Receivers: the process under test, which is the daemon or something that the daemon is compared with.

Each receiver runs in a process of its own, receives the messages of the load, and reports what it has done in the
shared counters.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harstream.bench.counters import CPU_NS, DONE, DROPPED, READY, STOP, WINDOWS, SharedCounters

_REPORT_EVERY_S = 0.05


def run_daemon(settings: dict[str, Any], counters: SharedCounters) -> None:
    """Run the whole daemon, as ``harstream run`` does."""
    from harstream import config, logs
    from harstream.serve import app
    from harstream.serve.daemon import Daemon

    def on_start(daemon: Daemon) -> None:
        def report() -> None:
            status = daemon.status()
            counters[DONE], counters[WINDOWS] = status.messages_received, status.windows_classified
            counters[DROPPED] = status.messages_dropped
            if counters[STOP]:
                daemon.stop()

        _report_in_background(counters, report)

    logs.set_up("warning", "text")
    ca = settings["ca"]
    app.run(config.RunConfig(**settings["config"], ca=Path(ca) if ca else None), on_start=on_start)


def run_paho(settings: dict[str, Any], counters: SharedCounters) -> None:
    """Run the ceiling of throughput: paho-mqtt with the same subscription and a callback that only counts."""
    import paho.mqtt.client as mqtt
    from paho.mqtt.enums import CallbackAPIVersion

    received = 0

    def count(*_: object) -> None:
        nonlocal received
        received += 1

    client = mqtt.Client(
        CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5 if settings["version"] == 5 else mqtt.MQTTv311
    )
    client.on_message = count
    client.on_subscribe = lambda *_: _report_in_background(counters, report)
    if settings["ca"]:
        client.tls_set(settings["ca"])

    def subscribe(*_: Any) -> None:
        client.subscribe(settings["subscription"], qos=settings["qos"])

    def report() -> None:
        counters[DONE] = received
        if counters[STOP]:
            os._exit(0)  # a DISCONNECT from this thread would use the TLS socket while paho's loop reads it

    client.on_connect = subscribe
    client.connect(settings["host"], settings["port"])
    client.loop_forever()


def run_idle(settings: dict[str, Any], counters: SharedCounters) -> None:
    """Receive nothing: a listener then measures the round trip of the broker alone."""
    counters[READY] = 1
    while not counters[STOP]:
        time.sleep(_REPORT_EVERY_S)


def run_script(settings: dict[str, Any], counters: SharedCounters) -> None:
    """Run the usual script: a callback with a prediction for each window (see ``baseline``)."""
    from harstream.bench import baseline

    script = baseline.CallbackScript(settings["host"], settings["port"], settings["model"])

    def report() -> None:
        counters[DONE], counters[WINDOWS] = script.messages, script.windows
        if counters[STOP]:
            os._exit(0)  # the main thread may be in the middle of a prediction

    script.run(lambda: _report_in_background(counters, report))


def _report_in_background(counters: SharedCounters, report: Callable[[], None]) -> None:
    """Set READY, then call ``report`` and write the processor time every 50 ms in a thread."""

    def loop() -> None:
        counters[READY] = 1
        while True:
            report()
            counters[CPU_NS] = time.process_time_ns()
            time.sleep(_REPORT_EVERY_S)

    threading.Thread(target=loop, daemon=True).start()


RECEIVERS: dict[str, Callable[[dict[str, Any], SharedCounters], None]] = {
    "daemon": run_daemon,
    "durable": run_daemon,
    "paho": run_paho,
    "idle": run_idle,
    "script": run_script,
}

if __name__ == "__main__":
    _settings = json.loads(sys.argv[2])
    RECEIVERS[sys.argv[1]](_settings, SharedCounters(Path(_settings["counters"])))
    os._exit(0)  # the reporting thread must not write to counters that are already unmapped
