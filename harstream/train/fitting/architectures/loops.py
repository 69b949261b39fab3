"""Recurrent layers as loops that LiteRT supports.

Keras collects the outputs of all steps in a list of tensors, and LiteRT supports no such list whose size depends on the
batch. A layer that returns only its last output does not need the list: a plain loop over the states suffices. LiteRT
converts it to one WHILE of built-in operations, for any batch size, of the same size for any number of steps.
(Unrolling 128 steps of an LSTM took 7 s to convert instead of half a second, and the file was slower and three times as
large.)
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras import layers


def without_tensor_lists(model: keras.Model) -> keras.Model:
    """Return a network with the same weights in which recurrent layers run as plain loops.

    Layers that return the outputs of all steps stay as they are, and so do layers inside other layers. The result is
    for inference and conversion, not for saving.
    """
    if not any(_replaceable(layer) for layer in model.layers):
        return model
    return keras.models.clone_model(model, clone_function=lambda layer: _Loop(layer) if _replaceable(layer) else layer)


def _replaceable(layer: keras.Layer) -> bool:
    """Return True if ``layer`` is recurrent and only its last output is used."""
    options = ("return_sequences", "return_state", "go_backwards", "stateful")
    return isinstance(layer, layers.RNN) and not any(getattr(layer, name) for name in options)


class _Loop(keras.layers.Layer):  # type: ignore[misc]
    """A layer that returns the last output of a recurrent layer, by a loop over its cell."""

    def __init__(self, rnn: layers.RNN) -> None:
        super().__init__(name=rnn.name)
        self.rnn = rnn

    def compute_output_shape(self, input_shape: tuple[int | None, ...], **_: Any) -> tuple[int | None, ...]:
        """Return the shape of the recurrent layer's output."""
        shape: tuple[int | None, ...] = self.rnn.compute_output_shape(input_shape)
        return shape

    def call(self, inputs: tf.Tensor, **_: Any) -> tf.Tensor:
        """Run the cell over all steps and return its last output."""
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
