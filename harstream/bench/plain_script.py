"""Plain script: what an able engineer writes without harstream, some sixty lines on paho, SciPy and LiteRT.

It does the least that gives labels: one thread, a filter with kept state and a buffer for each device, and one call of
the network for all windows that fell due within a few milliseconds. It knows one format, trusts every message, counts
samples instead of following event time, and smooths nothing. Network, filter, windows, quality of service and retained
labels are those of the daemon, so the difference is what harstream does beside, and how.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import paho.mqtt.client as mqtt
from ai_edge_litert.interpreter import Interpreter
from paho.mqtt.enums import CallbackAPIVersion
from scipy.signal import butter, sosfilt, sosfilt_zi

from harstream import bundle as bundles
from harstream import shipped
from harstream.bundle import BACKEND_FILES, Bundle
from harstream.core.batches import Float32, Float64
from harstream.core.spec import BODY_ACC, GYRO, TOTAL_ACC, SignalSpec

#: Signals of the buffer of a device, in their order.
_SIGNALS = (*TOTAL_ACC, *BODY_ACC, *GYRO)
#: A window that fell due: its device, the time of its end in s, and its samples (window_samples, 9).
Due = tuple[str, float, Float32]
#: Label of a window: device, label, confidence, and the time of the window's end in s.
Label = tuple[str, str, float, float]
#: How long a due window waits for others, seconds, and how many make a batch at once.
_WAIT_S, _MAX_BATCH = 0.005, 32
#: The last call of paho's loop ends after this time without a message, seconds.
_IDLE_S = 0.5


class _Device:
    """Samples of a device: (window_samples, 9) with the oldest first, and the state of its filter."""

    def __init__(self, window_samples: int) -> None:
        self.samples = np.zeros((window_samples, len(_SIGNALS)), np.float32)
        self.filter_state: Float64 | None = None
        self.due_in = window_samples


class Fleet:
    """Samples of all devices: messages in JSON in, windows that fell due out."""

    def __init__(self, spec: SignalSpec) -> None:
        self._spec = spec
        self._filter = butter(
            spec.gravity_filter.order, spec.gravity_filter.cutoff_hz, fs=spec.sample_rate_hz, output="sos"
        )
        self._steady = sosfilt_zi(self._filter)[:, :, None]
        self._devices: dict[str, _Device] = {}

    def add(self, name: str, message: bytes | bytearray) -> list[Due]:
        """Add the samples of a message; return the windows that it completes."""
        device = self._devices.get(name)
        if device is None:
            device = self._devices[name] = _Device(self._spec.window_samples)
        payload = json.loads(message)
        acc, gyro = np.array(payload["acc"]), np.array(payload["gyro"])
        if device.filter_state is None:
            device.filter_state = self._steady * acc.mean(axis=0)
        gravity, device.filter_state = sosfilt(self._filter, acc, axis=0, zi=device.filter_state)
        new, begin = np.hstack([acc, acc - gravity, gyro]), 0
        due = []
        while begin < len(new):
            part = new[begin : begin + device.due_in]
            device.samples[: -len(part)] = device.samples[len(part) :]
            device.samples[-len(part) :] = part
            begin += len(part)
            device.due_in -= len(part)
            if not device.due_in:
                device.due_in = self._spec.stride_samples
                due.append((name, payload["t"] + begin / self._spec.sample_rate_hz, device.samples.copy()))
        return due


class Network:
    """Network of a bundle, called by LiteRT for several windows at once."""

    def __init__(self, bundle: Bundle, backend: str) -> None:
        backend = bundle.best_backend if backend == "auto" else backend
        self._bundle = bundle
        self._interpreter = Interpreter(model_content=bundle.read(BACKEND_FILES[backend]), num_threads=1)
        self._source = self._interpreter.get_input_details()[0]["index"]
        self._sink = self._interpreter.get_output_details()[0]["index"]
        self._batch_size = 0
        self._channels = [_SIGNALS.index(name) for name in bundle.spec.channels]

    def label(self, due: Sequence[Due]) -> list[Label]:
        """Classify the due windows together."""
        windows = self._bundle.spec.norm.apply(np.stack([window for _, _, window in due])[:, :, self._channels])
        if len(due) != self._batch_size:
            self._batch_size = len(due)
            self._interpreter.resize_tensor_input(self._source, windows.shape)
            self._interpreter.allocate_tensors()
        self._interpreter.set_tensor(self._source, windows)
        self._interpreter.invoke()
        logits = self._interpreter.get_tensor(self._sink)[:, : len(self._bundle.labels)] / self._bundle.temperature
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities = odds / odds.sum(axis=1, keepdims=True)
        best = probabilities.argmax(axis=1).tolist()
        return [
            (name, self._bundle.labels[label], round(float(row[label]), 4), t)
            for label, row, (name, t, _) in zip(best, probabilities, due, strict=True)
        ]


class PlainScript:
    """MQTT client that subscribes to samples in JSON and publishes a label for each window.

    Args:
        settings: ``host``, ``port``, ``subscriptions``, ``qos``, ``version``, ``model`` and ``backend``.

    """

    def __init__(self, settings: dict[str, Any]) -> None:
        self.messages = self.windows = 0
        self._settings = settings
        bundle = bundles.load(shipped.find(settings["model"]))
        self._fleet, self._network = Fleet(bundle.spec), Network(bundle, settings["backend"])
        self._due: list[Due] = []
        self._due_since_s = 0.0

    def run(self, subscribed: Callable[[], None]) -> None:
        """Connect and process messages without end; call ``subscribed`` once the broker confirms the subscription."""
        self._client = client = connect(self._settings, self._on_message, subscribed)
        while True:
            client.loop(_WAIT_S if self._due else _IDLE_S)
            if len(self._due) >= _MAX_BATCH or (self._due and time.monotonic() - self._due_since_s > _WAIT_S):
                self._label()

    def _on_message(self, client: mqtt.Client, _: Any, message: mqtt.MQTTMessage) -> None:
        self.messages += 1
        due = self._fleet.add(message.topic.rpartition("/")[0], message.payload)
        if due and not self._due:
            self._due_since_s = time.monotonic()
        self._due += due

    def _label(self) -> None:
        """Label the due windows and publish the labels."""
        due, self._due = self._due, []
        for name, label, confidence, t in self._network.label(due):
            message = json.dumps({"label": label, "confidence": confidence, "t": t})
            self._client.publish(f"{name}/activity", message, qos=self._settings["qos"], retain=True)
        self.windows += len(due)


def connect(
    settings: dict[str, Any],
    on_message: Callable[[mqtt.Client, Any, mqtt.MQTTMessage], None],
    subscribed: Callable[[], None],
) -> mqtt.Client:
    """Return a client that has begun to connect; it subscribes and calls ``subscribed`` in its loop."""
    version = mqtt.MQTTv5 if settings["version"] == 5 else mqtt.MQTTv311
    client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=version)
    client.on_message = on_message
    filters = [(name, settings["qos"]) for name in settings["subscriptions"]]
    client.on_connect = lambda client, *_: client.subscribe(filters)
    client.on_subscribe = lambda *_: subscribed()
    client.connect(settings["host"], settings["port"])
    return client
