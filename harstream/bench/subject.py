"""What is measured, in a process of its own: the daemon, paho with an empty callback, what people run today."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harstream.bench.board import CPU_NS, DONE, DROPPED, READY, STOP, WINDOWS, Board

_REPORT_EVERY_S = 0.05


def daemon(settings: dict[str, Any], board: Board) -> None:
    """`harstream run`, all of it; what it has done goes to the board."""
    from harstream import config, logs
    from harstream.serve.daemon import Daemon, serve

    def started(running: Daemon) -> None:
        def report() -> None:
            board[DONE], board[WINDOWS] = running.messages, running.windows
            board[DROPPED] = running.inbox.dropped
            if board[STOP]:
                running.stop()

        _reporting(board, report)

    logs.set_up("warning", "text")
    ca = settings["ca"]
    serve(config.RunConfig(**settings["config"], ca=Path(ca) if ca else None), started)


def paho(settings: dict[str, Any], board: Board) -> None:
    """The ceiling: paho-mqtt receiving the same messages, with a callback that does nothing but count."""
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
    client.on_subscribe = lambda *_: _reporting(board, report)
    if settings["ca"]:
        client.tls_set(settings["ca"])

    def subscribe(*_: Any) -> None:
        client.subscribe(settings["subscription"], qos=settings["qos"])

    def report() -> None:
        board[DONE] = received
        if board[STOP]:
            client.disconnect()

    client.on_connect = subscribe
    client.connect(settings["host"], settings["port"])
    client.loop_forever()


def nobody(settings: dict[str, Any], board: Board) -> None:
    """Nothing: what is heard of the load is the broker's doing alone."""
    board[READY] = 1
    while not board[STOP]:
        time.sleep(_REPORT_EVERY_S)


def today(settings: dict[str, Any], board: Board) -> None:
    """What people run today: see ``baseline``."""
    from harstream.bench import baseline

    script = baseline.Script(settings["host"], settings["port"], settings["model"])

    def report() -> None:
        board[DONE], board[WINDOWS] = script.messages, script.windows
        if board[STOP]:
            os._exit(0)  # in the middle of a prediction

    script.run(lambda: _reporting(board, report))


def _reporting(board: Board, report: Callable[[], None]) -> None:
    """Call ``report`` often, in a thread."""

    def loop() -> None:
        board[READY] = 1
        while True:
            report()
            board[CPU_NS] = time.process_time_ns()
            time.sleep(_REPORT_EVERY_S)

    threading.Thread(target=loop, daemon=True).start()


SUBJECTS = {"daemon": daemon, "paho": paho, "nobody": nobody, "today": today}

if __name__ == "__main__":
    _settings = json.loads(sys.argv[2])
    SUBJECTS[sys.argv[1]](_settings, Board(Path(_settings["board"])))
    os._exit(0)  # the reporting thread would write to a board that is being torn down
