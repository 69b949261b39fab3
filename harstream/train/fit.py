"""Fitting one network to labelled windows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from harstream.core.batches import Float32, Int64
from harstream.core.spec import Normalisation, SignalSpec
from harstream.errors import ConfigError, DatasetError
from harstream.train import architectures, augment
from harstream.train.windows import LabelledWindows

#: Told how far a long step is, for a progress bar: the step's name, what is done, of how much.
Progress = Callable[[str, int, int], None]


def silent(step: str, done: int, total: int) -> None:
    """The progress of those who do not watch."""


#: Little data is trained on in smaller batches, down to MIN_BATCH windows: it is steps that a network learns in.
MIN_STEPS, MIN_BATCH = 64, 16
#: Batches the statistics of batch normalisation are averaged over once the weights are final.
SETTLING_BATCHES = 40


@dataclass(frozen=True, slots=True)
class FitConfig:
    """How to train and validate. The defaults are the shipped recipe; see docs/results for what it reaches."""

    arch: str = architectures.DEFAULT
    arch_settings: Mapping[str, Any] = field(default_factory=dict)
    epochs: int = 15
    batch_windows: int = 256  # at most; fewer where an epoch would have less than MIN_STEPS steps
    learning_rate: float = 2e-3  # the peak, reached after the first epoch; a half cosine leads to 0
    weight_decay: float = 1e-4
    label_smoothing: float = 0.05
    tilt_deg: float = 20.0  # standard deviation of the angle every window is turned by
    stretch: float = 0.1  # standard deviation of the logarithm of the factor its time is stretched by
    turned_share: float = 0.15  # of the windows, turned about the vertical as well, by any angle
    seed: int = 0
    folds: int = 5  # groups of wearers held out in turn for validation

    def __post_init__(self) -> None:
        for name, low, high in (
            ("epochs", 1, 10_000),
            ("batch_windows", 1, 65_536),
            ("learning_rate", 1e-7, 10.0),
            ("weight_decay", 0.0, 10.0),
            ("label_smoothing", 0.0, 0.9),
            ("tilt_deg", 0.0, 180.0),
            ("stretch", 0.0, 1.0),
            ("turned_share", 0.0, 1.0),
            ("seed", 0, 2**31 - 1),
            ("folds", 2, 1000),
        ):
            value = getattr(self, name)
            whole = isinstance(low, int)
            if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
                raise ConfigError(f"{name}: expected a {'whole ' if whole else ''}number, got {value!r}")
            if not low <= value <= high:
                raise ConfigError(f"{name}: {value!r} is not between {low} and {high}")
        known = architectures.settings_of(self.arch)
        for name in self.arch_settings:
            if name not in known:
                raise ConfigError(f"architecture {self.arch} has no setting {name!r}; it has {', '.join(known)}")

    def with_settings(self, settings: Mapping[str, Any]) -> FitConfig:
        """With ``--set`` applied: names of fields here or of the architecture's settings. Raises ConfigError."""
        own = {f.name for f in fields(self)} - {"arch", "arch_settings"}
        known = architectures.settings_of(self.arch)
        for name in settings:
            if name not in own and name not in known:
                raise ConfigError(f"no setting {name!r}; there are {', '.join(sorted({*own, *known}))}")
        mine: dict[str, Any] = {name: value for name, value in settings.items() if name in own}
        of_arch = {name: value for name, value in settings.items() if name in known}
        return replace(self, arch_settings={**self.arch_settings, **of_arch}, **mine)

    def to_dict(self) -> dict[str, Any]:
        """For provenance: every figure that decided the training."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {**values, "arch_settings": {**architectures.settings_of(self.arch), **self.arch_settings}}


@dataclass(frozen=True, slots=True)
class Fitted:
    """A trained network and the signal it expects, normalisation included."""

    model: keras.Model  # (n, window_samples, n_channels) normalised to (n, n_labels) logits
    spec: SignalSpec
    labels: tuple[str, ...]

    def logits(self, windows: Float32, batch_windows: int = 1024) -> Float32:
        """(n_windows, window_samples, n_channels) in physical units to (n_windows, n_labels)."""
        call = tf.function(
            lambda inputs: self.model(inputs, training=False),
            input_signature=[tf.TensorSpec((None, *windows.shape[1:]), tf.float32)],
        )
        parts = [
            call(self.spec.norm.apply(windows[first : first + batch_windows])).numpy()
            for first in range(0, len(windows), batch_windows)
        ]
        return np.concatenate([np.zeros((0, len(self.labels)), np.float32), *parts])


def normalisation_of(windows: Float32) -> Normalisation:
    """Mean and standard deviation per channel over all samples; a constant channel gets 1."""
    axes = (0, 1)
    mean = windows.mean(axis=axes, dtype=np.float64)
    std = np.sqrt(np.square(windows - mean.astype(np.float32)).mean(axis=axes, dtype=np.float64))
    return Normalisation(tuple(mean.tolist()), tuple(np.where(std > 1e-6, std, 1.0).tolist()))


def fit(data: LabelledWindows, spec: SignalSpec, config: FitConfig, progress: Progress = silent) -> Fitted:
    """Train a network on ``data`` for a fixed number of epochs; nothing is chosen on the way.

    AdamW, one epoch of warm-up and a cosine down to 0, cross-entropy with smoothed labels, every window
    turned and stretched (see ``augment``) anew each time it is seen. Seeds Python, NumPy and TensorFlow.
    ``progress`` is told of every epoch. Raises DatasetError where there is no window, ConfigError for
    an impossible architecture.
    """
    if not len(data):
        raise DatasetError("there is no window to train on")
    keras.utils.set_random_seed(config.seed)
    normalisation = normalisation_of(data.windows)
    model = architectures.build(
        config.arch, spec.window_samples, spec.n_channels, len(data.labels), config.arch_settings
    )
    batch = min(config.batch_windows, max(MIN_BATCH, len(data) // MIN_STEPS), len(data))
    steps = len(data) // batch
    optimizer = keras.optimizers.AdamW(_schedule(config, steps), weight_decay=config.weight_decay)
    seen = _augmented(data, spec, normalisation, config)
    step = _training_step(model, optimizer, seen, data, config)
    rng = np.random.default_rng(config.seed)
    for epoch in range(config.epochs):
        order = rng.permutation(len(data)).astype(np.int32)
        for first in range(0, steps * batch, batch):
            step(tf.constant(order[first : first + batch]))
        progress("training", epoch + 1, config.epochs)
    _settle(model, (seen(tf.constant(rng.permutation(len(data))[:batch], tf.int32)) for _ in range(SETTLING_BATCHES)))
    return Fitted(model, replace(spec, normalisation=normalisation), data.labels)


def _schedule(config: FitConfig, steps: int) -> keras.optimizers.schedules.LearningRateSchedule:
    """Linear up over the first of the epochs, a half cosine down over the others."""
    decay = max(1, steps * (config.epochs - 1))
    return keras.optimizers.schedules.CosineDecay(
        0.0, decay, warmup_target=config.learning_rate, warmup_steps=steps if config.epochs > 1 else 0
    )


def _augmented(
    data: LabelledWindows, spec: SignalSpec, normalisation: Normalisation, config: FitConfig
) -> Callable[[tf.Tensor], tf.Tensor]:
    """A graph from window indices, (batch,) int32, to those windows as the network sees them, turned and stretched."""
    windows = tf.constant(data.windows)
    mean = tf.constant(normalisation.mean, tf.float32)
    scale = tf.constant([1.0 / value for value in normalisation.std], tf.float32)
    vertical = augment.vertical_of(data.windows, spec.channels)

    def seen(index: tf.Tensor) -> tf.Tensor:
        batch, n = tf.gather(windows, index), tf.shape(index)[0]
        rotations = augment.tilts(n, config.tilt_deg)
        if vertical is not None:
            rotations = tf.matmul(rotations, augment.turns(n, vertical, config.turned_share))
        batch = augment.rotate(augment.stretch(batch, config.stretch), rotations, spec.channels)
        return (batch - mean) * scale

    graph: Callable[[tf.Tensor], tf.Tensor] = tf.function(seen, input_signature=[tf.TensorSpec((None,), tf.int32)])
    return graph


def _training_step(
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    seen: Callable[[tf.Tensor], tf.Tensor],
    data: LabelledWindows,
    config: FitConfig,
) -> Callable[[tf.Tensor], tf.Tensor]:
    """A graph of one gradient step on the windows at some indices, (batch,) int32; it returns the loss."""
    optimizer.build(model.trainable_variables)
    label = tf.constant(data.label.astype(np.int32))
    loss_of = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=config.label_smoothing)

    def step(index: tf.Tensor) -> tf.Tensor:
        truth = tf.one_hot(tf.gather(label, index), len(data.labels))
        with tf.GradientTape() as tape:
            loss = loss_of(truth, model(seen(index), training=True))
        variables = model.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return loss

    graph: Callable[[tf.Tensor], tf.Tensor] = tf.function(step, input_signature=[tf.TensorSpec((None,), tf.int32)])
    return graph


def _settle(model: keras.Model, batches: Iterable[tf.Tensor]) -> None:
    """Set the statistics of batch normalisation to the plain mean over ``batches``.

    The running ones lag behind the weights, and after a short training still remember their start
    (precise batch normalisation, Wu and Johnson 2021).
    """
    layers = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    momenta = [layer.momentum for layer in layers]
    if not layers:
        return
    for k, batch in enumerate(batches):
        for layer in layers:
            layer.momentum = k / (k + 1)
        model(batch, training=True)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum


def fit_temperature(logits: Float32, label: Int64) -> float:
    """The one number to divide logits by that makes held-out ``label`` most likely (Guo et al. 2017).

    ``logits`` is (n_windows, n_labels) of wearers the network has not seen. Between 0.1 and 10; 1 where
    there is no window.
    """
    from scipy.optimize import minimize_scalar

    if not len(label):
        return 1.0
    values = logits.astype(np.float64)

    def loss(log_temperature: float) -> float:
        scaled = values / math.exp(log_temperature)
        scaled -= scaled.max(axis=1, keepdims=True)
        of_truth = scaled[np.arange(len(label)), label]
        return float(np.mean(np.log(np.exp(scaled).sum(axis=1)) - of_truth))

    found = minimize_scalar(loss, bounds=(math.log(0.1), math.log(10.0)), method="bounded")
    return round(math.exp(found.x), 4)
