"""Training loop of one fit: epochs of gradient steps, to the last one or to early stopping."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from harstream import interruption
from harstream.core.batches import Float32, Float64, Int64
from harstream.errors import ConfigError
from harstream.train.fitting.batches import BatchFunction
from harstream.train.fitting.checkpoint import Arrays, CheckpointFolder, TrainingState, assign, snapshot
from harstream.train.fitting.history import Epoch, best_epoch
from harstream.train.fitting.loss import Objective
from harstream.train.fitting.recipe import FitConfig

#: Few windows are trained on in smaller batches of at least MIN_BATCH windows, for at least MIN_STEPS steps an epoch:
#: a network learns by steps.
MIN_STEPS, MIN_BATCH = 64, 16
#: Batches over which the statistics of batch normalisation are averaged once the weights are final.
SETTLING_BATCHES = 40
#: Windows in one call of the network when the held-out subjects are scored.
_EVALUATION_WINDOWS = 1024


class TrainingLoop:
    """The training of one network: its optimizer, its averaged weights and the graph of a gradient step."""

    def __init__(
        self,
        model: keras.Model,
        config: FitConfig,
        n_windows: int,
        batch_of: BatchFunction,
        loss_of: Objective,
        held_out: tuple[Float32, Int64] | None = None,
        weights: Float64 | None = None,
    ) -> None:
        """Build the optimizer and the graph of a step.

        Args:
            model: The network with its initial weights, which ``run`` changes.
            config: Epochs, learning rate and weight decay, averaging and patience.
            n_windows: The number of windows that ``batch_of`` draws from.
            batch_of: Draws a minibatch of augmented windows.
            loss_of: The loss of a minibatch.
            held_out: Normalised inputs and labels of the subjects for early stopping.
            weights: (n_windows,) how often each window is drawn, relative to the others; None: equally often.

        """
        self._model, self._config, self._n_windows, self._batch_of = model, config, n_windows, batch_of
        self._weights = weights
        self._batch = min(config.batch_windows, max(MIN_BATCH, n_windows // MIN_STEPS), n_windows)
        self._steps = n_windows // self._batch  # in an epoch
        self._optimizer = keras.optimizers.AdamW(_schedule(config, self._steps), weight_decay=config.weight_decay)
        self._optimizer.build(model.trainable_variables)
        # The weights and the statistics of batch normalisation are averaged.
        floats = [i for i, variable in enumerate(model.variables) if variable.dtype.startswith("float")]
        self._averaged = floats if config.average else []
        self._variables: dict[str, Sequence[tf.Variable]] = {
            "model": [variable.value for variable in model.variables],
            "optimizer": [variable.value for variable in self._optimizer.variables],
            "averages": [tf.Variable(tf.zeros_like(model.variables[i].value)) for i in self._averaged],
        }
        self._step = self._gradient_step(loss_of)
        self._held_out = held_out
        self._call = tf.function(
            lambda inputs: model(inputs, training=False), input_signature=[tf.TensorSpec(model.input_shape, tf.float32)]
        )

    def run(self, progress: Callable[[int], None], checkpoints: CheckpointFolder | None = None) -> list[Epoch]:
        """Train to the end, from the beginning or from the checkpoint, and return the figures of each epoch.

        Args:
            progress: Is called with the number of epochs that are done.
            checkpoints: Keeps the state after each epoch.

        Raises:
            ConfigError: The loss is not finite.

        """
        config, best, history = self._config, Arrays(), list[Epoch]()
        state = checkpoints.resume() if checkpoints else None
        if state is not None:
            best, history = state.values.pop("best"), state.history
            for name, values in state.values.items():
                assign(self._variables[name], values)
            progress(len(history))
        while len(history) < config.epochs and not _out_of_patience(history, config.patience):
            epoch, result = self._epoch(len(history) + 1)
            history.append(epoch)
            if best_epoch(history) == epoch.epoch:
                best = result
            if checkpoints is not None:
                groups = {name: snapshot(variables) for name, variables in self._variables.items()}
                checkpoints.save(TrainingState({**groups, "best": best}, history))
            progress(epoch.epoch)
        assign(self._variables["model"], best or self._result())
        _set_batch_statistics(self._model, self._settling_batches())
        return history

    def _epoch(self, epoch: int) -> tuple[Epoch, Arrays]:
        """Pass once over the windows in random order; return the figures, and the values that are the result so far."""
        started = time.monotonic()
        order = self._order(epoch, 0)
        figures = []
        for k in range(self._steps):
            interruption.check()
            batch = tf.constant(order[k * self._batch : (k + 1) * self._batch])
            figures.append(self._step(batch, self._seed(epoch * self._steps + k)))
        loss, accuracy = (float(value) for value in tf.reduce_mean(figures, axis=0))
        if not math.isfinite(loss):
            raise ConfigError(
                f"learning_rate: {self._config.learning_rate} is too high, the loss is {loss} in epoch {epoch}"
            )
        result = self._result()
        held_out = (None, None) if self._held_out is None else self._score(result, *self._held_out)
        rate = float(self._optimizer.learning_rate)
        return Epoch(epoch, loss, accuracy, rate, round(time.monotonic() - started, 3), *held_out), result

    def _order(self, epoch: int, part: int) -> npt.NDArray[np.int32]:
        """Return (n_windows,) indices in a random order.

        With weights, an index is there as often as its weight says, rounded up or down at random (systematic
        sampling).
        """
        rng = np.random.default_rng((self._config.seed, epoch, part))
        order = rng.permutation(self._n_windows)
        if self._weights is not None:
            ends = np.cumsum(self._weights[order])
            at = (np.arange(self._n_windows) + rng.random()) * (ends[-1] / self._n_windows)
            order = rng.permutation(order[np.searchsorted(ends, at, side="right").clip(max=self._n_windows - 1)])
        return order.astype(np.int32)

    def _seed(self, step: int) -> tf.Tensor:
        """Return the (2,) seed of the augmentations of a step."""
        return tf.constant([self._config.seed, step], tf.int32)

    def _settling_batches(self) -> Iterable[tf.Tensor]:
        """Yield augmented inputs with orders and seeds that no epoch has."""
        for k in range(SETTLING_BATCHES):
            yield self._batch_of(tf.constant(self._order(0, k)[: self._batch]), self._seed(-1 - k))[0]

    def _result(self) -> Arrays:
        """Return the values of the model's variables, averaged over the steps if the config says so."""
        values = snapshot(self._variables["model"])
        for index, average in zip(self._averaged, snapshot(self._variables["averages"]), strict=True):
            values[index] = average
        return values

    def _score(self, values: Arrays, inputs: Float32, label: Int64) -> tuple[float, float]:
        """Return cross-entropy and accuracy of the model with ``values``; its own values are put back afterwards."""
        current = snapshot(self._variables["model"])
        assign(self._variables["model"], values)
        parts = [self._call(inputs[k : k + _EVALUATION_WINDOWS]) for k in range(0, len(label), _EVALUATION_WINDOWS)]
        assign(self._variables["model"], current)
        logits = tf.concat(parts, axis=0)
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(label, logits))
        return float(loss), float(np.mean(logits.numpy().argmax(axis=1) == label))

    def _gradient_step(self, loss_of: Objective) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
        """Return a graph of one gradient step.

        It takes the indices of the windows, (batch,) int32, and a seed, (2,) int32, and returns their loss and
        accuracy, (2,).
        """
        model, optimizer, decay = self._model, self._optimizer, self._config.average
        averaged = [self._variables["model"][index] for index in self._averaged]

        def step(index: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
            inputs, truth = self._batch_of(index, seed)
            with tf.GradientTape() as tape:
                logits = model(inputs, training=True)
                loss = loss_of(inputs, truth, logits)
                if model.losses:  # penalties of the architecture, such as L2
                    loss += tf.add_n(model.losses)
            variables = model.trainable_variables
            optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
            if averaged:
                # An exponential average, corrected for its bias to the start as Adam corrects its moments.
                part = (1.0 - decay) / (1.0 - decay ** tf.cast(optimizer.iterations.value, tf.float32))
                for average, variable in zip(self._variables["averages"], averaged, strict=True):
                    average.assign_add(part * (variable - average))
            right = tf.cast(tf.argmax(logits, axis=1) == tf.argmax(truth, axis=1), tf.float32)
            # An unfamiliar window has equally likely labels: it is neither right nor wrong.
            counts = tf.cast(tf.reduce_max(truth, axis=1) > tf.reduce_min(truth, axis=1), tf.float32)
            return tf.stack([loss, tf.math.divide_no_nan(tf.reduce_sum(right * counts), tf.reduce_sum(counts))])

        signature = [tf.TensorSpec((None,), tf.int32), tf.TensorSpec((2,), tf.int32)]
        graph: Callable[[tf.Tensor, tf.Tensor], tf.Tensor] = tf.function(step, input_signature=signature)
        return graph


def _schedule(config: FitConfig, steps: int) -> keras.optimizers.schedules.LearningRateSchedule:
    """Return a learning rate that rises linearly in the first epoch and falls by a half cosine in the others."""
    decay = max(1, steps * (config.epochs - 1))
    return keras.optimizers.schedules.CosineDecay(
        0.0, decay, warmup_target=config.learning_rate, warmup_steps=steps if config.epochs > 1 else 0
    )


def _out_of_patience(history: Sequence[Epoch], patience: int) -> bool:
    """Return True if the held-out loss has not fallen for ``patience`` epochs; never for patience 0."""
    best = best_epoch(history)
    return bool(patience) and best is not None and len(history) - best >= patience


def _set_batch_statistics(model: keras.Model, batches: Iterable[tf.Tensor]) -> None:
    """Set the statistics of batch normalisation to their plain mean over ``batches``.

    The running statistics lag behind the weights, and after a short training they still depend on their initial values
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
