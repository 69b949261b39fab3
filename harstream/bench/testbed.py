"""Arrangement of the processes of one measurement: broker, load, receiver and, for latency, a listener.

The receiver is the process under test: the daemon, or what it is compared with (``receivers.RECEIVERS``).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from harstream.addresses import first_free_port
from harstream.bench.broker import Broker
from harstream.bench.counters import READY, SENT, STOP, SharedCounters
from harstream.bench.formats import FORMATS
from harstream.bench.processes import Process, process, wait_until
from harstream.config import DEFAULT_EVENTS_TOPIC, DEFAULT_LABELS_TOPIC, RunConfig
from harstream.publish import SAMPLES_PER_MESSAGE
from harstream.source_config import DEFAULT_TOPIC

#: Messages that the load may be ahead of the receiver: enough that the receiver never waits for the load, too few to
#: overflow an inbox.
LEAD = 12_000
#: Time between two reports of a receiver in the counters, seconds: while the load follows them, and at life speed.
REPORT_S, REPORT_LIVE_S = 0.05, 1.0
#: Longest wait for the end of a session, seconds.
_END_S = 10.0


#: Receivers that are the daemon: as it is, and in durable mode.
DAEMONS = ("daemon", "durable")
#: Client identifier of the daemon in durable mode.
SESSION = "harstream-bench-durable"


@dataclass(frozen=True, slots=True)
class Traffic:
    """Messages of one measurement. The devices belong evenly to the sources of the daemon, whose topics they use."""

    n_devices: int
    payload: str  # a key of FORMATS; "poisoned" is JSON, half of it not to be accepted
    qos: int = 1
    n_samples: int = SAMPLES_PER_MESSAGE  # in each message
    tls: bool = False  # between broker and receiver; the load always connects without
    models: tuple[str, ...] = ()  # of the [[source]] tables; empty: one source without a table, with the run's model

    @property
    def config(self) -> dict[str, Any]:
        """Settings with which the daemon understands these messages. Each source has topics of its own."""
        tables = [
            {
                "name": f"site-{number}",
                "model": model,
                "topic": f"site-{number}/{DEFAULT_TOPIC}",
                "labels_topic": f"site-{number}/{DEFAULT_LABELS_TOPIC}",
                "events_topic": f"site-{number}/{DEFAULT_EVENTS_TOPIC}",
            }
            for number, model in enumerate(self.models)
        ]
        return {**FORMATS[self.payload].config, "source": tables}

    @property
    def topics(self) -> tuple[str, ...]:
        """Topic template of the samples of each source."""
        return tuple(source.topic for source in RunConfig(**self.config).sources)

    @property
    def samples_filters(self) -> tuple[str, ...]:
        """Topic filters of the samples, as the daemon subscribes to them."""
        return RunConfig(**self.config).samples_filters()

    @property
    def labels_filters(self) -> tuple[str, ...]:
        """Topic filters of the labels."""
        return tuple(source.labels_template.subscription for source in RunConfig(**self.config).sources)


@dataclass(frozen=True, slots=True)
class Running:
    """Processes of a measurement that is under way."""

    counters: SharedCounters
    receiver: Process
    load: Process
    http_port: int  # of the daemon


class Testbed:
    """Broker, working folder and model that all measurements of one run share."""

    def __init__(self, broker: Broker, folder: Path, *, model: str, backend: str) -> None:
        self.broker, self.folder = broker, folder
        self.model, self.backend = model, backend
        self._measurements = 0

    @contextmanager
    def under_load(
        self,
        receiver: str,
        traffic: Traffic,
        *,
        lead: int = LEAD,
        rounds: int = 0,
        log: Path | None = None,
        listen: tuple[Sequence[str], Path] | None = None,
        viewers: int = 0,
    ) -> Iterator[Running]:
        """Run ``receiver`` under ``traffic``; enter the block once it is subscribed and the load has begun.

        Args:
            receiver: One of ``receivers.RECEIVERS``.
            traffic: Messages that are published.
            lead: Messages that the load may be ahead of the receiver; 0 publishes at life speed instead.
            rounds: Messages of each device; 0 publishes until the block is left.
            log: File for the time of each write of the load.
            listen: Topic filters of a listener, and the folder for what it receives (see ``listener.received``).
            viewers: Number of viewers of the daemon's live page.

        Raises:
            HarstreamError: A process failed or did not get ready in time.

        """
        self._measurements += 1
        path = self.folder / f"counters-{self._measurements}"
        counters = SharedCounters(path)
        here = {"counters": str(path), "host": "127.0.0.1", "port": self.broker.port}
        load_settings = {
            **here,
            "n_devices": traffic.n_devices,
            "payload": traffic.payload,
            "qos": traffic.qos,
            "n_samples": traffic.n_samples,
            "topics": traffic.topics,
            "lead": lead,
            "rounds": rounds,
            "log": str(log) if log is not None else None,
        }
        with ExitStack() as stack:
            listener = None
            if listen is not None:
                settings = {**here, "subscriptions": listen[0], "folder": str(listen[1])}
                listener = stack.enter_context(process("-m", "harstream.bench.listener", settings))
                wait_until(lambda: "ready" in listener.output, "the listener to subscribe", listener)
            load = stack.enter_context(process("-m", "harstream.bench.load", load_settings))
            wait_until(lambda: "ready" in load.output, "the load to build its packets", load)
            http_port = first_free_port((0,)) or 0
            # At life speed the reports would be a part of what is measured.
            report_s = REPORT_S if lead else REPORT_LIVE_S
            receiver_settings = self._receiver_settings(receiver, path, traffic, http_port) | {"report_s": report_s}
            measured = stack.enter_context(process("-m", "harstream.bench.receivers", receiver, receiver_settings))
            wait_until(lambda: counters[READY] and counters[SENT], f"receiver {receiver!r} to start", load, measured)
            watching = None
            if viewers:
                settings = {**here, "port": http_port, "viewers": viewers}
                watching = stack.enter_context(process("-m", "harstream.bench.viewers", settings))
                wait_until(lambda: "ready" in watching.output, "the viewers to connect", watching)
            yield Running(counters, measured, load, http_port)
            counters[STOP] = 1
            for each in (load, measured, listener, watching):
                if each is not None:
                    each.wait()
            if receiver == "durable":
                _end_session(self.broker.port)

    def _receiver_settings(self, receiver: str, counters: Path, traffic: Traffic, http_port: int) -> dict[str, Any]:
        broker = self.broker
        common = {"counters": str(counters), "ca": str(broker.ca) if traffic.tls else None}
        port = broker.tls_port if traffic.tls else broker.port
        if receiver in DAEMONS:
            config: dict[str, Any] = {
                "broker": f"{'mqtts' if traffic.tls else 'mqtt'}://127.0.0.1:{port}",
                "model": self.model,
                "backend": self.backend,
                "qos": traffic.qos,
                "instance": "bench",
                "http": f"127.0.0.1:{http_port}",
                **traffic.config,
            }
            if receiver == "durable":
                config |= {"state_dir": str(self.folder / f"state-{self._measurements}"), "client_id": SESSION}
            if not broker.is_mosquitto:
                config["mqtt_version"] = "3.1.1"
            return {**common, "config": config}
        return {
            **common,
            "host": "127.0.0.1",
            "port": port,
            "subscriptions": traffic.samples_filters,
            "qos": traffic.qos,
            "version": 5 if broker.is_mosquitto else 4,
            "model": self.model,
            "backend": self.backend,
        }


def _end_session(port: int) -> None:
    """Let the broker forget the session of durable mode, for which it would keep the messages of later measurements."""
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id=SESSION, protocol=paho.MQTTv311, clean_session=True)
    ended = threading.Event()

    def disconnect(*_: Any) -> None:
        client.disconnect()

    client.on_connect = disconnect
    client.on_disconnect = lambda *_: ended.set()
    client.connect("127.0.0.1", port)
    client.loop_start()
    ended.wait(_END_S)
    client.loop_stop()
