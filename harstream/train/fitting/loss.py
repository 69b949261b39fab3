"""Loss of a fit: cross-entropy with the labels, and divergence from an ensemble of teachers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

from harstream.core.batches import Float32, Int64
from harstream.core.spec import Normalisation
from harstream.train.fitting.recipe import FitConfig

#: Maps inputs, the probabilities of the labels (n, n_labels) and logits (n, n_labels) to the mean loss.
Objective = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]


def objective(
    config: FitConfig, label: Int64, n_labels: int, teachers: Callable[[tf.Tensor], tf.Tensor] | None = None
) -> Objective:
    """Return the loss that ``config`` asks for: cross-entropy with smoothed labels (Szegedy et al. 2016).

    With teachers, ``distil_weight`` of the loss is the divergence from their probabilities, times the squared
    temperature, which keeps the size of its gradients (Hinton et al. 2015).

    Args:
        config: Label smoothing, class weights and distillation.
        label: (n_windows,) labels of all windows trained on, which class weights balance.
        n_labels: The number of labels.
        teachers: Maps the inputs of the student to probabilities (n, n_labels) at ``distil_temperature``.

    """
    weights = tf.constant(balanced_weights(label, n_labels)) if config.class_weights else None
    temperature, smoothing = config.distil_temperature, config.label_smoothing

    def loss_of(inputs: tf.Tensor, truth: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        smooth = truth * (1.0 - smoothing) + smoothing / n_labels
        loss = tf.nn.softmax_cross_entropy_with_logits(smooth, logits)
        if teachers is not None:
            target = teachers(inputs)
            log_student = tf.nn.log_softmax(logits / temperature)
            divergence = tf.reduce_sum(tf.math.xlogy(target, target) - target * log_student, axis=1)
            loss = (1.0 - config.distil_weight) * loss + config.distil_weight * temperature**2 * divergence
        if weights is not None:
            loss *= tf.linalg.matvec(truth, weights)
        return tf.reduce_mean(loss)

    return loss_of


def balanced_weights(label: Int64, n_labels: int) -> Float32:
    """Return (n_labels,) weights that give every label the same share of the loss; their mean over windows is 1.

    The weight of a label without a window is 0.
    """
    counts = np.bincount(label, minlength=n_labels)
    present = max(1, np.count_nonzero(counts))
    return np.where(counts > 0, len(label) / (present * np.maximum(counts, 1)), 0.0).astype(np.float32)


def ensemble(
    teachers: Sequence[tuple[keras.Model, Normalisation]], normalisation: Normalisation, temperature: float
) -> Callable[[tf.Tensor], tf.Tensor]:
    """Return a function from inputs of the student to the mean of the teachers' probabilities (n, n_labels).

    The teachers see the augmented windows of the student, not the original ones: this is what makes distillation work
    well (Beyer et al. 2022).

    Args:
        teachers: Each network with the normalisation it expects.
        normalisation: The normalisation of the inputs, which is the student's.
        temperature: Logits are divided by it.

    """

    def probabilities(inputs: tf.Tensor) -> tf.Tensor:
        parts = [
            tf.nn.softmax(model(_renormalise(inputs, normalisation, own), training=False) / temperature)
            for model, own in teachers
        ]
        return tf.stop_gradient(tf.add_n(parts) / len(parts))

    return probabilities


def _renormalise(inputs: tf.Tensor, from_: Normalisation, to: Normalisation) -> tf.Tensor:
    """Return inputs of one normalisation as inputs of another."""
    if from_ == to:
        return inputs
    gain = np.divide(from_.std, to.std)
    shift = (np.asarray(from_.mean) - np.asarray(to.mean)) / np.asarray(to.std)
    return inputs * tf.constant(gain, tf.float32) + tf.constant(shift, tf.float32)
