"""Fitting one network to labelled windows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from harstream.core.batches import Float32, Int64
from harstream.core.spec import Normalisation, SignalSpec
from harstream.datasets.windows import LabelledWindows
from harstream.errors import ConfigError, DatasetError
from harstream.train.fitting import architectures
from harstream.train.fitting.batches import minibatches
from harstream.train.fitting.checkpoint import Workplace, fingerprint
from harstream.train.fitting.history import Epoch
from harstream.train.fitting.loop import Training
from harstream.train.fitting.loss import ensemble, objective
from harstream.train.fitting.recipe import FitConfig
from harstream.train.folds import split_by_subject

__all__ = ["FitConfig", "Fitted", "Progress", "fit", "fit_temperature", "normalisation_of", "silent"]

#: Told how far a long step is, for a progress bar: the step's name, what is done, of how much.
Progress = Callable[[str, int, int], None]


def silent(step: str, done: int, total: int) -> None:
    """The progress of those who do not watch."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """A trained network and the signal it expects, normalisation included."""

    model: keras.Model  # (n, window_samples, n_channels) normalised to (n, n_labels) logits
    spec: SignalSpec
    labels: tuple[str, ...]
    history: tuple[Epoch, ...] = ()  # what each epoch came to

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


def fit(
    data: LabelledWindows,
    spec: SignalSpec,
    config: FitConfig,
    progress: Progress = silent,
    *,
    teachers: Sequence[Fitted] = (),
    folder: Path | None = None,
    tensorboard: bool = False,
) -> Fitted:
    """Train a network on ``data``.

    AdamW, one epoch of warm-up and a cosine down to 0, cross-entropy with smoothed labels, every window
    turned and stretched (see ``augment``) anew each time it is seen. The number of epochs is fixed, unless
    ``config.patience`` says to hold out some subjects of ``data``: then training ends when so many epochs have
    brought no lower loss on them, and the result is the best epoch's. Subjects that a caller counts are not in
    ``data`` and decide nothing.

    With ``config.teachers``, so many networks are trained first, on the same windows, to be learnt from;
    ``teachers`` stand in for them. After each epoch ``folder`` is given a checkpoint and the history, with
    ``tensorboard`` for that program too (see ``checkpoint``); a fit that finds its own checkpoint there
    goes on from it, and ends as if it had never been interrupted.

    Seeds Python, NumPy and TensorFlow. ``progress`` is told of every epoch, those of teachers as steps of their own.
    Raises DatasetError where there is no window, or one subject where some are to be held out; ConfigError for
    an impossible architecture, a teacher of another signal or other labels, or a loss that is no number any more.
    """
    if not len(data):
        raise DatasetError("there is no window to train on")
    if tensorboard and folder is None:
        raise ConfigError("tensorboard: its logs need a folder to be written to")
    for teacher in teachers:
        if teacher.labels != data.labels or replace(teacher.spec, normalisation=spec.norm) != spec:
            raise ConfigError("teachers: their labels and signal must be those of the network they teach")
    held_out = None
    if config.patience:
        data, held_out = split_by_subject(data, config.held_out_share, config.seed)
    given = [teacher.model.get_weights() for teacher in teachers]

    def train(config: FitConfig, step: str, teachers: Sequence[Fitted], folder: Path | None) -> Fitted:
        place = None
        if folder is not None:
            place = Workplace(folder, fingerprint(data, spec, config, given), tensorboard)
        return _fit(data, held_out, spec, config, lambda done: progress(step, done, config.epochs), teachers, place)

    if not teachers:
        names = [f"teacher {k + 1} of {config.teachers}" for k in range(config.teachers)]
        teachers = [
            train(config.of_teacher(k), f"training {name}", (), folder / name.replace(" ", "-") if folder else None)
            for k, name in enumerate(names)
        ]
    return train(config, "training", teachers, folder)


def _fit(
    data: LabelledWindows,
    held_out: LabelledWindows | None,
    spec: SignalSpec,
    config: FitConfig,
    progress: Callable[[int], None],
    teachers: Sequence[Fitted],
    place: Workplace | None,
) -> Fitted:
    """One network, its subjects chosen and its teachers trained."""
    keras.utils.set_random_seed(config.seed)
    measured = normalisation_of(data.windows)
    norm = measured if config.standardise else Normalisation.identity(spec.n_channels)
    model = architectures.build(
        config.arch, spec.window_samples, spec.n_channels, len(data.labels), config.arch_settings
    )
    judges = [(teacher.model, teacher.spec.norm) for teacher in teachers]
    training = Training(
        model,
        config,
        len(data),
        minibatches(data, spec, norm, measured.std, config),
        objective(
            config,
            data.label,
            len(data.labels),
            ensemble(judges, norm, config.distil_temperature) if judges else None,
        ),
        (norm.apply(held_out.windows), held_out.label) if held_out is not None else None,
    )
    history = training.run(progress, place)
    return Fitted(model, replace(spec, normalisation=norm), data.labels, tuple(history))


def fit_temperature(logits: Float32, label: Int64) -> float:
    """The one number to divide logits by that makes held-out ``label`` most likely (Guo et al. 2017).

    ``logits`` is (n_windows, n_labels) of subjects the network has not seen. Between 0.1 and 10; 1 where
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
