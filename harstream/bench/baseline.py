"""Baseline: the script that tutorials and public repositories use for live recognition.

A paho callback keeps a deque per device and calls Keras' ``predict`` for each window. Model, filter and windows are
those of harstream, so only the way of computing differs.
"""

from __future__ import annotations

import json
from collections import defaultdict, deque
from collections.abc import Callable
from typing import Any

import numpy as np
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from scipy.signal import butter, lfilter

from harstream import bundle as bundles
from harstream import shipped
from harstream.classifier import to_predictions
from harstream.core.batches import Float32
from harstream.core.spec import CHANNELS


class CallbackScript:
    """MQTT client that subscribes to samples in JSON and publishes a label for each window."""

    def __init__(self, host: str, port: int, model: str) -> None:
        """Load the Keras network of a bundle.

        Raises:
            ImportError: Keras is not installed.

        """
        import keras

        self.messages = self.windows = 0
        self._host, self._port = host, port
        self._bundle = bundles.load(shipped.find(model))
        self._model = keras.saving.load_model(self._bundle.path / bundles.KERAS, compile=False, safe_mode=True)
        spec = self._bundle.spec
        self._window, self._stride = spec.window_samples, spec.stride_samples
        self._channels = [CHANNELS.index(name) for name in spec.channels]
        self._filter = butter(3, 0.3, fs=spec.sample_rate_hz)
        self._samples: defaultdict[str, deque[list[float]]] = defaultdict(lambda: deque(maxlen=self._window))
        self._samples_since_window: defaultdict[str, int] = defaultdict(int)

    def run(self, subscribed: Callable[[], None]) -> None:
        """Connect and process messages without end; call ``subscribed`` once the broker confirms the subscription."""
        client = mqtt.Client(CallbackAPIVersion.VERSION2)
        client.on_message = self._on_message
        client.on_connect = lambda client, *_: client.subscribe("wearables/+/imu", qos=1)
        client.on_subscribe = lambda *_: subscribed()
        client.connect(self._host, self._port)
        client.loop_forever()

    def _on_message(self, client: mqtt.Client, _: Any, message: mqtt.MQTTMessage) -> None:
        self.messages += 1
        device = message.topic.split("/")[1]
        payload = json.loads(message.payload)
        samples = self._samples[device]
        for acc, gyro in zip(payload["acc"], payload["gyro"], strict=True):
            samples.append([*acc, *gyro])
            self._samples_since_window[device] += 1
            if len(samples) == self._window and self._samples_since_window[device] >= self._stride:
                self._samples_since_window[device] = 0
                label = self._classify(np.array(samples, np.float32))
                client.publish(f"wearables/{device}/activity", json.dumps(label), retain=True)

    def _classify(self, samples: Float32) -> dict[str, Any]:
        """Return the label message of one window; ``samples`` are (window_samples, 6)."""
        total, gyro = samples[:, :3], samples[:, 3:]
        body = total - lfilter(*self._filter, total, axis=0)
        window = np.concatenate([total, body, gyro], axis=1).astype(np.float32)[:, self._channels]
        outputs = self._model.predict(self._bundle.spec.norm.apply(window[None]), verbose=0)
        logits = outputs[:, : len(self._bundle.outputs)]  # the rest are features
        predictions = to_predictions(logits, self._bundle.temperature)
        self.windows += 1
        label = self._bundle.outputs[int(predictions.label[0])]
        return {"label": label, "confidence": float(predictions.confidence[0])}
