"""Fit of one network to labelled windows, and of the temperature of its probabilities."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from harstream.core.batches import Float32, Float64, Int64
from harstream.core.spec import Normalisation, SignalSpec
from harstream.datasets.windows import LabelledWindows
from harstream.errors import ConfigError, DatasetError
from harstream.progress import Progress, silent
from harstream.train.fitting import architectures
from harstream.train.fitting.balance import cap_sets, set_weights
from harstream.train.fitting.batches import batch_function
from harstream.train.fitting.checkpoint import CheckpointFolder, fingerprint
from harstream.train.fitting.history import Epoch
from harstream.train.fitting.loop import TrainingLoop
from harstream.train.fitting.loss import ensemble, objective
from harstream.train.fitting.prepare import served
from harstream.train.fitting.recipe import FitConfig
from harstream.train.folds import split_by_subject

#: Lowest temperature, whatever the held-out labels say.
MIN_TEMPERATURE = 0.5
#: Cost of the square of a bias, in nats: a bias of 1 must raise the mean log-likelihood by as much.
BIAS_PENALTY = 0.03


@dataclass(frozen=True, slots=True)
class Fitted:
    """A trained network and the signal it expects, normalisation included."""

    model: keras.Model  # maps (n, window_samples, n_channels), normalised, to (n, n_outputs) logits
    spec: SignalSpec
    labels: tuple[str, ...]
    states: tuple[str, ...] = ()  # outputs after those of the labels
    history: tuple[Epoch, ...] = ()  # one entry per epoch

    def logits(self, windows: Float32) -> Float32:
        """Return (n_windows, n_outputs) logits of (n_windows, window_samples, n_channels) windows in physical units."""
        return self._run(self.model, windows)

    def logits_and_features(self, windows: Float32) -> tuple[Float32, Float32]:
        """Return the logits, and (n_windows, n_features) inputs of the last layer, of windows in physical units."""
        outputs = self._run(with_features(self.model), windows)
        n_logits = self.model.output_shape[-1]
        return outputs[:, :n_logits], outputs[:, n_logits:]

    def _run(self, model: keras.Model, windows: Float32, batch_windows: int = 1024) -> Float32:
        call = tf.function(
            lambda inputs: model(inputs, training=False),
            input_signature=[tf.TensorSpec((None, *windows.shape[1:]), tf.float32)],
        )
        parts = [
            call(self.spec.norm.apply(windows[first : first + batch_windows])).numpy()
            for first in range(0, len(windows), batch_windows)
        ]
        return np.concatenate([np.zeros((0, model.output_shape[-1]), np.float32), *parts])


def with_features(model: keras.Model, bias: Float32 | None = None) -> keras.Model:
    """Return the network with the inputs of its last layer as further outputs after the logits.

    ``core.familiar`` tells unfamiliar windows by these features.

    Args:
        model: The network, whose last layer is dense.
        bias: (n_outputs,) is added to the logits; None adds nothing.

    """
    last = model.layers[-1]
    logits = last.output
    if bias is not None:
        changed = last.__class__.from_config({**last.get_config(), "name": "logits"})
        logits = changed(last.input)
        kernel, before = last.get_weights()
        changed.set_weights([kernel, before + bias])
    outputs = keras.layers.Concatenate(name="logits_and_features")([logits, last.input])
    return keras.Model(model.input, outputs, name=model.name)


def normalisation_of(windows: Float32) -> Normalisation:
    """Return mean and standard deviation of each channel over all samples; a constant channel gets 1."""
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
    folder: Path | None = None,
    tensorboard: bool = False,
) -> Fitted:
    """Train a network on ``data``.

    The optimizer is AdamW with one epoch of warm-up and a cosine decay to 0; the loss is cross-entropy with smoothed
    labels; every window is augmented differently each time it is drawn. ``config.set_windows`` and
    ``config.balance_sets`` keep a large data set from outweighing the others. The number of epochs is fixed, unless
    ``config.patience`` holds out some subjects of ``data`` for early stopping: the result is then the best epoch's.
    With ``config.teachers``, an ensemble of teachers is trained first on the same windows, and the network learns from
    their probabilities as well.

    The fit seeds Python, NumPy and TensorFlow.

    Args:
        data: The windows to train on. They must not include subjects that the caller scores.
        spec: The signal of the windows; the result has its normalisation.
        config: The recipe.
        progress: Is called after every epoch; each teacher is a step of its own.
        folder: Keeps a checkpoint and the history after each epoch. If it holds a checkpoint of this fit, the fit
            continues there, with the result of an uninterrupted fit.
        tensorboard: Write logs for TensorBoard into ``folder`` as well.

    Raises:
        DatasetError: There is no window, or a single subject and early stopping needs two.
        ConfigError: The architecture cannot be built, or the loss is not finite any more.

    """
    if not len(data):
        raise DatasetError(
            f"no window to train on: the subjects trained on have no segment as long as {spec.window_samples} samples"
        )
    if tensorboard and folder is None:
        raise ConfigError("tensorboard=True needs a folder for the logs, got folder=None")
    data = cap_sets(data, config.set_windows, config.seed)
    held_out = None
    if config.patience:
        data, held_out = split_by_subject(data, config.held_out_share, config.seed)

    def train(config: FitConfig, step: str, teachers: Sequence[Fitted], folder: Path | None) -> Fitted:
        checkpoints = CheckpointFolder(folder, fingerprint(spec, config, data), tensorboard) if folder else None
        return _fit_network(
            data, held_out, spec, config, lambda done: progress(step, done, config.epochs), teachers, checkpoints
        )

    names = [f"teacher {k + 1} of {config.teachers}" for k in range(config.teachers)]
    teachers = [
        train(config.of_teacher(k), f"training {name}", (), folder / name.replace(" ", "-") if folder else None)
        for k, name in enumerate(names)
    ]
    return train(config, "training", teachers, folder)


def _fit_network(
    data: LabelledWindows,
    held_out: LabelledWindows | None,
    spec: SignalSpec,
    config: FitConfig,
    progress: Callable[[int], None],
    teachers: Sequence[Fitted],
    checkpoints: CheckpointFolder | None,
) -> Fitted:
    """Train one network, given the subjects held out for early stopping and its trained teachers."""
    keras.utils.set_random_seed(config.seed)
    measured = normalisation_of(served(data, spec))
    norm = measured if config.standardise else Normalisation.identity(spec.n_channels)
    model = architectures.build(
        config.arch, spec.window_samples, spec.n_channels, len(data.outputs), config.arch_settings
    )
    networks = [(teacher.model, teacher.spec.norm) for teacher in teachers]
    loop = TrainingLoop(
        model,
        config,
        len(data),
        batch_function(data, spec, norm, measured.std, config),
        objective(
            config,
            data.label,
            len(data.outputs),
            ensemble(networks, norm, config.distil_temperature) if networks else None,
        ),
        (norm.apply(served(held_out, spec)), held_out.label) if held_out is not None else None,
        set_weights(data) if config.balance_sets else None,
    )
    history = loop.run(progress, checkpoints)
    return Fitted(model, replace(spec, normalisation=norm), data.labels, data.states, tuple(history))


def fit_bias(logits: Float32, label: Int64, data_set: npt.NDArray[np.str_]) -> Float32:
    """Return what to add to the logits so that no label is preferred on data sets that were held out, (n_outputs,).

    A network knows some labels from many data sets and others from few, and on a set that it has never seen it prefers
    the former. The bias makes the held-out labels most likely, with the same weight for each label of each data set
    (bias-corrected temperature scaling, Alexandari et al. 2020). A data set with one label does not count: there a bias
    towards the label makes no error, whatever it costs elsewhere. The biases of the labels that occur have the mean 0;
    that of any other label is 0. They are kept small by BIAS_PENALTY times their square.

    Args:
        logits: (n_windows, n_outputs) of data sets that the network was not trained on.
        label: (n_windows,) their true labels.
        data_set: (n_windows,) names of the data sets.

    """
    from scipy.optimize import minimize
    from scipy.special import logsumexp

    several = [name for name in np.unique(data_set) if len(np.unique(label[data_set == name])) > 1]
    counted = np.isin(data_set, several)
    logits, label, data_set = logits[counted], label[counted], data_set[counted]
    if not len(label):
        return np.zeros(logits.shape[1], np.float32)
    present, number = np.unique(label, return_inverse=True)
    cells = np.unique(np.stack([np.unique(data_set, return_inverse=True)[1], number]), axis=1, return_inverse=True)[1]
    weight = 1.0 / np.bincount(cells)[cells]
    weight /= weight.sum()
    values = logits[:, present].astype(np.float64)
    rows = np.arange(len(label))

    def loss(parameters: Float64) -> float:
        scaled = (values + parameters[1:]) / math.exp(parameters[0])
        likelihood = scaled[rows, number] - logsumexp(scaled, axis=1)
        return float(-(weight * likelihood).sum() + BIAS_PENALTY * np.square(parameters[1:]).sum())

    found = minimize(loss, np.zeros(1 + len(present))).x[1:]
    bias = np.zeros(logits.shape[1], np.float32)
    bias[present] = found - found.mean()
    return bias


def fit_temperature(logits: Float32, label: Int64) -> float:
    """Return the temperature that makes the held-out labels most likely (Guo et al. 2017), between 0.5 and 10.

    Held-out labels without an error would make the temperature as low as it may be, and white noise as certain as a
    walk; so it is never below MIN_TEMPERATURE.

    Args:
        logits: (n_windows, n_outputs) of subjects that the network was not trained on.
        label: (n_windows,) their true labels. Without a window the temperature is 1.

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

    result = minimize_scalar(loss, bounds=(math.log(MIN_TEMPERATURE), math.log(10.0)), method="bounded")
    return round(math.exp(result.x), 4)
