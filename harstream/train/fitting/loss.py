"""What a fit makes small: cross-entropy with the labels, and with what an ensemble of teachers says."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

from harstream.core.batches import Float32, Int64
from harstream.core.spec import Normalisation
from harstream.train.fitting.recipe import FitConfig

#: From inputs, the labels' probabilities (n, n_labels) and logits (n, n_labels) to the mean loss.
Objective = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]


def objective(
    config: FitConfig, label: Int64, n_labels: int, teachers: Callable[[tf.Tensor], tf.Tensor] | None = None
) -> Objective:
    """Cross-entropy with smoothed labels (Szegedy et al. 2016), of all windows of ``label`` weighted alike or balanced.

    ``teachers`` gives the probabilities (n, n_labels), softened by the configured temperature, of the very
    inputs the pupil is given; the divergence from them then has ``distil_weight`` of the loss, times the
    temperature squared, so that its gradients keep their size (Hinton et al. 2015).
    """
    weights = tf.constant(balanced(label, n_labels)) if config.class_weights else None
    temperature, smoothing = config.distil_temperature, config.label_smoothing

    def loss_of(inputs: tf.Tensor, truth: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        smooth = truth * (1.0 - smoothing) + smoothing / n_labels
        loss = tf.nn.softmax_cross_entropy_with_logits(smooth, logits)
        if teachers is not None:
            taught = teachers(inputs)
            softened = tf.nn.log_softmax(logits / temperature)
            divergence = tf.reduce_sum(tf.math.xlogy(taught, taught) - taught * softened, axis=1)
            loss = (1.0 - config.distil_weight) * loss + config.distil_weight * temperature**2 * divergence
        if weights is not None:
            loss *= tf.linalg.matvec(truth, weights)
        return tf.reduce_mean(loss)

    return loss_of


def balanced(label: Int64, n_labels: int) -> Float32:
    """(n_labels,) weights that let each label weigh the same in all, their mean over the windows being 1.

    Weights of a label without a window are 0.
    """
    counts = np.bincount(label, minlength=n_labels)
    present = max(1, np.count_nonzero(counts))
    return np.where(counts > 0, len(label) / (present * np.maximum(counts, 1)), 0.0).astype(np.float32)


def ensemble(
    teachers: Sequence[tuple[keras.Model, Normalisation]], normalisation: Normalisation, temperature: float
) -> Callable[[tf.Tensor], tf.Tensor]:
    """The mean of the networks' probabilities, softened by ``temperature``, for inputs that a pupil is given.

    ``normalisation`` is the pupil's; each teacher has its own beside it. That teachers judge the pupil's own
    augmented windows, not the original ones, is what makes distilling work well (Beyer et al. 2022).
    """

    def judge(inputs: tf.Tensor) -> tf.Tensor:
        parts = [
            tf.nn.softmax(model(_normalised_anew(inputs, normalisation, own), training=False) / temperature)
            for model, own in teachers
        ]
        return tf.stop_gradient(tf.add_n(parts) / len(parts))

    return judge


def _normalised_anew(inputs: tf.Tensor, from_: Normalisation, to: Normalisation) -> tf.Tensor:
    if from_ == to:
        return inputs
    gain = np.divide(from_.std, to.std)
    shift = (np.asarray(from_.mean) - np.asarray(to.mean)) / np.asarray(to.std)
    return inputs * tf.constant(gain, tf.float32) + tf.constant(shift, tf.float32)
