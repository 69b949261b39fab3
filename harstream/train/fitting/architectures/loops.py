"""Recurrent layers as loops that LiteRT has.

Keras collects what a recurrent layer says at each step in a list of tensors, and LiteRT has none whose size
depends on the batch. But where only the last output counts, a plain loop over the states will do: one WHILE
of built-in operations, for any batch size, in the file once however many steps there are. (Unrolled, 128 steps
of an LSTM took 7 s to convert instead of half a second, for a slower file of three times the size.)
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras import layers


def without_tensor_lists(model: keras.Model) -> keras.Model:
    """A network of the same layers and weights whose recurrent layers, as far as possible, run as plain loops.

    Those that return the outputs of all steps stay as they are, as do those inside other layers. The result
    is for inference and conversion, not for saving.
    """
    if not any(_replaceable(layer) for layer in model.layers):
        return model
    return keras.models.clone_model(model, clone_function=lambda layer: _Loop(layer) if _replaceable(layer) else layer)


def _replaceable(layer: keras.Layer) -> bool:
    asked = ("return_sequences", "return_state", "go_backwards", "stateful")
    return isinstance(layer, layers.RNN) and not any(getattr(layer, name) for name in asked)


class _Loop(keras.layers.Layer):  # type: ignore[misc]
    """The last output of a recurrent layer, by a loop of its cell."""

    def __init__(self, rnn: layers.RNN) -> None:
        super().__init__(name=rnn.name)
        self.rnn = rnn

    def compute_output_shape(self, input_shape: tuple[int | None, ...], **_: Any) -> tuple[int | None, ...]:
        shape: tuple[int | None, ...] = self.rnn.compute_output_shape(input_shape)
        return shape

    def call(self, inputs: tf.Tensor, **_: Any) -> tf.Tensor:
        n_steps, n_windows = inputs.shape[1], tf.shape(inputs)[0]
        by_step = tf.transpose(inputs, [1, 0, *range(2, len(inputs.shape))])
        states = self.rnn.get_initial_state(n_windows)
        output = tf.zeros((n_windows, *self.compute_output_shape(inputs.shape)[1:]))

        def step(k: tf.Tensor, output: tf.Tensor, states: Any) -> tuple[tf.Tensor, tf.Tensor, Any]:
            output, after = self.rnn.cell(tf.gather(by_step, k), states, training=False)
            return k + 1, output, tf.nest.pack_sequence_as(states, tf.nest.flatten(after))

        carried = (tf.constant(0), output, states)
        shapes = tf.nest.map_structure(lambda tensor: tf.TensorShape([None, *tensor.shape[1:]]), carried[1:])
        return tf.while_loop(lambda k, *_: k < n_steps, step, carried, (tf.TensorShape([]), *shapes))[1]
