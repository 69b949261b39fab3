"""Receivers: the process under test, which is the daemon or something that the daemon is compared with.

Each receiver runs in a process of its own, receives the messages of the load, and reports what it has done in the
shared counters.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from harstream.bench.broker import find
from harstream.bench.counters import CPU_NS, DONE, DROPPED, READY, STOP, WINDOWS, SharedCounters
from harstream.bench.processes import cpu_s

#: Time that mosquitto_sub has to connect and subscribe, seconds.
_C_CLIENT_START_S = 1.0
#: Time between two looks at STOP, seconds.
_LOOK_EVERY_S = 0.05


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

        _report_in_background(counters, report, settings["report_s"])

    logs.set_up("warning", "text")
    ca = settings["ca"]
    app.run(config.RunConfig(**settings["config"], ca=Path(ca) if ca else None), on_start=on_start)


def run_paho(settings: dict[str, Any], counters: SharedCounters) -> None:
    """Run the ceiling of throughput: paho-mqtt with the same subscriptions and a callback that only counts."""
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
    client.on_subscribe = lambda *_: _report_in_background(counters, report, settings["report_s"])
    if settings["ca"]:
        client.tls_set(settings["ca"])

    def subscribe(*_: Any) -> None:
        client.subscribe([(name, settings["qos"]) for name in settings["subscriptions"]])

    def report() -> None:
        counters[DONE] = received
        if counters[STOP]:
            os._exit(0)  # a DISCONNECT from this thread would use the TLS socket while paho's loop reads it

    client.on_connect = subscribe
    client.connect(settings["host"], settings["port"])
    client.loop_forever()


def run_c_client(settings: dict[str, Any], counters: SharedCounters) -> None:
    """Run the ceiling of any client: mosquitto_sub, which is written in C, and prints one character a message.

    This process only counts the characters. The processor time is that of mosquitto_sub.
    """
    program = find("mosquitto_sub")
    assert program is not None, "mosquitto_sub is missing"
    command = [program, "-h", settings["host"], "-p", str(settings["port"])]
    command += [part for name in settings["subscriptions"] for part in ("-t", name)]
    command += ["-q", str(settings["qos"]), "-V", "5" if settings["version"] == 5 else "311", "-N", "-F", "."]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as client:
        assert client.stdout is not None
        time.sleep(_C_CLIENT_START_S)  # it does not tell when it is subscribed
        counters[READY] = 1

        def end() -> None:
            while not counters[STOP]:
                counters[CPU_NS] = int(1e9 * cpu_s(client.pid))
                time.sleep(_LOOK_EVERY_S)
            client.kill()

        threading.Thread(target=end, daemon=True).start()
        while messages := os.read(client.stdout.fileno(), 1 << 16):
            counters[DONE] += len(messages)


def run_idle(settings: dict[str, Any], counters: SharedCounters) -> None:
    """Receive nothing: a listener then measures the round trip of the broker alone."""
    counters[READY] = 1
    while not counters[STOP]:
        time.sleep(_LOOK_EVERY_S)


def run_tutorial(settings: dict[str, Any], counters: SharedCounters) -> None:
    """Run the tutorials' script: a callback with a prediction for each window (see ``baseline``)."""
    from harstream.bench import baseline

    _run_script(
        baseline.CallbackScript(settings["host"], settings["port"], settings["model"]), counters, settings["report_s"]
    )


def run_plain(settings: dict[str, Any], counters: SharedCounters) -> None:
    """Run the able engineer's script (see ``plain_script``)."""
    from harstream.bench.plain_script import PlainScript

    _run_script(PlainScript(settings), counters, settings["report_s"])


def run_pathway(settings: dict[str, Any], counters: SharedCounters) -> None:
    """Run the same job in Pathway (see ``pathway_script``)."""
    from harstream.bench.pathway_script import PathwayScript

    _run_script(PathwayScript(settings), counters, settings["report_s"])


class _Script(Protocol):
    messages: int
    windows: int

    def run(self, subscribed: Callable[[], None]) -> None: ...


def _run_script(script: _Script, counters: SharedCounters, report_s: float) -> None:
    def report() -> None:
        counters[DONE], counters[WINDOWS] = script.messages, script.windows
        if counters[STOP]:
            os._exit(0)  # the main thread may be in the middle of a prediction

    script.run(lambda: _report_in_background(counters, report, report_s))


def _report_in_background(counters: SharedCounters, report: Callable[[], None], every_s: float) -> None:
    """Set READY, then call ``report`` and write the processor time every ``every_s`` seconds in a thread."""

    def loop() -> None:
        counters[READY] = 1
        while True:
            report()
            counters[CPU_NS] = time.process_time_ns()
            time.sleep(every_s)

    threading.Thread(target=loop, daemon=True).start()


RECEIVERS: dict[str, Callable[[dict[str, Any], SharedCounters], None]] = {
    "daemon": run_daemon,
    "durable": run_daemon,
    "paho": run_paho,
    "c-client": run_c_client,
    "idle": run_idle,
    "tutorial": run_tutorial,
    "plain": run_plain,
    "pathway": run_pathway,
}

if __name__ == "__main__":
    _settings = json.loads(sys.argv[2])
    RECEIVERS[sys.argv[1]](_settings, SharedCounters(Path(_settings["counters"])))
    os._exit(0)  # the reporting thread must not write to counters that are already unmapped
