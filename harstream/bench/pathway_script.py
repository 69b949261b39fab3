"""Pathway: the job of the plain script, as an able user of the streaming framework Pathway writes it.

Devices, network, windows and labels are those of ``plain_script``; Pathway carries rows between them, keeps the state,
and publishes. This form is the fastest found of those that give the labels of the plain script:

- ``pw.io.mqtt.read`` leaves out the topic, which names the device, so a connector with paho reads the messages.
- The filter needs the messages of a device in their order. A function of rows (``pw.udf``) that keeps state by itself
  gets those of a minibatch in the order of their keys, and labels come out wrong; a stateful reducer gets all of them
  at once, and sorts them.
- One state of all devices costs less than a group for each: Pathway replaces a row for each group in each minibatch,
  and the interpreter lock would keep groups from running side by side anyhow.
- Pathway pickles a Python object that it compares. A serializer that gives the number of a step spares it the samples
  of all devices, which would cost several times as much as the rest.
- ``pw.io.mqtt.write`` publishes from Rust. It can sort by fields of its messages only, so it makes the JSON too,
  with topic, ``diff`` and the time of the minibatch beside label, confidence and ``t``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import paho.mqtt.client as mqtt

from harstream import bundle as bundles
from harstream import shipped
from harstream.bench.plain_script import Due, Fleet, Label, Network, connect

#: Time between two minibatches, milliseconds. Labels then come about as soon as those of the plain script.
_COMMIT_MS = 10


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """State after a minibatch, and what fell due with it."""

    fleet: Fleet
    number: int  # of the last message
    messages: int  # in this minibatch
    due: list[Due]

    @staticmethod
    def dumps(step: Step) -> bytes:
        """Return what tells this step from others."""
        return step.number.to_bytes(8, "big")

    @staticmethod
    def loads(data: bytes) -> Step:
        """Raise TypeError: only persistence, which this job does not use, would read a step back."""
        raise TypeError("bench: a step is kept without its samples; run the Pathway job without persistence")


class PathwayScript:
    """Dataflow from samples in JSON to a label for each window.

    Args:
        settings: ``host``, ``port``, ``subscriptions``, ``qos``, ``version``, ``model`` and ``backend``.

    Attributes:
        messages: Number of messages whose windows are labelled.
        windows: Number of labelled windows.

    """

    def __init__(self, settings: dict[str, Any]) -> None:
        self.messages = self.windows = 0
        self._settings = settings
        bundle = bundles.load(shipped.find(settings["model"]))
        self._spec, self._network = bundle.spec, Network(bundle, settings["backend"])

    def run(self, subscribed: Callable[[], None]) -> None:
        """Connect and process messages without end; call ``subscribed`` once the broker confirms the subscription.

        Raises:
            ImportError: Pathway is not installed.

        """
        import pathway as pw

        settings = self._settings
        # Telemetry needs a licence key or a server, and the environment may have them.
        pw.set_license_key(None)
        pw.set_monitoring_config(server_endpoint=None)

        class Samples(pw.io.python.ConnectorSubject):
            """Source of the messages of all devices."""

            received = 0

            def run(self) -> None:
                connect(settings, self.on_message, subscribed).loop_forever()

            def on_message(self, client: mqtt.Client, _: Any, message: mqtt.MQTTMessage) -> None:
                self.received += 1
                self.next(number=self.received, name=message.topic.rpartition("/")[0], payload=message.payload)

            @property
            def _deletions_enabled(self) -> bool:  # the documented way of telling that rows are only added
                return False

        @pw.reducers.stateful_many
        def step(state: Any, rows: list[tuple[list[Any], int]]) -> Any:
            following = self.step(None if state is None else state.value, [row for row, _ in rows])
            return pw.wrap_py_object(following, serializer=Step)

        @pw.udf(deterministic=True, return_type=list[Label])
        def label(step: Any) -> Any:
            return self.label(step.value)

        schema = pw.schema_from_types(number=int, name=str, payload=bytes)
        messages = pw.io.python.read(Samples(), schema=schema, autocommit_duration_ms=_COMMIT_MS)
        labels = (
            messages.reduce(step=step(pw.this.number, pw.this.name, pw.this.payload))
            .to_stream()  # without the steps that were replaced
            .select(label=label(pw.this.step))
            .flatten(pw.this.label)
            .select(
                topic=pw.this.label[0] + "/activity",
                label=pw.this.label[1],
                confidence=pw.this.label[2],
                t=pw.this.label[3],
            )
        )
        pw.io.mqtt.write(
            labels,
            f"mqtt://{settings['host']}:{settings['port']}/?client_id=bench-pathway",
            topic=labels.topic,
            qos=settings["qos"],
            retain=True,
            sort_by=[labels.t],  # the label that the broker retains must be the newest
        )
        pw.run(monitoring_level=pw.MonitoringLevel.NONE, default_logging=False)

    def step(self, last: Step | None, rows: list[list[Any]]) -> Step:
        """Return the step after the messages of a minibatch.

        Args:
            last: The step before; None at the beginning.
            rows: Number, device and payload of each message, in any order.

        """
        fleet = Fleet(self._spec) if last is None else last.fleet
        rows = sorted(rows)
        due = [window for _, name, payload in rows for window in fleet.add(name, payload)]
        return Step(fleet, rows[-1][0], len(rows), due)

    def label(self, step: Step) -> list[Label]:
        """Label the windows of a step; its messages are done with that."""
        labels = self._network.label(step.due) if step.due else []
        self.windows += len(labels)
        self.messages += step.messages
        return labels
