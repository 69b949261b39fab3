"""What people run today, as tutorials and repositories have it: a callback, a deque per device, `predict` per window.

The same model, the same filter, the same windows: only the way they are computed is the usual one.
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
from harstream.classifier import to_predictions
from harstream.core.batches import Float32
from harstream.core.spec import CHANNELS


class Script:
    """Subscribes to samples in JSON, publishes labels; raises ConfigError where TensorFlow is not installed."""

    def __init__(self, host: str, port: int, model: str) -> None:
        import keras

        self.messages = self.windows = 0
        self._host, self._port = host, port
        self._bundle = bundles.load(bundles.find(model))
        self._model = keras.saving.load_model(self._bundle.path / bundles.KERAS, compile=False, safe_mode=True)
        spec = self._bundle.spec
        self._window, self._stride = spec.window_samples, spec.stride_samples
        self._channels = [CHANNELS.index(name) for name in spec.channels]
        self._filter = butter(3, 0.3, fs=spec.sample_rate_hz)
        self._samples: defaultdict[str, deque[list[float]]] = defaultdict(lambda: deque(maxlen=self._window))
        self._since: defaultdict[str, int] = defaultdict(int)

    def run(self, subscribed: Callable[[], None]) -> None:
        client = mqtt.Client(CallbackAPIVersion.VERSION2)
        client.on_message = self._message
        client.on_connect = lambda client, *_: client.subscribe("wearables/+/imu", qos=1)
        client.on_subscribe = lambda *_: subscribed()
        client.connect(self._host, self._port)
        client.loop_forever()

    def _message(self, client: mqtt.Client, _: Any, message: mqtt.MQTTMessage) -> None:
        self.messages += 1
        device = message.topic.split("/")[1]
        payload = json.loads(message.payload)
        samples = self._samples[device]
        for acc, gyro in zip(payload["acc"], payload["gyro"], strict=True):
            samples.append([*acc, *gyro])
            self._since[device] += 1
            if len(samples) == self._window and self._since[device] >= self._stride:
                self._since[device] = 0
                label = self._classify(np.array(samples, np.float32))
                client.publish(f"wearables/{device}/activity", json.dumps(label), retain=True)

    def _classify(self, samples: Float32) -> dict[str, Any]:
        """(window_samples, 6) to a label."""
        total, gyro = samples[:, :3], samples[:, 3:]
        body = total - lfilter(*self._filter, total, axis=0)
        window = np.concatenate([total, body, gyro], axis=1).astype(np.float32)[:, self._channels]
        logits = self._model.predict(self._bundle.spec.norm.apply(window[None]), verbose=0)
        said = to_predictions(logits, self._bundle.temperature)
        self.windows += 1
        return {"label": self._bundle.labels[int(said.label[0])], "confidence": float(said.confidence[0])}
